"""Goldens of SigLIP 2 over pictures of any shape (NaFlex), by Siglip2Model of transformers; versions and use in encode_shared.py, and
Pillow 13.0.0 for the pictures, where Siglip2ImageProcessorPil stands for the processor that needs torchvision: they differ by a
rounding.

    python reference/encode_siglip2.py [--full DIR]

Beside the towers it writes the preprocessing: testdata/goldens/encode/pictures/siglip2_*.safetensors with `image`, u8 [height, width, 3],
`patches`, f32 [patches, patch * patch * 3], and `grid`, f32 [2]; and testdata/goldens/encode/siglip2_sizes.json, the sizes that the
reference chooses, rows of [height, width, patch, patches at most, height, width].
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import Siglip2Config, Siglip2Model
from transformers.models.siglip2.image_processing_pil_siglip2 import (
    Siglip2ImageProcessorPil,
    convert_image_to_patches,
    get_image_size_for_max_num_patches,
    pad_along_first_dim,
)

from encode_shared import fill, full_dir, ids, inputs, numbers, vocabulary, write

FULL = full_dir()
GOLDENS = Path(__file__).resolve().parent.parent / "testdata" / "goldens" / "encode"


def golden(name, config, grids, max_num_patches, lengths):
    model = Siglip2Model(config).eval()
    recipes = fill(model)
    text, patch = config.text_config, config.vision_config.patch_size
    files = {
        "config.json": config.to_dict(),
        "preprocessor_config.json": {"patch_size": patch, "max_num_patches": max_num_patches},
        "tokenizer.json": vocabulary(text.vocab_size, {"<pad>": 0, "<eos>": 1}),
        "tokenizer_config.json": {"pad_token": "<pad>", "padding_side": "right", "tokenizer_class": "GemmaTokenizer"},
    }
    files["config.json"].pop("transformers_version", None)

    pictures = [inputs(f"{name}.pixels.{i}", (3, y * patch, x * patch)) for i, (y, x) in enumerate(grids)]
    padded = [pad_along_first_dim(convert_image_to_patches(p.numpy(), patch), max_num_patches) for p in pictures]
    pixels, mask = (torch.from_numpy(np.stack(part)) for part in zip(*padded))
    shapes = torch.tensor(grids)
    out = model.vision_model(pixels, pixel_attention_mask=mask, spatial_shapes=shapes, output_hidden_states=True)
    # What stands for no patch is left out.
    real = [y * x for y, x in grids]
    states = lambda padded: torch.cat([rows[:n] for rows, n in zip(padded, real)])
    embeddings = model.vision_model.embeddings
    table = embeddings.position_embedding.weight.reshape(*[embeddings.position_embedding_size] * 2, -1)
    positions = embeddings.resize_positional_embeddings(table, shapes, max_num_patches)
    tensors = {f"input.{i}": p[None] for i, p in enumerate(pictures)}
    tensors |= {"embedding": out.pooler_output, "hidden.positions": states(positions)}
    tensors |= {f"hidden.{i}": states(h) for i, h in enumerate(out.hidden_states)}
    tensors |= {"temperature": torch.cat([model.logit_scale.exp(), model.logit_bias])}
    write(f"{name}_image", "image", files, recipes, tensors, FULL)

    n = text.max_position_embeddings
    texts = [t + [0] * (n - len(t)) for t in ids(f"{name}.ids", lengths, 2, text.vocab_size, 2, 1)]
    out = model.text_model(input_ids=torch.tensor(texts), output_hidden_states=True)
    tensors = {
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor([n] * len(texts)),
        "embedding": out.pooler_output,
    }
    tensors |= {f"hidden.{i}": h for i, h in enumerate(out.hidden_states)}
    write(f"{name}_text", "text", files, recipes, tensors, FULL)


def picture(name, height, width, config):
    """Preprocessing of waves with a little noise: edges at every scale, and values that clip at both ends."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [140 * np.sin(x * y / (60 + 9 * c) + c) * np.cos(y / (3 + c)) + 120 for c in range(3)]
    noise = numbers(name, (height, width, 3), 0.0, 20.0)
    image = np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)
    out = Siglip2ImageProcessorPil(**config)(images=Image.fromarray(image), return_tensors="np")
    grid = [int(n) for n in out["spatial_shapes"][0]]
    patches = torch.from_numpy(np.asarray(out["pixel_values"][0][: grid[0] * grid[1]], dtype=np.float32))
    tensors = {"image": torch.from_numpy(image), "patches": patches.contiguous(), "grid": torch.tensor(grid, dtype=torch.float32)}
    metadata = {"config": json.dumps(config), "family": "siglip2"}
    save_file(tensors, GOLDENS / "pictures" / f"siglip2_{name}.safetensors", metadata=metadata)
    print(f"siglip2_{name}: {height} x {width} to {grid[0]} x {grid[1]} patches")


def sizes():
    rows = []
    for patch, most in [(16, 256), (16, 1024), (14, 729), (32, 49), (7, 2), (5, 1)]:
        shapes = numbers(f"sizes.{patch}.{most}", (200, 2), 0.5, 0.5)
        # From a pixel to 8000 a side, as many small as large.
        shapes = [[int(np.exp(float(v) * np.log(8000.0))) for v in shape] for shape in shapes]
        shapes += [[1, 1], [1, 60000], [60000, 1], [480, 640], [640, 480], [256, 256], [16, 4096], [3024, 4032], [224, 224]]
        rows += [[h, w, patch, most, *get_image_size_for_max_num_patches(h, w, patch, most)] for h, w in shapes]
    text = ",\n".join(json.dumps(row) for row in rows)
    (GOLDENS / "siglip2_sizes.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")
    print(f"{len(rows)} sizes")


if FULL:
    golden("siglip2_base_patch16_naflex", Siglip2Config(), [(16, 16), (12, 21), (28, 9), (1, 3)], 256, [5, 64])
else:
    text = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    text |= dict(max_position_embeddings=10, projection_size=32, bos_token_id=None, eos_token_id=1)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    vision |= dict(patch_size=5, num_patches=16)
    config = Siglip2Config(text_config=text, vision_config=vision)
    # The grid of the training, wider, taller, finer in one direction and coarser in the other, and a single patch.
    golden("siglip2", config, [(4, 4), (3, 7), (9, 2), (1, 17), (1, 1)], 22, [3, 10])
    few = {"patch_size": 6, "max_num_patches": 24}
    picture("wide", 31, 90, few)
    picture("tall", 120, 25, few)
    picture("square_enlarged", 9, 9, few)
    picture("tiny", 1, 2, few | {"patch_size": 16})
    picture("hair_thin", 2, 300, few)
    other = {"resample": 3, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "rescale_factor": 1 / 200}
    picture("cubic", 70, 50, few | other)
    sizes()
