"""Goldens of the hashing methods: codes, weights and objectives by numpy, scipy and torch on small synthetic rows.

Pinned: Python 3.11, numpy 2.4.6, scipy 1.17.1, torch 2.15.0; seeds 11 to 17. Run from the repository root:

    OMP_NUM_THREADS=1 python reference/align_hashing_goldens.py

writes testdata/goldens/align/hashing.json, hashing_kernel.json and hashing_boost.json. All in f64; X [n, dx], Y [n, dy] are
centred by the mean of the training rows, unseen rows by the same mean; a bit is 1 where its projection is >= 0 (>= its
threshold where one is given). L [n, c] is 0/1, L~ = L with rows of unit length. Codes are strings, one a row.

The sign of a pair of directions is free: weights are stored with the largest entry of each column of the *first* view
positive, and codes follow; compare codes up to the complement of a whole bit position (of both views together).

`scm_seq`, `scm_seq_multi`, `scm_orth_multi`  D. Zhang, W.-J. Li, AAAI 2014.
    S = 2 L~ L~' - 11'. Sequential: C_1 = r X' S Y; (w, v) = top singular pair of C_k against X'X + e I and Y'Y + e I
    (w' (X'X + e I) w = 1, alike v), C_{k+1} = C_k - X' sign(X w) sign(Y v)' Y; e = 1e-6. Orthogonal: the leading pairs of C_1 / r
    at once. Centred rows make X'11'Y vanish, so rank C <= number of classes (one less when every row has one label): more
    bits than that are noise, and none are stored.
`cvh`  S. Kumar, R. Udupa, IJCAI 2011, one-to-one pairs: canonical directions, Cxx = X'X/(n-1) + e I with e = ridge * trace/d.
`ssh`  after J. Wang, S. Kumar, S.-F. Chang, CVPR 2010, cross-modal: singular values of M = X_l' S_l Y_l + eta X'Y against
    X'X + e I and Y'Y + e I, e = 1e-6; X_l are the labelled rows (centred by the mean of *all* rows), S_l = 2 L~_l L~_l' - 11'.
    Asserted: eta = 0 with all rows labelled is `scm_orth`; for eta -> infinity the values / eta are the correlations.
`cmfh`  G. Ding, Y. Guo, J. Zhou, CVPR 2014.
    O = sum_v [ l_v |X_v - V U_v|^2 + mu |V - X_v W_v|^2 + gamma (|U_v|^2 + |W_v|^2) ] + gamma |V|^2.
    One iteration, from V: U_v = (V'V + gamma/l_v I)^-1 V'X_v; W_v = (X_v'X_v + gamma/mu I)^-1 X_v'V;
    V = (sum l_v X_v U_v' + mu sum X_v W_v)(sum l_v U_v U_v' + (2 mu + gamma) I)^-1; `objective[t]` is O after V. Asserted: it
    never rises. At the end W_v is solved once more from the last V. Database codes: V >= column mean of V. Query codes:
    x W_v >= 0.
`dch`  X. Xu, F. Shen, Y. Yang, H. T. Shen, X. Li, IEEE TIP 26, 2017, with a ridge on the projections.
    O = |L - B W|^2 + lambda |W|^2 + sum_v mu_v (|B - X_v P_v|^2 + rho |P_v|^2), B in {-1, 1}^{n x r}.
    One iteration: W = (B'B + lambda I)^-1 B'L; P_v = (X_v'X_v + rho I)^-1 X_v'B; then one sweep over the bits k = 0..r-1:
    b_k = sign(q_k - B_{-k} W_{-k} w_k'), Q = L W' + sum mu_v X_v P_v, w_k the k-th row of W, sign(0) = 1. `objective[t]` is O
    after the sweep. Asserted: it never rises. Query codes: x P_v >= 0 with P_v solved from the last B.
`imh`  J. Song, Y. Yang, Y. Yang, Z. Huang, H. T. Shen, SIGMOD 2013, the pairs tied by an infinite weight.
    M = sum_v [ I - X_v (X_v'X_v + beta I)^-1 X_v' + lambda L_v ], L_v = D - A, A_ij = 1 where j is among the k nearest other
    rows of i (Euclidean) or i among those of j. F = eigenvectors of the smallest eigenvalues; W_v = (X_v'X_v + beta I)^-1 X_v'F;
    thresholds = medians of the columns of X_v W_v over the training rows (n is even: midpoints of the two middle values).
`seph`  Z. Lin, G. Ding, M. Hu, J. Wang, CVPR 2015. P_ij = A_ij / sum A, A = L~ L~' without its diagonal; Q_ij proportional to
    (1 + |h_i - h_j|^2 / 4)^-1, i != j; O(H) = sum P log(P/Q) + alpha/(n r) | |H| - 1 |^2. Objective and gradient at H by
    autograd.
`klr`  kernel logistic regression of the codes: K_ij = exp(-g_v |x_i - a_j|^2) with given anchors a (rows of the training set)
    and g_v = 1 / (width * mean over rows and anchors of |x - a|^2); each bit minimises sum_i log(1 + exp(-b_i f_i)) +
    lambda |w|^2, f = K w + w_0, w_0 not penalised. `logits` of the unseen rows; `database` = bits of
    f_x + f_y - logit(p) over the *training* rows, p the share of ones in the bit: p(1|x) p(1|y) / p(1) against the same of 0.
`cmssh`  M. Bronstein, A. Bronstein, F. Michel, N. Paragios, CVPR 2010. s_ij = 1 where rows i, j share their class, else -1, over
    all n^2 pairs of the two views; weights start with half of their mass on the positive pairs and half on the negative (equal
    weights would let the constant answer "different" win). Per bit: C = X' (w o s) Y; p, q = its leading singular vectors
    (unit length, no whitening); thresholds a, b maximise r = sum w s sign(x p + a) sign(y q + b) over all pairs of positions
    between neighbouring sorted projections (a = minus the midpoint; both answers occur), exactly, by sums over rectangles;
    alpha = log((1 + r)/(1 - r)) / 2; w *= exp(-alpha s h), then sum w = 1. Asserted: r > 0, and the exponential loss
    (the product of the normalisers) falls. `r_plain` is r at a = b = 0.
"""

import numpy as np
import scipy.linalg as sl
import torch
from scipy.optimize import minimize

from align_shared import N_CLASSES, bits, grid, one_hot, signed, synthetic, write

DIMS = (8, 6)
(X, Y), (X_NEW, Y_NEW), CLASSES, _, SETS = synthetic(11, 80, 10, DIMS)
N = len(X)
x, y = X - X.mean(0), Y - Y.mean(0)
x_new, y_new = X_NEW - X.mean(0), Y_NEW - Y.mean(0)
sign = lambda a: np.where(a >= 0, 1.0, -1.0)
SINGLE, MULTI = one_hot([[c] for c in CLASSES]), one_hot(SETS)


def pairs_against(c, a, b):
    """Singular triples of `c` in the inner products `a` and `b`."""
    ra, rb = np.linalg.cholesky(a), np.linalg.cholesky(b)
    m = sl.solve_triangular(rb, sl.solve_triangular(ra, c, lower=True).T, lower=True).T
    u, s, vt = np.linalg.svd(m, full_matrices=False)
    w, v = signed(sl.solve_triangular(ra.T, u), sl.solve_triangular(rb.T, vt.T))
    return s, w, v


def inner(a, ridge=1e-6):
    return a.T @ a + ridge * np.eye(a.shape[1])


def scm_similarity(labels):
    unit = labels / np.linalg.norm(labels, axis=1, keepdims=True)
    return 2 * unit @ unit.T - 1


def scm_seq(labels, r):
    c = r * x.T @ scm_similarity(labels) @ y
    ws, vs, tops = [], [], []
    for _ in range(r):
        s, w, v = pairs_against(c, inner(x), inner(y))
        assert s[1] < 0.999 * s[0], "the top singular value stands alone"
        tops.append(s[0])
        ws.append(w[:, 0])
        vs.append(v[:, 0])
        c = c - np.outer(x.T @ sign(x @ w[:, 0]), sign(y @ v[:, 0]) @ y)
    w, v = np.array(ws).T, np.array(vs).T
    # The eigenproblem of the paper, at the first bit.
    c = r * x.T @ scm_similarity(labels) @ y
    top = sl.eigh(c @ np.linalg.solve(inner(y), c.T), inner(x), eigvals_only=True)[-1]
    assert abs(np.sqrt(top) / tops[0] - 1) < 1e-10
    return {
        "bits": r, "singular_values": tops, "w": w, "v": v, "codes_x": bits(x @ w), "codes_y": bits(y @ v),
        "new_x": bits(x_new @ w), "new_y": bits(y_new @ v),
    }


def scm_orth(labels, r):
    s, w, v = pairs_against(x.T @ scm_similarity(labels) @ y, inner(x), inner(y))
    assert s[r:].max() < 1e-6 * s[0] and s[r - 1] > 1e-3 * s[0], s
    w, v = w[:, :r], v[:, :r]
    return {
        "bits": r, "singular_values": s[:r], "codes_x": bits(x @ w), "codes_y": bits(y @ v), "new_x": bits(x_new @ w),
        "new_y": bits(y_new @ v),
    }


def cvh(ridge):
    cxx, cyy = x.T @ x / (N - 1), y.T @ y / (N - 1)
    a, b = (c + ridge * np.trace(c) / len(c) * np.eye(len(c)) for c in (cxx, cyy))
    s, w, v = pairs_against(x.T @ y / (N - 1), a, b)
    return {
        "ridge": ridge, "correlations": s, "codes_x": bits(x @ w), "codes_y": bits(y @ v), "new_x": bits(x_new @ w),
        "new_y": bits(y_new @ v),
    }


def ssh(labelled, eta):
    similarity = scm_similarity(SINGLE[labelled])
    m = x[labelled].T @ similarity @ y[labelled] + eta * x.T @ y
    s, w, v = pairs_against(m, inner(x), inner(y))
    return {
        "eta": eta, "singular_values": s, "abs_w": np.abs(w), "abs_v": np.abs(v), "new_x": bits(x_new @ w),
        "new_y": bits(y_new @ v),
    }


def cmfh(r, iterations):
    lambdas, mu, gamma = (0.5, 0.5), 10.0, 0.01
    v = v0 = grid(np.random.default_rng(12).uniform(size=(N, r)))
    square = lambda a: (a * a).sum()
    eye, views, trace = np.eye(r), (x, y), []

    def objective(v, us, ws):
        terms = (l * square(a - v @ u) + mu * square(v - a @ w) + gamma * (square(u) + square(w))
                 for l, a, u, w in zip(lambdas, views, us, ws))
        return sum(terms) + gamma * square(v)

    regress = lambda v: [np.linalg.solve(a.T @ a + gamma / mu * np.eye(a.shape[1]), a.T @ v) for a in views]
    for _ in range(iterations):
        us = [np.linalg.solve(v.T @ v + gamma / l * eye, v.T @ a) for l, a in zip(lambdas, views)]
        ws = regress(v)
        left = sum(l * a @ u.T for l, a, u in zip(lambdas, views, us)) + mu * sum(a @ w for a, w in zip(views, ws))
        v = left @ np.linalg.inv(sum(l * u @ u.T for l, u in zip(lambdas, us)) + (2 * mu + gamma) * eye)
        trace.append(objective(v, us, ws))
        # Each block is where the gradient by it vanishes.
        vt = torch.tensor(v, requires_grad=True)
        total = gamma * vt.square().sum()
        for l, a, u, w in zip(lambdas, views, us, ws):
            a, u, w = map(torch.tensor, (a, u, w))
            total = total + l * (a - vt @ u).square().sum() + mu * (vt - a @ w).square().sum()
        total.backward()
        assert vt.grad.abs().max() < 1e-9 * trace[-1]
    assert (np.diff(trace) <= 1e-9).all(), trace
    ws = regress(v)
    return {
        "bits": r, "lambda": lambdas, "mu": mu, "gamma": gamma, "v0": v0, "objective": trace,
        "database": bits(v, v.mean(0)), "new_x": bits(x_new @ ws[0]), "new_y": bits(y_new @ ws[1]), "w": ws,
    }


def dch(r, iterations):
    lam, mus, rho = 1.0, (0.1, 0.2), 1e-3
    b = b0 = sign(np.random.default_rng(13).normal(size=(N, r)))
    views, labels, trace = (x, y), MULTI, []
    square = lambda a: (a * a).sum()
    project = lambda b: [np.linalg.solve(inner(a, rho), a.T @ b) for a in views]
    for _ in range(iterations):
        w = np.linalg.solve(b.T @ b + lam * np.eye(r), b.T @ labels)
        ps = project(b)
        q = labels @ w.T + sum(mu * a @ p for mu, a, p in zip(mus, views, ps))
        b = b.copy()
        for k in range(r):
            rest = b @ w - np.outer(b[:, k], w[k])
            score = q[:, k] - rest @ w[k]
            assert np.abs(score).min() > 1e-9
            b[:, k] = sign(score)
        fit = sum(mu * (square(b - a @ p) + rho * square(p)) for mu, a, p in zip(mus, views, ps))
        trace.append(square(labels - b @ w) + lam * square(w) + fit)
    assert (np.diff(trace) <= 1e-9).all(), trace
    ps = project(b)
    return {
        "bits": r, "lambda": lam, "mu": mus, "rho": rho, "b0": bits(b0), "objective": trace, "database": bits(b),
        "new_x": bits(x_new @ ps[0]), "new_y": bits(y_new @ ps[1]),
    }


def imh(r, k, beta, lam):
    m = np.zeros((N, N))
    for a in (x, y):
        d = ((a[:, None] - a[None]) ** 2).sum(-1)
        np.fill_diagonal(d, np.inf)
        near = np.argsort(d, axis=1, kind="stable")
        ordered = np.take_along_axis(d, near, 1)
        assert (ordered[:, k] > ordered[:, k - 1]).all(), "no tie decides who is near"
        graph = np.zeros((N, N))
        np.put_along_axis(graph, near[:, :k], 1, axis=1)
        graph = np.maximum(graph, graph.T)
        m += np.eye(N) - a @ np.linalg.solve(inner(a, beta), a.T) + lam * (np.diag(graph.sum(1)) - graph)
    values, vectors = sl.eigh(m)
    f = vectors[:, :r]
    ws = [np.linalg.solve(inner(a, beta), a.T @ f) for a in (x, y)]
    ws = signed(*ws)
    medians = [np.median(a @ w, axis=0) for a, w in zip((x, y), ws)]
    return {
        "bits": r, "neighbours": k, "beta": beta, "lambda": lam, "eigenvalues": values[: r + 1], "w": ws, "medians": medians,
        "codes_x": bits(x @ ws[0], medians[0]), "codes_y": bits(y @ ws[1], medians[1]),
        "new_x": bits(x_new @ ws[0], medians[0]), "new_y": bits(y_new @ ws[1], medians[1]),
    }


def seph(rows, r, alpha):
    labels = MULTI[:rows]
    unit = labels / np.linalg.norm(labels, axis=1, keepdims=True)
    a = unit @ unit.T
    np.fill_diagonal(a, 0)
    p = torch.tensor(a / a.sum())
    h0 = grid(np.random.default_rng(14).normal(size=(rows, r)))
    h = torch.tensor(h0, requires_grad=True)
    d = (h[:, None] - h[None]).square().sum(-1)
    u = (1 / (1 + d / 4)) * (1 - torch.eye(rows))
    q = u / u.sum()
    seen = p > 0
    kl = (p[seen] * (p[seen].log() - q[seen].log())).sum()
    penalty = alpha / (rows * r) * (h.abs() - 1).square().sum()
    (kl + penalty).backward()
    # The closed form.
    n_p, n_u, n_q = p.numpy(), u.detach().numpy(), q.detach().numpy()
    m = (n_p - n_q) * n_u
    closed = m.sum(1)[:, None] * h0 - m @ h0 + 2 * alpha / (rows * r) * (np.abs(h0) - 1) * np.sign(h0)
    assert np.abs(closed - h.grad.numpy()).max() < 1e-14
    return {
        "rows": rows, "bits": r, "alpha": alpha, "h": h0, "kl": kl.item(), "objective": (kl + penalty).item(),
        "gradient": h.grad.numpy(),
    }


def klr(r, n_anchors, width, lam):
    targets = sign(np.random.default_rng(15).normal(size=(N_CLASSES, r)))[CLASSES]
    flips = np.random.default_rng(16).uniform(size=targets.shape) < 0.05
    targets = np.where(flips, -targets, targets)
    anchors = np.arange(0, N, N // n_anchors)[:n_anchors]
    squared = lambda a, b: ((a[:, None] - b[None]) ** 2).sum(-1)
    on_train, on_new, gammas = [], [], []
    for a, new in ((x, x_new), (y, y_new)):
        d = squared(a, a[anchors])
        gamma = 1 / (width * d.mean())
        gammas.append(gamma)
        k = np.hstack([np.exp(-gamma * d), np.ones((N, 1))])
        k_new = np.hstack([np.exp(-gamma * squared(new, a[anchors])), np.ones((len(new), 1))])
        penalised = np.append(np.ones(n_anchors), 0)
        weights = []
        for b in targets.T:
            loss = lambda w: (np.logaddexp(0, -b * (k @ w)).sum() + lam * (penalised * w * w).sum(),
                              k.T @ (-b / (1 + np.exp(b * (k @ w)))) + 2 * lam * penalised * w)
            options = {"maxiter": 5000, "gtol": 1e-9, "ftol": 0}
            w = minimize(loss, np.zeros(n_anchors + 1), jac=True, method="L-BFGS-B", options=options).x
            for _ in range(20):  # Newton to the last digit
                s = 1 / (1 + np.exp(-(k @ w)))
                step = np.linalg.solve(k.T @ ((s * (1 - s))[:, None] * k) + 2 * lam * np.diag(penalised), loss(w)[1])
                w = w - step
                if np.abs(step).max() < 1e-13:
                    break
            assert np.abs(loss(w)[1]).max() < 1e-11
            weights.append(w)
        weights = np.array(weights).T
        on_train.append(k @ weights)
        on_new.append(k_new @ weights)
    share = (targets > 0).mean(0)
    both = on_train[0] + on_train[1] - np.log(share / (1 - share))
    return {
        "bits": r, "anchors": anchors, "width": width, "gamma": gammas, "lambda": lam, "targets": bits(targets),
        "logits_x": on_new[0], "logits_y": on_new[1], "database": bits(both),
    }


def cmssh(n_bits):
    s = np.where(CLASSES[:, None] == CLASSES[None], 1.0, -1.0)
    w = np.where(s > 0, 0.5 / (s > 0).sum(), 0.5 / (s < 0).sum())
    out, loss = [], 1.0
    for _ in range(n_bits):
        ws = w * s
        u, sv, vt = np.linalg.svd(x.T @ ws @ y)
        assert sv[1] < 0.99 * sv[0]
        p, q = (m[:, 0] for m in signed(u[:, :1], vt[:1].T))
        fx, fy = x @ p, y @ q
        ox, oy = np.argsort(fx), np.argsort(fy)
        # Sum over the rectangle of the first i rows and first j columns in the order of the projections.
        c = np.zeros((N + 1, N + 1))
        c[1:, 1:] = ws[np.ix_(ox, oy)].cumsum(0).cumsum(1)
        r_all = c[N, N] - 2 * c[:, [N]] - 2 * c[[N], :] + 4 * c
        r_all = np.pad(r_all[1:-1, 1:-1], 1, constant_values=-1)  # a threshold outside all rows is no bit
        i, j = np.unravel_index(r_all.argmax(), r_all.shape)
        ranked = np.sort(r_all.ravel())
        assert ranked[-1] - ranked[-2] > 1e-6
        fxs, fys = fx[ox], fy[oy]
        a, b = -(fxs[i - 1] + fxs[i]) / 2, -(fys[j - 1] + fys[j]) / 2
        h = np.outer(sign(fx + a), sign(fy + b))
        r = (ws * h).sum()
        assert r > 0 and abs(r - r_all[i, j]) < 1e-12
        alpha = 0.5 * np.log((1 + r) / (1 - r))
        w = w * np.exp(-alpha * s * h)
        loss *= w.sum()
        w /= w.sum()
        r_plain = (ws * np.outer(sign(fx), sign(fy))).sum()
        out.append({"p": p, "q": q, "a": a, "b": b, "r": r, "r_plain": r_plain, "alpha": alpha, "loss": loss})
    assert all(later["loss"] < earlier["loss"] for earlier, later in zip(out, out[1:]))
    return {"bits": out}


orth = scm_orth(SINGLE, N_CLASSES - 1)
assert np.abs(np.array(ssh(np.arange(N), 0.0)["singular_values"])[:3] - orth["singular_values"]).max() < 1e-8
far = np.array(ssh(np.arange(40), 1e9)["singular_values"]) / 1e9
assert np.abs(far - cvh(0.0)["correlations"]).max() < 1e-6
half = np.arange(0, N, 2)
inputs = {"views": [X, Y], "new": [X_NEW, Y_NEW], "classes": CLASSES, "label_sets": SETS}
write("hashing", inputs | {
    "scm_seq": scm_seq(SINGLE, 16), "scm_seq_multi": scm_seq(MULTI, 12),
    "scm_orth": orth, "scm_orth_multi": scm_orth(MULTI, N_CLASSES),
    "cvh": cvh(0.1), "ssh": {"labelled": half, "runs": [ssh(half, eta) for eta in (0.05, 0.5, 2.0)]},
    "cmfh": cmfh(8, 20), "dch": dch(12, 10), "imh": imh(5, 6, 0.5, 0.02),
})
write("hashing_kernel", inputs | {"seph": seph(40, 6, 0.01), "klr": klr(4, 20, 1.0, 0.05)})
write("hashing_boost", inputs | {"cmssh": cmssh(4)})
