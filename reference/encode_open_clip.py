"""Goldens of both towers in open_clip's own layout, by the models of open_clip; versions and use in encode_shared.py, and timm 1.0.31
for the towers that come from there.

    python reference/encode_open_clip.py [--full DIR]
"""

import copy
import json
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.nn as nn
from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CustomTextCLIP
from timm.layers import LayerNorm, LayerNorm2d
from timm.models import register_model
from timm.models.fastvit import RepConditionalPosEnc, _create_fastvit
from timm.models.vision_transformer import _create_vision_transformer
from timm.models.vision_transformer_hybrid import ConvStem, _create_vision_transformer_hybrid
from transformers import BertConfig, RobertaConfig

from encode_shared import fill, full_dir, ids, inputs, vocabulary, write

FULL = full_dir()


class Watch:
    """Keeps what goes into the first of some modules and what comes out of each."""

    def __init__(self, modules):
        self.states = []
        modules[0].register_forward_pre_hook(lambda _, args: self.states.append(args[0]))
        for module in modules:
            module.register_forward_hook(lambda _, args, out: self.states.append(out[0] if isinstance(out, tuple) else out))

    def take(self):
        states, self.states = self.states, []
        return states


def build(config, **names):
    """The class that open_clip's factory takes for a description; `names` stand in for models that it would fetch."""
    config = copy.deepcopy(config)
    config["text_cfg"].update(names)
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    kind = CoCa if "multimodal_cfg" in config else CustomTextCLIP if custom else CLIP
    return kind(**config).eval()


def files_of(config, tokens, **others):
    return {"open_clip_config.json": {"model_cfg": config, "preprocess_cfg": {}}, "tokenizer.json": tokens} | others


def image(name, model, config, files, recipes, n_pictures=2, weights="open_clip_model.safetensors"):
    size = config["vision_cfg"]["image_size"]
    pixels = inputs(f"{name}.pixels", (n_pictures, 3, size, size))
    watch = Watch(list(model.visual.transformer.resblocks))
    tensors = {"input": pixels, "embedding": model.encode_image(pixels, normalize=False)}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(watch.take())}
    write(f"{name}_image", "image", files, recipes, tensors, FULL, weights)


def text(name, model, config, files, recipes, texts, weights="open_clip_model.safetensors"):
    """`texts` end where the token is that stands for them, unless all positions are looked at."""
    cfg = config["text_cfg"]
    n_positions = cfg["context_length"]
    filled = [t + [0] * (n_positions - len(t)) for t in texts]
    all_seen = cfg.get("no_causal_mask") or cfg.get("pool_type") == "last"
    watch = Watch(list(getattr(model, "text", model).transformer.resblocks))
    embedding = model.encode_text(torch.tensor(filled), normalize=False)
    texts = filled if all_seen else texts

    def rows(t):
        # CoCa's class token stands behind the filled text and sees one padding.
        if cfg.get("embed_cls"):
            return [*range(min(len(t) + 1, n_positions)), n_positions]
        return list(range(len(t)))

    tensors = {"input": torch.tensor(sum(texts, [])), "lengths": torch.tensor([len(t) for t in texts]), "embedding": embedding}
    for i, states in enumerate(watch.take()):
        tensors[f"hidden.{i}"] = torch.cat([h[rows(t)] for h, t in zip(states, texts)])
    write(f"{name}_text", "text", files, recipes, tensors, FULL, weights)


def both(name, config, lengths, n_pictures=2, weights="open_clip_model.safetensors"):
    model = build(config)
    recipes = fill(model)
    n = config["text_cfg"]["vocab_size"]
    files = files_of(config, vocabulary(n, {"<|startoftext|>": n - 2, "<|endoftext|>": n - 1}))
    image(name, model, config, files, recipes, n_pictures, weights)
    texts = ids(f"{name}.ids", lengths, 0, n - 2, n - 2, n - 1)
    # A word that is numbered as the padding is.
    texts[-1][2] = 0
    text(name, model, config, files, recipes, texts, weights)


def flat(maps):
    """Pictures with the channels last, which is how rows of states are compared."""
    return maps.permute(0, 2, 3, 1).contiguous() if maps.ndim == 4 else maps


def steps_of(visual):
    """The modules of a convolutional tower after which states are compared."""
    if hasattr(visual, "attnpool"):
        return [visual.avgpool, *(block for i in range(1, 5) for block in getattr(visual, f"layer{i}"))]
    steps = [visual.trunk.stem]
    for stage in visual.trunk.stages:
        steps += [step for step in (stage.downsample, stage.pos_emb, *stage.blocks) if not isinstance(step, nn.Identity)]
    return steps


def convolutional(name, config, lengths=()):
    """A convolutional image tower, and perhaps the text tower that goes with it."""
    model = build(config)
    recipes = fill(model)
    n = config["text_cfg"]["vocab_size"]
    files = files_of(config, vocabulary(n, {"<|startoftext|>": n - 2, "<|endoftext|>": n - 1}))
    size = config["vision_cfg"]["image_size"]
    pixels = inputs(f"{name}.pixels", (1 if FULL else 2, 3, size, size))
    watch = Watch(steps_of(model.visual))
    tensors = {"input": pixels, "embedding": model.encode_image(pixels, normalize=False)}
    # What goes into the first of the modules is not compared.
    tensors |= {f"hidden.{i}": flat(h) for i, h in enumerate(watch.take()[1:])}
    write(f"{name}_image", "image", files, recipes, tensors, FULL, "open_clip_model.safetensors")
    if lengths:
        text(name, model, config, files, recipes, ids(f"{name}.ids", lengths, 0, n - 2, n - 2, n - 1))


def hf(name, hf_config, config, lengths):
    """A text tower of transformers."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(hf_config))
        model = build(config, hf_model_name=folder, hf_model_pretrained=False)
    recipes = fill(model)
    n = hf_config["vocab_size"]
    files = files_of(config, vocabulary(n, {"<s>": 0, "<pad>": 1, "</s>": 2}), **{"config.json": hf_config})
    texts = ids(f"{name}.ids", lengths, 3, n, 0, 2)
    watch = Watch(list(model.text.transformer.encoder.layer))
    filled = [t + [1] * (max(lengths) - len(t)) for t in texts]
    embedding = model.encode_text(torch.tensor(filled))
    tensors = {"input": torch.tensor(sum(texts, [])), "lengths": torch.tensor(lengths), "embedding": embedding}
    for i, states in enumerate(watch.take()):
        tensors[f"hidden.{i}"] = torch.cat([h[: len(t)] for h, t in zip(states, texts)])
    write(name, "text", files, recipes, tensors, FULL, "open_clip_model.safetensors")


# timm's names stand for networks too large for a golden, so there are names for smaller ones beside them.
TINY = dict(embed_dim=32, depth=2, num_heads=4, mlp_ratio=3.7362)


@register_model
def vit_golden_patch5_siglip_17(pretrained=False, **kwargs):
    args = TINY | dict(img_size=17, patch_size=5, class_token=False, global_pool="map") | kwargs
    return _create_vision_transformer("vit_golden_patch5_siglip_17", pretrained=pretrained, **args)


@register_model
def vit_golden_patch5_clip_20(pretrained=False, **kwargs):
    args = TINY | dict(img_size=20, patch_size=5, pre_norm=True, norm_layer=lambda dim, **_: LayerNorm(dim, eps=1e-5)) | kwargs
    return _create_vision_transformer("vit_golden_patch5_clip_20", pretrained=pretrained, **args)


@register_model
def vit_golden_mci_48(pretrained=False, **kwargs):
    stem = ConvStem(channels=(8, 8, 32), stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0, act_layer=nn.GELU)
    args = TINY | dict(img_size=48, no_embed_class=True, embed_args=dict(proj=False)) | kwargs
    return _create_vision_transformer_hybrid("vit_golden_mci_48", stem, pretrained=pretrained, **args)


@register_model
def fastvit_golden(pretrained=False, **kwargs):
    positions = partial(RepConditionalPosEnc, spatial_shape=(7, 7))
    args = dict(layers=(1, 1, 1, 2), embed_dims=(8, 16, 32, 64), mlp_ratios=(3,) * 4, se_downsamples=(False, False, True, True))
    args |= dict(pos_embs=(None, None, None, positions), lkc_use_act=True)
    args |= dict(token_mixers=("repmixer", "repmixer", "repmixer", "attention"))
    return _create_fastvit("fastvit_golden", pretrained=pretrained, **args | kwargs)


@register_model
def fastvit_golden_large(pretrained=False, **kwargs):
    positions = partial(RepConditionalPosEnc, spatial_shape=(7, 7))
    args = dict(layers=(1,) * 5, embed_dims=(8, 16, 16, 32, 64), mlp_ratios=(4,) * 5, se_downsamples=(False,) * 5)
    args |= dict(downsamples=(False, True, True, True, True), pos_embs=(None, None, None, positions, positions), lkc_use_act=True)
    args |= dict(token_mixers=("repmixer", "repmixer", "repmixer", "attention", "attention"))
    args |= dict(norm_layer=partial(LayerNorm2d, eps=1e-5), stem_use_scale_branch=False)
    return _create_fastvit("fastvit_golden_large", pretrained=pretrained, **args | kwargs)


def timm(name, vision, text_cfg=None, lengths=()):
    """An image tower of timm, and perhaps the text tower that goes with it."""
    vision = dict(image_size=int(vision["timm_model_name"].rsplit("_", 1)[1])) | vision
    config = small({}, text_cfg or {}, custom_text=True) | dict(vision_cfg=vision)
    if vision["timm_proj"] == "none":
        config["embed_dim"] = TINY["embed_dim"]
    model = build(config)
    recipes = fill(model)
    files = files_of(config, vocabulary(60, {"</s>": 1}), **{"tokenizer_config.json": {"pad_token": "w0"}})
    size = vision["image_size"]
    pixels = inputs(f"{name}.pixels", (2, 3, size, size))
    watch = Watch(list(model.visual.trunk.blocks))
    tensors = {"input": pixels, "embedding": model.encode_image(pixels)}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(watch.take())}
    write(f"{name}_image", "image", files, recipes, tensors, FULL, "open_clip_model.safetensors")
    if lengths:
        text(name, model, config, files, recipes, ids(f"{name}.ids", lengths, 2, 60, 2, 1))


def small(vision=(), text=(), **others):
    vision = dict(image_size=20, patch_size=5, layers=2, width=32, head_width=8) | dict(vision)
    text = dict(context_length=12, vocab_size=60, width=24, heads=3, layers=2) | dict(text)
    return dict(embed_dim=16, vision_cfg=vision, text_cfg=text) | others


if FULL:
    vision = dict(image_size=224, layers=12, width=768, patch_size=32)
    text_cfg = dict(context_length=77, vocab_size=49408, width=512, heads=8, layers=12)
    config = dict(embed_dim=512, quick_gelu=True, vision_cfg=vision, text_cfg=text_cfg)
    both("open_clip_vit_b_32_quickgelu", config, [5, 77], 1)
    vision = dict(image_size=224, layers=[3, 4, 6, 3], width=64, patch_size=None)
    convolutional("open_clip_rn50", dict(embed_dim=1024, vision_cfg=vision, text_cfg=text_cfg))
    vision = dict(image_size=256, timm_model_name="fastvit_mci1", timm_model_pretrained=False, timm_pool="avg", timm_proj=None)
    config = dict(embed_dim=512, vision_cfg=vision, text_cfg=text_cfg | dict(no_causal_mask=True), custom_text=True)
    convolutional("open_clip_mobileclip_s1", config, [5, 77])
else:
    both("open_clip_quick", small(quick_gelu=True), [3, 7, 12])
    # All that the vision transformers of CLIPA and the small ViTs have otherwise, in PyTorch's file.
    vision = dict(no_ln_pre=True, pool_type="avg", final_ln_after_pool=True, mlp_ratio=2.7, ls_init_value=1e-4)
    cfg = dict(no_causal_mask=True, pool_type="last", mlp_ratio=1.7, ls_init_value=1e-4, norm_kwargs={"eps": 1e-6})
    both("open_clip_mean", small(vision, cfg), [3, 12], weights="open_clip_pytorch_model.bin")
    vision = dict(pool_type="avg", act_kwargs={"approximate": "tanh"}, norm_kwargs={"eps": 1e-6})
    cfg = dict(pool_type="eos", eos_id=59, act_kwargs={"approximate": "tanh"}, proj_bias=True)
    both("open_clip_eos", small(vision, cfg, custom_text=True), [4, 9])
    cfg = dict(pool_type="first", no_causal_mask=True, proj_type="none")
    both("open_clip_first", small({}, cfg), [4, 9])
    # CoCa, with and without the query's width in the picture's.
    vision = dict(attentional_pool=True, attn_pooler_heads=2, attn_pooler_queries=5, output_tokens=True)
    cfg = dict(embed_cls=True, output_tokens=True)
    decoder = dict(context_length=12, vocab_size=60, width=16, heads=2, layers=1)
    both("open_clip_coca", small(vision, cfg, multimodal_cfg=decoder, custom_text=True), [3, 7, 12])
    vision |= dict(pool_type="avg", width=16)
    both("open_clip_coca_mean", small(vision, cfg, multimodal_cfg=decoder, custom_text=True), [5])

    sizes = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    sizes |= dict(max_position_embeddings=14, pad_token_id=1)
    roberta = RobertaConfig(**sizes, type_vocab_size=1).to_dict()
    cfg = dict(context_length=12, hf_model_name="some/roberta", hf_tokenizer_name="some/roberta", hf_pooler_type="mean_pooler")
    hf("open_clip_roberta_text", roberta, small() | dict(text_cfg=cfg), [3, 7, 12])
    bert = BertConfig(**sizes).to_dict()
    cfg = dict(hf_model_name="some/bert", hf_tokenizer_name="some/bert", hf_pooler_type="cls_pooler", hf_proj_type="linear")
    hf("open_clip_bert_text", bert, small() | dict(text_cfg=cfg), [3, 12])

    siglip = dict(timm_model_name="vit_golden_patch5_siglip_17", timm_model_pretrained=False, timm_pool="map", timm_proj="none")
    cfg = dict(no_causal_mask=True, proj_bias=True, pool_type="last", norm_kwargs={"eps": 1e-6}, hf_tokenizer_name="some/siglip")
    timm("open_clip_siglip", siglip, cfg, [3, 12])
    clip = dict(timm_model_name="vit_golden_patch5_clip_20", timm_pool="token", timm_proj="linear")
    timm("open_clip_timm_clip", clip)
    mci = dict(timm_model_name="vit_golden_mci_48", timm_pool="token", timm_proj=None, timm_drop_path=0.0)
    timm("open_clip_mobileclip_b", mci)

    vision = dict(image_size=64, layers=[1, 1, 2, 1], width=4, head_width=32, patch_size=None)
    convolutional("open_clip_resnet", small() | dict(vision_cfg=vision))
    fastvit = dict(image_size=48, timm_model_name="fastvit_golden", timm_model_pretrained=False, timm_pool="avg", timm_proj=None)
    config = small({}, dict(no_causal_mask=True), custom_text=True) | dict(vision_cfg=fastvit)
    convolutional("open_clip_mobileclip", config, [4, 12])
    fastvit |= dict(timm_model_name="fastvit_golden_large", timm_proj="linear", timm_proj_bias=True)
    convolutional("open_clip_mobileclip_large", small(custom_text=True) | dict(vision_cfg=fastvit))
