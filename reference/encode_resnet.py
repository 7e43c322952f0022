"""Goldens of ResNet, by ResNetModel and ResNetForImageClassification of transformers; versions and use in encode_shared.py.

    python reference/encode_resnet.py [--full DIR]
"""

from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from encode_shared import channels_last, fill, full_dir, inputs, write

FULL = full_dir()


def golden(name, model, height, width, n_pictures=2):
    model = model.eval()
    recipes = fill(model)
    config = model.config.to_dict()
    config.pop("transformers_version", None)
    processor = {"size": {"height": height, "width": width}, "do_center_crop": False}
    files = {"config.json": config, "preprocessor_config.json": processor}
    pixels = inputs(f"{name}.pixels", (n_pictures, 3, height, width))
    out = getattr(model, "resnet", model)(pixel_values=pixels, output_hidden_states=True)
    tensors = {"input": pixels, "embedding": out.pooler_output.flatten(1)}
    tensors |= {f"hidden.{i}": channels_last(h) for i, h in enumerate(out.hidden_states)}
    if isinstance(model, ResNetForImageClassification):
        tensors["classes"] = model(pixel_values=pixels).logits.softmax(-1)
    write(name, "image", files, recipes, tensors, FULL)


if FULL:
    golden("resnet_50", ResNetForImageClassification(ResNetConfig(num_labels=1000)), 224, 224, 1)
    basic = dict(layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512])
    golden("resnet_18", ResNetForImageClassification(ResNetConfig(**basic, num_labels=1000)), 224, 224, 1)
else:
    sizes = dict(embedding_size=6, hidden_sizes=[8, 12, 20], depths=[2, 1, 2])
    # Odd and even sides; the first block of the first stage has no convolution beside it, or has.
    golden("resnet_basic", ResNetModel(ResNetConfig(**sizes | {"embedding_size": 8}, layer_type="basic")), 37, 46)
    golden("resnet_bottleneck", ResNetForImageClassification(ResNetConfig(**sizes, num_labels=3)), 33, 50)
    strides = dict(downsample_in_first_stage=True, downsample_in_bottleneck=True, hidden_act="silu")
    golden("resnet_strides", ResNetModel(ResNetConfig(**sizes, **strides)), 61, 50)
