"""Goldens of Chinese CLIP's two towers, by ChineseCLIPModel of transformers; versions and use in encode_shared.py.

    python reference/encode_chinese_clip.py [--full DIR]
"""

import torch
from transformers import ChineseCLIPConfig, ChineseCLIPModel

from encode_shared import fill, full_dir, ids, inputs, vocabulary, write

FULL = full_dir()


def golden(name, config, lengths, n_pictures=2):
    model = ChineseCLIPModel(config).eval()
    recipes = fill(model)
    size, vocab = config.vision_config.image_size, config.text_config.vocab_size
    files = {
        "config.json": config.to_dict(),
        "preprocessor_config.json": {"size": {"height": size, "width": size}, "do_center_crop": False},
        "tokenizer.json": vocabulary(vocab, {"[CLS]": 2, "[SEP]": 3}),
    }
    files["config.json"].pop("transformers_version", None)

    pixels = inputs(f"{name}.pixels", (n_pictures, 3, size, size))
    out = model.vision_model(pixel_values=pixels, output_hidden_states=True)
    tensors = {"input": pixels, "embedding": model.get_image_features(pixel_values=pixels).pooler_output}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(out.hidden_states)}
    write(f"{name}_image", "image", files, recipes, tensors, FULL)

    texts = ids(f"{name}.ids", lengths, 4, vocab, 2, 3)
    outs = [model.text_model(input_ids=torch.tensor([t]), output_hidden_states=True) for t in texts]
    tensors = {
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor(lengths),
        "embedding": torch.cat([model.get_text_features(input_ids=torch.tensor([t])).pooler_output for t in texts]),
    }
    for i in range(len(outs[0].hidden_states)):
        tensors[f"hidden.{i}"] = torch.cat([o.hidden_states[i][0] for o in outs])
    write(f"{name}_text", "text", files, recipes, tensors, FULL)


if FULL:
    text, vision = dict(vocab_size=21128), dict(patch_size=16)
    golden("chinese_clip_vit_base_patch16", ChineseCLIPConfig(text_config=text, vision_config=vision), [5, 52], 1)
else:
    text = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=20, patch_size=5)
    text["max_position_embeddings"] = 12
    golden("chinese_clip", ChineseCLIPConfig(text_config=text, vision_config=vision, projection_dim=16), [3, 7, 12])
