"""Goldens of CLIP's two towers, by CLIPModel of transformers; versions and use in encode_shared.py.

    python reference/encode_clip.py [--full DIR]
"""

import torch
from transformers import CLIPConfig, CLIPModel

from encode_shared import fill, full_dir, ids, inputs, vocabulary, write

FULL = full_dir()


def tokenizer(config):
    text = config.text_config
    return vocabulary(text.vocab_size, {"<|startoftext|>": text.vocab_size - 2, "<|endoftext|>": text.vocab_size - 1})


def golden(name, config, lengths, n_pictures=2):
    model = CLIPModel(config).eval()
    recipes = fill(model)
    size = config.vision_config.image_size
    files = {
        "config.json": config.to_dict(),
        "preprocessor_config.json": {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}},
        "tokenizer.json": tokenizer(config),
    }
    files["config.json"].pop("transformers_version", None)

    pixels = inputs(f"{name}.pixels", (n_pictures, 3, size, size))
    out = model.vision_model(pixel_values=pixels, output_hidden_states=True)
    tensors = {"input": pixels, "embedding": model.visual_projection(out.pooler_output)}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(out.hidden_states)}
    write(f"{name}_image", "image", files, recipes, tensors, FULL)

    vocab = config.text_config.vocab_size
    texts = ids(f"{name}.ids", lengths, 0, vocab - 2, vocab - 2, vocab - 1)
    outs = [model.text_model(input_ids=torch.tensor([t]), output_hidden_states=True) for t in texts]
    tensors = {
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor(lengths),
        "embedding": torch.cat([model.text_projection(o.pooler_output) for o in outs]),
    }
    for i in range(len(outs[0].hidden_states)):
        tensors[f"hidden.{i}"] = torch.cat([o.hidden_states[i][0] for o in outs])
    write(f"{name}_text", "text", files, recipes, tensors, FULL)


def small(act, eos):
    text = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    text |= dict(max_position_embeddings=12, hidden_act=act, eos_token_id=eos)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    vision |= dict(image_size=20, patch_size=5, hidden_act=act)
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)


if FULL:
    golden("clip_vit_base_patch32", CLIPConfig(), [5, 77], 1)
else:
    golden("clip_quick", small("quick_gelu", 59), [3, 7, 12])
    # The end token as old configurations name it, and the exact GELU of the LAION weights.
    golden("clip_legacy", small("gelu", 2), [3, 8])
