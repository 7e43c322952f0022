"""Goldens of fusion similarity hashing: graph, spectrum and rounds by numpy on small synthetic rows.

Pinned: Python 3.11, numpy 2.4.6; seeds 21 to 23. Run from the repository root:

    OMP_NUM_THREADS=1 python reference/align_fsh_goldens.py

writes testdata/goldens/align/hashing_graph.json. All in f64; X and Y are centred by the mean of the training rows.

After H. Liu, R. Ji, Y. Wu, F. Huang, B. Zhang, Cross-Modality Binary Code Learning via Fusion Similarity Hashing, CVPR 2017.
    Anchors are rows of both views. Fused squared distance of row i and anchor a: mean over the views of |x_i - x_a|^2 / s_v, s_v the mean
    of |x_a - x_b|^2 over all ordered pairs of anchors. Z_ia = exp(-d_ia) over the `neighbours` nearest anchors, each row summing to 1.
    S = Z D^-1 Z', D the column sums of Z; F are its eigenvectors after the constant one, scaled to F'F = n I. Codes B minimise
    |B - F R|^2 + mu sum_v |B - X_v W_v|^2 in rounds: R = U V' of F'B = U s V', W_v = (X_v'X_v + rho I)^-1 X_v'B of the codes before,
    B = sign(F R + mu sum_v X_v W_v). `rounds[t]` are the codes after round t from the codes `b0`. The eigenvectors' signs do not matter:
    F R is the same for any.
"""

import numpy as np

from align_shared import bits, synthetic, write

(X, Y), _, _, _, _ = synthetic(21, 80, 4, (8, 6))
x, y = X - X.mean(0), Y - Y.mean(0)
N, K, NEIGHBOURS, MU, RHO = len(X), 6, 5, 1.0, 0.5
anchors = np.sort(np.random.default_rng(22).choice(N, 20, replace=False))
sign = lambda a: np.where(a >= 0, 1.0, -1.0)
squared = lambda a, b: ((a[:, None] - b[None]) ** 2).sum(-1)

fused = sum(squared(a, a[anchors]) / squared(a[anchors], a[anchors]).mean() for a in (x, y)) / 2
ordered = np.sort(fused, 1)
assert (ordered[:, NEIGHBOURS] - ordered[:, NEIGHBOURS - 1]).min() > 1e-9, "no tie decides who is near"
near = np.argsort(fused, 1)[:, :NEIGHBOURS]
z = np.zeros_like(fused)
np.put_along_axis(z, near, np.exp(-np.take_along_axis(fused, near, 1)), 1)
z /= z.sum(1, keepdims=True)
scaled = z / np.sqrt(np.where(z.sum(0) > 0, z.sum(0), 1))
u, s, _ = np.linalg.svd(scaled, full_matrices=False)
assert abs(s[0] - 1) < 1e-12 and (s[1 : K + 1] - s[2 : K + 2]).min() > 1e-4, s
f = np.sqrt(N) * u[:, 1 : K + 1]

b = b0 = sign(np.random.default_rng(23).normal(size=(N, K)))
rounds = []
for _ in range(6):
    p, _, qt = np.linalg.svd(f.T @ b)
    score = f @ (p @ qt)
    for a in (x, y):
        score = score + MU * a @ np.linalg.solve(a.T @ a + RHO * np.eye(a.shape[1]), a.T @ b)
    rounds.append(bits(score))
    b = sign(score)

write("hashing_graph", {
    "views": [X, Y], "anchors": anchors, "neighbours": NEIGHBOURS, "mu": MU, "rho": RHO, "bits": K, "z": z,
    "eigenvalues": s[1 : K + 1] ** 2, "b0": bits(b0), "rounds": rounds,
})
