"""Goldens of ViT and DINOv2, by ViTModel, ViTForImageClassification, Dinov2Model and Dinov2ForImageClassification of transformers;
versions and use in encode_shared.py.

    python reference/encode_vit.py [--full DIR]

The tensors get the names under which transformers saves them, which are not those of its modules.
"""

import re

import torch
from transformers import Dinov2Config, Dinov2ForImageClassification, Dinov2Model, ViTConfig, ViTForImageClassification, ViTModel

from encode_shared import full_dir, inputs, numbers, recipe, write

FULL = full_dir()

STORED = [
    (r"(^|\.)layers\.(\d+)\.", r"\1encoder.layer.\2."),
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
]
STORED_VIT = [(r"mlp\.fc1", "intermediate.dense"), (r"mlp\.fc2", "output.dense")]


def fill_as_stored(model, renames):
    recipes = {}
    for name, tensor in model.state_dict().items():
        for pattern, target in renames:
            name = re.sub(pattern, target, name)
        centre, spread = recipe(name, tensor)
        recipes[name] = [list(tensor.shape), centre, spread]
        tensor.copy_(torch.from_numpy(numbers(name, tuple(tensor.shape), centre, spread)))
    return recipes


def golden(name, model, size, renames, n_pictures=2):
    model = model.eval()
    recipes = fill_as_stored(model, renames)
    config = model.config.to_dict()
    config.pop("transformers_version", None)
    height, width = size
    processor = {"size": {"height": height, "width": width}, "do_center_crop": False}
    files = {"config.json": config, "preprocessor_config.json": processor}
    pixels = inputs(f"{name}.pixels", (n_pictures, 3, height, width))
    base = getattr(model, model.base_model_prefix, model)
    out = base(pixel_values=pixels, output_hidden_states=True)
    tensors = {"input": pixels, "embedding": out.last_hidden_state[:, 0]}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(out.hidden_states)}
    if base is not model:
        tensors["classes"] = model(pixel_values=pixels).logits.softmax(-1)
    write(name, "image", files, recipes, tensors, FULL)


if FULL:
    golden("vit_base_patch16_224", ViTModel(ViTConfig()), (224, 224), STORED + STORED_VIT, 1)
    golden("dinov2_base", Dinov2Model(Dinov2Config(image_size=518)), (224, 224), STORED, 1)
else:
    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, patch_size=5)
    vit = ViTConfig(**sizes, intermediate_size=40, image_size=17)
    golden("vit", ViTModel(vit), (17, 17), STORED + STORED_VIT)
    # With a classifier on top, and without biases in the attention.
    vit = ViTConfig(**sizes, intermediate_size=40, image_size=15, qkv_bias=False, num_labels=3)
    golden("vit_classifier", ViTForImageClassification(vit), (15, 15), STORED + STORED_VIT)
    golden("dinov2", Dinov2Model(Dinov2Config(**sizes, image_size=20)), (20, 20), STORED)
    golden("dinov2_classifier", Dinov2ForImageClassification(Dinov2Config(**sizes, image_size=15, num_labels=4)), (15, 15), STORED)
    # Positions for other pictures: wider than in training, and less high.
    golden("dinov2_resized", Dinov2Model(Dinov2Config(**sizes, image_size=20)), (15, 36), STORED)
