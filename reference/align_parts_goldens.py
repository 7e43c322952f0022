"""Goldens of the models that look at parts: scores, losses and gradients of SCAN, of the reranker and of fusion, and transport plans, by torch.

Pinned: Python 3.11, numpy 2.4.6, scipy 1.17.1, torch 2.15.0; seed 33. Run from the repository root:

    OMP_NUM_THREADS=1 python reference/align_parts_goldens.py

writes testdata/goldens/align/parts.json. All in f64, from the equations of the papers, which the heads of the Rust files name.

`scan`  `regions`, `words` (rows of all things, `lengths` of each side); for each way of looking the scores of all pairs, the hinge of the hardest
    negatives and of all (margin .2, means over the batch), and the gradients of the former by regions and words. Scores are computed on batches filled up with
    zeros to the longest, under masks, and asserted equal to those of each pair by itself.
`transport`  plans of IPOT (beta .5, 50 proximal points, one scaling each) of costs 1 - cos, by numpy; their costs are asserted to be within 2 % of the linear
    program's and their columns uniform to 1e-12.
`reranker`  `parameters` in the order of the Rust file; words and regions of four pairs (`lengths`), of which `matched` belong together: the scores, the loss with
    alignment of weight .1 (plans as above, detached) and its gradients by all parameters.
`fusion`  for each way of fusing three views of five items, some of them missing: `parameters` in the order of the Rust file, the fused queries, the contrastive
    loss against a gallery view of which items 0 and 3 share a group, and its gradients.
"""

import math

import numpy as np
import scipy.optimize
import torch
import torch.nn.functional as F

from align_shared import write

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(33)


def normal(*shape):
    return torch.tensor(np.round(rng.normal(size=shape) * 64) / 64)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


# SCAN.

LENGTHS = [3, 2, 4, 1], [2, 3, 1, 2]
DIM = 5


def padded(rows, lengths):
    """[n, longest, d] and the mask [n, longest] of what is there."""
    n, most = len(lengths), max(lengths)
    mask = torch.arange(most)[None] < torch.tensor(lengths)[:, None]
    out = torch.zeros(n, most, rows.shape[1])
    out[mask] = rows
    return out, mask


def attended(ask, answer, asks, answers, sharpness, pool):
    """Scores [n]: `ask` [n, q, d] and `answer` [n, c, d] at unit length, with their masks."""
    s = ask @ answer.transpose(1, 2)
    z = F.leaky_relu(s, 0.1) * asks[:, :, None]
    # Over what asks, for each that answers: words for each region where texts ask.
    z = z / z.norm(dim=1, keepdim=True).clamp(min=1e-8)
    alpha = (sharpness * z).masked_fill(~answers[:, None, :], -torch.inf).softmax(2)
    found = alpha @ answer
    r = (ask * found).sum(2) / found.norm(dim=2)
    if pool is None:
        return (r * asks).sum(1) / asks.sum(1)
    return (pool * r).masked_fill(~asks, -torch.inf).logsumexp(1) / pool


def pair_scores(regions, words, direction, sharpness, pool):
    """[n_pictures, n_texts]."""
    v, in_v = padded(unit(regions), LENGTHS[0])
    e, in_e = padded(unit(words), LENGTHS[1])
    n, m = len(v), len(e)
    v, in_v = (x.repeat_interleave(m, 0) for x in (v, in_v))
    e, in_e = (x.repeat(n, *[1] * (x.ndim - 1)) for x in (e, in_e))
    sides = (e, v, in_e, in_v) if direction == "text_to_image" else (v, e, in_v, in_e)
    return attended(*sides, sharpness, pool).reshape(n, m)


def one_by_one(regions, words, direction, sharpness, pool):
    out = torch.zeros(len(LENGTHS[0]), len(LENGTHS[1]))
    for i, v in enumerate(unit(regions).split(LENGTHS[0])):
        for j, e in enumerate(unit(words).split(LENGTHS[1])):
            ask, answer = (e, v) if direction == "text_to_image" else (v, e)
            full = [torch.ones(1, len(x), dtype=torch.bool) for x in (ask, answer)]
            out[i, j] = attended(ask[None], answer[None], *full, sharpness, pool)[0]
    return out


def hinge(s, hardest, margin=0.2):
    right = s.diag()
    off = ~torch.eye(len(s), dtype=torch.bool)
    rows = (margin - right[:, None] + s).clamp(min=0) * off
    cols = (margin - right[None] + s).clamp(min=0) * off
    return (rows.max(1).values.sum() + cols.max(0).values.sum() if hardest else rows.sum() + cols.sum()) / len(s)


def scan():
    regions, words = normal(sum(LENGTHS[0]), DIM), normal(sum(LENGTHS[1]), DIM)
    out = {"regions": regions, "words": words, "lengths": LENGTHS, "ways": []}
    for direction, sharpness, pool in (
        ("text_to_image", 9.0, None),
        ("text_to_image", 9.0, 6.0),
        ("image_to_text", 4.0, None),
        ("image_to_text", 4.0, 5.0),
    ):
        leaves = [x.clone().requires_grad_() for x in (regions, words)]
        s = pair_scores(*leaves, direction, sharpness, pool)
        assert torch.allclose(s, one_by_one(regions, words, direction, sharpness, pool), rtol=0, atol=1e-13)
        loss = hinge(s, True)
        way = {"direction": direction, "sharpness": sharpness, "lambda": pool, "scores": s, "hardest": loss, "all": hinge(s, False)}
        way["d_regions"], way["d_words"] = torch.autograd.grad(loss, leaves)
        out["ways"].append(way)
    return out


# The reranker.


def ipot(cost, beta=0.5, n_outer=50, n_inner=1):
    n, m = cost.shape
    kernel, plan, b = np.exp(-cost / beta), np.ones((n, m)), np.ones(m) / m
    for _ in range(n_outer):
        q = kernel * plan
        for _ in range(n_inner):
            a = 1 / (n * (q @ b))
            b = 1 / (m * (q.T @ a))
        plan = a[:, None] * q * b[None]
    return plan


def transport():
    out = []
    for n, m in ((3, 4), (5, 2), (1, 3), (6, 6)):
        cost = (1 - unit(normal(n, DIM)) @ unit(normal(m, DIM)).T).numpy()
        plan = ipot(cost)
        rows, cols = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
        least = scipy.optimize.linprog(cost.ravel(), A_eq=np.vstack([rows, cols]), b_eq=[1 / n] * n + [1 / m] * m).fun
        assert abs((plan * cost).sum() - least) < 0.02 * least, ((plan * cost).sum(), least)
        assert np.abs(plan.sum(0) - 1 / m).max() < 1e-12
        out.append({"cost": cost, "plan": plan})
    return out


def reranker():
    d_t, d_v, dim, hidden, heads, layers = 4, 5, 6, 7, 2, 2
    lengths = [2, 3, 1, 2], [3, 2, 4, 1]
    matched = [True, False, True, False]
    row = lambda n, size=0.25: size * normal(1, n)
    gain = lambda n: 1 + row(n)
    p = [0.5 * normal(dim, d_t), row(dim), 0.5 * normal(dim, d_v), row(dim), gain(dim), row(dim), gain(dim), row(dim), row(dim)]
    for _ in range(layers):
        p += [x for _ in range(4) for x in (0.5 * normal(dim, dim), row(dim))] + [gain(dim), row(dim)]
        p += [0.5 * normal(hidden, dim), row(hidden), 0.5 * normal(dim, hidden), row(dim), gain(dim), row(dim)]
    p += [0.5 * normal(dim, dim), row(dim), normal(1, dim), row(1)]
    words, regions = normal(sum(lengths[0]), d_t), normal(sum(lengths[1]), d_v)
    leaves = [x.clone().requires_grad_() for x in p]

    def norm(x, at):
        return F.layer_norm(x, (dim,), leaves[at][0], leaves[at + 1][0], 1e-12)

    def linear(x, at):
        return x @ leaves[at].T + leaves[at + 1]

    def network(w, r):
        x = torch.cat([leaves[8], norm(linear(w, 0), 4), norm(linear(r, 2), 6)])
        for at in range(9, 9 + 16 * layers, 16):
            q, k, v = (linear(x, at + 2 * i).reshape(len(x), heads, -1).transpose(0, 1) for i in range(3))
            seen = ((q @ k.transpose(1, 2) / math.sqrt(dim // heads)).softmax(2) @ v).transpose(0, 1).reshape(len(x), dim)
            h = norm(x + linear(seen, at + 6), at + 8)
            x = norm(h + linear(F.gelu(linear(h, at + 10)), at + 12), at + 14)
        score = linear(torch.tanh(linear(x[:1], len(p) - 4)), len(p) - 2)[0, 0]
        return score, x[1 : 1 + len(w)], x[1 + len(w) :]

    scores, loss = [], 0
    for w, r, match in zip(words.split(lengths[0]), regions.split(lengths[1]), matched):
        score, w, r = network(w, r)
        cost = 1 - unit(w) @ unit(r).T
        distance = (torch.tensor(ipot(cost.detach().numpy())) * cost).sum()
        loss = loss + (F.binary_cross_entropy_with_logits(score, torch.tensor(float(match))) + 0.1 * (2 * match - 1) * distance) / 4
        scores.append(score)
    out = {"n_heads": heads, "words": words, "regions": regions, "lengths": lengths, "matched": matched, "parameters": p}
    return out | {"scores": torch.stack(scores), "loss": loss, "gradients": torch.autograd.grad(loss, leaves)}


# Fusion.

PRESENT = [[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]]
GROUPS = [0, 1, 2, 0, 3]


def fusion():
    dims, d_g, dim = [3, 4, 2], 5, 4
    n, n_views = len(PRESENT), len(dims)
    there = torch.tensor(PRESENT).double()
    x = [normal(n, d) * there[:, m : m + 1] for m, d in enumerate(dims)]
    gallery = normal(n, d_g)
    same = torch.tensor([[float(a == b) for b in GROUPS] for a in GROUPS])
    target = same / same.sum(1, keepdim=True)

    def gated(p):
        told = torch.cat([*x, there], 1)
        out = 0
        for m in range(n_views):
            w, b, z, c = *p[2 * m : 2 * m + 2], *p[2 * n_views + 2 * m : 2 * n_views + 2 * m + 2]
            out = out + there[:, m : m + 1] * torch.sigmoid(told @ z.T + c) * torch.tanh(x[m] @ w.T + b)
        return out

    def bilinear(p):
        product = torch.ones(n, p[0].shape[0])
        for m in range(n_views):
            product = product * torch.where(there[:, m : m + 1] > 0, x[m] @ p[2 * m].T + p[2 * m + 1], 1.0)
        z = product.reshape(n, dim, -1).sum(2)
        return z / (z.abs() + 1e-4).sqrt()

    def attention(p, heads=2):
        b, rows = p[2 * n_views :], []
        norm = lambda h, at: F.layer_norm(h, (dim,), b[at][0], b[at + 1][0], 1e-12)
        linear = lambda h, at: h @ b[at].T + b[at + 1]
        for i in range(n):
            t = torch.cat([x[m][i : i + 1] @ p[2 * m].T + p[2 * m + 1] for m in range(n_views) if PRESENT[i][m]])
            q, k, v = (linear(t, 2 * j).reshape(len(t), heads, -1).transpose(0, 1) for j in range(3))
            seen = ((q @ k.transpose(1, 2) / math.sqrt(dim // heads)).softmax(2) @ v).transpose(0, 1).reshape(len(t), dim)
            h = norm(t + linear(seen, 6), 8)
            rows.append(linear(norm(h + linear(F.gelu(linear(h, 10)), 12), 14).mean(0, keepdim=True), 16))
        return torch.cat(rows)

    def straight(width):
        return [y for d in dims for y in (0.5 * normal(width, d), 0.25 * normal(1, width))]

    def block():
        row = lambda k: 0.25 * normal(1, k)
        p = [y for _ in range(4) for y in (0.5 * normal(dim, dim), row(dim))] + [1 + row(dim), row(dim)]
        p += [0.5 * normal(7, dim), row(7), 0.5 * normal(dim, 7), row(dim), 1 + row(dim), row(dim)]
        return p + [0.5 * normal(dim, dim), row(dim)]

    told = sum(dims) + n_views
    gates = [y for _ in dims for y in (0.5 * normal(dim, told), 0.25 * normal(1, dim))]
    out = {"views": x, "present": PRESENT, "groups": GROUPS, "gallery": gallery, "kinds": []}
    for name, fuse, p in (
        ("gated", gated, straight(dim) + gates),
        ("bilinear", bilinear, straight(3 * dim)),
        ("attention", attention, straight(dim) + block()),
    ):
        p = p + [normal(dim, d_g), 0.25 * normal(1, dim), torch.tensor([[1.25]])]
        leaves = [y.clone().requires_grad_() for y in p]
        q, g = unit(fuse(leaves[:-3])), unit(gallery @ leaves[-3].T + leaves[-2])
        logits = leaves[-1].exp() * q @ g.T
        loss = -sum((target * side.log_softmax(1)).sum() / n for side in (logits, logits.T)) / 2
        gradients = torch.autograd.grad(loss, leaves)
        out["kinds"].append({"name": name, "parameters": p, "queries": q, "loss": loss, "gradients": gradients})
    return out


def lists(value):
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, dict):
        return {k: lists(v) for k, v in value.items()}
    return [lists(v) for v in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    write("parts", lists({"scan": scan(), "transport": transport(), "reranker": reranker(), "fusion": fusion()}))
