"""Goldens of AST, by ASTModel and ASTForAudioClassification of transformers; versions and use in encode_shared.py.

    python reference/encode_ast.py [--full DIR]

The tensors get the names under which transformers saves them, which are not those of its modules. `input` has the time along its height.
"""

import re

import torch
from transformers import ASTConfig, ASTForAudioClassification, ASTModel

from encode_shared import full_dir, inputs, numbers, recipe, write

FULL = full_dir()

STORED = [
    (r"(^|\.)layers\.(\d+)\.", r"\1encoder.layer.\2."),
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
]


def fill_as_stored(model):
    recipes = {}
    for name, tensor in model.state_dict().items():
        for pattern, target in STORED:
            name = re.sub(pattern, target, name)
        centre, spread = recipe(name, tensor)
        recipes[name] = [list(tensor.shape), centre, spread]
        tensor.copy_(torch.from_numpy(numbers(name, tuple(tensor.shape), centre, spread)))
    return recipes


def golden(name, model, n_sounds=2):
    model = model.eval()
    recipes = fill_as_stored(model)
    config = model.config.to_dict()
    config.pop("transformers_version", None)
    frames, bands = config["max_length"], config["num_mel_bins"]
    files = {"config.json": config, "preprocessor_config.json": {"max_length": frames, "num_mel_bins": bands}}
    spectra = inputs(f"{name}.spectra", (n_sounds, 1, frames, bands))
    base = getattr(model, model.base_model_prefix, model)
    out = base(input_values=spectra[:, 0], output_hidden_states=True)
    tensors = {"input": spectra, "embedding": out.pooler_output}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(out.hidden_states)}
    if isinstance(model, ASTForAudioClassification):
        logits = model(input_values=spectra[:, 0]).logits
        tensors["classes"] = logits.sigmoid() if config["problem_type"] == "multi_label_classification" else logits.softmax(-1)
    write(name, "audio", files, recipes, tensors, FULL)


if FULL:
    golden("ast_base", ASTModel(ASTConfig()), 1)
else:
    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, patch_size=6)
    golden("ast", ASTModel(ASTConfig(**sizes, frequency_stride=4, time_stride=3, max_length=20, num_mel_bins=15)))
    # With a classifier on top, without biases in the attention, and with patches that leave something over at the end.
    sizes |= dict(qkv_bias=False, num_labels=3)
    golden("ast_classifier", ASTForAudioClassification(ASTConfig(**sizes, frequency_stride=5, time_stride=5, max_length=18, num_mel_bins=12)))
    # With classes that may hold together.
    sizes |= dict(qkv_bias=True, problem_type="multi_label_classification", num_hidden_layers=1)
    golden("ast_several", ASTForAudioClassification(ASTConfig(**sizes, frequency_stride=6, time_stride=6, max_length=12, num_mel_bins=12)))
