"""Goldens of tuning CLIP: the symmetric InfoNCE loss of a small random CLIPModel of transformers, and its gradients by every tensor.

Made with torch 2.15.0, transformers 5.23.0, on the CPU, in double precision from single-precision weights, so that what differs is the other side's rounding.
Run from the repository root:

    python reference/train_clip_goldens.py

writes testdata/goldens/train/NAME.json (the files of the checkpoint, a recipe for each tensor, texts, and the name from which pictures are made) and
NAME.safetensors (`loss`, the embeddings `image` and `text` at unit length, and `gradient.TENSOR`). Weights and pictures are not stored: both sides make them from
names, as `numbers` of encode_shared.py does. A picture's bytes are `floor(127.5 + 127.5 u)`.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from encode_shared import fill, ids, numbers, vocabulary

MEAN, STD = [0.5, 0.45, 0.4], [0.25, 0.3, 0.35]


def tokenizer(n, first, last):
    """Words, and the two tokens around every text."""
    words = vocabulary(n, {"<|startoftext|>": first, "<|endoftext|>": last})
    special = {"<|startoftext|>": first, "<|endoftext|>": last}
    token = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    words["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [token("<|startoftext|>"), sequence, token("<|endoftext|>")],
        "pair": [sequence],
        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in special.items()},
    }
    return words


def golden(name, act, eos, lengths, vision, text):
    vocab = 64
    first, last = vocab - 2, vocab - 1
    text |= dict(vocab_size=vocab, hidden_act=act, bos_token_id=first, eos_token_id=eos)
    text |= dict(max_position_embeddings=12)
    vision |= dict(hidden_act=act)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    model = CLIPModel(config).eval()
    recipes = fill(model)
    # A temperature as it is after some training; the recipe's own would be that of a model that has learned nothing.
    recipes["logit_scale"] = [[], 2.0, 0.0]
    model.state_dict()["logit_scale"].fill_(2.0)
    model.double()

    size, n = vision["image_size"], len(lengths)
    u = numbers(f"{name}.pictures", (n, size, size, 3), 0.0, 1.0)
    pictures = np.floor(np.float32(127.5) + np.float32(127.5) * u).astype(np.uint8)
    pixels = (torch.from_numpy(pictures).double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    texts = ids(f"{name}.ids", lengths, 1, vocab - 2, first, last)
    padded = torch.full((n, max(lengths)), last)
    for row, words in zip(padded, texts):
        row[: len(words)] = torch.tensor(words)

    with torch.enable_grad():
        out = model(input_ids=padded, pixel_values=pixels.permute(0, 3, 1, 2), return_loss=True)
        out.loss.backward()
    tensors = {"loss": out.loss.detach().reshape(1), "image": out.image_embeds, "text": out.text_embeds}
    tensors |= {f"gradient.{key}": p.grad for key, p in model.named_parameters()}

    described = config.to_dict()
    described.pop("transformers_version", None)
    files = {
        "config.json": described,
        "preprocessor_config.json": {
            "size": {"shortest_edge": size},
            "crop_size": {"height": size, "width": size},
            "image_mean": MEAN,
            "image_std": STD,
        },
        "tokenizer.json": tokenizer(vocab, first, last),
        "tokenizer_config.json": {"model_max_length": 12},
    }
    # The words alone: both special tokens are the tokeniser's to put.
    said = [" ".join(f"w{i}" for i in words[1:-1]) for words in texts]
    whole = {"files": files, "tensors": recipes, "pictures": f"{name}.pictures", "texts": said}
    folder = Path("testdata/goldens/train")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(whole).replace('], "', '],\n"') + "\n", encoding="utf-8")
    save_file({key: value.detach().float().contiguous() for key, value in tensors.items()}, folder / f"{name}.safetensors")
    print(f"{name}: loss {float(out.loss):.6f}, {sum(p.numel() for p in model.parameters())} numbers, {len(recipes)} tensors")


layers = dict(num_hidden_layers=2)
golden(
    "clip_quick", "quick_gelu", 63, [3, 7, 12, 5, 9],
    dict(hidden_size=24, intermediate_size=40, num_attention_heads=3, image_size=20, patch_size=5, **layers),
    dict(hidden_size=16, intermediate_size=24, num_attention_heads=2, **layers),
)
# The exact GELU of the LAION weights, and the end token as old configurations name it: the one of the highest number is meant.
golden(
    "clip_gelu", "gelu", 2, [4, 6, 11, 3],
    dict(hidden_size=16, intermediate_size=24, num_attention_heads=2, image_size=12, patch_size=4, num_hidden_layers=1),
    dict(hidden_size=24, intermediate_size=32, num_attention_heads=3, num_hidden_layers=1),
)
