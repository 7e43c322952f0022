"""Goldens of X-CLIP's two towers and of its prompts, by XCLIPModel of transformers; versions and use in encode_shared.py.

    python reference/encode_xclip.py [--full DIR]

In NAME_pair the states of the video are `hidden.0`.., those of the texts, which all meet it, `text.0`..; `seen` is what the prompts
look at, `prompt.0`.. are the texts' vectors before the layers that make prompts of them and after each. `score` is the cosine that the
model's logits are multiples of.
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
    of_videos = states(frames[0], frames, run) + states(over_frames[0], over_frames, run)
    tensors = {"input": pixels, "embedding": given[0]} | {f"hidden.{i}": h for i, h in enumerate(of_videos)}
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

    # All of the model, a text at a time, for nothing is padded.
    prompts, scores, changed = model.prompts_generator, [], []
    tensors = {"pixels": pixels[:1].clone(), "input": tensors["input"], "lengths": tensors["lengths"]}
    for t in texts:
        run = lambda: scores.append(model(input_ids=torch.tensor([t]), pixel_values=pixels[:1]).logits_per_video[0])
        seen = []
        hook = prompts.layernorm.register_forward_hook(lambda m, a, out: seen.append(out[0].clone()))
        changed.append(states(prompts.decoder[0], prompts.decoder, run))
        hook.remove()
    tensors |= {"seen": seen[0], "score": torch.cat(scores) / model.logit_scale.exp()}
    tensors |= {f"hidden.{i}": h[: len(h) // n_videos].clone() for i, h in enumerate(of_videos)}
    tensors |= {f"text.{i}": torch.cat([h[i][0] for h in hidden]) for i in range(len(hidden[0]))}
    tensors |= {f"prompt.{i}": torch.cat([c[i][0] for c in changed]) for i in range(len(changed[0]))}
    # What they change is far beyond what rounding does.
    plain = torch.cosine_similarity(given[0][:1], torch.cat(outs))
    assert (tensors["score"] - plain).abs().min() > 0.01, (tensors["score"], plain)
    write(f"{name}_pair", "pair", files, recipes, tensors, FULL)


def small():
    text = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    text |= dict(max_position_embeddings=12, layer_norm_eps=1e-3)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=12, patch_size=4)
    vision |= dict(num_frames=3, mit_hidden_size=16, mit_intermediate_size=24, mit_num_hidden_layers=2, mit_num_attention_heads=2)
    prompts = dict(prompt_num_attention_heads=4, prompt_hidden_act="gelu")
    return XCLIPConfig(text_config=text, vision_config=vision, projection_dim=16, **prompts)


if FULL:
    golden("xclip_base_patch32", XCLIPConfig(), [5, 77], 1)
else:
    golden("xclip", small(), [3, 8, 12])
