"""Goldens of XLNet by XLNetModel and XLNetLMHeadModel of transformers, with the segments that its tokeniser states: 0 for a text, 2
for the `<cls>` behind it; versions and use in encode_shared.py.

    python reference/encode_xlnet.py [--full DIR]
"""

import torch
from transformers import XLNetConfig, XLNetLMHeadModel, XLNetModel

from encode_shared import fill, full_dir, ids, vocabulary, write

FULL = full_dir()

SUMMARIES = {"last": lambda h: h[-1], "first": lambda h: h[0], "mean": lambda h: h.mean(0)}


def golden(name, model, lengths):
    model.eval()
    # The head's weight is that of the words.
    recipes = fill(model, skip=["lm_loss.weight"])
    config = model.config
    bare = getattr(model, "transformer", model)
    files = {"config.json": config.to_dict(), "tokenizer.json": vocabulary(config.vocab_size, {"<sep>": 4, "<cls>": 3})}
    files["config.json"].pop("transformers_version", None)
    texts = ids(f"{name}.ids", lengths, 5, config.vocab_size, 6, 3)
    outs = []
    for text in texts:
        segments = torch.tensor([[0] * (len(text) - 1) + [2]])
        outs.append(bare(input_ids=torch.tensor([text]), token_type_ids=segments, output_hidden_states=True))
    tensors = {
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor(lengths),
        "embedding": torch.stack([SUMMARIES[config.summary_type](out.last_hidden_state[0]) for out in outs]),
    }
    for i in range(len(outs[0].hidden_states)):
        tensors[f"hidden.{i}"] = torch.cat([out.hidden_states[i][0] for out in outs])
    write(name, "text", files, recipes, tensors, FULL)


def small(**more):
    return XLNetConfig(**dict(vocab_size=60, d_model=24, d_inner=40, n_layer=2, n_head=3) | more)


if FULL:
    golden("xlnet_base", XLNetModel(XLNetConfig(d_model=768, n_layer=12, n_head=12, d_inner=3072)), [5, 200])
else:
    golden("xlnet", XLNetModel(small()), [3, 7, 12])
    golden("xlnet_words", XLNetLMHeadModel(small(summary_type="mean", clamp_len=4)), [3, 11])
