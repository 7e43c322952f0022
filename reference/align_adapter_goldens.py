"""Golden values of crates/chiasm-align/src/adapter.rs, from plain torch after the papers' equations.

Pinned: Python 3.11, torch 2.15, numpy 2.4.6; seed 41. Run from the repository root; writes testdata/goldens/align/adapter.json. All in f64.

`cached`            logits of `asked` by Tip-Adapter (Zhang et al. 2022, eq. 6), alpha 1, beta 5.5, CLIP's factor 100.
`loss`, `d1`, `d2`  cross-entropy of the shots through CLIP-Adapter's visual adapter (Gao et al. 2024, eq. 3-5), ratio .2, and its gradients by w1 and w2.
"""

import numpy as np
import torch
import torch.nn.functional as F

from align_shared import write

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(41)


def normal(*shape):
    return torch.tensor(np.round(rng.normal(size=shape) * 64) / 64)


C, D, H = 4, 8, 2
names, shots, asked = normal(C, D), normal(2 * C, D), normal(5, D)
classes = torch.arange(2 * C) % C
w, keys, f = (F.normalize(x, dim=1) for x in (names, shots, asked))
cached = (-5.5 * (1 - f @ keys.T)).exp() @ F.one_hot(classes, C).double() + 100 * f @ w.T

w1, w2 = (x.requires_grad_() for x in (normal(D, H), normal(H, D)))
adapted = 0.2 * torch.relu(torch.relu(keys @ w1) @ w2) + 0.8 * keys
loss = F.cross_entropy(100 * F.normalize(adapted, dim=1) @ w.T, classes)
d1, d2 = torch.autograd.grad(loss, [w1, w2])
out = {"names": names, "shots": shots, "asked": asked, "classes": classes, "cached": cached, "w1": w1, "w2": w2, "loss": loss, "d1": d1, "d2": d2}
write("adapter", {name: value.detach().numpy() for name, value in out.items()})
