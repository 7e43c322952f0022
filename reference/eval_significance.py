"""Goldens of the paired randomisation test: testdata/goldens/eval/significance.json.

scipy 1.17.1, numpy 2.4.6; seed 20240602. `permutation_test` with `permutation_type="samples"` enumerates all assignments here.
"""

import json
import pathlib

import numpy as np
from scipy.stats import permutation_test

rng = np.random.default_rng(20240602)
out = []
for n in (2, 3, 5, 8, 10, 12):
    for shift in (0.0, 0.2):
        a, b = np.round(rng.random(n) + shift, 3), np.round(rng.random(n), 3)
        result = permutation_test((a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True, n_resamples=10**6)
        out.append({"a": a.tolist(), "b": b.tolist(), "difference": float(result.statistic), "p_value": float(result.pvalue)})
path = pathlib.Path(__file__).parent.parent / "testdata/goldens/eval/significance.json"
path.write_text("[\n" + ",\n".join(json.dumps(e) for e in out) + "\n]\n")
print(path, path.stat().st_size)
