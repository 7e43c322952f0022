"""Pictures per second of CLIP's image towers on an NVIDIA GPU: ours beside PyTorch on the same card with the same weights.

Weights are random, as the class makes them, for speed does not depend on them. Pictures come preprocessed, 256 at a time, once from the
machine's memory and once from the card's; embeddings go back to the machine's memory. Both sides take turns (PyTorch, ours, PyTorch, ours), the
median of the batches of each turn is printed, and at last the largest differences of unit embeddings.

    cargo test --release -p chiasm-encode --features cuda --lib --no-run     # names the binary
    python reference/bench_gpu.py --ours target/release/deps/chiasm_encode-HASH

Versions: torch 2.15.0, transformers 5.23.0, numpy, safetensors; others are printed.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

BEGUN = time.monotonic()
TOWERS = {
    "ViT-B/32": dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, patch_size=32, projection_dim=512),
    "ViT-L/14": dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14, projection_dim=768),
    # For trying this script without a GPU.
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, patch_size=32, projection_dim=32),
}
CARD = "cuda" if torch.cuda.is_available() else "cpu"
SIDE = 224


def wait():
    if CARD == "cuda":
        torch.cuda.synchronize()


def speed(run, n):
    for _ in range(2):
        run()
    times, until = [], time.monotonic() + 1.5
    while len(times) < 3 or time.monotonic() < until:
        wait()
        begun = time.monotonic()
        run()
        wait()
        times.append(time.monotonic() - begun)
    return n / sorted(times)[len(times) // 2]


@torch.inference_mode()
def turn(name, model, dtype, pixels):
    """Prints the speeds of one turn, gives unit embeddings."""
    embed = lambda x: model(pixel_values=x).image_embeds.float().cpu()
    there = pixels.to(CARD, dtype)
    pinned = pixels.pin_memory() if CARD == "cuda" else pixels
    plain = speed(lambda: embed(pixels.to(CARD).to(dtype)), len(pixels))
    quick = speed(lambda: embed(pinned.to(CARD, non_blocking=True).to(dtype)), len(pixels))
    card = speed(lambda: embed(there), len(pixels))
    print(f"{name}: {plain:.0f} pictures/s from the machine's memory ({quick:.0f} pinned), {card:.0f} from the card's", flush=True)
    return torch.nn.functional.normalize(embed(there), dim=-1)


def ours(binary, folder, only=None):
    env = dict(os.environ, CHIASM_GPU_BENCH=str(folder), **({"CHIASM_GPU_BENCH_ONLY": only} if only else {}))
    command = [binary, "--exact", "on_device::pictures_per_second", "--nocapture"]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    except subprocess.TimeoutExpired as e:
        print(f"ours took too long: {e}", flush=True)
        return
    lines = [line for line in done.stderr.splitlines() if line.startswith("ours")]
    print("\n".join(lines), flush=True)
    if done.returncode != 0 or not lines:
        print(f"ours failed with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}", flush=True)


def read(file, n):
    return torch.from_numpy(np.fromfile(file, dtype=np.float32)).reshape(n, -1) if file.exists() else None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", required=True, help="test binary of chiasm-encode, built with the feature cuda")
    parser.add_argument("--towers", nargs="*", default=["ViT-B/32", "ViT-L/14"], choices=list(TOWERS))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=1e9, help="nothing new is begun after so many")
    args = parser.parse_args()
    late = lambda: time.monotonic() - BEGUN > args.seconds
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    card = torch.cuda.get_device_name() if CARD == "cuda" else "no GPU"
    print(f"{card}, torch {torch.__version__}, transformers {transformers.__version__}, {args.batch} pictures at a time", flush=True)
    compiled = []
    for name in args.towers:
        torch.manual_seed(1)
        config = CLIPVisionConfig(**TOWERS[name], image_size=SIDE, hidden_act="quick_gelu", attn_implementation="sdpa")
        with torch.device(CARD):
            model = CLIPVisionModelWithProjection(config).eval()
        pixels = torch.randn(args.batch, 3, SIDE, SIDE)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "model").mkdir()
            described = {"vision_config": {**TOWERS[name], "image_size": SIDE, "hidden_act": "quick_gelu", "layer_norm_eps": config.layer_norm_eps}}
            described |= {"projection_dim": config.projection_dim, "pixels": SIDE}
            (folder / "model/config.json").write_text(json.dumps(described))
            save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, folder / "model/model.safetensors")
            pixels.permute(0, 2, 3, 1).contiguous().numpy().tofile(folder / "pixels.f32")
            print(f"## {name} after {time.monotonic() - BEGUN:.0f} s", flush=True)
            exact = turn("torch f32", model, torch.float32, pixels)
            half = model.to(torch.bfloat16)
            rounded = turn("torch bf16", half, torch.bfloat16, pixels)
            ours(args.ours, folder)
            if not late():
                turn("torch bf16", half, torch.bfloat16, pixels)
                ours(args.ours, folder, "bf16")
            off = lambda a, b: "nothing" if a is None else f"{(a - b).abs().max():.1e}"
            f32, bf16 = (read(folder / f"ours_{which}.f32", args.batch) for which in ("f32", "bf16"))
            print(f"{name}: largest difference of unit embeddings from torch f32: ours f32 {off(f32, exact)}, ours bf16 {off(bf16, exact)}, torch bf16 {off(rounded, exact)}", flush=True)
        compiled.append((name, half, pixels))
        model = None
    for name, half, pixels in compiled:
        if late():
            print(f"{name}: no time left for torch.compile", flush=True)
            continue
        try:
            turn(f"{name}: torch bf16, compiled", torch.compile(half), torch.bfloat16, pixels)
        except Exception as e:  # noqa: BLE001, whatever keeps the compiler from working here
            print(f"{name}: torch.compile does not work here: {type(e).__name__}: {str(e)[:300]}", flush=True)


if __name__ == "__main__":
    main()
