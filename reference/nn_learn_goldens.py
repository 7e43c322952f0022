"""Goldens of learning on the tape: optimisers, and 50 steps of two transformers, by torch.

Pinned: Python 3.11, numpy 2.4.6, torch 2.15.0; seed 5; all in f32. Run from the repository root:

    OMP_NUM_THREADS=1 python reference/nn_learn_goldens.py

writes testdata/goldens/nn/learn.json.

`optimisers`  parameters after 7 steps with given gradients and rates; weight decay .1 on the first parameter alone: `torch.optim.SGD(momentum=.9)`,
    `Adam`, `AdamW(betas=(.9, .98), eps=1e-6)`, and LAMB as algorithm 2 of You et al. (ICLR 2020) with Adam's bias correction, the ratio of
    lengths 1 for the parameter that does not decay.
`training`  a picture tower over patches and a text tower over words with causal attention: one pre-norm block, `torch.nn.MultiheadAttention` with 2 heads,
    mean over the sequence, a projection, unit length; symmetric InfoNCE with the exponential of a learned logarithm as temperature; AdamW
    with decay .1 on matrices, warm-up over 5 steps, cosine, gradients clipped to length 1: the loss before each step.
"""

import json
import math

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
rng = np.random.default_rng(5)


def normal(*shape, scale=1.0):
    return torch.tensor(np.round(rng.normal(size=shape) * 256) / 256 * scale, dtype=torch.float32)


def array(x, **more):
    x = x.detach()
    x = x.reshape(1, -1) if x.dim() < 2 else x
    return {"shape": list(x.shape), "data": [float(v) for v in x.flatten()], **more}


# Optimisers.
starts = [normal(3, 4), normal(1, 4)]
gradients = [[normal(3, 4), normal(1, 4)] for _ in range(7)]
rates = [0.01 * (i + 1) / 3 if i < 3 else 0.02 / (i + 1) for i in range(7)]
DECAY = 0.1


def by_torch(make):
    parameters = [torch.nn.Parameter(x.clone()) for x in starts]
    optimiser = make([{"params": [parameters[0]], "weight_decay": DECAY}, {"params": [parameters[1]], "weight_decay": 0.0}])
    for step, rate in zip(gradients, rates):
        for group in optimiser.param_groups:
            group["lr"] = rate
        for parameter, gradient in zip(parameters, step):
            parameter.grad = gradient.clone()
        optimiser.step()
    return [array(p) for p in parameters]


def lamb():
    out = []
    for which, start in enumerate(starts):
        w, m, v = start.double(), 0.0, 0.0
        decay = DECAY if which == 0 else 0.0
        for t, (step, rate) in enumerate(zip(gradients, rates), start=1):
            g = step[which].double()
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            u = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-6) + decay * w
            ratio = float(w.norm() / u.norm()) if which == 0 else 1.0
            w = w - rate * ratio * u
        out.append(array(w))
    return out


optimisers = {
    "parameters": [array(x) for x in starts],
    "gradients": [[array(g) for g in step] for step in gradients],
    "rates": rates,
    "sgd": by_torch(lambda groups: torch.optim.SGD(groups, lr=1.0, momentum=0.9)),
    "adam": by_torch(lambda groups: torch.optim.Adam(groups, lr=1.0)),
    "adamw": by_torch(lambda groups: torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.98), eps=1e-6)),
    "lamb": lamb(),
}

# Training.
DIM, WIDE, OUT, N, PATCHES, WORDS = 8, 16, 6, 10, 5, 12
lengths = [[PATCHES] * N, [int(x) for x in rng.integers(2, 6, size=N)]]
pictures = normal(N * PATCHES, DIM)
words = [int(x) for x in rng.integers(0, WORDS, size=sum(lengths[1]))]


def tower(of):
    sizes = [("norm_1.weight", None), ("norm_1.bias", None)]
    for part in "qkv":
        sizes += [(f"{part}.weight", (DIM, DIM)), (f"{part}.bias", (DIM,))]
    sizes += [("out.weight", (DIM, DIM)), ("out.bias", (DIM,)), ("norm_2.weight", None), ("norm_2.bias", None)]
    sizes += [("widen.weight", (WIDE, DIM)), ("widen.bias", (WIDE,)), ("narrow.weight", (DIM, WIDE)), ("narrow.bias", (DIM,))]
    sizes += [("project.weight", (OUT, DIM))]
    named = []
    for name, size in sizes:
        if size is None:
            value = torch.ones(DIM) if name.endswith("weight") else torch.zeros(DIM)
        elif len(size) == 1:
            value = torch.zeros(size)
        else:
            value = normal(*size, scale=0.25)
        named.append((f"{of}.{name}", value))
    return named


named = tower("picture") + tower("text") + [("words", normal(WORDS, DIM)), ("log_scale", torch.tensor([[math.log(10.0)]]))]
start = [array(value, name=name, decays=value.dim() == 2 and "log_scale" not in name) for name, value in named]
parameters = {name: torch.nn.Parameter(value.clone()) for name, value in named}


def forward(of, x, lengths, causal):
    p = {name.removeprefix(of + "."): value for name, value in parameters.items() if name.startswith(of + ".")}
    embedded, first = [], 0
    for n in lengths:
        s = x[first : first + n]
        first += n
        h = F.layer_norm(s, (DIM,), p["norm_1.weight"], p["norm_1.bias"], 1e-5)
        mask = torch.triu(torch.ones(n, n, dtype=torch.bool), 1) if causal else None
        attended, _ = F.multi_head_attention_forward(
            h[:, None], h[:, None], h[:, None], DIM, 2,
            torch.cat([p["q.weight"], p["k.weight"], p["v.weight"]]), torch.cat([p["q.bias"], p["k.bias"], p["v.bias"]]),
            None, None, False, 0.0, p["out.weight"], p["out.bias"], attn_mask=mask, need_weights=False,
        )
        s = s + attended[:, 0]
        h = F.layer_norm(s, (DIM,), p["norm_2.weight"], p["norm_2.bias"], 1e-5)
        s = s + F.linear(F.gelu(F.linear(h, p["widen.weight"], p["widen.bias"])), p["narrow.weight"], p["narrow.bias"])
        embedded.append(F.linear(s.mean(0), p["project.weight"]))
    return F.normalize(torch.stack(embedded), dim=1)


decays = {s["name"]: s["decays"] for s in start}
optimiser = torch.optim.AdamW(
    [
        {"params": [parameters[n] for n in parameters if decays[n]], "weight_decay": DECAY},
        {"params": [parameters[n] for n in parameters if not decays[n]], "weight_decay": 0.0},
    ],
    lr=1.0, betas=(0.9, 0.98), eps=1e-6,
)
losses = []
for step in range(50):
    rate = 1e-2 * ((step + 1) / 5 if step < 5 else 0.5 * (1 + math.cos(math.pi * (step - 5) / 45)))
    for group in optimiser.param_groups:
        group["lr"] = rate
    u = forward("picture", pictures, lengths[0], False)
    v = forward("text", parameters["words"][words], lengths[1], True)
    scores = u @ v.T * parameters["log_scale"].exp()
    right = torch.arange(N)
    loss = (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2
    losses.append(float(loss))
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
    optimiser.step()

training = {"parameters": start, "inputs": [array(pictures)], "words": words, "lengths": lengths, "losses": losses}
with open("testdata/goldens/nn/learn.json", "w") as file:
    json.dump({"optimisers": optimisers, "training": training}, file, separators=(",", ":"))
    file.write("\n")
print(losses[0], losses[-1])
