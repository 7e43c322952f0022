"""Goldens of the learned bridges that look beyond a batch, and of those beside them: losses and gradients, by torch.

Pinned: Python 3.11, numpy 2.4.6, torch 2.15.0; seed 22. Run from the repository root:

    OMP_NUM_THREADS=1 python reference/align_deep_memory_goldens.py

writes testdata/goldens/align/deep_memory.json. All in f64. `y0`, `y1` [n, k] are outputs of the towers, `sets` the classes of rows, some of none. `losses` holds for each
objective its value, its gradients by y0 and y1 and by parameters of its own where it has some, of a first step in which every row is its own group:

`dgcca`  minus the sum of the k greatest eigenvalues of sum_v H_v S_v^-1 H_v'/(n-1), by `torch.linalg.eigvalsh` of that [n, n] matrix; `dgcca_3` the same of
    three views of different widths.
`ssah`, `logit_adjusted`  as the heads of their Rust files say; the plain loss without weights is asserted equal to torch's `cross_entropy`.
`ucch`, `ddh`  the first step as the heads say.

`steps` holds second steps, after a first one with `y0`, `y1`: of outputs `steps.y0`, `steps.y1` of the same rows (in the second epoch), the value and gradients of `brivl`
(keys are the outputs of the step, queues hold those of the first), `ucch` (codes are of the remembered means, all rows are drawn) and `ddh` (codes bit by bit from those
before).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from align_shared import write

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(22)
N, K, C = 12, 5, 4


def normal(*shape):
    return torch.tensor(np.round(rng.normal(size=shape) * 64) / 64)


def unit(y):
    return y / y.norm(dim=1, keepdim=True)


def signs(x):
    return torch.where(x >= 0, 1.0, -1.0).detach()


sets = [sorted({int(a), int(b)}) for a, b in zip(rng.integers(0, C, N), rng.integers(0, C, N))]
sets[4] = sets[9] = []
hot = torch.zeros(N, C)
for i, s in enumerate(sets):
    hot[i, s] = 1
has = hot.sum(1) > 0
by_class = ((hot @ hot.T > 0) | torch.eye(N).bool()).double()
by_class[~has] = torch.eye(N)[~has]
y = [normal(N, K), normal(N, K)]
later = [normal(N, K), normal(N, K)]
inputs = [normal(N, 3), normal(N, 2)]


def graded(loss, outputs, *own):
    leaves = [t.clone().requires_grad_() for t in (*outputs, *own)]
    value = loss(*leaves)
    grads = torch.autograd.grad(value, leaves)
    return {
        "value": value.item(),
        "d0": grads[0].numpy(),
        "d1": grads[1].numpy(),
        "own": [t.numpy() for t in own],
        "d_own": [g.numpy() for g in grads[2:]],
    }


def dgcca(*views, r=1e-3):
    k = min(v.shape[1] for v in views)
    total = 0
    for v in views:
        h = v - v.mean(0)
        s = h.T @ h / (len(h) - 1) + r * torch.eye(h.shape[1])
        total = total + h @ torch.linalg.solve(s, h.T) / (len(h) - 1)
    return -torch.linalg.eigvalsh(total)[-k:].sum()


def ssah(a, b, *own, alpha=1.0, gamma=1.0, eta=0.1, beta=0.1, adversary=0.3):
    w1, b1, w2, b2, p, c = own[:6]
    t, s = hot[has], by_class[has][:, has]

    def alike(x, z):
        o = x @ z.T / 2 / math.sqrt(K)
        return (F.softplus(o) - s * o).mean()

    def judge(z, layer):
        v1, d1, v2, d2 = layer
        return torch.relu(z / math.sqrt(K) @ v1 + d1) @ v2 + d2

    label = torch.relu(t @ w1 + b1) @ w2 + b2
    features = [label, a[has], b[has]]
    codes = [f.tanh() for f in features]
    wanted = signs(sum(codes))
    total = 0
    for at, (f, h) in enumerate(zip(features, codes)):
        fl, hl = (features[0], codes[0]) if at == 0 else (features[0].detach(), codes[0].detach())
        total = total + alpha * alike(fl, f) + gamma * alike(hl, h)
        total = total + eta * (h - wanted).pow(2).mean() + beta * (h @ p + c - t).pow(2).mean()
    for at in (0, 1):
        layer, f = own[6 + 4 * at : 10 + 4 * at], features[1 + at]
        # Nothing forwards, gradients times -adversary backwards.
        turned = f.detach() * (1 + adversary) - adversary * f
        total = total + (F.softplus(-judge(label.detach(), layer)).mean() + F.softplus(judge(turned, layer)).mean()) / 2
    return total


def logit_adjusted(a, b, p, s, tau=0.7, beta=0.9):
    counts = hot.sum(0).clamp(min=1)
    prior = tau * (counts / counts.sum()).log()
    weight = (1 - beta) / (1 - beta**counts)
    target = weight * hot / hot.sum(1, keepdim=True).clamp(min=1)
    total = 0
    for z in (a, b):
        logits = s.exp() * unit(z) @ p.T + prior
        total = total - (target * logits.log_softmax(1)).sum() / target.sum()
    return total


one = torch.tensor([s[0] if s else 0 for s in sets])
p, s = normal(C, K), torch.tensor([[math.log(16.0)]])
several, hot = hot, F.one_hot(one, C).double()
counts = hot.sum(0).clamp(min=1)
plain = sum(F.cross_entropy(16 * unit(z) @ p.T, one) for z in y)
assert abs(logit_adjusted(*y, p, s, 0.0, 0.0).item() - plain.item()) < 1e-12
balanced = sum(F.cross_entropy(16 * unit(z) @ p.T, one, weight=0.1 / (1 - 0.9**counts)) for z in y)
assert abs(logit_adjusted(*y, p, s, 0.0, 0.9).item() - balanced.item()) < 1e-12
hot = several


def contrast(q, right, wrong, temperature):
    """Row i of q against right_i and against all rows of `wrong` but i."""
    own = (q * right).sum(1, keepdim=True)
    others = (q @ wrong.T).masked_fill(torch.eye(len(q)).bool(), -math.inf)
    return -(torch.cat([own, others], 1) / temperature).log_softmax(1)[:, 0].mean()


def brivl(a, b):
    u, v = unit(a), unit(b)
    queue = [unit(z) for z in y]
    return contrast(u, v.detach(), queue[1], 0.07) + contrast(v, u.detach(), queue[0], 0.07)


def ucch(codes, alpha=0.7, temperature=0.9, margin=0.2, shift=0.1):
    def loss(a, b):
        h = [unit(z.tanh()) for z in (a, b)]
        c = codes(h) / math.sqrt(K)
        total = alpha * sum(contrast(z, c, c, temperature) for z in h)
        s = h[0] @ h[1].T
        for m in (s, s.T):
            own = m.diag()[:, None]
            shifted = torch.where(m >= own - margin, m, m - shift)
            total = total + (1 - alpha) * (shifted.logsumexp(1) - m.diag() + margin).mean()
        return total

    return loss


def remembered(outputs):
    return unit(sum(unit(z.tanh()) for z in outputs) / 2)


def ddh(codes, gamma=0.1, eta=0.1):
    def loss(a, b):
        known = by_class.bool() | (has[:, None] & has[None, :])
        o = a @ b.T / 2 / math.sqrt(K)
        total = (F.softplus(o) - by_class * o)[known].mean()
        total = total + gamma / N / K * ((codes - a).pow(2).sum() + (codes - b).pow(2).sum())
        return total + eta / K * (a.mean(0).pow(2).sum() + b.mean(0).pow(2).sum())

    return loss


def found(outputs, before, nu=0.1, lam=1.0):
    """Codes of each row that has classes, bit by bit; for the others the means of their outputs."""
    total = sum(outputs)
    codes = signs(total)
    codes[~has] = total[~has] / 2
    if before is None:
        return codes
    b, t = before[has], hot[has]
    w = torch.linalg.solve(b.T @ b + lam * torch.eye(K), b.T @ t)

    def cost(row, code):
        fit = (hot[row] - code @ w).pow(2).sum()
        return fit + nu / K * sum((code - z[row]).pow(2).sum() for z in outputs)

    for row in torch.arange(N)[has]:
        code = before[row].clone()
        for _ in range(5):
            for k in range(K):
                tried = [code.clone(), code.clone()]
                tried[0][k], tried[1][k] = 1, -1
                costs = [cost(row, c).item() for c in tried]
                assert abs(costs[0] - costs[1]) > 1e-9
                code = tried[int(costs[1] < costs[0])]
        codes[row] = code
    return codes


first = found(y, None)
second = found(later, first)
assert (second != signs(sum(later)))[has].any(), "classes must have turned a bit"
bank = remembered(y)
three = [normal(N, 4), normal(N, 5), normal(N, 3)]
leaves = [t.clone().requires_grad_() for t in three]
value = dgcca(*leaves)
dgcca_3 = {"y": [t.numpy() for t in three], "value": value.item(), "d": [g.numpy() for g in torch.autograd.grad(value, leaves)]}
shapes = [(C, 6), (1, 6), (6, K), (1, K), (K, C), (1, C)] + 2 * [(K, 6), (1, 6), (6, 1), (1, 1)]

write(
    "deep_memory",
    {
        "y0": y[0].numpy(),
        "y1": y[1].numpy(),
        "inputs": [x.numpy() for x in inputs],
        "groups": list(range(N)),
        "sets": sets,
        "losses": {
            "dgcca": graded(dgcca, y),
            "ssah": graded(ssah, y, *(normal(*shape) / 2 for shape in shapes)),
            "logit_adjusted": graded(logit_adjusted, y, p, s),
            "ucch": graded(ucch(lambda h: signs(h[0] + h[1])), y),
            "ddh": graded(ddh(first), y),
        },
        "dgcca_3": dgcca_3,
        "steps": {
            "y0": later[0].numpy(),
            "y1": later[1].numpy(),
            "losses": {
                "brivl": graded(brivl, later),
                "ucch": graded(ucch(lambda h: signs(bank)), later),
                "ddh": graded(ddh(second), later),
            },
        },
    },
)
