"""The rival of `chiasm bench train`: the same towers, batch and optimiser by PyTorch, timed here.

Pinned: Python 3.11, numpy 2.4.6, torch 2.15.0. `chiasm bench train --python PYTHON` calls it:

    python bench_train_rivals.py THREADS        a request a line on stdin, an answer a line on stdout

Request: {"probe": "mlp" or "vit-tiny", "batch", "steps", "precision": "f32" or "bf16"}; bf16 is `torch.autocast` of both towers. Answer: {"wall", "cpu", "values"}: seconds for all steps, of all threads together for `cpu`; the
last loss. Towers are those of `crates/chiasm-train/src/probe.rs`: dense layers of 512, 1024 and 256 numbers; a pre-norm vision transformer of 12 blocks of 192
numbers over 196 patches and one of the same size over 32 words, states averaged, both projected to 256. Attention is
`scaled_dot_product_attention`, symmetric InfoNCE with a learned temperature, AdamW in its fused form.
"""

import json
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))
torch.set_num_interop_threads(1)
torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self, dim=192, wide=768, heads=3):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, wide), nn.Linear(wide, dim)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + self.narrow(F.gelu(self.widen(self.norm_2(x))))


class Tower(nn.Module):
    def __init__(self, embed, n_tokens):
        super().__init__()
        self.embed, self.positions = embed, nn.Parameter(torch.randn(n_tokens, 192) * 0.01)
        self.blocks, self.norm = nn.Sequential(*[Block() for _ in range(12)]), nn.LayerNorm(192)
        self.project = nn.Linear(192, 256, bias=False)

    def forward(self, x):
        return self.project(self.norm(self.blocks(self.embed(x) + self.positions)).mean(1))


def towers(probe, batch):
    if probe == "mlp":
        make = lambda: nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 256))
        return [make(), make()], [torch.rand(batch, 512) - 0.5 for _ in range(2)]
    images, texts = Tower(nn.Linear(768, 192), 196), Tower(nn.Embedding(8192, 192), 32)
    return [images, texts], [torch.rand(batch, 196, 768) - 0.5, torch.randint(0, 8192, (batch, 32))]


made = {}
for line in sys.stdin:
    request = json.loads(line)
    key = (request["probe"], request["batch"])
    mixed = request["precision"] == "bf16"
    if key not in made:
        nets, inputs = towers(*key)
        scale = nn.Parameter(torch.tensor(10.0).log())
        parameters = [p for net in nets for p in net.parameters()] + [scale]
        made[key] = nets, inputs, scale, torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, fused=True)
    nets, inputs, scale, optimiser = made[key]
    right = torch.arange(request["batch"])
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(request["steps"]):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            u, v = [net(x) for net, x in zip(nets, inputs)]
        u, v = (F.normalize(x.float(), dim=1) for x in (u, v))
        scores = u @ v.T * scale.exp()
        loss = (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "values": [float(loss.detach())]}
    print(json.dumps(answer), flush=True)
