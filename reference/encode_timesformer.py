"""Goldens of TimeSformer, by TimesformerModel of transformers; versions and use in encode_shared.py.

    python reference/encode_timesformer.py [--full DIR]
"""

from transformers import TimesformerConfig, TimesformerForVideoClassification, TimesformerModel

from encode_shared import fill, full_dir, inputs, write

FULL = full_dir()


def golden(name, config, n_videos=2, head=False):
    model = (TimesformerForVideoClassification(config) if head else TimesformerModel(config)).eval()
    recipes = fill(model)
    body = model.timesformer if head else model
    size, t = config.image_size, config.num_frames
    files = {
        "config.json": config.to_dict(),
        "preprocessor_config.json": {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}},
    }
    files["config.json"].pop("transformers_version", None)
    pixels = inputs(f"{name}.pixels", (n_videos, t, 3, size, size))
    out = body(pixel_values=pixels, output_hidden_states=True)
    # With attention within frames alone there is a class token for each frame.
    classes = out.last_hidden_state[:, 0].view(n_videos, -1, config.hidden_size).mean(1)
    tensors = {"input": pixels, "embedding": classes}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(out.hidden_states)}
    write(name, "video", files, recipes, tensors, FULL)


def small(kind, **other):
    sizes = dict(image_size=12, patch_size=4, num_frames=3, hidden_size=24, num_hidden_layers=2)
    sizes |= dict(num_attention_heads=3, intermediate_size=40, attention_type=kind)
    return TimesformerConfig(**(sizes | other))


if FULL:
    golden("timesformer_base", TimesformerConfig(), 1)
else:
    golden("timesformer_divided", small("divided_space_time"), head=True)
    golden("timesformer_joint", small("joint_space_time", num_frames=2))
    golden("timesformer_space", small("space_only"))
