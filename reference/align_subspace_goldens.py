"""Goldens of the subspace methods: kernel CCA, MAXVAR, CCA with labels as a view, cluster-CCA, Procrustes, label regression.

Pinned: Python 3.11, numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1, cca-zoo 4.0.1; seeds 21 and 22. Run from the repository root:

    OMP_NUM_THREADS=1 python reference/align_subspace_goldens.py

writes testdata/goldens/align/subspace.json and kcca.json. All in f64, centred by the mean of the training rows. Scores are
absolute values, since the sign of a component is free. A `ridge` r stands for r * trace(C)/d on the diagonal of the covariance
C = X'X/(n-1) of its view; what is absolute says so.

`kcca`  D. Hardoon, S. Szedmak, J. Shawe-Taylor, Neural Computation 16, 2004. K centred on both sides, k(x, .) of a new row
    centred by the training rows' means; (Kx + kappa n I)^-1 Ky (Ky + kappa n I)^-1 Kx alpha = rho^2 alpha,
    beta = (Ky + kappa n I)^-1 Kx alpha / rho; scale: alpha' Kx (Kx + kappa n I) alpha = n - 1, alike beta, which makes the linear
    kernel ridge CCA with kappa n/(n-1) on the diagonal of the covariance (asserted) and so has the scale of the other linear
    methods. Kernels: linear x a; rbf exp(-gamma |x - a|^2); chi2 exp(-gamma sum (x - a)^2/(x + a)) on positive rows, not centred
    before; f32 holds every gamma exactly. cca-zoo's KCCA of shrinkage c has kappa n = c/(1-c) (n-1); correlations (rho) and
    scores agree (asserted).
`gcca`  J. Kettenring, Biometrika 58, 1971 (MAXVAR): G [n, k] = leading unit eigenvectors of
    sum_v X_v (X_v'X_v + e_v I)^-1 X_v', e_v = r (n-1) trace(C_v)/d_v; W_v = (X_v'X_v + e_v I)^-1 X_v'G; scores X_v W_v
    (times sqrt(n-1) they are cca-zoo's GCCA, asserted).
`cca3v`  Y. Gong, Q. Ke, M. Isard, S. Lazebnik, IJCV 106, 2014: the label matrix [n, c] (0/1, centred) as a third view of MCCA:
    covariances between views against those within them plus ridge; `correlations` = eigenvalues / 2 (views - 1); weights such
    that sum_v w_v' (C_vv + ridge) w_v = 3. `full_eigenvalues`: of the paper's form, the whole covariance against the same
    right side; its eigenvectors differ slightly from ours for a ridge above 0.
`cluster_cca`, `ml_cca`  N. Rasiwasia et al., AISTATS 2014; V. Ranjan, N. Rasiwasia, C. V. Jawahar, ICCV 2015. CCA of weighted
    pairs: every (i, j) is a pair with weight f_ij; f = [same class], or the cosine of the label vectors. With W = sum f,
    s_i = sum_j f_ij, t_j = sum_i f_ij: mx = sum s_i x_i / W, my = sum t_j y_j / W, Cxx = sum s_i x_i x_i'/W - mx mx',
    Cxy = sum f_ij x_i y_j' / W - mx my'; then the SVD form of CCA with the ridge. Scores are of rows minus mx, my.
`procrustes`  R minimises |X R - Y| over orthogonal R (centred, the first 6 columns of X); scale = sum of singular values of X'Y /
    |X|^2 is the best factor s of |s X R - Y|.
`label_ridge`  regression to the centred 0/1 labels with an intercept: alpha = r (n-1) trace(C)/d of scikit-learn's Ridge.
`prefixes`  ridge CCA of the first m rows, for statistics gathered in pieces: mean, and correlations after each piece.
"""

import numpy as np
import scipy.linalg as sl
from cca_zoo.linear import GCCA, MCCA
from cca_zoo.nonparametric import KCCA
from sklearn.linear_model import Ridge

from align_shared import one_hot, synthetic, write

VIEWS, NEW, CLASSES, _, SETS = synthetic(21, 72, 10, (9, 6, 7))
N = len(VIEWS[0])
SINGLE, MULTI = one_hot([[c] for c in CLASSES]), one_hot(SETS)
MEANS = [v.mean(0) for v in VIEWS]
x, y, z = (v - m for v, m in zip(VIEWS, MEANS))
x_new, y_new, z_new = (v - m for v, m in zip(NEW, MEANS))


def inverse_root(c):
    values, vectors = np.linalg.eigh(c)
    return vectors @ np.diag(values**-0.5) @ vectors.T


def ridged(c, r):
    return c + r * np.trace(c) / len(c) * np.eye(len(c))


def cca(cxx, cyy, cxy):
    wx, wy = inverse_root(cxx), inverse_root(cyy)
    u, s, vt = np.linalg.svd(wx @ cxy @ wy, full_matrices=False)
    return s, wx @ u, wy @ vt.T


# ---- kernels


def squared(a, b):
    return ((a[:, None] - b[None]) ** 2).sum(-1)


KERNELS = {
    "linear": lambda a, b, gamma: a @ b.T,
    "rbf": lambda a, b, gamma: np.exp(-gamma * squared(a, b)),
    "chi2": lambda a, b, gamma: np.exp(-gamma * ((a[:, None] - b[None]) ** 2 / (a[:, None] + b[None])).sum(-1)),
}


def kcca(views, new, kernel, gammas, kappa, k):
    grams = [KERNELS[kernel](v, v, g) for v, g in zip(views, gammas)]
    crosses = [KERNELS[kernel](w, v, g) for w, v, g in zip(new, views, gammas)]
    centred, centred_new = [], []
    for gram, cross in zip(grams, crosses):
        centred.append(gram - gram.mean(0) - gram.mean(1, keepdims=True) + gram.mean())
        centred_new.append(cross - gram.mean(0) - cross.mean(1, keepdims=True) + gram.mean())
    kx, ky = centred
    rx, ry = (c + kappa * N * np.eye(N) for c in centred)
    values, vectors = sl.eig(np.linalg.solve(rx, ky) @ np.linalg.solve(ry, kx))
    order = np.argsort(-values.real)[:k]
    assert np.abs(values[order].imag).max() < 1e-10
    rho, alpha = np.sqrt(values[order].real), vectors[:, order].real
    beta = np.linalg.solve(ry, kx @ alpha) / rho
    alpha, beta = (w * np.sqrt((N - 1) / (w * (c @ (r @ w))).sum(0)) for w, c, r in ((alpha, kx, rx), (beta, ky, ry)))
    assert (np.diff(rho) < -1e-3).all(), rho
    # Another road: the eigenvalue decomposition of each Gram matrix, then a singular value decomposition.
    roots = []
    for c in centred:
        s, u = np.linalg.eigh(c)
        roots.append(u * np.sqrt(s.clip(0) / (s.clip(0) + kappa * N)))
    again = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False)[:k]
    assert np.abs(again - rho).max() < 1e-9, again - rho
    scores = [[np.abs(c @ w) for c, w in zip(side, (alpha, beta))] for side in (centred, centred_new)]
    # cca-zoo: its centring of the views changes nothing for the first two kernels, and chi2 must not be centred.
    c = kappa * N / (kappa * N + N - 1)
    if kernel == "chi2":
        metric = [lambda a, b, gamma=g: np.exp(-gamma * ((a - b) ** 2 / (a + b)).sum()) for g in gammas]
        zoo = KCCA(n_components=k, shrinkage=c, kernel=metric, center=False)
    else:
        zoo = KCCA(n_components=k, shrinkage=c, kernel=kernel, gamma=list(gammas))
    theirs = zoo.fit(views).transform(new)
    worst = 0.0
    for ours, other in zip(scores[1], theirs):
        other = np.abs(other)
        scale = (ours * other).sum(0) / (other * other).sum(0)
        worst = max(worst, np.abs(ours - other * scale).max())
    assert worst < 1e-6, (kernel, worst)
    print("kcca", kernel, np.round(rho, 4), "cca-zoo differs by", worst)
    return {"kernel": kernel, "gamma": gammas, "kappa": kappa, "correlations": rho, "abs_train": scores[0], "abs_new": scores[1]}


POSITIVE, POSITIVE_NEW, *_ = synthetic(22, N, 10, (6, 5), positive=True)
runs = [
    kcca(VIEWS[:2], NEW[:2], "linear", (1.0, 1.0), 0.05, 4),
    kcca(VIEWS[:2], NEW[:2], "rbf", (1 / 64, 1 / 32), 0.02, 4),
    kcca(POSITIVE, POSITIVE_NEW, "chi2", (3 / 8, 5 / 8), 0.02, 4),
]
absolute = 0.05 * N / (N - 1)
cov = lambda a, b: a.T @ b / (N - 1)
s, a, b = cca(cov(x, x) + absolute * np.eye(9), cov(y, y) + absolute * np.eye(6), cov(x, y))
assert np.abs(s[:4] - runs[0]["correlations"]).max() < 1e-9
assert np.abs(np.abs(x_new @ a[:, :4]) - runs[0]["abs_new"][0]).max() < 1e-8

# ---- MAXVAR


def gcca(r, k):
    m, inverses = np.zeros((N, N)), []
    for v in (x, y, z):
        inverses.append(np.linalg.inv(ridged(v.T @ v, r)))
        m += v @ inverses[-1] @ v.T
    values, vectors = sl.eigh(m)
    values, g = values[::-1][:k], vectors[:, ::-1][:, :k]
    assert (np.diff(values) < -1e-3).all()
    ws = [inverse @ v.T @ g for inverse, v in zip(inverses, (x, y, z))]
    scores = [np.abs(v @ w) for v, w in zip((x_new, y_new, z_new), ws)]
    shrink = [e / (1 + e) for e in (r * np.trace(cov(v, v)) / v.shape[1] for v in (x, y, z))]
    for ours, theirs in zip(scores, GCCA(n_components=k, shrinkage=shrink).fit(VIEWS).transform(NEW)):
        theirs = np.abs(theirs)
        scale = (ours * theirs).sum(0) / (theirs * theirs).sum(0)
        # Shrinkage multiplies each view's term by 1/(1 - c); equal only without a ridge.
        if r == 0:
            assert np.abs(ours - theirs * scale).max() < 1e-6 and np.abs(scale * np.sqrt(N - 1) - 1).max() < 1e-4
    return {"ridge": r, "eigenvalues": values, "abs_g": np.abs(g), "abs_new": scores}


# ---- labels as a view


def cca3v(labels, r, k):
    blocks = (x, y, labels - labels.mean(0))
    starts = np.cumsum([0, *(v.shape[1] for v in blocks)])
    whole = np.cov(np.hstack(blocks).T)
    within = sl.block_diag(*(ridged(cov(v, v), r) for v in blocks))
    between = whole - sl.block_diag(*(cov(v, v) for v in blocks))
    values, w = sl.eigh(between, within)
    values, w = values[::-1][:k], w[:, ::-1][:, :k] * np.sqrt(3)
    assert (np.diff(values) < -1e-3).all()
    scores = [np.abs(v @ w[starts[i] : starts[i + 1]]) for i, v in enumerate((x_new, y_new))]
    full = sl.eigh(whole, within, eigvals_only=True)[::-1][:k]
    return {"ridge": r, "correlations": values / 2, "full_eigenvalues": full, "abs_new": scores}


check = cca3v(z, 0.0, 4)
theirs = [np.abs(s) for s in MCCA(n_components=4).fit(VIEWS).transform(NEW)[:2]]
for ours, other in zip(check["abs_new"], theirs):
    scale = (ours * other).sum(0) / (other * other).sum(0)
    assert np.abs(ours - other * scale).max() < 1e-8, "MCCA of cca-zoo"


def weighted_pairs(f, r):
    total, s, t = f.sum(), f.sum(1), f.sum(0)
    a, b = VIEWS[0], VIEWS[1]
    mx, my = s @ a / total, t @ b / total
    cxx = a.T @ (s[:, None] * a) / total - np.outer(mx, mx)
    cyy = b.T @ (t[:, None] * b) / total - np.outer(my, my)
    cxy = a.T @ f @ b / total - np.outer(mx, my)
    rho, wa, wb = cca(ridged(cxx, r), ridged(cyy, r), cxy)
    rank = int((rho > 1e-8).sum())
    scores = [np.abs((new - m) @ w[:, :rank]) for new, m, w in zip(NEW, (mx, my), (wa, wb))]
    return {"ridge": r, "correlations": rho[:rank], "abs_new": scores}


same = SINGLE @ SINGLE.T
cluster = weighted_pairs(same, 0.1)
# The pairs written out one by one.
i, j = np.nonzero(same)
far, near = VIEWS[0][i], VIEWS[1][j]
far, near = far - far.mean(0), near - near.mean(0)
m = len(i)
rho, *_ = cca(ridged(far.T @ far / m, 0.1), ridged(near.T @ near / m, 0.1), far.T @ near / m)
assert np.abs(rho[: len(cluster["correlations"])] - cluster["correlations"]).max() < 1e-10
unit = MULTI / np.linalg.norm(MULTI, axis=1, keepdims=True)

rotation, norm = sl.orthogonal_procrustes(x[:, :6], y)


def label_ridge(labels, r):
    alpha = r * (N - 1) * np.trace(cov(x, x)) / x.shape[1]
    return {"ridge": r, "alpha": alpha, "new": Ridge(alpha=alpha).fit(VIEWS[0], labels).predict(NEW[0])}


def prefix(m, r):
    a, b = VIEWS[0][:m], VIEWS[1][:m]
    whole = np.cov(np.hstack([a, b]).T)
    rho, *_ = cca(ridged(whole[:9, :9], r), ridged(whole[9:, 9:], r), whole[:9, 9:])
    return {"rows": m, "ridge": r, "means": [a.mean(0), b.mean(0)], "correlations": rho}


out = {
    "views": VIEWS, "new": NEW, "classes": CLASSES, "label_sets": SETS,
    "gcca": [gcca(0.0, 4), gcca(0.2, 4)],
    "cca3v": cca3v(SINGLE, 0.1, 3), "cca3v_multi": cca3v(MULTI, 0.1, 4),
    "cluster_cca": cluster, "ml_cca": weighted_pairs(unit @ unit.T, 0.1),
    "procrustes": {"rotation": rotation, "scale": norm / (x[:, :6] ** 2).sum()},
    "label_ridge": label_ridge(SINGLE, 0.3), "label_ridge_multi": label_ridge(MULTI, 0.3),
    "prefixes": [prefix(m, 0.1) for m in (20, 45, N)],
}
write("subspace", out)
write("kcca", {"views": VIEWS[:2], "new": NEW[:2], "positive_views": POSITIVE, "positive_new": POSITIVE_NEW, "runs": runs})
