"""Goldens of the bridges that learn from labels: logistic posteriors, GMLDA, GMMFA, MvDA, MvDA-VC, JFSSL, LCFS.

Pinned: Python 3.11, numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1; seed 31. Run from the repository root:

    OMP_NUM_THREADS=1 python reference/align_discriminative_goldens.py

writes testdata/goldens/align/discriminative.json and feature_selection.json. All in f64; X_v [n, d_v] are centred by the mean of
the training rows, unseen rows by the same mean. Scores `abs_new` are absolute values of unseen rows times weights, since the sign
of a component is free; eigenvalues stand apart by at least 1e-3 of the first (asserted).

`logistic`  multinomial logistic regression, minimising C sum_i w_i log loss_i + |W|^2 / 2, the intercepts not penalised, rows as
    they are (not centred: it makes no difference to the minimum). `single`: the class of each row. `multi`: a row enters once for
    each of its labels with w_i = 1 / number of its labels. Probabilities of the unseen rows, by Newton steps to a gradient
    below 1e-8; lbfgs agrees to 1e-5 (asserted).
`gmlda`, `gmmfa`  A. Sharma, A. Kumar, H. Daume III, D. W. Jacobs, CVPR 2012: leading eigenvectors w = (w1, w2) of
    [[A1, alpha Z1'Z2], [alpha Z2'Z1, mu A2]] against blockdiag(B1, gamma B2), w' blockdiag w = 1;
    B_v = within_v + reg * trace(within_v)/d_v I; gamma = trace(B1)/trace(B2). Z_v [c, d_v] = class means, times sqrt(n_c) where
    `weighted`. LDA: A = sum_c n_c m_c m_c' (between), within = X'X - A. MFA: within = X'(D - W)X with W_ij = 1 where i is among
    the k1 nearest rows of its own class of j, or j of i (Euclidean, itself not counted; fewer where the class has fewer);
    A = X'(D - W)X alike with the k2 nearest rows of all other classes. Asserted: alpha = 0 gives the eigenvalues of two LDAs.
`mvda`, `mvda_vc`  M. Kan, S. Shan, H. Zhang, S. Lao, X. Chen, ECCV 2012, TPAMI 38, 2016: leading eigenvectors of D against
    S + lambda M + e I, w' (.) w = 1, blocks over views j, r; m_ij the mean of class i in view j, n_i = sum_j n_ij:
    S_jj = X_j'X_j - sum_i n_ij^2/n_i m_ij m_ij', S_jr = - sum_i n_ij n_ir/n_i m_ij m_ir',
    D_jr = sum_i n_ij n_ir/n_i m_ij m_ir' (the term of the total mean is 0 for centred views);
    M (0 without VC): sum over ordered pairs j != r of |beta_j - beta_r|^2, beta_j = X_j (X_j'X_j)^-1 w_j:
    M_jj = 2 (V - 1) (X_j'X_j)^-1, M_jr = - 2 (X_j'X_j)^-1 X_j'X_r (X_r'X_r)^-1. e = reg * trace(S)/sum d_j, on the diagonal.
`jfssl`  K. Wang, R. He, L. Wang, W. Wang, T. Tan, TPAMI 38, 2016, in rows: minimise
    sum_p |X_p U_p - Y|^2 + lambda1 sum_p sum_i sqrt(|u_pi|^2 + eps) + lambda2 sum_pq tr(U_p' X_p' L_pq X_q U_q), Y the 0/1 labels
    (not centred), u_pi the i-th row of U_p, L = D - W over all 2 n nodes (row i of view p is node p n + i). W_pp: beta *
    exp(-d_ij^2 / (2 s_p^2)) where j is among the k nearest rows of i (itself not counted) or i among those of j, s_p^2 the mean
    of d_ij^2 over i != j; W_pq, p != q: 1 where rows share a label. D sums weights. Start: U_p = (X_p'X_p + lambda1 I)^-1 X_p'Y.
    Iteration: R_p = diag(1 / (2 sqrt(|u_pi|^2 + eps))),
    U_p = (X_p'X_p + lambda1 R_p + lambda2 X_p'L_pp X_p)^-1 (X_p'Y - lambda2 X_p'L_pq X_q U_q).
    `old`: both views from the old U of the other; `new`: view 1 uses the new U of view 0. `objective[0]` is at the start.
    Asserted: it falls, for `new` always, for `old` with the numbers given here.
`lcfs`  K. Wang, R. He, W. Wang, L. Wang, T. Tan, ICCV 2013, smoothed: minimise sum_p |X_p U_p - Y|^2 +
    lambda1 sum_p sum_i sqrt(|u_pi|^2 + eps) + lambda2 tr (T T' + eps I)^{1/2}, T = [X_0 U_0, X_1 U_1] [n, 2c]. Start as above.
    Iteration: R_p as above, H = (T T' + eps I)^{-1/2} / 2 from the old U, then for each p
    U_p = (X_p'X_p + lambda1 R_p + lambda2 X_p'H X_p)^-1 X_p'Y. Asserted: the objective never rises. (With T = P diag(s) Q'
    thin, H is P diag((s^2 + eps)^{-1/2} - eps^{-1/2}) P' / 2 + eps^{-1/2} I / 2: no n x n matrix is needed.)
"""

import numpy as np
import scipy.linalg as sl
from sklearn.linear_model import LogisticRegression

from align_shared import N_CLASSES, one_hot, synthetic, write

VIEWS, NEW, CLASSES, _, SETS = synthetic(31, 76, 10, (8, 6))
N = len(CLASSES)
XS = [v - v.mean(0) for v in VIEWS]
XS_NEW = [w - v.mean(0) for v, w in zip(VIEWS, NEW)]
SINGLE, MULTI = one_hot([[c] for c in CLASSES]), one_hot(SETS)
COUNTS = SINGLE.sum(0)
CLASS_MEANS = [(SINGLE / COUNTS).T @ x for x in XS]


def logistic(rows, targets, weights, new, c):
    exact = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-13, max_iter=200).fit(rows, targets, weights)
    other = LogisticRegression(C=c, solver="lbfgs", tol=1e-12, max_iter=20000).fit(rows, targets, weights)
    p = exact.predict_proba(new)
    assert np.abs(p - other.predict_proba(new)).max() < 1e-5
    errors = exact.predict_proba(rows) - np.eye(N_CLASSES)[targets]
    if weights is not None:
        errors *= weights[:, None]
    assert np.abs(c * errors.sum(0)).max() < 1e-9 and np.abs(c * errors.T @ rows + exact.coef_).max() < 1e-8
    return p


pairs = [(i, label) for i, labels in enumerate(SETS) for label in labels]
repeated = [np.array([v[i] for i, _ in pairs]) for v in VIEWS]
shares = np.array([1 / len(SETS[i]) for i, _ in pairs])
logistic_out = {
    "c": 0.5,
    "single": [logistic(v, CLASSES, None, w, 0.5) for v, w in zip(VIEWS, NEW)],
    "multi": [logistic(v, np.array([label for _, label in pairs]), shares, w, 0.5) for v, w in zip(repeated, NEW)],
}


def leading(a, b, k, dims):
    values, w = sl.eigh((a + a.T) / 2, (b + b.T) / 2)
    values, w = values[::-1], w[:, ::-1]
    assert (np.diff(values[: k + 1]) < -1e-3 * values[0]).all(), values
    starts = np.cumsum([0, *dims])
    parts = [w[s:e, :k] for s, e in zip(starts, starts[1:])]
    return {"eigenvalues": values[:k], "abs_new": [np.abs(x @ p) for x, p in zip(XS_NEW, parts)]}


def lda(v):
    between = (CLASS_MEANS[v].T * COUNTS) @ CLASS_MEANS[v]
    return between, XS[v].T @ XS[v] - between


def near(distances, allowed, k):
    """0/1 graph, made symmetric by `or`, of the k nearest allowed rows of each row."""
    graph = np.zeros_like(distances)
    for i, row in enumerate(distances):
        others = np.flatnonzero(allowed[i])
        graph[i, others[np.argsort(row[others], kind="stable")[:k]]] = 1
    return np.maximum(graph, graph.T)


def squared(x):
    return ((x[:, None] - x[None]) ** 2).sum(-1)


def laplacian(graph):
    return np.diag(graph.sum(1)) - graph


def mfa(v, k1, k2):
    d = squared(XS[v])
    same = CLASSES[:, None] == CLASSES[None]
    mine, foreign = near(d, same & ~np.eye(N, dtype=bool), k1), near(d, ~same, k2)
    return XS[v].T @ laplacian(foreign) @ XS[v], XS[v].T @ laplacian(mine) @ XS[v]


def gma(scatters, alpha, mu, reg, weighted, k):
    (a1, b1), (a2, b2) = scatters
    b1, b2 = (b + reg * np.trace(b) / len(b) * np.eye(len(b)) for b in (b1, b2))
    gamma = np.trace(b1) / np.trace(b2)
    z1, z2 = (m * np.sqrt(COUNTS)[:, None] if weighted else m for m in CLASS_MEANS)
    top = np.block([[a1, alpha * z1.T @ z2], [alpha * z2.T @ z1, mu * a2]])
    if alpha == 0:
        alone = np.concatenate([sl.eigh(a1, b1, eigvals_only=True), sl.eigh(mu * a2, gamma * b2, eigvals_only=True)])
        both = sl.eigh(top, sl.block_diag(b1, gamma * b2), eigvals_only=True)
        assert np.abs(np.sort(alone) - both).max() < 1e-9
        return None
    out = leading(top, sl.block_diag(b1, gamma * b2), k, (len(a1), len(a2)))
    return {"alpha": alpha, "mu": mu, "reg": reg, "weighted": weighted, "gamma": gamma} | out


def mvda(consistency, reg, k):
    n_views = len(XS)
    totals = n_views * COUNTS
    pooled = lambda j, r: (CLASS_MEANS[j].T * (COUNTS * COUNTS / totals)) @ CLASS_MEANS[r]
    pinv = [np.linalg.inv(x.T @ x) for x in XS]
    d = np.block([[pooled(j, r) for r in range(n_views)] for j in range(n_views)])
    s = sl.block_diag(*(x.T @ x for x in XS)) - d
    m = np.block([
        [2 * (n_views - 1) * pinv[j] if j == r else -2 * pinv[j] @ XS[j].T @ XS[r] @ pinv[r] for r in range(n_views)]
        for j in range(n_views)
    ])
    # The definitions, on a random w: scatter around the common class means, and the distance between the two beta.
    w = np.random.default_rng(0).normal(size=sum(x.shape[1] for x in XS))
    ws = np.split(w, [XS[0].shape[1]])
    projected = np.concatenate([x @ part for x, part in zip(XS, ws)])
    classes = np.concatenate([CLASSES] * n_views)
    centres = np.array([projected[classes == c].mean() for c in range(N_CLASSES)])
    assert abs(((projected - centres[classes]) ** 2).sum() - w @ s @ w) < 1e-8 * (w @ s @ w)
    assert abs((totals * (centres - projected.mean()) ** 2).sum() - w @ d @ w) < 1e-8 * (w @ d @ w)
    betas = [x @ p @ part for x, p, part in zip(XS, pinv, ws)]
    assert abs(2 * ((betas[0] - betas[1]) ** 2).sum() - w @ m @ w) < 1e-8 * (w @ m @ w)
    right = s + consistency * m + reg * np.trace(s) / len(s) * np.eye(len(s))
    return {"lambda": consistency, "reg": reg} | leading(d, right, k, [x.shape[1] for x in XS])


def starts(y, lambda1):
    return [np.linalg.solve(x.T @ x + lambda1 * np.eye(x.shape[1]), x.T @ y) for x in XS]


def smooth_rows(u, eps):
    return np.sqrt((u * u).sum(1) + eps)


def jfssl(y, lambda1, lambda2, beta, k, eps, iterations):
    blocks = []
    share = (y @ y.T > 0).astype(float)
    for x in XS:
        d = squared(x)
        width = d.sum() / (N * (N - 1))
        blocks.append(beta * np.exp(-d / (2 * width)) * near(d, ~np.eye(N, dtype=bool), k))
    l = laplacian(np.block([[blocks[0], share], [share, blocks[1]]]))
    part = lambda p, q: XS[p].T @ l[p * N : (p + 1) * N, q * N : (q + 1) * N] @ XS[q]

    def objective(us):
        f = np.vstack([x @ u for x, u in zip(XS, us)])
        fit = sum(((x @ u - y) ** 2).sum() for x, u in zip(XS, us))
        return fit + lambda1 * sum(smooth_rows(u, eps).sum() for u in us) + lambda2 * np.trace(f.T @ l @ f)

    out = {"lambda1": lambda1, "lambda2": lambda2, "beta": beta, "neighbours": k, "eps": eps}
    for name in ("old", "new"):
        us = starts(y, lambda1)
        trace = [objective(us)]
        for _ in range(iterations):
            seen = list(us) if name == "old" else us
            for p, x in enumerate(XS):
                r = np.diag(1 / (2 * smooth_rows(us[p], eps)))
                left = x.T @ x + lambda1 * r + lambda2 * part(p, p)
                us[p] = np.linalg.solve(left, x.T @ y - lambda2 * part(p, 1 - p) @ seen[1 - p])
            trace.append(objective(us))
        assert (np.diff(trace) <= 1e-10).all(), (name, trace)
        print("jfssl", name, np.round(trace, 4))
        out[name] = {"objective": trace, "u": list(us)}
    return out


def lcfs(y, lambda1, lambda2, eps, iterations):
    def objective(us):
        t = np.hstack([x @ u for x, u in zip(XS, us)])
        values = sl.eigvalsh(t @ t.T).clip(0)
        fit = sum(((x @ u - y) ** 2).sum() for x, u in zip(XS, us))
        return fit + lambda1 * sum(smooth_rows(u, eps).sum() for u in us) + lambda2 * np.sqrt(values + eps).sum()

    us = starts(y, lambda1)
    trace = [objective(us)]
    for _ in range(iterations):
        t = np.hstack([x @ u for x, u in zip(XS, us)])
        values, vectors = sl.eigh(t @ t.T)
        h = (vectors / np.sqrt(values.clip(0) + eps)) @ vectors.T / 2
        us = [
            np.linalg.solve(x.T @ x + lambda1 * np.diag(1 / (2 * smooth_rows(u, eps))) + lambda2 * x.T @ h @ x, x.T @ y)
            for x, u in zip(XS, us)
        ]
        trace.append(objective(us))
    assert (np.diff(trace) <= 1e-10).all(), trace
    print("lcfs", np.round(trace, 4))
    return {"lambda1": lambda1, "lambda2": lambda2, "eps": eps, "objective": trace, "u": us}


lda_scatters, mfa_scatters = [lda(0), lda(1)], [mfa(0, 6, 15), mfa(1, 6, 15)]
gma(lda_scatters, 0, 0.7, 0.1, False, 3)
inputs = {"views": VIEWS, "new": NEW, "classes": CLASSES, "label_sets": SETS}
write("discriminative", inputs | {
    "logistic": logistic_out,
    "gmlda": [gma(lda_scatters, 5.0, 1.0, 0.1, False, 3), gma(lda_scatters, 100.0, 0.5, 0.3, True, 3)],
    "gmmfa": {
        "same": 6, "other": 15,
        "runs": [gma(mfa_scatters, 5.0, 1.0, 0.1, False, 3), gma(mfa_scatters, 100.0, 0.5, 0.3, True, 3)],
    },
    "mvda": mvda(0.0, 1e-3, 3), "mvda_vc": mvda(5.0, 1e-3, 3),
})
write("feature_selection", inputs | {
    "jfssl": jfssl(SINGLE, 30.0, 0.01, 0.5, 5, 1e-8, 8), "jfssl_multi": jfssl(MULTI, 1.0, 0.005, 0.1, 5, 1e-8, 5),
    "lcfs": lcfs(SINGLE, 20.0, 1.0, 1e-6, 8), "lcfs_multi": lcfs(MULTI, 1.0, 2.0, 1e-6, 5),
})
