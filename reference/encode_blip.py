"""Goldens of BLIP's two towers and of its matching of pairs, by BlipForImageTextRetrieval of transformers; versions and use in
encode_shared.py.

    python reference/encode_blip.py [--full DIR]

In NAME_pair the states of the picture are `hidden.0`.. and those of the texts, which all look at it, `text.0`..; `score` is the
second number of the softmax of the head's logits.
"""

import torch
from transformers import BlipConfig, BlipForImageTextRetrieval

from encode_shared import fill, full_dir, ids, inputs, vocabulary, write

FULL = full_dir()


def golden(name, config, lengths, n_pictures=2):
    model = BlipForImageTextRetrieval(config).eval()
    recipes = fill(model)
    size, vocab = config.vision_config.image_size, config.text_config.vocab_size
    files = {
        "config.json": config.to_dict(),
        "preprocessor_config.json": {"size": {"height": size, "width": size}, "resample": 3},
        "tokenizer.json": vocabulary(vocab, {"[CLS]": 2, "[SEP]": 3}),
    }
    files["config.json"].pop("transformers_version", None)

    pixels = inputs(f"{name}.pixels", (n_pictures, 3, size, size))
    seen = model.vision_model(pixel_values=pixels, output_hidden_states=True)
    unit = torch.nn.functional.normalize
    tensors = {"input": pixels, "embedding": model.vision_proj(seen.last_hidden_state[:, 0])}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(seen.hidden_states)}
    write(f"{name}_image", "image", files, recipes, tensors, FULL)

    texts = ids(f"{name}.ids", lengths, 4, vocab, 2, 3)
    batches = [torch.tensor([text]) for text in texts]
    outs = [model.text_encoder(input_ids=text, output_hidden_states=True) for text in batches]
    embeddings = torch.cat([model.text_proj(out.last_hidden_state[:, 0]) for out in outs])
    tensors = {"input": torch.tensor(sum(texts, [])), "lengths": torch.tensor(lengths), "embedding": embeddings}
    for i in range(len(outs[0].hidden_states)):
        tensors[f"hidden.{i}"] = torch.cat([out.hidden_states[i][0] for out in outs])
    write(f"{name}_text", "text", files, recipes, tensors, FULL)

    # The towers' cosine is what the whole model gives without its head.
    whole = [model(input_ids=text, pixel_values=pixels[:1], use_itm_head=False).itm_score[0, 0] for text in batches]
    cosine = unit(model.vision_proj(seen.last_hidden_state[:1, 0])) @ unit(embeddings).T
    assert torch.allclose(cosine[0], torch.stack(whole), atol=1e-5)

    logits = torch.cat([model(input_ids=text, pixel_values=pixels[:1]).itm_score for text in batches])
    states = dict(encoder_hidden_states=seen.last_hidden_state[:1], output_hidden_states=True)
    outs = [model.text_encoder(input_ids=text, **states) for text in batches]
    again = torch.cat([model.itm_head(out.last_hidden_state[:, 0]) for out in outs])
    assert torch.allclose(again, logits, atol=1e-5)
    tensors = {
        "pixels": pixels[:1].clone(),
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor(lengths),
        "score": logits.softmax(1)[:, 1],
    }
    tensors |= {f"hidden.{i}": h[:1].clone() for i, h in enumerate(seen.hidden_states)}
    for i in range(len(outs[0].hidden_states)):
        tensors[f"text.{i}"] = torch.cat([out.hidden_states[i][0] for out in outs])
    write(f"{name}_pair", "pair", files, recipes, tensors, FULL)


if FULL:
    heads = dict(num_attention_heads=12)
    golden("blip_itm_base", BlipConfig(text_config=heads, vision_config={}), [5, 35], 1)
else:
    text = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    text |= dict(max_position_embeddings=12)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=20, patch_size=5)
    golden("blip", BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=16), [3, 7, 12])
