"""Rivals of `chiasm bench align`: fits of the same arrays by numpy, scikit-learn and cca-zoo, timed here.

Pinned: Python 3.11, numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1, cca-zoo 4.0.1. Started by `chiasm bench align --python PYTHON`, which
writes one JSON request a line to stdin and reads one answer a line from stdout. Arrays are read and turned into f64 before the clock
starts, so that rivals are timed on what they work on, in memory; the program's own times include reading its files where it streams.

Request: {"method", "rival", "views": [FILE.npy ...], "labels": FILE.npy, "components", "ridge", "bits", "rounds", "anchors", "seed"}.
Answer: {"wall", "cpu", "values": [...]} or {"error"}. `values` are canonical correlations, or the bits of the first rows for codes.

The numpy rivals are the fastest forms that their author knows: covariances by BLAS, Cholesky factors and triangular solves in place of
inverse roots, a thin SVD, LAPACK's partial eigensolver. `ridge` is relative to the mean variance of a view, as in the program.
"""

import json
import sys
import time

import numpy as np
import scipy.linalg as sl

CACHE = {}


def load(path):
    if path not in CACHE:
        CACHE[path] = np.load(path).astype(np.float64)
    return CACHE[path]


def centred(a):
    return a - a.mean(0)


def covariance(a, ridge):
    c = a.T @ a / (len(a) - 1)
    c[np.diag_indices_from(c)] += ridge * np.trace(c) / len(c)
    return c


def whitened(cross, lx, ly):
    t = sl.solve_triangular(lx, cross, lower=True, check_finite=False)
    return sl.solve_triangular(ly, t.T, lower=True, check_finite=False).T


def cca_numpy(views, r):
    x, y = map(centred, views)
    lx, ly = (sl.cholesky(covariance(a, r["ridge"]), lower=True, check_finite=False) for a in (x, y))
    t = whitened(x.T @ y / (len(x) - 1), lx, ly)
    u, s, vt = np.linalg.svd(t, full_matrices=False)
    k = r["components"]
    sl.solve_triangular(lx, u[:, :k], lower=True, trans=1), sl.solve_triangular(ly, vt[:k].T, lower=True, trans=1)
    return s[:k]


def cca_sklearn(views, r):
    from sklearn.cross_decomposition import CCA

    model = CCA(n_components=r["components"], max_iter=500).fit(*views)
    a, b = model.transform(*views)
    return [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(a.shape[1])]


def cca_zoo(views, r):
    from cca_zoo.linear import CCA

    model = CCA(n_components=r["components"]).fit(views)
    a, b = model.transform(views)
    return [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(a.shape[1])]


def gcca_numpy(views, r):
    views = [centred(a) for a in views]
    n = len(views[0])
    ls = [sl.cholesky(covariance(a, r["ridge"]), lower=True, check_finite=False) for a in views]
    starts = np.cumsum([0] + [a.shape[1] for a in views])
    m = np.zeros((starts[-1],) * 2)
    for i, a in enumerate(views):
        for j, b in enumerate(views[: i + 1]):
            m[starts[i] : starts[i + 1], starts[j] : starts[j + 1]] = whitened(a.T @ b / (n - 1), ls[i], ls[j])
    k, d = r["components"], len(m)
    values, vectors = sl.eigh(m, subset_by_index=[d - k, d - 1], check_finite=False)
    [sl.solve_triangular(l, vectors[a:b], lower=True, trans=1) for l, a, b in zip(ls, starts, starts[1:])]
    # What a direction explains of each view by itself, which a ridge leaves below 1.
    parts = [(m[a:b, a:b], vectors[a:b]) for a, b in zip(starts, starts[1:])]
    own = sum(np.einsum("ij,ij->j", u, np.tril(c) @ u + np.tril(c, -1).T @ u) for c, u in parts)
    return (values / own - 1)[::-1] / (len(views) - 1)


def gcca_zoo(views, r):
    from cca_zoo.linear import GCCA

    GCCA(n_components=r["components"], shrinkage=r["ridge"]).fit(views)
    return []


def squared(a, b):
    return np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T, 0)


def kcca_numpy(views, r):
    """RBF with the width given; exact, or through the first `anchors` rows (Nystroem) where there are more."""
    if len(views[0]) <= r["anchors"]:
        return kcca_exact(views, r)
    zs, factors = [], []
    for a, gamma in zip(views, r["gammas"]):
        at = a[: r["anchors"]]
        inner = sl.cholesky(np.exp(-gamma * squared(at, at)) + 1e-10 * np.eye(len(at)), lower=True)
        z = sl.solve_triangular(inner, np.exp(-gamma * squared(at, a)), lower=True).T
        z -= z.mean(0)
        c = z.T @ z
        c[np.diag_indices_from(c)] += r["kappa"] * len(a)
        zs.append(z)
        factors.append(sl.cholesky(c, lower=True))
    return np.linalg.svd(whitened(zs[0].T @ zs[1], *factors))[1][: r["components"]]


def kcca_exact(views, r):
    factors = []
    for a, gamma in zip(views, r["gammas"]):
        n = len(a)
        kernel = np.exp(-gamma * squared(a, a))
        kernel -= kernel.mean(0)
        kernel -= kernel.mean(1)[:, None]
        values, vectors = sl.eigh(kernel, check_finite=False)
        kept = values > 1e-10 * values[-1]
        # Rows whose inner product is the kernel, whitened with the ridge.
        factors.append(vectors[:, kept] * np.sqrt(values[kept] / (values[kept] + r["kappa"] * n)))
    u, s, vt = np.linalg.svd(factors[0].T @ factors[1])
    return s[: r["components"]]


def kcca_zoo(views, r):
    from cca_zoo.nonparametric import KCCA

    KCCA(n_components=r["components"], kernel="rbf", gamma=r["gammas"], shrinkage=r["kappa"]).fit(views)
    return []


def sign(a):
    return np.where(a >= 0, 1.0, -1.0)


def scm_seq_numpy(views, r):
    x, y = map(centred, views)
    labels = np.eye(int(load(r["labels"]).max()) + 1)[load(r["labels"]).astype(int)]
    lx, ly = (sl.cholesky(a.T @ a + 1e-6 * np.eye(a.shape[1]), lower=True) for a in (x, y))
    c = r["bits"] * (2 * (x.T @ labels) @ (labels.T @ y) - np.outer(x.sum(0), y.sum(0)))
    ws, vs = [], []
    for _ in range(r["bits"]):
        u, s, vt = np.linalg.svd(whitened(c, lx, ly), full_matrices=False)
        w = sl.solve_triangular(lx, u[:, 0], lower=True, trans=1)
        v = sl.solve_triangular(ly, vt[0], lower=True, trans=1)
        c = c - np.outer(x.T @ sign(x @ w), sign(y @ v) @ y)
        ws.append(w)
        vs.append(v)
    return [float(b) for w in ws[:8] for b in sign(x[:50] @ w)]


def cmfh_numpy(views, r):
    x, y = map(centred, views)
    n, k, mu, gamma, l = len(x), r["bits"], 100.0, 0.01, 0.5
    v = np.random.default_rng(0).uniform(size=(n, k))
    factors = [sl.cho_factor(a.T @ a + gamma / mu * np.eye(a.shape[1])) for a in (x, y)]
    regress = lambda v: [sl.cho_solve(f, a.T @ v) for f, a in zip(factors, (x, y))]
    for _ in range(r["rounds"]):
        us = [np.linalg.solve(v.T @ v + gamma / l * np.eye(k), v.T @ a) for a in (x, y)]
        ws = regress(v)
        left = sum(l * a @ u.T + mu * (a @ w) for a, u, w in zip((x, y), us, ws))
        v = left @ np.linalg.inv(sum(l * u @ u.T for u in us) + (2 * mu + gamma) * np.eye(k))
    regress(v)
    return []


RIVALS = {
    ("cca", "numpy"): cca_numpy, ("cca", "scikit-learn"): cca_sklearn, ("cca", "cca-zoo"): cca_zoo,
    ("gcca", "numpy"): gcca_numpy, ("gcca", "cca-zoo"): gcca_zoo,
    ("kcca", "numpy"): kcca_numpy, ("kcca", "cca-zoo"): kcca_zoo,
    ("scm-seq", "numpy"): scm_seq_numpy, ("cmfh", "numpy"): cmfh_numpy,
}

for line in sys.stdin:
    request = json.loads(line)
    try:
        arrays = [load(path) for path in request["views"]]
        if request.get("forget"):
            CACHE.clear()
            print(json.dumps({}), flush=True)
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        values = RIVALS[request["method"], request["rival"]](arrays, request)
        answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "values": [float(v) for v in values]}
    except Exception as error:  # one line of answer whatever happens
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
