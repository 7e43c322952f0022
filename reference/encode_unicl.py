"""Goldens of UniCL's two towers, by SwinModel and CLIPTextModel of transformers with two projections; versions and use in
encode_shared.py.

    python reference/encode_unicl.py [--full DIR]

The tensors get the names of the public code (microsoft/UniCL), whose towers these are: query, key and value in one tensor, the
projections as matrices that stand to the right of the rows.
"""

import re

import torch
from transformers import CLIPTextConfig, CLIPTextModel, SwinConfig, SwinModel

from encode_shared import full_dir, ids, inputs, numbers, recipe, vocabulary, write
from encode_swin import states_of

FULL = full_dir()

IMAGE = [
    (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^embeddings\.norm", "patch_embed.norm"),
    (r"^encoder\.", ""),
    (r"attention\.relative_position_bias\.", "attn."),
    (r"attention\.o_proj", "attn.proj"),
    (r"attention\.([qkv])_proj", r"attn.qkv.\1"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"^layernorm", "norm"),
]
TEXT = [
    (r"^text_model\.", ""),
    (r"^embeddings\.token_embedding", "token_embedding"),
    (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^encoder\.layers\.", "resblocks."),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"self_attn\.([qkv])_proj\.", r"attn.in_proj_.\1."),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"layer_norm", "ln_"),
    (r"^final_ln_", "ln_final"),
]


def fill_renamed(model, prefix, renames):
    """Numbers by the names of the public code; query, key and value are cut out of one tensor."""
    recipes = {}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        for pattern, target in renames:
            name = re.sub(pattern, target, name)
        shape, part = list(tensor.shape), None
        stacked = re.search(r"(attn\.qkv|attn\.in_proj_)\.([qkv])\.", name)
        if stacked:
            joint = "attn.in_proj_" if "in_proj" in stacked[1] else "attn.qkv."
            name, part = name.replace(stacked[0], joint), "qkv".index(stacked[2])
            shape[0] *= 3
        name = prefix + name
        centre, spread = recipe(name, tensor)
        recipes[name] = [shape, centre, spread]
        values = torch.from_numpy(numbers(name, tuple(shape), centre, spread))
        tensor.copy_(values if part is None else values.chunk(3)[part])
    return recipes


def golden(name, vision_config, text_config, projection_dim, lengths, n_pictures=2, lang="text_encoder."):
    vision, text = SwinModel(vision_config).eval(), CLIPTextModel(text_config).eval()
    recipes = fill_renamed(vision, "image_encoder.", IMAGE) | fill_renamed(text, lang, TEXT)
    projections = {}
    for key, width in [("image_projection", vision.num_features), ("text_projection", text_config.hidden_size)]:
        shape, spread = (width, projection_dim), float((3.0 / width) ** 0.5)
        recipes[key] = [list(shape), 0.0, spread]
        projections[key] = torch.from_numpy(numbers(key, shape, 0.0, spread))
    height, vocab = vision_config.image_size, text_config.vocab_size
    config = {"model_type": "unicl", "projection_dim": projection_dim}
    config |= {"vision_config": vision_config.to_dict(), "text_config": text_config.to_dict()}
    for part in ["vision_config", "text_config"]:
        config[part].pop("transformers_version", None)
    files = {
        "config.json": config,
        "preprocessor_config.json": {"size": {"shortest_edge": height * 8 // 7}, "crop_size": height, "resample": 3},
        "tokenizer.json": vocabulary(vocab, {"<|startoftext|>": vocab - 2, "<|endoftext|>": vocab - 1}),
    }

    pixels = inputs(f"{name}.pixels", (n_pictures, 3, height, height))
    pooled, states = states_of(vision, pixels)
    tensors = {"input": pixels, "embedding": pooled @ projections["image_projection"]}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(states)}
    write(f"{name}_image", "image", files, recipes, tensors, FULL)

    texts = ids(f"{name}.ids", lengths, 0, vocab - 2, vocab - 2, vocab - 1)
    outs = [text(input_ids=torch.tensor([t]), output_hidden_states=True) for t in texts]
    tensors = {
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor(lengths),
        "embedding": torch.cat([out.pooler_output for out in outs]) @ projections["text_projection"],
    }
    for i in range(len(outs[0].hidden_states)):
        tensors[f"hidden.{i}"] = torch.cat([out.hidden_states[i][0] for out in outs])
    write(f"{name}_text", "text", files, recipes, tensors, FULL)


if FULL:
    text = CLIPTextConfig(layer_norm_eps=1e-12, eos_token_id=49407)
    golden("unicl_swin_tiny", SwinConfig(), text, 512, [5, 77], 1)
else:
    vision = SwinConfig(embed_dim=6, depths=[2, 2], num_heads=[1, 2], mlp_ratio=2.0, patch_size=2, window_size=3, image_size=24)
    text = dict(vocab_size=60, hidden_size=24, intermediate_size=96, num_hidden_layers=2, num_attention_heads=3)
    text |= dict(max_position_embeddings=12, layer_norm_eps=1e-12, eos_token_id=59)
    golden("unicl", vision, CLIPTextConfig(**text), 16, [3, 7, 12])
    # The older name of the text tower; windows cut to the last stage's grid of 2 x 2 are the authors' alone and have no reference.
    golden("unicl_lang", vision, CLIPTextConfig(**text), 10, [4, 9], 1, "lang_encoder.")
