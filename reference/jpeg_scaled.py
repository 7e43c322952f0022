"""What decoding a JPEG at a half, a quarter or an eighth of its size saves and costs, beside decoding it whole and resizing it.

Pinned: Python 3.11, pillow 13.0.0 (libjpeg-turbo), torch 2.15.0, open_clip_torch 3.3.0. `python jpeg_scaled.py PHOTOS N` enlarges the N largest photos to 4000 pixels
along the longer edge, once as they are and once with a sensor's noise, and decodes each at the least size whose shorter edge is still twice, or
four times, what ViT-B-32-256 takes. Printed are, over the photos: CPU time of decoding and resizing, the part of the pixels that the network gets that
differ by more than 1/255, the largest difference in 255ths, and the least cosine to the embedding of the photo decoded whole; beside it the
cosine that two different photos have, since the weights are random.
"""

import io
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image

SIDE, EDGE = 256, 4000


def enlarged(path, noise):
    picture = Image.open(path).convert("RGB")
    scale = EDGE / max(picture.size)
    picture = picture.resize([round(s * scale) for s in picture.size], Image.Resampling.BICUBIC)
    if noise:
        rng = np.random.default_rng(0)
        pixels = np.asarray(picture, np.float32) + rng.normal(0, noise, (picture.height, picture.width, 1)).astype(np.float32)
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def decoded(data, times):
    """The network's pixels, from a picture whose shorter edge is decoded at least `times` what the network takes; 0 is whole."""
    start = time.process_time()
    picture = Image.open(io.BytesIO(data))
    if times:
        short = min(picture.size)
        picture.draft("RGB", [s * times * SIDE // short + 1 for s in picture.size])
    picture = picture.convert("RGB")
    width, height = picture.size
    size = (SIDE, SIDE * height // width) if width < height else (SIDE * width // height, SIDE)
    middle = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (middle.width - SIDE) // 2, (middle.height - SIDE) // 2
    pixels = np.asarray(middle.crop((left, top, left + SIDE, top + SIDE)))
    return pixels, time.process_time() - start, picture.size


def main(photos, n):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32-256")
    model.eval()

    def embed(pixels):
        with torch.inference_mode():
            return torch.nn.functional.normalize(model.encode_image(torch.stack([preprocess(Image.fromarray(p)) for p in pixels])), dim=-1).numpy()

    paths = sorted(photos.glob("*.jpg"), key=lambda p: (-min(Image.open(p).size), p.name))[:n]
    print("| photos | decoded to | MB | CPU, ms | beyond 1/255 | largest | least cosine | of two photos |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for noise in (0, 4):
        data = [enlarged(path, noise) for path in paths]
        whole = None
        for times in (0, 4, 2):
            pixels, seconds, sizes = zip(*(decoded(d, times) for d in data))
            rows = embed(pixels)
            if whole is None:
                whole = (np.stack(pixels).astype(int), rows)
            apart = np.abs(np.stack(pixels).astype(int) - whole[0])
            between = float((rows[:-1] * rows[1:]).sum(1).mean())
            print(f"| noise {noise} | {sizes[0][0]} x {sizes[0][1]} | {np.mean([len(d) for d in data]) / 1e6:.1f} | {1e3 * np.median(seconds):.0f} | "
                  f"{(apart > 1).mean():.1%} | {apart.max()} | {(rows * whole[1]).sum(1).min():.6f} | {between:.3f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
