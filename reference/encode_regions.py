"""Goldens of the networks that look at regions of a picture together with a text, by LxmertForPreTraining, VisualBertForPreTraining and
VisualBertForVisualReasoning of transformers; versions and use in encode_shared.py.

    python reference/encode_regions.py [--full DIR]

`features` and `boxes` are those of one picture, which all texts look at; `score` is the probability that they belong together. LXMERT:
`hidden.0`.. are the states of the regions by themselves, `text.0`.. those of the texts through all layers, `regions.0`.. those of the
regions in the layers where both meet. VisualBERT: `hidden.0`.. are the states of words and regions in one row.
"""

import torch
from transformers import (
    LxmertConfig,
    LxmertForPreTraining,
    VisualBertConfig,
    VisualBertForPreTraining,
    VisualBertForVisualReasoning,
)

from encode_shared import fill, full_dir, ids, numbers, vocabulary, write

FULL = full_dir()


def prepared(name, model, lengths, n_regions, dim):
    """The files, the recipes, the texts and the tensors that go in."""
    # These two share their numbers with others.
    recipes = fill(model.eval(), skip=[key for key in model.state_dict() if key.endswith(("decoder.weight", "decoder.bias"))])
    config = model.config
    files = {"config.json": config.to_dict(), "tokenizer.json": vocabulary(config.vocab_size, {"[CLS]": 2, "[SEP]": 3})}
    files["config.json"].pop("transformers_version", None)
    texts = ids(f"{name}.ids", lengths, 4, config.vocab_size, 2, 3)
    tensors = {
        "features": torch.from_numpy(numbers(f"{name}.features", (n_regions, dim), 0.5, 0.5)),
        "boxes": torch.from_numpy(numbers(f"{name}.boxes", (n_regions, 4), 0.5, 0.5)),
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor(lengths),
    }
    return files, recipes, [torch.tensor([text]) for text in texts], tensors


def lxmert(name, config, lengths, n_regions):
    model = LxmertForPreTraining(config)
    files, recipes, texts, tensors = prepared(name, model, lengths, n_regions, config.visual_feat_dim)
    regions = dict(visual_feats=tensors["features"][None], visual_pos=tensors["boxes"][None])
    outs = [model(input_ids=text, output_hidden_states=True, **regions) for text in texts]
    tensors["score"] = torch.cat([out.cross_relationship_score for out in outs]).softmax(1)[:, 1]
    # The states that go into the first layers are not among those that the reference gives.
    tensors["hidden.0"] = model.lxmert.encoder.visn_fc(*regions.values())[0]
    for i in range(config.r_layers):
        tensors[f"hidden.{i + 1}"] = outs[0].vision_hidden_states[i][0]
    for i in range(config.x_layers):
        tensors[f"regions.{i}"] = torch.cat([out.vision_hidden_states[config.r_layers + i][0] for out in outs])
    tensors["text.0"] = torch.cat([model.lxmert.embeddings(text, torch.zeros_like(text))[0] for text in texts])
    for i in range(config.l_layers + config.x_layers):
        tensors[f"text.{i + 1}"] = torch.cat([out.language_hidden_states[i][0] for out in outs])
    write(name, "pair", files, recipes, tensors, FULL)


def visual_bert(name, model, lengths, n_regions):
    files, recipes, texts, tensors = prepared(name, model, lengths, n_regions, model.config.visual_embedding_dim)
    outs = [model(input_ids=text, visual_embeds=tensors["features"][None], output_hidden_states=True) for text in texts]
    if isinstance(model, VisualBertForPreTraining):
        tensors["score"] = torch.cat([out.seq_relationship_logits for out in outs]).softmax(1)[:, 0]
    else:
        tensors["score"] = torch.cat([out.logits for out in outs]).softmax(1)[:, 1]
    for i in range(len(outs[0].hidden_states)):
        tensors[f"hidden.{i}"] = torch.cat([out.hidden_states[i][0] for out in outs])
    write(name, "pair", files, recipes, tensors, FULL)


if FULL:
    lxmert("lxmert_base", LxmertConfig(), [5, 20], 36)
    visual_bert("visual_bert_base", VisualBertForPreTraining(VisualBertConfig(visual_embedding_dim=2048)), [5, 60], 36)
else:
    sizes = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_attention_heads=3, max_position_embeddings=12)
    layers = dict(l_layers=2, r_layers=1, x_layers=2, visual_feat_dim=10)
    heads = dict(num_qa_labels=3, num_object_labels=4, num_attr_labels=5)
    lxmert("lxmert_pair", LxmertConfig(**sizes, **layers, **heads), [3, 7, 12], 5)
    sizes |= dict(num_hidden_layers=2, visual_embedding_dim=10, pad_token_id=0)
    visual_bert("visual_bert_pair", VisualBertForPreTraining(VisualBertConfig(**sizes)), [3, 7, 12], 5)
    visual_bert("visual_bert_reasoning_pair", VisualBertForVisualReasoning(VisualBertConfig(**sizes)), [4, 9], 1)
