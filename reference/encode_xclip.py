"""Goldens of X-CLIP's two towers, by XCLIPModel of transformers; versions and use in encode_shared.py.

    python reference/encode_xclip.py [--full DIR]
"""

import torch
from transformers import XCLIPConfig, XCLIPModel

from encode_shared import fill, full_dir, ids, inputs, vocabulary, write

FULL = full_dir()


def states(first, layers, run):
    """What goes into the first of the layers and what comes out of each, while `run` runs."""
    seen = []
    hooks = [first.register_forward_pre_hook(lambda m, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"]).clone()), with_kwargs=True)]
    hooks += [layer.register_forward_hook(lambda m, a, out: seen.append(out.clone())) for layer in layers]
    run()
    for hook in hooks:
        hook.remove()
    return seen


def golden(name, config, lengths, n_videos=2):
    model = XCLIPModel(config).eval()
    recipes = fill(model)
    vision, text = config.vision_config, config.text_config
    size, vocab = vision.image_size, text.vocab_size
    files = {
        "config.json": config.to_dict(),
        "preprocessor_config.json": {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}},
        "tokenizer.json": vocabulary(vocab, {"<|startoftext|>": vocab - 2, "<|endoftext|>": vocab - 1}),
    }
    files["config.json"].pop("transformers_version", None)

    pixels = inputs(f"{name}.pixels", (n_videos, vision.num_frames, 3, size, size))
    frames, over_frames = model.vision_model.encoder.layers, model.mit.encoder.layers
    given = []
    run = lambda: given.append(model.get_video_features(pixel_values=pixels).pooler_output)
    hidden = states(frames[0], frames, run) + states(over_frames[0], over_frames, run)
    tensors = {"input": pixels, "embedding": given[0]} | {f"hidden.{i}": h for i, h in enumerate(hidden)}
    write(f"{name}_video", "video", files, recipes, tensors, FULL)

    texts = ids(f"{name}.ids", lengths, 0, vocab - 2, vocab - 2, vocab - 1)
    layers, outs, hidden = model.text_model.encoder.layers, [], []
    for t in texts:
        run = lambda: outs.append(model.get_text_features(input_ids=torch.tensor([t])).pooler_output)
        hidden.append(states(layers[0], layers, run))
    tensors = {"input": torch.tensor(sum(texts, [])), "lengths": torch.tensor(lengths), "embedding": torch.cat(outs)}
    for i in range(len(hidden[0])):
        tensors[f"hidden.{i}"] = torch.cat([h[i][0] for h in hidden])
    write(f"{name}_text", "text", files, recipes, tensors, FULL)


def small():
    text = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    text |= dict(max_position_embeddings=12)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=12, patch_size=4)
    vision |= dict(num_frames=3, mit_hidden_size=16, mit_intermediate_size=24, mit_num_hidden_layers=2, mit_num_attention_heads=2)
    return XCLIPConfig(text_config=text, vision_config=vision, projection_dim=16, prompt_num_attention_heads=2)


if FULL:
    golden("xclip_base_patch32", XCLIPConfig(), [5, 77], 1)
else:
    golden("xclip", small(), [3, 8])
