"""Goldens of recurrent text encoders, by LSTM and GRU of torch; versions and use in encode_shared.py. What stands around them (a
table of words, pooling, a dense layer) is written here by its definition.

    python reference/encode_recurrent.py [--full DIR]
"""

import torch

from encode_shared import fill, full_dir, ids, vocabulary, write

FULL = full_dir()


class Encoder(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = torch.nn.Embedding(config["vocab_size"], config["embedding_dim"])
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[config["model_type"]]
        sizes = {key: config[key] for key in ["num_layers", "bidirectional", "bias"] if key in config}
        self.rnn = kind(config["embedding_dim"], config["hidden_size"], batch_first=True, **sizes)
        width = config["hidden_size"] * (2 if self.rnn.bidirectional else 1)
        self.projection = torch.nn.Linear(width, config["projection_dim"]) if "projection_dim" in config else None

    def layers(self):
        """Every layer by itself, with the weights of the whole."""
        for i in range(self.rnn.num_layers):
            width = self.rnn.input_size if i == 0 else self.rnn.hidden_size * (2 if self.rnn.bidirectional else 1)
            sizes = dict(bidirectional=self.rnn.bidirectional, bias=self.rnn.bias, batch_first=True)
            layer = type(self.rnn)(width, self.rnn.hidden_size, **sizes)
            layer.load_state_dict({k.replace(f"_l{i}", "_l0"): v for k, v in self.rnn.state_dict().items() if f"_l{i}" in k})
            yield layer

    def forward(self, text):
        x = self.embedding(torch.tensor([text]))
        states = [x]
        for layer in self.layers():
            states.append(layer(states[-1])[0])
        out, last = self.rnn(x)
        assert torch.equal(out, states[-1])
        last = last[0] if isinstance(last, tuple) else last
        pooled = {
            "final": last[-2:].flatten() if self.rnn.bidirectional else last[-1].flatten(),
            "mean": out[0].mean(0),
            "max": out[0].max(0).values,
        }[self.config.get("pooling", "final")]
        return pooled if self.projection is None else self.projection(pooled), [s[0] for s in states]


def golden(name, config, lengths):
    model = Encoder(config).eval()
    recipes = fill(model)
    vocab = config["vocab_size"]
    files = {"config.json": config, "tokenizer.json": vocabulary(vocab, {"<s>": vocab - 2, "</s>": vocab - 1})}
    texts = ids(f"{name}.ids", lengths, 0, vocab - 2, vocab - 2, vocab - 1)
    outs = [model(text) for text in texts]
    tensors = {
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor(lengths),
        "embedding": torch.stack([embedding for embedding, _ in outs]),
    }
    for i in range(len(outs[0][1])):
        tensors[f"hidden.{i}"] = torch.cat([states[i] for _, states in outs])
    write(name, "text", files, recipes, tensors, FULL)


if FULL:
    sizes = dict(vocab_size=30000, embedding_dim=300, hidden_size=512, num_layers=2, bidirectional=True)
    golden("lstm_2x512", {"model_type": "lstm"} | sizes | dict(pooling="mean", projection_dim=512), [2, 40, 11])
    golden("gru_2x512", {"model_type": "gru"} | sizes, [2, 40, 11])
else:
    sizes = dict(vocab_size=60, embedding_dim=10, hidden_size=13)
    golden("lstm", {"model_type": "lstm"} | sizes | dict(num_layers=2, bidirectional=True), [3, 7, 2, 12])
    golden("lstm_mean", {"model_type": "lstm"} | sizes | dict(pooling="mean", projection_dim=9), [4, 9])
    golden("gru", {"model_type": "gru"} | sizes | dict(num_layers=3, pooling="final", normalize=True), [5, 2, 12])
    more = dict(num_layers=2, bidirectional=True, bias=False, pooling="max")
    golden("gru_max", {"model_type": "gru"} | sizes | more, [8, 3])
