"""Golden of zero-shot classification, by CLIPModel and SiglipModel of transformers; versions in encode_shared.py.

    python reference/engine_classify.py

For each of two small random models: the files of a checkpoint and the recipes of its weights, pictures of the size that the network
takes, and for labels in each set of sentences the closeness and the probability that the reference gives. Label vectors are built as
in section 3.1.4 of the paper of CLIP: unit vectors of all sentences, their mean, again at unit length; probabilities are softmax or
sigmoid of the reference's own logits. The sentences are read from crates/chiasm-engine/src/prompts/.
"""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from encode_shared import fill, numbers, vocabulary

ROOT = Path(__file__).resolve().parent.parent
LABELS = ["dog", "tabby_cat", "sofa|couch", "狗"]
SIZE = 20


def sentences(name):
    lines = (ROOT / "crates/chiasm-engine/src/prompts" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


SETS = {name: {lang: sentences(f"{name}.{lang}.txt") for lang in ("en", "zh")} for name in ("imagenet", "short", "plain")}


def texts(label, templates):
    names = [name.replace("_", " ").strip() for name in label.split("|")]
    return [t.replace("{}", name) for t in templates["zh" if "狗" in label else "en"] for name in names]


def tokenizer(start, end):
    """Words as they are, split at spaces and punctuation; Chinese letter by letter, so that sentences share tokens."""
    split = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "[\\u4e00-\\u9fff]"}, "behavior": "Isolated", "invert": False},
        {"type": "Whitespace"},
    ]}
    words = vocabulary(1, {})
    words["pre_tokenizer"] = split
    splitter = Tokenizer.from_str(json.dumps(words)).pre_tokenizer
    found = {w for name in SETS for label in LABELS for text in texts(label, SETS[name]) for w, _ in splitter.pre_tokenize_str(text)}
    vocab = ["<unk>", *sorted(found), *(token for token in (start, end) if token)]
    words["model"] = {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(vocab)}, "unk_token": "<unk>"}
    special = [token for token in (start, end) if token]
    words["added_tokens"] = [
        {"id": vocab.index(t), "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for t in special
    ]
    around = [{"SpecialToken": {"id": start, "type_id": 0}}] if start else []
    around += [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}]
    words["post_processor"] = {
        "type": "TemplateProcessing", "single": around, "pair": around + [{"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {t: {"id": t, "ids": [vocab.index(t)], "tokens": [t]} for t in special},
    }
    return words, len(vocab)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def golden(model, words, files, pad_to, mean, std, sigmoid):
    recipes = fill(model)
    # What training arrives at, about.
    for name, value in {"logit_scale": 3.2, **({"logit_bias": -2.5} if sigmoid else {})}.items():
        model.state_dict()[name].fill_(value)
        recipes[name] = [list(model.state_dict()[name].shape), value, 0.0]
    files["config.json"] = model.config.to_dict()
    files["config.json"].pop("transformers_version", None)
    files["tokenizer.json"] = words
    tokens = Tokenizer.from_str(json.dumps(words))
    pictures = (numbers("pictures", (3, SIZE, SIZE, 3), 0.5, 0.5) * 255).astype(np.uint8)
    # Of differing brightness, or random networks see them as one.
    pictures = (pictures // np.array([1, 2, 5], dtype=np.uint8)[:, None, None, None]).astype(np.uint8)
    pixels = (torch.from_numpy(pictures).float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    image = unit(model.get_image_features(pixel_values=pixels.permute(0, 3, 1, 2)).pooler_output)
    sets = {}
    for name, templates in SETS.items():
        rows = []
        for label in LABELS:
            vectors = []
            for text in texts(label, templates):
                ids = tokens.encode(text.lower() if pad_to else text).ids
                ids += [0] * ((pad_to or 0) - len(ids))
                vectors.append(unit(model.get_text_features(input_ids=torch.tensor([ids])).pooler_output[0]))
            rows.append(unit(torch.stack(vectors).mean(dim=0)))
        scores = image @ torch.stack(rows).T
        logits = scores * model.logit_scale.exp() + (model.logit_bias if sigmoid else 0.0)
        shares = torch.sigmoid(logits) if sigmoid else logits.softmax(dim=-1)
        sets[name] = {"scores": scores.tolist(), "probabilities": shares.tolist()}
    return {
        "files": files,
        "tensors": recipes,
        "pictures": pictures.reshape(3, -1).tolist(),
        "labels": LABELS,
        "logits": {
            "squash": "sigmoid" if sigmoid else "softmax",
            "scale": float(model.logit_scale.exp()),
            "bias": float(model.logit_bias) if sigmoid else 0.0,
        },
        "sets": sets,
    }


def clip():
    words, n = tokenizer("<|startoftext|>", "<|endoftext|>")
    text = dict(vocab_size=n, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    text |= dict(max_position_embeddings=24, eos_token_id=n - 1)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=SIZE, patch_size=5)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).eval()
    files = {"preprocessor_config.json": {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}}
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return golden(model, words, files, None, mean, std, False)


def siglip():
    words, n = tokenizer(None, "</s>")
    text = dict(vocab_size=n, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    text |= dict(max_position_embeddings=24, pad_token_id=0)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=SIZE, patch_size=5)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    files = {"preprocessor_config.json": {"size": {"height": SIZE, "width": SIZE}}}
    return golden(model, words, files, 24, [0.5] * 3, [0.5] * 3, True)


out = ROOT / "testdata" / "goldens" / "engine"
out.mkdir(parents=True, exist_ok=True)
for name, made in {"classify_clip": clip(), "classify_siglip": siglip()}.items():
    text = json.dumps(made, ensure_ascii=False)
    # One tensor a line, so that a change can be read.
    (out / f"{name}.json").write_text(text.replace('], "', '],\n"') + "\n", encoding="utf-8")
    print(name, len(text), made["sets"]["short"]["scores"][0], made["sets"]["short"]["probabilities"][0])
