"""Goldens of ALIGN's two towers, by AlignModel of transformers; versions and use in encode_shared.py.

    python reference/encode_align.py [--full DIR]
"""

import torch
from transformers import AlignConfig, AlignModel

from encode_shared import channels_last, fill, full_dir, ids, inputs, vocabulary, write

FULL = full_dir()


def golden(name, config, size, lengths, n_pictures=2):
    model = AlignModel(config).eval()
    recipes = fill(model)
    vocab = config.text_config.vocab_size
    files = {
        "config.json": config.to_dict(),
        "preprocessor_config.json": {"size": {"height": size, "width": size}, "do_center_crop": False},
        "tokenizer.json": vocabulary(vocab, {"[CLS]": vocab - 2, "[SEP]": vocab - 1}),
    }
    files["config.json"].pop("transformers_version", None)

    seen = []
    vision = model.vision_model
    for module in [vision.embeddings, *vision.encoder.blocks]:
        module.register_forward_hook(lambda _module, _inputs, output: seen.append(channels_last(output)))
    pixels = inputs(f"{name}.pixels", (n_pictures, 3, size, size))
    tensors = {"input": pixels, "embedding": model.get_image_features(pixels).pooler_output}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(seen)}
    write(f"{name}_image", "image", files, recipes, tensors, FULL)

    texts = ids(f"{name}.ids", lengths, 0, vocab - 2, vocab - 2, vocab - 1)
    outs = [model.text_model(input_ids=torch.tensor([t]), output_hidden_states=True) for t in texts]
    tensors = {
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor(lengths),
        "embedding": torch.cat([model.get_text_features(torch.tensor([t])).pooler_output for t in texts]),
    }
    for i in range(len(outs[0].hidden_states)):
        tensors[f"hidden.{i}"] = torch.cat([o.hidden_states[i][0] for o in outs])
    write(f"{name}_text", "text", files, recipes, tensors, FULL)


if FULL:
    golden("align_base", AlignConfig(), 289, [5, 64], 1)
else:
    text = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    text |= dict(max_position_embeddings=12)
    vision = dict(in_channels=[32, 16, 24], out_channels=[16, 24, 40], kernel_sizes=[3, 5, 3], strides=[1, 2, 2])
    vision |= dict(num_block_repeats=[1, 2, 1], expand_ratios=[1, 2, 3], depth_divisor=4, width_coefficient=0.25)
    vision |= dict(depth_coefficient=1.0, hidden_dim=12)
    golden("align", AlignConfig(text_config=text, vision_config=vision, projection_dim=12), 31, [3, 7, 12])
