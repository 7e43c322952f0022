"""Golden values of what is learned along edges (crates/chiasm-align/src/graphs), from dense torch.

Pinned: Python 3.11, torch 2.15, numpy 2.4.6; seed 31. Run from the repository root; writes testdata/goldens/align/graphs.json. All in f64; every graph is a dense matrix here, and gradients are torch's.
`loss` is the sum of what comes out times the fixed numbers `by`, or as said. `d` are the gradients of the loss by `in`, in order.

`product`    y = A x for A [5, 7] with empty rows and columns, in = [x].
`gcn`        H' = relu(G H W1), H'' = G H' W2 with G = D^-1/2 (A + I) D^-1/2 (Kipf and Welling 2017, eq. 2), in = [H, W1, W2]; asserted equal to the sums
             over neighbours of its eq. 8 written out node by node.
`graphsage`  h' = u(relu([h, mean h] W1 + b1)), h'' = u([h', mean h'] W2 + b2) (Hamilton et al. 2017, algorithm 1), one node without neighbours, in = [h,
             W1, b1, W2, b2].
`lightgcn`   E = 1/4 sum_k (D^-1/2 A D^-1/2)^k E0 of a bipartite graph (He et al. 2020, eq. 3, 4), in = [E0]; loss = mean over triples of
             softplus(e_u . e_j - e_u . e_i) + .01 / triples * |E0 of the nodes of the triples|^2, each node once.
`label_gcn`  the loss of crates/chiasm-align/src/deep/label_gcn.rs by outputs y0, y1 and Z, W0, W1, b, with tau .4, p .2, alpha 1, beta .1, and the graph of `sets` (Chen et
             al. 2019, eq. 6-8), counted loop by loop.
"""

import numpy as np
import torch
import torch.nn.functional as F

from align_shared import write

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(31)


def normal(*shape):
    return torch.tensor(np.round(rng.normal(size=shape) * 64) / 64)


def entries(a):
    return [[int(i), int(j), a[i, j].item()] for i, j in a.nonzero().tolist()]


def graded(value, leaves):
    return {"loss": value.item(), "in": [x.detach().numpy() for x in leaves], "d": [g.numpy() for g in torch.autograd.grad(value, leaves)]}


def leaves(*values):
    return [v.clone().requires_grad_() for v in values]


a = torch.tensor(np.round(rng.uniform(0.2, 2, size=(5, 7)) * 64) / 64) * torch.tensor(rng.random((5, 7)) < 0.4)
a[3], a[:, 2] = 0, 0
x, by = leaves(normal(7, 3))[0], normal(5, 3)
y = a @ x
product = {"entries": entries(a), "y": y.detach().numpy(), "by": by.numpy()} | graded((by * y).sum(), [x])

N = 8
drawn = torch.tensor(np.round(rng.uniform(0.2, 2, size=(N, N)) * 64) / 64) * torch.tensor(rng.random((N, N)) < 0.45)
a = torch.triu(drawn, 1)
a[range(N - 2), range(1, N - 1)] = 0.5
a[:, N - 1] = 0
a = a + a.T
assert (a.sum(1)[: N - 1] > 0).all()
tilde = a + torch.eye(N)
root = tilde.sum(1) ** -0.5
g = root[:, None] * tilde * root[None, :]
inputs = leaves(normal(N, 5), normal(5, 4) / 2, normal(4, 3) / 2)
h, w1, w2 = inputs
out = g @ torch.relu(g @ h @ w1) @ w2
first = torch.stack([sum(tilde[i, j] / (tilde[i].sum() * tilde[j].sum()).sqrt() * (h[j] @ w1) for j in range(N)) for i in range(N)])
assert (torch.relu(first) - torch.relu(g @ h @ w1)).abs().max() < 1e-12
by = normal(N, 3)
gcn = {"entries": entries(a), "y": out.detach().numpy(), "by": by.numpy()} | graded((by * out).sum(), inputs)

mean = a / a.sum(1, keepdim=True).clamp(min=1e-300)
inputs = leaves(normal(N, 5), normal(10, 4) / 2, normal(1, 4) / 4, normal(8, 3) / 2, normal(1, 3) / 4)
h, w1, b1, w2, b2 = inputs
h = F.normalize(torch.relu(torch.cat([h, mean @ h], 1) @ w1 + b1), dim=1)
out = F.normalize(torch.cat([h, mean @ h], 1) @ w2 + b2, dim=1)
graphsage = {"entries": entries(a), "y": out.detach().numpy(), "by": by.numpy()} | graded((by * out).sum(), inputs)

items, tags = 6, 5
r = torch.tensor((rng.random((items, tags)) < 0.4).astype(float))
r[range(items), [i % tags for i in range(items)]] = 1
a = torch.zeros(items + tags, items + tags)
a[:items, items:], a[items:, :items] = r, r.T
root = a.sum(1) ** -0.5
g = root[:, None] * a * root[None, :]
e0 = leaves(normal(items + tags, 4))[0]
e = sum(torch.matrix_power(g, k) @ e0 for k in range(4)) / 4
triples = [[0, items + 0, items + 3], [2, items + 2, items + 4], [5, items + 0, items + 1], [0, items + 0, items + 2]]
u, i, j = (e[[t[k] for t in triples]] for k in range(3))
seen = sorted({node for t in triples for node in t})
loss = F.softplus((u * j).sum(1) - (u * i).sum(1)).mean() + 0.01 / len(triples) * e0[seen].pow(2).sum()
lightgcn = {"entries": entries(r), "shape": [items, tags], "y": e.detach().numpy(), "triples": triples, "seen": seen} | graded(loss, [e0])

ROWS, C, K = 12, 5, 4
sets = [sorted({int(x) for x in rng.integers(0, C - 1, 1 + i % 3)}) for i in range(ROWS)]
sets[4] = sorted({*sets[4], C - 1})
hot = torch.zeros(ROWS, C)
for row, classes in enumerate(sets):
    hot[row, classes] = 1
graph = torch.zeros(C, C)
for c in range(C):
    near = [d for d in range(C) if d != c and sum(c in s and d in s for s in sets) / sum(c in s for s in sets) >= 0.4]
    for d in near:
        graph[c, d] = 0.2 / len(near)
    graph[c, c] = 0.8 if near else 1
assert 2 < (graph > 0).sum() - C < C * (C - 1), graph
inputs = leaves(normal(ROWS, K), normal(ROWS, K), normal(C, 6), normal(6, 5) / 2, normal(5, K) / 2, normal(1, C))
y0, y1, z, w0, w1, bias = inputs
classifiers = graph @ F.leaky_relu(graph @ z @ w0, 0.2) @ w1
loss = C * sum(F.binary_cross_entropy_with_logits(y @ classifiers.T + bias, hot) for y in (y0, y1)) / 2
for left, right in ((y0, y0), (y0, y1), (y1, y1)):
    o = F.normalize(left, dim=1) @ F.normalize(right, dim=1).T / 2
    loss = loss + (F.softplus(o) - (hot @ hot.T > 0).double() * o).mean()
loss = loss + 0.1 * (y0 - y1).norm(dim=1).mean()
label_gcn = {"sets": sets, "graph": graph.numpy()} | graded(loss, inputs)

write("graphs", {"label_gcn": label_gcn, "product": product, "gcn": gcn, "graphsage": graphsage, "lightgcn": lightgcn})
