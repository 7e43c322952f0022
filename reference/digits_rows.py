"""Spoken and written digits as a table for `chiasm train`, and the questions that a speaker asks whom nothing was learned from.

    python reference/digits_rows.py DATA OUT [SPEAKER [WITHOUT]]

where DATA holds `fsdd/recordings/{digit}_{speaker}_{index}.wav` and `mnist_t10k/t10k-*-idx?-ubyte.gz`. SPEAKER, the last by name where none is named, asks;
the recordings of WITHOUT, where one is named, are used for nothing: so a description is chosen by another speaker than the one who is reported. OUT gets

    rows.jsonl                          a row for each recording of the others, with its word and eight pictures of its digit
    train.toml                          what is trained on them
    asked/pictures, asked/recordings    500 pictures that are in no row, and SPEAKER's recordings
    spoken.jsonl, spoken.qrels          the recordings ask for pictures
    drawn.jsonl, drawn.qrels            the pictures ask for recordings

Then `chiasm train OUT/train.toml --out OUT/model`, and for either direction, as here from speech to pictures:

    chiasm index OUT/asked/pictures --model OUT/model --library OUT/pictures
    chiasm eval --library OUT/pictures --queries OUT/spoken.jsonl --qrels OUT/spoken.qrels

Python 3.11, no packages.
"""

import gzip
import json
import random
import shutil
import struct
import sys
import zlib
from pathlib import Path

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIDE, ASKED, EACH = 28, 50, 8

TRAIN = """seed = 1

[model]
projection = 64
image = { size = 28, patch = 7, width = 64, inner = 128, layers = 2, heads = 4 }
text = { vocabulary = 300, tokens = 8, width = 32, inner = 64, layers = 1, heads = 2 }
audio = { rate_hz = 8000, bands = 40, frames = 96, patch = 4, width = 64, inner = 128, layers = 3, heads = 4 }

[augment]
image = { area = 0.7, light = 0.2 }
audio = { speed = 0.25, gain_db = 6, noise = 0.1, bands = 6, frames = 12 }

[[data]]
kind = "table"
file = "rows.jsonl"
columns = { image = ["image"], text = ["text"], audio = ["audio"] }
validation = 0.0

[train]
epochs = 60
batch = 100
rate = 2e-3
warm_up = 50
dropout = 0.1
"""


def png(pixels):
    """A grey picture of SIDE x SIDE bytes as a file."""
    rows = b"".join(b"\0" + pixels[i * SIDE : (i + 1) * SIDE] for i in range(SIDE))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


data, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
recordings = sorted((data / "fsdd" / "recordings").glob("*_*_*.wav"))
of = lambda path: path.stem.split("_")
speakers = sorted({of(path)[1] for path in recordings})
asks = sys.argv[3] if len(sys.argv) > 3 else speakers[-1]
without = sys.argv[4] if len(sys.argv) > 4 else None
for name in [asks, without]:
    if name is not None and name not in speakers:
        sys.exit(f"no recordings of {name}, expected one of {', '.join(speakers)}")

images = gzip.open(data / "mnist_t10k" / "t10k-images-idx3-ubyte.gz").read()[16:]
labels = gzip.open(data / "mnist_t10k" / "t10k-labels-idx1-ubyte.gz").read()[8:]
order = list(range(len(labels)))
rng = random.Random(0)
rng.shuffle(order)
shutil.rmtree(out / "asked", ignore_errors=True)
for folder in ["pictures", "asked/pictures", "asked/recordings"]:
    (out / folder).mkdir(parents=True, exist_ok=True)
learned, asked = [[] for _ in WORDS], [[] for _ in WORDS]
for row in order:
    digit = labels[row]
    is_asked = len(asked[digit]) < ASKED
    name = f"{'asked/' if is_asked else ''}pictures/{digit}_{row}.png"
    (out / name).write_bytes(png(images[row * SIDE * SIDE : (row + 1) * SIDE * SIDE]))
    (asked if is_asked else learned)[digit].append(name)

rows, spoken = [], [[] for _ in WORDS]
for path in recordings:
    digit, speaker, _ = of(path)
    digit = int(digit)
    if speaker == asks:
        shutil.copy(path, out / "asked" / "recordings")
        spoken[digit].append(path.name)
    elif speaker != without:
        rows.append({"audio": str(path), "text": [WORDS[digit]], "image": rng.sample(learned[digit], EACH)})
(out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
(out / "train.toml").write_text(TRAIN)


def questions(name, kind, queries, found):
    """Each of `queries`, lists by digit, asks for all of `found` of its digit."""
    with open(out / f"{name}.jsonl", "w") as ask, open(out / f"{name}.qrels", "w") as right:
        for digit in range(len(WORDS)):
            for query in queries[digit]:
                ask.write(json.dumps({"id": Path(query).name, kind: str(query)}) + "\n")
                right.writelines(f"{Path(query).name} 0 {Path(one).name} 1\n" for one in found[digit])


here = out.resolve()
questions("spoken", "audio", [[here / "asked/recordings" / one for one in of_digit] for of_digit in spoken], asked)
questions("drawn", "image", [[here / one for one in of_digit] for of_digit in asked], spoken)
print(f"{len(rows)} rows of {len(speakers) - 1 - (without is not None)} speakers; {asks} asks with {sum(map(len, spoken))} recordings, "
      f"{sum(map(len, asked))} pictures")
