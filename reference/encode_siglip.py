"""Goldens of SigLIP's two towers, by SiglipModel of transformers; versions and use in encode_shared.py.

    python reference/encode_siglip.py [--full DIR]
"""

import torch
from transformers import SiglipConfig, SiglipModel

from encode_shared import fill, full_dir, ids, inputs, vocabulary, write

FULL = full_dir()


def golden(name, config, lengths, n_pictures=2):
    model = SiglipModel(config).eval()
    recipes = fill(model)
    size, text = config.vision_config.image_size, config.text_config
    files = {
        "config.json": config.to_dict(),
        "preprocessor_config.json": {"size": {"height": size, "width": size}},
        "tokenizer.json": vocabulary(text.vocab_size, {"</s>": 1}),
        "tokenizer_config.json": {"pad_token": "</s>"},
    }
    files["config.json"].pop("transformers_version", None)

    pixels = inputs(f"{name}.pixels", (n_pictures, 3, size, size))
    out = model.vision_model(pixel_values=pixels, output_hidden_states=True)
    tensors = {"input": pixels, "embedding": out.pooler_output}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(out.hidden_states)}
    write(f"{name}_image", "image", files, recipes, tensors, FULL)

    n = text.max_position_embeddings
    texts = [t + [1] * (n - len(t)) for t in ids(f"{name}.ids", lengths, 2, text.vocab_size, 2, 1)]
    out = model.text_model(input_ids=torch.tensor(texts), output_hidden_states=True)
    tensors = {
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor([n] * len(texts)),
        "embedding": out.pooler_output,
    }
    tensors |= {f"hidden.{i}": h for i, h in enumerate(out.hidden_states)}
    write(f"{name}_text", "text", files, recipes, tensors, FULL)


if FULL:
    golden("siglip_base_patch16_224", SiglipConfig(), [5, 64], 1)
else:
    text = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    # The text's embedding may be brought to the width of the picture's. 17 pixels leave a rest beside the patches.
    text |= dict(max_position_embeddings=10, projection_size=32, bos_token_id=None, eos_token_id=1)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    vision |= dict(image_size=17, patch_size=5)
    golden("siglip", SiglipConfig(text_config=text, vision_config=vision), [3, 10])
