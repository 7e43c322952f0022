"""Goldens of late fusion: testdata/goldens/index/fusion.json.

ranx 0.3.21, numpy 2.4.6; seed 20240702.

Fifty questions with two to four lists of 1 to 9 hits from 12 items; the lists' scores have the scale of cosines, of term weights or
of minus a distance. In every fifth question one list has equal scores throughout, in every other one list has ties. Lists are given
in the order (score descending, id ascending), which ranx keeps as the rank. Scores are multiples of 1/64, exact in 32 bits.

Expected are the fused scores in the order of `ids`, for each method and, where scores count, each normalisation.
"""

import json
import pathlib

import numpy as np
from ranx import Run, fuse

rng = np.random.default_rng(20240702)
questions = []
for i in range(50):
    lists = []
    for j in range(int(rng.integers(2, 5))):
        n = int(rng.integers(1, 10))
        ids = rng.choice(12, n, replace=False)
        low, high = [(-64, 65), (0, 64 * 30), (-64 * 40, 1)][int(rng.integers(3))]
        scores = rng.integers(low, high, n) / 64
        if i % 2 and j == 0:
            scores = np.round(scores / 2, 1 if high < 100 else 0)
            scores = np.round(scores * 8) / 8
        if i % 5 == 4 and j == 1:
            scores[:] = scores[0]
        hits = sorted(((int(d), float(s)) for d, s in zip(ids, scores)), key=lambda h: (-h[1], h[0]))
        lists.append(hits)
    weights = [float(w) for w in rng.integers(-4, 17, len(lists)) / 8]
    questions.append({"lists": lists, "weights": weights, "ids": sorted({d for hits in lists for d, _ in hits}), "expected": {}})

SCORED = {"sum": "sum", "mnz": "mnz", "weighted": "wsum"}
NORMS = {"none": None, "min-max": "min-max", "z": "zmuv", "rank": "rank"}
METHODS = [(f"{a} {b}", c, d, {}) for a, c in SCORED.items() for b, d in NORMS.items()]
METHODS += [("borda", "bordafuse", None, {}), ("rrf 60", "rrf", None, {}), ("rrf 5", "rrf", None, {"k": 5})]
for question in questions:
    runs = [Run({"q": {f"d{d:02}": s for d, s in hits}}) for hits in question["lists"]]
    for name, method, norm, params in METHODS:
        if method == "wsum":
            params = {"weights": question["weights"]}
        fused = fuse(runs, norm=norm, method=method, params=params)
        scores = {int(d[1:]): float(s) for d, s in fused.run["q"].items()}
        question["expected"][name] = [float(f"{scores[d]:.15g}") for d in question["ids"]]
        assert len(scores) == len(question["ids"])

path = pathlib.Path(__file__).parent.parent / "testdata/goldens/index/fusion.json"
path.parent.mkdir(exist_ok=True)
path.write_text("[\n" + ",\n".join(json.dumps(q, separators=(",", ":")) for q in questions) + "\n]\n")
