"""Goldens of the learned bridges: losses and gradients of each objective, AdamW, and 50 steps of training, by torch.

Pinned: Python 3.11, numpy 2.4.6, torch 2.15.0, transformers 5.23.0; seed 21. Run from the repository root:

    OMP_NUM_THREADS=1 python reference/align_deep_goldens.py

writes testdata/goldens/align/deep.json. All in f64. `y0`, `y1` [n, k] are outputs of the towers, rows of every third pair share a group and
`sets` are classes. `losses` holds for each objective its value, its gradients by y0 and y1 and by parameters of its own where it has some:

`infonce`, `infonce_smooth`, `unicl`  mean of the cross entropies of e^t U V' along rows and columns, targets spread over the right answers; of a batch
    without repeated groups asserted equal to `transformers`' CLIP loss, and with smoothing .1 to torch's `cross_entropy(label_smoothing=.1)`.
`siglip`  -1/n sum log sigma(z (e^t U V' + b)).
`vse`, `vse_hardest`, `triplet`  hinges of margin .2, all, the greatest, the greatest of those below the right answer; means over the batch.
`dcca`  minus the sum of singular values of T = S11^-1/2 S12 S22^-1/2 by `torch.linalg.svdvals`, roots by `eigh`.
`dscmr`, `dcmh`, `djsrh`, `npair`, `dccae`, `acmr`  as the heads of their Rust files say; the value of `acmr` is E - l A.

`adamw`  parameters after 7 steps of `torch.optim.AdamW(betas=(.9, .98), eps=1e-8, weight_decay=.1)` with given gradients and a given rate
    for each step; one parameter decays, one does not.
`descent`  two towers x A + relu(x W1 + b1) W2 + b2 from given weights, 50 steps of InfoNCE over the same batch with AdamW (rate 1e-3, decay .1 on W1
    and W2, warm-up and cosine over 50 steps, gradients clipped to length 2): the loss before each step.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.clip.modeling_clip import image_text_contrastive_loss

from align_shared import write

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(21)
N, K, C = 12, 5, 4


def normal(*shape):
    return torch.tensor(np.round(rng.normal(size=shape) * 64) / 64)


def unit(y):
    return y / y.norm(dim=1, keepdim=True)


groups = [i if i % 3 else 100 for i in range(N)]
sets = [sorted({int(a), int(b)}) for a, b in zip(rng.integers(0, C, N), rng.integers(0, C, N))]
hot = torch.zeros(N, C)
for i, s in enumerate(sets):
    hot[i, s] = 1
by_group = torch.tensor([[float(a == b) for b in groups] for a in groups])
by_class = (hot @ hot.T > 0).double()
alone = torch.eye(N)
y = [normal(N, K), normal(N, K)]
inputs = [normal(N, 7), normal(N, 6)]


def infonce(related, smoothing):
    def loss(a, b, t):
        logits = t.exp() * unit(a) @ unit(b).T
        total = 0
        for l, r in ((logits, related), (logits.T, related.T)):
            target = (1 - smoothing) * r / r.sum(1, keepdim=True) + smoothing / len(r)
            total = total - (target * l.log_softmax(1)).sum() / len(r)
        return total / 2

    return loss


def siglip(related):
    def loss(a, b, own):
        logits = own[0, 0].exp() * unit(a) @ unit(b).T + own[0, 1]
        return F.softplus(-(2 * related - 1) * logits).sum() / len(related)

    return loss


def triplet(related, kind):
    def loss(a, b):
        s = unit(a) @ unit(b).T
        total = 0
        for m, r in ((s, related), (s.T, related.T)):
            right = m.diag()[:, None]
            hinge = (0.2 - right + m).clamp(min=0) * (1 - r)
            if kind == "semi":
                hinge = hinge * (m < right)
            total = total + (hinge if kind == "all" else hinge.max(1).values).sum() / len(r)
        return total

    return loss


def dcca(a, b, r=1e-3):
    def root(h):
        values, vectors = torch.linalg.eigh(h.T @ h / (len(h) - 1) + r * torch.eye(h.shape[1]))
        return vectors @ (values**-0.5).diag() @ vectors.T

    a, b = a - a.mean(0), b - b.mean(0)
    return -torch.linalg.svdvals(root(a) @ (a.T @ b / (len(a) - 1)) @ root(b)).sum()


def dscmr(a, b, p, alpha=1.0, beta=0.1):
    total = (a @ p - hot).norm(dim=1).mean() + (b @ p - hot).norm(dim=1).mean()
    for x, z in ((a, a), (a, b), (b, b)):
        o = unit(x) @ unit(z).T / 2
        total = total + alpha * (F.softplus(o) - by_class * o).mean()
    return total + beta * (a - b).norm(dim=1).mean()


def dcmh(a, b, gamma=0.1, eta=0.1):
    o = a @ b.T / 2 / math.sqrt(K)
    codes = torch.where(a + b >= 0, 1.0, -1.0).detach()
    total = (F.softplus(o) - by_class * o).mean()
    total = total + gamma / N / K * ((codes - a).pow(2).sum() + (codes - b).pow(2).sum())
    return total + eta / K * (a.mean(0).pow(2).sum() + b.mean(0).pow(2).sum())


def djsrh(a, b, beta=0.5, eta=0.4, mu=1.5, lam=0.1, done=0.3):
    both = beta * unit(inputs[0]) @ unit(inputs[0]).T + (1 - beta) * unit(inputs[1]) @ unit(inputs[1]).T
    wanted = mu * ((1 - eta) * both + eta * both @ both.T / N)
    a, b = (unit(torch.tanh((1 + 9 * done) * z)) for z in (a, b))
    parts = (1.0, a @ b.T), (lam, a @ a.T), (lam, b @ b.T)
    return sum(w * (s - wanted).pow(2).mean() for w, s in parts)


def npair(a, b, lengths=0.02):
    s = a @ b.T
    total = 0
    for m, r in ((s, by_group), (s.T, by_group.T)):
        away = (m - m.diag()[:, None]).masked_fill(r > 0, -math.inf)
        total = total + torch.cat([torch.zeros(N, 1), away], 1).logsumexp(1).mean() / 2
    return total + lengths / 4 * (a.pow(2).sum(1).mean() + b.pow(2).sum(1).mean())


def dccae(a, b, *own, weight=1.0):
    total = dcca(a, b)
    for x, z, w, shift in ((inputs[0], a, *own[:2]), (inputs[1], b, *own[2:])):
        total = total + weight * (x - z @ w - shift).pow(2).sum() / x.pow(2).sum()
    return total


class Reversal(torch.autograd.Function):
    """Nothing forwards, gradients times -factor backwards (Ganin and Lempitsky)."""

    @staticmethod
    def forward(context, x, factor):
        context.factor = factor
        return x.clone()

    @staticmethod
    def backward(context, d):
        return -context.factor * d, None


def acmr(a, b, p, w1, b1, w2, b2, margin=0.4, alpha=1.0, adversary=0.1, done=0.3):
    reversal = adversary * (2 / (1 + math.exp(-10 * done)) - 1)
    target = hot / hot.sum(1, keepdim=True)
    value = -sum((target * (z @ p).log_softmax(1)).sum(1).mean() for z in (a, b))
    u, v = unit(a), unit(b)
    for x, anchor, answer in ((inputs[0], u, v), (inputs[1], v, u)):
        alike = (unit(x) @ unit(x).T).masked_fill(by_class > 0, -math.inf)
        for i in range(N):
            if torch.isfinite(alike[i].max()):
                k = alike[i].argmax()
                hinge = margin + (anchor[i] - answer[i]).pow(2).sum() - (anchor[i] - answer[k]).pow(2).sum()
                value = value + alpha / N * hinge.clamp(min=0)

    def judge(z):
        return torch.relu(z @ w1 + b1) @ w2 + b2

    told = (F.softplus(-judge(Reversal.apply(u, reversal))).mean() + F.softplus(judge(Reversal.apply(v, reversal))).mean()) / 2
    # The gradients are those of the sum with the reversal in it; the value is that of the saddle.
    return value + told, (value - reversal * told).item()


def graded(loss, *own):
    leaves = [t.clone().requires_grad_() for t in (*y, *own)]
    value = loss(*leaves)
    value, told = value if isinstance(value, tuple) else (value, value.item())
    grads = torch.autograd.grad(value, leaves)
    return {
        "value": told,
        "d0": grads[0].numpy(),
        "d1": grads[1].numpy(),
        "own": [t.numpy() for t in own],
        "d_own": [g.numpy() for g in grads[2:]],
    }


t = torch.tensor([[math.log(1 / 0.07)]])
logits = t.exp()[0, 0] * unit(y[0]) @ unit(y[1]).T
assert abs(infonce(alone, 0)(*y, t).item() - image_text_contrastive_loss(logits).item()) < 1e-12
places = torch.arange(N)
smoothed = (F.cross_entropy(logits, places, label_smoothing=0.1) + F.cross_entropy(logits.T, places, label_smoothing=0.1)) / 2
assert abs(infonce(alone, 0.1)(*y, t).item() - smoothed.item()) < 1e-12

losses = {
    "infonce": graded(infonce(by_group, 0.0), t),
    "infonce_smooth": graded(infonce(by_group, 0.1), t),
    "unicl": graded(infonce(by_class, 0.0), t),
    "siglip": graded(siglip(by_group), torch.tensor([[math.log(10.0), -10.0]])),
    "vse": graded(triplet(by_group, "all")),
    "vse_hardest": graded(triplet(by_group, "hardest")),
    "triplet": graded(triplet(by_group, "semi")),
    "dcca": graded(dcca),
    "dscmr": graded(dscmr, normal(K, C) / 4),
    "dcmh": graded(dcmh),
    "djsrh": graded(djsrh),
}

start, rates = [normal(3, 2), normal(1, 2)], [0.01 * (i + 1) for i in range(7)]
steps = [[normal(3, 2), normal(1, 2)] for _ in rates]
parameters = [p.clone().requires_grad_() for p in start]
optimiser = torch.optim.AdamW(
    [{"params": parameters[:1], "weight_decay": 0.1}, {"params": parameters[1:], "weight_decay": 0.0}], betas=(0.9, 0.98), eps=1e-8
)
for rate, gradients in zip(rates, steps):
    for group in optimiser.param_groups:
        group["lr"] = rate
    for p, g in zip(parameters, gradients):
        p.grad = g.clone()
    optimiser.step()
adamw = {
    "start": [p.numpy() for p in start],
    "rates": rates,
    "gradients": [[g.numpy() for g in gs] for gs in steps],
    "end": [p.detach().numpy() for p in parameters],
}

H, STEPS, RATE = 6, 50, 1e-3
towers = [[normal(x.shape[1], K) / 4, normal(x.shape[1], H) / 2, normal(1, H) / 4, normal(H, K) / 4, normal(1, K) / 4] for x in inputs]
leaves = [p.clone().requires_grad_() for tower in towers for p in tower] + [t.clone().requires_grad_()]
kept = [p for at, p in enumerate(leaves) if at % 5 in (1, 3) and at < 10]
free = [p for at, p in enumerate(leaves) if not (at % 5 in (1, 3) and at < 10)]
optimiser = torch.optim.AdamW([{"params": kept, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}], betas=(0.9, 0.98), eps=1e-8)
curve = []
for step in range(STEPS):
    warm = math.ceil(STEPS * 0.05)
    done = min((step - warm) / max(STEPS - warm, 1), 1)
    rate = RATE * (step + 1) / warm if step < warm else RATE * 0.5 * (1 + math.cos(math.pi * done))
    for group in optimiser.param_groups:
        group["lr"] = rate
    out = []
    for v, x in enumerate(inputs):
        a, w1, b1, w2, b2 = leaves[5 * v : 5 * v + 5]
        out.append(x @ a + torch.relu(x @ w1 + b1) @ w2 + b2)
    loss = infonce(alone, 0.0)(*out, leaves[10])
    curve.append(loss.item())
    optimiser.zero_grad()
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in leaves]).norm()
    for p in leaves:
        p.grad *= min(1.0, 2.0 / norm.item())
    optimiser.step()
assert curve[-1] < 0.8 * curve[0], curve
descent = {"towers": [[p.numpy() for p in tower] for tower in towers], "losses": curve}

losses |= {
    "npair": graded(npair),
    "dccae": graded(dccae, *(normal(*s) / 4 for s in ((K, 7), (1, 7), (K, 6), (1, 6)))),
    "acmr": graded(acmr, normal(K, C) / 4, normal(K, 8), normal(1, 8) / 4, normal(8, 1), normal(1, 1) / 4),
}

write(
    "deep",
    {
        "y0": y[0].numpy(),
        "y1": y[1].numpy(),
        "inputs": [x.numpy() for x in inputs],
        "groups": groups,
        "sets": sets,
        "losses": losses,
        "adamw": adamw,
        "descent": descent,
    },
)
