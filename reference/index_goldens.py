"""Goldens of the search of binary codes: testdata/goldens/index/hamming.json.

numpy 2.4.6, faiss-cpu 1.15.1; seed 20240701.

Forty codes and four queries each of 8 to 264 bits, bit j of a code being bit j % 8 of its byte j // 8; bytes are written as hex.
Distances and the set within a radius come from faiss IndexBinaryFlat, whose order among equal distances is its own; so rankings are
made here by (distance, row), and must hold the very distances that faiss ranks.
"""

import json
import pathlib

import faiss
import numpy as np

rng = np.random.default_rng(20240701)
cases = []
for n_bits in (8, 32, 64, 128, 264):
    centre = rng.integers(0, 2, n_bits)
    flip = rng.random((44, n_bits)) < rng.random((44, 1)) * 0.5
    bits = (centre ^ flip).astype(np.uint8)
    packed = np.packbits(bits, axis=1, bitorder="little")
    base, queries = packed[:40], packed[40:]
    index = faiss.IndexBinaryFlat(n_bits)
    index.add(base)
    radius = n_bits // 4
    found, rows = index.search(queries, 40)
    limits, _, near_rows = index.range_search(queries, radius + 1)  # strictly below
    answers = []
    for q in range(len(queries)):
        distances = np.empty(40, int)
        distances[rows[q]] = found[q]
        order = np.lexsort((np.arange(40), distances))
        assert (distances[order] == found[q]).all()
        assert (distances == (bits[:40] != bits[40 + q]).sum(1)).all()
        near = [int(r) for r in order if distances[r] <= radius]
        assert sorted(near) == sorted(near_rows[limits[q] : limits[q + 1]].tolist())
        answers.append({"distances": distances.tolist(), "top": order[:12].tolist(), "near": near})
    cases.append(
        {
            "n_bits": n_bits,
            "radius": radius,
            "base": [bytes(c).hex() for c in base],
            "queries": [bytes(c).hex() for c in queries],
            "answers": answers,
        }
    )

path = pathlib.Path(__file__).parent.parent / "testdata/goldens/index/hamming.json"
path.parent.mkdir(exist_ok=True)
path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
