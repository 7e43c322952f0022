"""Goldens of Swin, by SwinModel and SwinForImageClassification of transformers; versions and use in encode_shared.py.

    python reference/encode_swin.py [--full DIR]

The tensors get the names under which transformers saves them, which are not those of its modules. The hidden states are those
before the first block, and after every block and every merging of patches.
"""

import re

import torch
from transformers import SwinConfig, SwinForImageClassification, SwinModel
from transformers.models.swin.modeling_swin import SwinLayer, SwinPatchMerging

from encode_shared import full_dir, inputs, numbers, recipe, write

FULL = full_dir()

STORED = [
    (r"attention\.(query|key|value)_proj", r"attention.self.\1"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"attention\.relative_position_bias\.", "attention.self."),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
]
LETTERS = {"q_proj": "query_proj", "k_proj": "key_proj", "v_proj": "value_proj"}


def stored_name(name):
    """What transformers calls a tensor in a file."""
    for letter, word in LETTERS.items():
        name = name.replace(letter, word)
    for pattern, target in STORED:
        name = re.sub(pattern, target, name)
    return name


def fill_as(model, renamed):
    recipes = {}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        stored = renamed(name)
        centre, spread = recipe(stored, tensor)
        recipes[stored] = [list(tensor.shape), centre, spread]
        tensor.copy_(torch.from_numpy(numbers(stored, tuple(tensor.shape), centre, spread)))
    return recipes


def states_of(swin, pixels):
    """The pooled output, and the states on the way."""
    states = []

    def after(module, args, out):
        states.append(out[0] if isinstance(out, tuple) else out)

    hooks = [swin.embeddings.register_forward_hook(after)]
    hooks += [m.register_forward_hook(after) for m in swin.modules() if isinstance(m, (SwinLayer, SwinPatchMerging))]
    out = swin(pixel_values=pixels)
    for hook in hooks:
        hook.remove()
    return out.pooler_output, states


def golden(name, model, size, n_pictures=2):
    model = model.eval()
    recipes = fill_as(model, stored_name)
    config = model.config.to_dict()
    config.pop("transformers_version", None)
    height, width = size
    processor = {"size": {"height": height, "width": width}, "do_center_crop": False}
    files = {"config.json": config, "preprocessor_config.json": processor}
    pixels = inputs(f"{name}.pixels", (n_pictures, 3, height, width))
    pooled, states = states_of(getattr(model, model.base_model_prefix, model), pixels)
    tensors = {"input": pixels, "embedding": pooled} | {f"hidden.{i}": h for i, h in enumerate(states)}
    write(name, "image", files, recipes, tensors, FULL)


if __name__ == "__main__":
    if FULL:
        golden("swin_tiny_patch4_window7_224", SwinModel(SwinConfig()), (224, 224), 1)
    else:
        sizes = dict(embed_dim=6, depths=[2, 2, 1], num_heads=[1, 2, 3], mlp_ratio=2.0)
        # Nothing divides: pictures into patches, grids into windows, grids into pairs.
        swin = SwinConfig(**sizes, patch_size=3, window_size=3, image_size=[40, 29], layer_norm_eps=1e-3)
        golden("swin", SwinModel(swin), (40, 29))
        # With positions and a classifier, without biases in the attention; the last stage is a single window.
        swin = SwinConfig(**sizes, patch_size=2, window_size=4, image_size=32, qkv_bias=False, use_absolute_embeddings=True)
        golden("swin_classifier", SwinForImageClassification(swin), (32, 32), 1)
