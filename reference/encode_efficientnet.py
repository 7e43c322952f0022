"""Goldens of EfficientNet, by EfficientNetModel and EfficientNetForImageClassification of transformers; versions and use in
encode_shared.py.

    python reference/encode_efficientnet.py [--full DIR]
"""

from transformers import EfficientNetConfig, EfficientNetForImageClassification, EfficientNetModel

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
    out = getattr(model, "efficientnet", model)(pixel_values=pixels, output_hidden_states=True)
    tensors = {"input": pixels, "embedding": out.pooler_output}
    tensors |= {f"hidden.{i}": channels_last(h) for i, h in enumerate(out.hidden_states)}
    if isinstance(model, EfficientNetForImageClassification):
        tensors["classes"] = model(pixel_values=pixels).logits.softmax(-1)
    write(name, "image", files, recipes, tensors, FULL)


if FULL:
    b0 = EfficientNetConfig(width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280, image_size=224, num_labels=1000)
    golden("efficientnet_b0", EfficientNetForImageClassification(b0), 224, 224, 1)
    # B5 and B7 have blocks whose padding is listed.
    b3 = EfficientNetConfig(width_coefficient=1.2, depth_coefficient=1.4, hidden_dim=1536, image_size=300, depthwise_padding=[5, 18])
    golden("efficientnet_b3", EfficientNetModel(b3), 300, 300, 1)
else:
    stages = dict(in_channels=[32, 16, 24], out_channels=[16, 24, 40], kernel_sizes=[3, 5, 3], strides=[1, 2, 2])
    stages |= dict(num_block_repeats=[1, 2, 1], expand_ratios=[1, 2, 3], depth_divisor=4)
    # A quarter of the width, a list of paddings, sides that are odd after the first convolution.
    small = EfficientNetConfig(**stages, width_coefficient=0.25, depth_coefficient=1.2, hidden_dim=320, depthwise_padding=[5])
    golden("efficientnet", EfficientNetModel(small), 42, 37)
    small = EfficientNetConfig(**stages, width_coefficient=0.3, depth_coefficient=1.0, hidden_dim=384, pooling_type="max", num_labels=4)
    golden("efficientnet_classifier", EfficientNetForImageClassification(small), 33, 40)
