"""Goldens of BERT, RoBERTa and XLM-R, bare and in folders of sentence-transformers, by BertModel, RobertaModel and XLMRobertaModel
of transformers and their heads for masked words; versions and use in encode_shared.py. The pooling of sentence-transformers is
written here by its definition.

    python reference/encode_bert.py [--full DIR]
"""

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaModel,
)

from encode_shared import fill, full_dir, ids, numbers, recipe, vocabulary, write

FULL = full_dir()

POOLINGS = {"mean": lambda h: h.mean(0), "cls": lambda h: h[0], "max": lambda h: h.max(0).values}
MODES = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}


def old_names(model, recipes):
    """The recipes with the oldest checkpoints' names of the normalisations, and their numbers in the model."""
    state, out = model.state_dict(), {}
    for name, made in recipes.items():
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        if old != name:
            centre, spread = recipe(name, state[name])
            state[name].copy_(torch.from_numpy(numbers(old, tuple(state[name].shape), centre, spread)))
        out[old] = made
    return out


def golden(name, model, lengths, old=False, padded=False, folder=None):
    """`folder`: the way of pooling and whether to unit length, for a folder of sentence-transformers."""
    model.eval()
    # These two share their numbers with others.
    shared = [key for key in model.state_dict() if key.endswith(("decoder.weight", "decoder.bias"))]
    recipes = fill(model, skip=shared)
    if old:
        recipes = old_names(model, recipes)
    config = model.config
    bare = getattr(model, model.base_model_prefix, model)
    files = {"config.json": config.to_dict(), "tokenizer.json": vocabulary(config.vocab_size, {"[CLS]": 2, "[SEP]": 3})}
    files["config.json"].pop("transformers_version", None)
    pooling, unit = folder or ("mean", False)
    if folder:
        kinds = ["Transformer", "Pooling"] + ["Normalize"] * unit
        files["modules.json"] = [
            {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"}
            for i, kind in enumerate(kinds)
        ]
        files["1_Pooling/config.json"] = {"word_embedding_dimension": config.hidden_size}
        files["1_Pooling/config.json"] |= {mode: way == pooling for way, mode in MODES.items()}
        files["sentence_bert_config.json"] = {"max_seq_length": max(lengths), "do_lower_case": False}

    texts = ids(f"{name}.ids", lengths, 4, config.vocab_size, 2, 3)
    if padded:
        # The padding token within a text, which has a position of its own.
        texts[-1][2] = config.pad_token_id
    outs = [bare(input_ids=torch.tensor([text]), output_hidden_states=True) for text in texts]
    embedding = torch.stack([POOLINGS[pooling](out.last_hidden_state[0]) for out in outs])
    tensors = {
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor(lengths),
        "embedding": torch.nn.functional.normalize(embedding) if unit else embedding,
    }
    for i in range(len(outs[0].hidden_states)):
        tensors[f"hidden.{i}"] = torch.cat([out.hidden_states[i][0] for out in outs])
    write(name, "text", files, recipes, tensors, FULL)


def small(n_positions=12, types=2, **more):
    sizes = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    return sizes | dict(max_position_embeddings=n_positions, type_vocab_size=types) | more


if FULL:
    golden("bert_base", BertModel(BertConfig()), [5, 300])
    golden("roberta_base", RobertaModel(RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)), [5, 300])
else:
    golden("bert", BertModel(BertConfig(**small())), [3, 7, 12])
    # With a head before which stands a prefix, and the names and activation of old and of other checkpoints.
    golden("bert_masked_words", BertForMaskedLM(BertConfig(**small(hidden_act="gelu_new"))), [4, 9], old=True)
    golden("roberta", RobertaModel(RobertaConfig(**small(14, 1, layer_norm_eps=1e-5))), [3, 12, 8], padded=True)
    golden("xlm_roberta_masked_words", XLMRobertaForMaskedLM(XLMRobertaConfig(**small(14, 1))), [5, 12])
    golden("sentence_bert_max", BertModel(BertConfig(**small())), [3, 9], folder=("max", False))
    golden("sentence_roberta_cls", RobertaModel(RobertaConfig(**small(14, 1))), [3, 9], folder=("cls", True))
    golden("sentence_xlm_roberta_mean", XLMRobertaModel(XLMRobertaConfig(**small(14, 1))), [3, 9], folder=("mean", True))
