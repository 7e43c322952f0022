"""Goldens of the weight readers: testdata/goldens/nn/*.

torch 2.15.0, safetensors 0.8.0, huggingface_hub 2.4.0, numpy 2.4.6, Python 3.11; seed 20250611.

The same few tensors of every kind are written in every layout in which checkpoints come, by the libraries that write them;
`weights.json` holds, for each file or index, what reading it must give (shape, type and values), or the name of the file that
gives the same.
"""

import argparse
import io
import json
import pathlib
import pickle
import pickletools
import tempfile
import zipfile
from collections import OrderedDict

import numpy as np
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file

torch.set_num_threads(1)
torch.manual_seed(20250611)
out = pathlib.Path(__file__).parent.parent / "testdata/goldens/nn"
out.mkdir(parents=True, exist_ok=True)
expected = {}


def expect(name, state):
    """Values in the precision they are stored in; every one of them is exact as a double."""
    tensors = {}
    for key, t in state.items():
        flat = t.detach().contiguous().reshape(-1)
        values = flat.double().tolist() if t.is_floating_point() else flat.long().tolist()
        tensors[key] = {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch."), "values": values}
    same = [other for other, known in expected.items() if known == tensors]
    expected[name] = same[0] if same else tensors


base = torch.randn(4, 6)
block = torch.randn(40)
kinds = OrderedDict(
    f32=torch.randn(2, 3),
    f16=torch.randn(5).half(),
    bf16=torch.randn(3, 1, 2).bfloat16(),
    f64=torch.randn(4).double(),
    i64=torch.tensor([[-(2**62), 0, 2**62]]),
    i32=torch.tensor([-7, 7], dtype=torch.int32),
    i16=torch.tensor([-300, 300], dtype=torch.int16),
    i8=torch.tensor([-128, 127], dtype=torch.int8),
    u8=torch.tensor([0, 255], dtype=torch.uint8),
    bool=torch.tensor([True, False, True]),
    scalar=torch.tensor(2.5),
    empty=torch.zeros(0, 3),
    # Views: the same storage several times, transposed, with steps, from the middle, repeated.
    base=base,
    transposed=base.t(),
    stepped=base[1:, ::2],
    block=block,
    permuted=block[4:28].view(2, 3, 4).permute(2, 0, 1),
    channels_last=torch.randn(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
    repeated=torch.randn(3, 1).expand(3, 4),
    half_transposed=torch.randn(3, 2).half().t(),
    parameter=torch.nn.Parameter(torch.randn(3)),
    frozen=torch.nn.Parameter(torch.randn(2, 2).t(), requires_grad=False),
)
torch.save(kinds, out / "kinds.bin")
expect("kinds.bin", kinds)
torch.save(kinds, out / "protocol_4.bin", pickle_protocol=4)
expect("protocol_4.bin", kinds)


def rezipped(name, change, method=zipfile.ZIP_STORED):
    """The archive with its members changed, packed by another program than torch; torch must still read the same."""
    with zipfile.ZipFile(out / "kinds.bin") as old, zipfile.ZipFile(out / name, "w", method) as new:
        for info in old.infolist():
            entry = zipfile.ZipInfo(info.filename.replace("kinds/", "archive/"), (1980, 1, 1, 0, 0, 0))
            entry.compress_type = method
            new.writestr(entry, change(info.filename.split("/", 1)[1], old.read(info)))
    again = torch.load(out / name, weights_only=True)
    assert again.keys() == kinds.keys() and all(torch.equal(again[k], kinds[k]) for k in kinds)
    expect(name, again)


rezipped("deflated.bin", lambda name, data: data, zipfile.ZIP_DEFLATED)

# The pickle numbers the storages in the order in which they first occur; each is turned by the width of its type.
storages = {}
for t in kinds.values():
    storages.setdefault(t.untyped_storage().data_ptr() if t.numel() else object(), t.element_size())
widths = list(storages.values())


def big_endian(name, data):
    if name == "byteorder":
        return b"big"
    if not name.startswith("data/"):
        return data
    width = widths[int(name.removeprefix("data/"))]
    return np.frombuffer(data, f"V{width}").view("u1").reshape(-1, width)[:, ::-1].tobytes() if data else data


rezipped("big_endian.bin", big_endian)

# The older layout names storages by their addresses, and has them in this order: they get numbers as above, for the same bytes
# in every run.
stream = io.BytesIO()
torch.save(kinds, stream, _use_new_zipfile_serialization=False)
stream.seek(0)
for _ in range(3):
    pickle.load(stream)
start = stream.tell()
list(pickletools.genops(stream))
described = stream.getvalue()[: stream.tell()]
keys = pickle.load(stream)
by_occurrence = sorted(keys, key=lambda key: described.index(key.encode(), start))
width_of = dict(zip(by_occurrence, widths, strict=True))
raw = {}
for key in keys:
    count = stream.read(8)
    raw[key] = count + stream.read(int.from_bytes(count, "little") * width_of[key])
assert not stream.read()
numbered = {key: f"{i:0{len(key)}}" for i, key in enumerate(by_occurrence)}
for key, number in numbered.items():
    described = described.replace(key.encode(), number.encode())
data = described + pickle.dumps(list(numbered.values()), 2) + b"".join(raw[key] for key in by_occurrence)
(out / "legacy.bin").write_bytes(data)
again = torch.load(out / "legacy.bin", weights_only=True)
assert again.keys() == kinds.keys() and all(torch.equal(again[k], kinds[k]) for k in kinds)
expect("legacy.bin", kinds)

# What a training script leaves: the table under a key, with its modules' versions, and much that is no weight.
model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
optimizer = torch.optim.Adam(model.parameters())
model(torch.randn(4, 3)).square().sum().backward()
optimizer.step()
state = model.state_dict()
nested = {"epoch": 3, "state_dict": state, "optimizer": optimizer.state_dict(), "args": argparse.Namespace(lr=0.1, tags=("a",)),
          "best": np.float64(0.25), "history": np.arange(3), "seen": {1, 2}, "done": True, "name": "small", "scheduler": None}
torch.save(nested, out / "nested.bin")
expect("nested.bin", state)

# Shards, by the library that cuts the public ones.
for safe in (True, False):
    cut = OrderedDict((f"layer.{i}.weight", torch.randn(4, 5).to(torch.float16 if i == 2 else torch.float32)) for i in range(5))
    with tempfile.TemporaryDirectory() as folder:
        save_torch_state_dict(cut, folder, max_shard_size=200, safe_serialization=safe)
        files = sorted(pathlib.Path(folder).iterdir())
        assert len(files) > 2
        for file in files:
            (out / file.name).write_bytes(file.read_bytes())
    expect("model.safetensors.index.json" if safe else "pytorch_model.bin.index.json", cut)

# One file of safetensors with the types that it adds to the above.
single = {"f64": kinds["f64"], "u16": torch.tensor([65535, 0], dtype=torch.uint16), "f8": torch.ones(2).to(torch.float8_e4m3fn)}
save_file(single, out / "kinds.safetensors")
expect("kinds.safetensors", {k: v for k, v in single.items() if k != "f8"})

(out / "weights.json").write_text(json.dumps(expected, indent=None, separators=(",", ":")).replace('"},', '"},\n') + "\n")
