"""Goldens of chiasm-align: small inputs, and what reference implementations make of them.

Pinned: Python 3.12, numpy 2.4.6, scikit-learn 1.9.1, cca-zoo 4.0.1; seed 7. Run from the repository root:

    python reference/align_goldens.py

writes testdata/goldens/align/linear.json. Inputs are rounded to f32, so that both sides read the same numbers. Asserts on the
way that the references agree with one another.
"""

import json
import pathlib

import numpy as np
from cca_zoo.linear import MCCA, RidgeCCA
from sklearn.cross_decomposition import CCA, PLSSVD
from sklearn.linear_model import Ridge

rng = np.random.default_rng(7)
N, DIMS = 60, (7, 5, 6)
latent = rng.normal(size=(N, 4))
views = [
    (latent @ rng.normal(size=(4, d)) + 0.7 * rng.normal(size=(N, d)) + 3 * rng.normal(size=d)).astype(np.float32) for d in DIMS
]
x, y, z = [v.astype(np.float64) for v in views]
cx, cy, cz = [v - v.mean(0) for v in (x, y, z)]


def inverse_root(c):
    values, vectors = np.linalg.eigh(c)
    return vectors @ np.diag(values**-0.5) @ vectors.T


def cca(a, b, ra=0.0, rb=0.0):
    """Singular value form, with the ridge relative to the mean variance; |projections| of the fitting rows."""
    ca, cb, cab = a.T @ a / (N - 1), b.T @ b / (N - 1), a.T @ b / (N - 1)
    wa = inverse_root(ca + ra * np.trace(ca) / len(ca) * np.eye(len(ca)))
    wb = inverse_root(cb + rb * np.trace(cb) / len(cb) * np.eye(len(cb)))
    u, s, vt = np.linalg.svd(wa @ cab @ wb, full_matrices=False)
    return s, np.abs(a @ wa @ u), np.abs(b @ wb @ vt.T)


plain = cca(cx, cy)
ridged = cca(cx, cy, 0.3, 2.0)

sk = CCA(n_components=5, scale=False, tol=1e-12, max_iter=5000).fit(x, y)
scores = sk.transform(x, y)
sk_corr = np.array([np.corrcoef(scores[0][:, i], scores[1][:, i])[0, 1] for i in range(5)])
assert np.abs(sk_corr - plain[0]).max() < 1e-10, sk_corr - plain[0]
for ours, theirs in ((plain[1], scores[0]), (plain[2], scores[1])):
    theirs = np.abs(theirs / theirs.std(0, ddof=1))
    # Its power iteration stops on the square of a difference, so scores agree less well than correlations.
    assert np.abs(ours - theirs).max() < 1e-4

# cca-zoo's shrinkage c gives (1 - c) Cov + c I, so its ridge relative to Cov is c / (1 - c).
c = 0.25
zoo = RidgeCCA(n_components=5, shrinkage=c)
zoo_scores = zoo.fit([x, y]).transform([x, y])
absolute = c / (1 - c)
ra, rb = (absolute / (np.trace(v.T @ v / (N - 1)) / v.shape[1]) for v in (cx, cy))
for ours, theirs in zip(cca(cx, cy, ra, rb)[1:], zoo_scores):
    theirs = np.abs(theirs)
    scale = (ours * theirs).sum(0) / (theirs * theirs).sum(0)
    assert np.abs(ours - theirs * scale).max() < 1e-8

# Three views: the eigenproblem of the covariances between views against those within them.
mcca = MCCA(n_components=4).fit([x, y, z])
mcca_scores = [np.abs(s / np.sqrt((s**2).sum(0) / (N - 1))) for s in (s - s.mean(0) for s in mcca.transform([x, y, z]))]
ws, blocks = [inverse_root(v.T @ v / (N - 1)) for v in (cx, cy, cz)], (cx, cy, cz)
m = np.block(
    [[np.zeros((a.shape[1],) * 2) if i == j else ws[i] @ (a.T @ b / (N - 1)) @ ws[j] for j, b in enumerate(blocks)]
     for i, a in enumerate(blocks)]
)
values, vectors = np.linalg.eigh(m)
values, vectors = values[::-1], vectors[:, ::-1]
starts = np.cumsum([0, *DIMS])
mcca_rho = values[:4] / 2
ours = [np.sqrt(3) * v @ ws[i] @ vectors[starts[i] : starts[i + 1], :4] for i, v in enumerate(blocks)]
for a, b in zip(ours, mcca_scores):
    assert np.abs(np.abs(a / a.std(0, ddof=1)) - b).max() < 1e-8, "MCCA of cca-zoo"

r = 0.8
alpha = r * np.trace(cx.T @ cx / (N - 1)) / cx.shape[1] * (N - 1)
predicted = Ridge(alpha=alpha, fit_intercept=True).fit(x, y).predict(x) - y.mean(0)
unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)
cosines = (unit(predicted) * unit(cy)).sum(1)

# Covariance in place of correlation; singular values relative to the greatest.
pls_scores = PLSSVD(n_components=5, scale=False).fit(x, y).transform(x, y)
pls_values = np.linalg.svd(cx.T @ cy, compute_uv=False)
assert np.abs(np.abs((pls_scores[0] * pls_scores[1]).sum(0)) - pls_values).max() < 1e-9

out = {
    "views": [v.astype(float).tolist() for v in views],
    "cca": {"correlations": plain[0].tolist(), "abs_scores": [plain[1].tolist(), plain[2].tolist()]},
    "cca_ridge": {"ridge": [0.3, 2.0], "correlations": ridged[0].tolist(), "abs_scores": [ridged[1].tolist(), ridged[2].tolist()]},
    "mcca": {"correlations": mcca_rho.tolist(), "abs_scores": [np.abs(s).tolist() for s in ours]},
    "pls": {"correlations": (pls_values / pls_values[0]).tolist(), "abs_scores": [np.abs(s).tolist() for s in pls_scores]},
    "ridge": {"ridge": r, "cosines": cosines.tolist()},
}
path = pathlib.Path("testdata/goldens/align/linear.json")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps(out) + "\n")
print("wrote", path, path.stat().st_size, "bytes")
