"""Goldens of the generative bridges: closed forms of Gaussians, and whole losses with given noise and their gradients, by torch.

Pinned: Python 3.11, numpy 2.4.6, torch 2.15.0; seed 31. Run from the repository root:

    OMP_NUM_THREADS=1 python reference/align_generative_goldens.py

writes testdata/goldens/align/generative.json. All in f64. `y0`, `y1` [n, 2 k] are what the towers put out, means beside logarithms of
variances; `inputs` rows in the axes of their views, `scales` what they are divided by, `noise` standard normal numbers [n, k].

`gaussians`  KL from the prior and between the two by `torch.distributions.kl_divergence`; the 2-Wasserstein distance by the general formula
    |m0 - m1|^2 + tr(S0 + S1 - 2 (S1^1/2 S0 S1^1/2)^1/2) with matrix roots by `eigh`; the product of both experts and the prior from the sum
    of the three `log_prob`: variance by its second derivative, mean by one step of Newton. Means over rows but for the product.
`unpaired`  `translators`, the sum of LSGAN, cycle and identity terms of the translating networks (two, then judges of two views `relu`-leaky(x W1 + b1) W2 + b2), and `judge`, of rows
    and translated rows; `told`, the mean cross-entropy of a judge by `binary_cross_entropy_with_logits` with smoothed targets and its gradient by the mapped rows; `csls` by definition,
    10 neighbours, row by row; `drawn_in`, a step of orthogonalisation, as minus the gradient of 1/4 |W W' - I|^2.
`losses`  for each method its value, its gradients by y0 and y1 and by its own parameters: two decoders, z A + relu(z W1 + b1) W2 + b2, and for `jmvae`
    the joint encoder; as the heads of the Rust files say.
"""

import math

import numpy as np
import torch
from torch.distributions import Independent, Normal, kl_divergence

from align_shared import write

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(31)
N, K, H, WIDTHS, WEIGHT = 6, 3, 4, (5, 4), 7.0


def normal(*shape):
    return torch.tensor(np.round(rng.normal(size=shape) * 64) / 64)


y = [normal(N, 2 * K), normal(N, 2 * K)]
inputs, scales = [normal(N, w) * 4 for w in WIDTHS], [4.0, 2.0]
rows = [x / s for x, s in zip(inputs, scales)]
noise = [normal(N, K) for _ in range(6)]


def network(n_in, n_out):
    return [normal(n_in, n_out) / 2, normal(n_in, H), normal(1, H) / 4, normal(H, n_out) / 2, normal(1, n_out) / 4]


def through(p, x):
    return x @ p[0] + torch.relu(x @ p[1] + p[2]) @ p[3] + p[4]


def gaussian(out):
    return Independent(Normal(out[:, :K], (out[:, K:] / 2).exp()), 1)


prior = Independent(Normal(torch.zeros(N, K), torch.ones(N, K)), 1)
decoders = network(K, WIDTHS[0]) + network(K, WIDTHS[1])


def lost(own, v, z):
    return (rows[v] - through(own[5 * v : 5 * v + 5], z)).pow(2).sum(1) / WIDTHS[v]


def jmvae(a, b, *own, alpha=0.1):
    joint = gaussian(through(own[10:], torch.cat(rows, 1)))
    z = joint.base_dist.loc + joint.base_dist.scale * noise[0]
    total = WEIGHT * (lost(own, 0, z) + lost(own, 1, z)) + kl_divergence(joint, prior)
    total = total + alpha * (kl_divergence(joint, gaussian(a)) + kl_divergence(joint, gaussian(b)))
    return total.mean()


def expert(out):
    """The expert itself, of which `out` holds the mean of the product with the prior."""
    m, variance = out[:, :K], out[:, K:].exp()
    return m * (1 + variance), variance


def product(experts):
    precision = 1 + sum(1 / v for _, v in experts)
    return sum(m / v for m, v in experts) / precision, 1 / precision


def mvae(a, b, *own, beta=1.0, done=0.3):
    total = 0
    for views, e in (((0, 1), noise[0]), ((0,), noise[1]), ((1,), noise[2])):
        m, v = product([expert((a, b)[view]) for view in views])
        q = Independent(Normal(m, v.sqrt()), 1)
        z = m + v.sqrt() * e
        total = total + WEIGHT * sum(lost(own, view, z) for view in views) + beta * min(done / 0.5, 1) * kl_divergence(q, prior)
    return total.mean()


def mmvae(a, b, *own, samples):
    total = 0
    for v, out in enumerate((a, b)):
        weights = []
        for k in range(samples):
            z = out[:, :K] + (out[:, K:] / 2).exp() * noise[v * samples + k]
            mixture = torch.stack([gaussian(a).log_prob(z), gaussian(b).log_prob(z)]).logsumexp(0) - math.log(2)
            weights.append(prior.log_prob(z) - WEIGHT * (lost(own, 0, z) + lost(own, 1, z)) - mixture)
        total = total + torch.stack(weights).logsumexp(0) - math.log(samples)
    return -total.mean() / 2


def cada_vae(a, b, *own, released, beta=0.25, gamma=2.37, delta=8.13, done=0.3):
    rise = [min(max((done - f) / (t - f), 0), 1) for f, t in ((0, 0.93), (0.21, 0.75), (0.06, 0.22))]
    z = []
    for out, e in zip((a, b), noise):
        z.append(out[:, :K] + (out[:, K:].exp() * e[:, :1] if released else (out[:, K:] / 2).exp() * e))
    off = [[(rows[v] - through(own[5 * v : 5 * v + 5], z[u])).abs().sum(1) for u in (0, 1)] for v in (0, 1)]
    total = off[0][0] + off[1][1] + gamma * rise[1] * (off[0][1] + off[1][0])
    total = total + beta * rise[0] * (kl_divergence(gaussian(a), prior) + kl_divergence(gaussian(b), prior))
    apart = (a[:, :K] - b[:, :K]).pow(2).sum(1) + ((a[:, K:] / 2).exp() - (b[:, K:] / 2).exp()).pow(2).sum(1)
    return (total + delta * rise[2] * (apart + 1e-12).sqrt()).mean()


def graded(loss, own, **how):
    leaves = [t.clone().requires_grad_() for t in (*y, *own)]
    value = loss(*leaves, **how)
    grads = [g.numpy() for g in torch.autograd.grad(value, leaves, allow_unused=False)]
    return {"value": value.item(), "d0": grads[0], "d1": grads[1], "own": [t.numpy() for t in own], "d_own": grads[2:]}


def root(s):
    values, vectors = torch.linalg.eigh(s)
    return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T


def wasserstein():
    total = 0
    for p, q in zip(*y):
        s, t = p[K:].exp().diag(), q[K:].exp().diag()
        inner = root(root(t) @ s @ root(t))
        total += ((p[:K] - q[:K]).pow(2).sum() + (s + t - 2 * inner).trace()).clamp(min=0).sqrt()
    return total.item() / N


def brute_product():
    """Mean and log variance [n, 2 k] of the normalised product of the two experts and the prior."""
    experts = [Normal(m, v.sqrt()) for m, v in map(expert, y)]

    def log(z):
        return sum(e.log_prob(z) for e in experts) + Normal(0.0, 1.0).log_prob(z)

    z = torch.full((N, K), 0.5, requires_grad=True)
    (slope,) = torch.autograd.grad(log(z).sum(), z, create_graph=True)
    (curve,) = torch.autograd.grad(slope.sum(), z)
    return torch.cat([z.detach() - slope.detach() / curve, (-1 / curve).log()], 1)


def judged(p, x):
    return torch.nn.functional.leaky_relu(x @ p[0] + p[1], 0.2) @ p[2] + p[3]


def judge():
    return [normal(K, H), normal(1, H) / 4, normal(H, 1), normal(1, 1) / 4]


def translators(*p, cycle=10.0, identity=5.0):
    g, f, of_x, of_y, (u, v) = p[:5], p[5:10], p[10:14], p[14:18], clouds
    to_y, to_x = through(g, u), through(f, v)
    mse, l1 = torch.nn.functional.mse_loss, torch.nn.functional.l1_loss
    total = mse(judged(of_y, to_y), torch.ones(N, 1)) + mse(judged(of_x, to_x), torch.ones(N, 1))
    total = total + cycle * (l1(through(f, to_y), u) + l1(through(g, to_x), v))
    return total + identity * (l1(through(g, v), v) + l1(through(f, u), u))


def judge_loss(*p):
    u, v = clouds
    return (judged(p, u) - 1).pow(2).mean() / 2 + judged(p, v).pow(2).mean() / 2


def told(u, v, *p, smoothing=0.1):
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    return bce(judged(p, u), torch.full((N, 1), 1 - smoothing)) + bce(judged(p, v), torch.full((N, 1), smoothing))


def by(loss, leaves):
    leaves = [t.clone().requires_grad_() for t in leaves]
    value = loss(*leaves)
    return {"value": value.item(), "of": [t.detach().numpy() for t in leaves], "d": [g.numpy() for g in torch.autograd.grad(value, leaves)]}


def csls(u, v, k=10):
    out = torch.zeros(len(u), len(v))
    cosine = torch.nn.functional.cosine_similarity
    for i in range(len(u)):
        for j in range(len(v)):
            crowd = [cosine(u[i][None], v).topk(k).values.mean(), cosine(v[j][None], u).topk(k).values.mean()]
            out[i, j] = 2 * cosine(u[i], v[j], dim=0) - crowd[0] - crowd[1]
    return out


def drawn_in(w, beta=0.01):
    leaf = w.clone().requires_grad_()
    (slope,) = torch.autograd.grad((leaf @ leaf.T - torch.eye(K)).pow(2).sum() / 4, leaf)
    return w - beta * slope


clouds = [normal(N, K), normal(N, K)]
two = network(K, K) + network(K, K)
crowds, square = [normal(14, K), normal(12, K)], normal(K, K)
unpaired = {
    "clouds": [c.numpy() for c in clouds],
    "translators": by(translators, two + judge() + judge()),
    "judge": by(judge_loss, judge()),
    "told": by(told, [*clouds, *judge()]),
    "csls": {"of": [c.numpy() for c in crowds], "value": csls(*crowds).numpy()},
    "drawn_in": {"of": square.numpy(), "value": drawn_in(square).numpy()},
}

a, b = map(gaussian, y)
write(
    "generative",
    {
        "y0": y[0].numpy(),
        "y1": y[1].numpy(),
        "inputs": [x.numpy() for x in inputs],
        "scales": scales,
        "noise": [e.numpy() for e in noise],
        "weight": WEIGHT,
        "gaussians": {
            "kl_from_prior": [kl_divergence(q, prior).mean().item() for q in (a, b)],
            "kl": kl_divergence(a, b).mean().item(),
            "wasserstein": wasserstein(),
            "product": brute_product().numpy(),
        },
        "unpaired": unpaired,
        "losses": {
            "jmvae": graded(jmvae, decoders + network(sum(WIDTHS), 2 * K)),
            "mvae": graded(mvae, decoders),
            "mmvae": graded(mmvae, decoders, samples=3),
            "mmvae_elbo": graded(mmvae, decoders, samples=1),
            "cada-vae": graded(cada_vae, decoders, released=False),
            "cada-vae_released": graded(cada_vae, decoders, released=True),
        },
    },
)
