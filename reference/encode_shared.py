"""What the scripts share that write goldens of whole architectures (`reference/encode_*.py`).

A golden is made of two files in testdata/goldens/encode/nets/: NAME.json holds the files of a random checkpoint and a recipe
for every tensor, NAME.safetensors the inputs, the hidden states and the embeddings of the reference. The weights themselves are
not stored: both sides make them from the tensors' names (`numbers`). With `--full DIR` as arguments a script writes goldens of
its full-size configurations into DIR instead, for

    CHIASM_PARITY=DIR cargo test --release -p chiasm-encode full_sizes -- --nocapture

Made with torch 2.15.0, transformers 5.23.0, open_clip_torch 3.3.0, in f32 on the CPU; seeds are the tensors' names.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
torch.set_grad_enabled(False)


def full_dir():
    """The folder after `--full`, if that was given."""
    return Path(sys.argv[2]) if len(sys.argv) == 3 and sys.argv[1] == "--full" else None


def numbers(name, shape, centre, spread):
    """f32 values centre + spread * u, u in [-1, 1), that depend on the name and the place alone: FNV-1a, then splitmix64."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    n = int(np.prod(shape, dtype=np.int64))
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float32) / np.float32(8388608) - np.float32(1)
    return (np.float32(centre) + np.float32(spread) * u).reshape(shape)


def recipe(name, tensor):
    """Centre and spread such that activations stay of size one: gains near 1, variances above 0, weights by their fan-in."""
    last = name.rsplit(".", 1)[-1]
    if last == "running_var":
        return 1.0, 0.5
    # The scales of branches beside a shortcut, which training begins at 1e-5: dozens of branches follow one another, and none has a
    # normalisation of its own states that would keep what they add from growing.
    if last == "gamma" and tensor.ndim > 1:
        return 0.0625, 0.03125
    if tensor.ndim >= 2:
        fan_in = tensor[0].numel()
        # FastViT's `token_mixer` mixes tokens, it is no table of them.
        is_table = any(word in name.replace("token_mixer", "") for word in ("embedding", "embeddings", "position", "table", "token"))
        return 0.0, float(np.float32(0.5 if is_table and tensor.ndim == 2 else (3.0 / fan_in) ** 0.5))
    if last in ("weight", "gamma", "lambda1", "alpha") and tensor.ndim == 1:
        return 1.0, 0.25
    return 0.0, 0.125


def fill(model, skip=()):
    """Gives every parameter and floating buffer of the state dict its numbers; returns the recipes by name."""
    state, recipes = model.state_dict(), {}
    for name, tensor in state.items():
        if name in skip or not tensor.is_floating_point():
            continue
        centre, spread = recipe(name, tensor)
        recipes[name] = [list(tensor.shape), centre, spread]
        tensor.copy_(torch.from_numpy(numbers(name, tuple(tensor.shape), centre, spread)))
    return recipes


def inputs(name, shape):
    """Pixels, spectra: numbers in [-1.5, 1.5)."""
    return torch.from_numpy(numbers(name, shape, 0.0, 1.5))


def channels_last(maps):
    """[n, channels, height, width] to [n, height, width, channels]."""
    return maps.permute(0, 2, 3, 1)


def ids(name, lengths, low, high, first, last):
    """Token ids in low..high between a first and a last, a list for each length."""
    out = []
    for i, n in enumerate(lengths):
        u = numbers(f"{name}.{i}", (n - 2,), 0.5, 0.5)
        out.append([first, *(int(low + v * (high - low)) for v in u), last])
    return out


def vocabulary(n, special):
    """A word-level tokeniser of n tokens, which no golden of a network looks at but every checkpoint must bring."""
    words = {f"w{i}": i for i in range(n)}
    for word, i in special.items():
        words.pop(f"w{i}", None)
        words[word] = i
    added = [
        {"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for word, i in sorted(special.items(), key=lambda item: item[1])
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": dict(sorted(words.items(), key=lambda item: item[1])), "unk_token": "w0"},
    }


def write(name, tower, files, recipes, tensors, folder=None, weights="model.safetensors"):
    """Writes one golden; `tensors` are `input`, `hidden.0`.., `embedding`, and `lengths` where the input is texts."""
    out = folder or Path(__file__).resolve().parent.parent / "testdata" / "goldens" / "encode" / "nets"
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"tower": tower, "weights": weights, "files": files, "tensors": recipes}, ensure_ascii=False)
    # One tensor a line, so that a change can be read.
    (out / f"{name}.json").write_text(text.replace('], "', '],\n"') + "\n", encoding="utf-8")
    save_file({key: value.contiguous() for key, value in tensors.items()}, out / f"{name}.safetensors")
    print(f"{name}: {sum(t.numel() for t in tensors.values())} numbers, {len(recipes)} tensors")
