"""Goldens of pictures' preprocessing, by the image processors of transformers and by open_clip's; versions in encode_shared.py, and
torchvision 0.29.2 for open_clip's.

    python reference/encode_preprocess.py                       made-up pictures, testdata/goldens/encode/pictures/
    python reference/encode_preprocess.py --files DIR FILE...   real files, into DIR, compared by
    CHIASM_PARITY_PICTURES=DIR cargo test -p chiasm-encode --lib real_pictures -- --nocapture

NAME.safetensors holds `image`, u8 [height, width, 3], and `pixels`, f32 [3, height, width]; its metadata the description under `config`
(and under `family`, where it is not CLIP, whose defaults hold where that is silent), or open_clip's under `preprocess_cfg` with the side of the network's pictures under `side`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import v2
from transformers import BlipImageProcessor, CLIPImageProcessor, ConvNextImageProcessor, VideoMAEImageProcessor
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil

from encode_shared import numbers


def made_up(name, height, width):
    """Waves with a little noise: edges at every scale, and values that clip at both ends."""
    y, x = np.mgrid[0:height, 0:width]
    noise = numbers(name, (height, width, 3), 0.0, 20.0)
    waves = [140 * np.sin(x * x / (40 + 9 * c) / 7 + c) * np.cos(y / (3 + c)) + 120 for c in range(3)]
    return np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def write(out, name, image, config, kind=CLIPImageProcessor, family=None):
    out.mkdir(parents=True, exist_ok=True)
    processor = kind(**{key: value for key, value in config.items() if key != "image_processor_type"})
    given = Image.fromarray(image) if kind is EfficientNetImageProcessorPil else torch.from_numpy(image).permute(2, 0, 1)
    pixels = processor(images=given, return_tensors="pt")["pixel_values"][0]
    tensors = {"image": torch.from_numpy(image).contiguous(), "pixels": pixels.float().contiguous()}
    metadata = {"config": json.dumps(config)} | ({"family": family} if family else {})
    save_file(tensors, out / f"{name}.safetensors", metadata=metadata)
    print(name, tuple(image.shape), "->", tuple(pixels.shape))


def write_frame(out, name, image, config):
    """A frame of a video, by the processor of TimeSformer and X-CLIP."""
    frame = torch.from_numpy(image).permute(2, 0, 1)
    pixels = VideoMAEImageProcessor(**config)([frame, frame], return_tensors="pt")["pixel_values"][0, 1]
    tensors = {"image": torch.from_numpy(image).contiguous(), "pixels": pixels.float().contiguous()}
    stated = {"resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3} | config
    save_file(tensors, out / f"{name}.safetensors", metadata={"config": json.dumps(stated)})
    print(name, tuple(image.shape), "->", tuple(pixels.shape))


def write_between(out, name, image, side):
    """BriVL's: torchvision's `Resize` of a tensor as it was when that code was written, which averages nothing."""
    steps = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Resize((side, side), antialias=False)]
    steps.append(v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    pixels = v2.Compose(steps)(Image.fromarray(image))
    tensors = {"image": torch.from_numpy(image).contiguous(), "pixels": pixels.contiguous()}
    save_file(tensors, out / f"{name}.safetensors", metadata={"family": "brivl", "side": str(side)})
    print(name, tuple(image.shape), "->", tuple(pixels.shape))


def write_open_clip(out, name, image, side, config):
    pixels = image_transform_v2(PreprocessCfg(size=side, **config), is_train=False)(Image.fromarray(image))
    tensors = {"image": torch.from_numpy(image).contiguous(), "pixels": pixels.contiguous()}
    save_file(tensors, out / f"{name}.safetensors", metadata={"preprocess_cfg": json.dumps(config), "side": str(side)})
    print(name, tuple(image.shape), "->", tuple(pixels.shape))


CUT = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
if len(sys.argv) > 3 and sys.argv[1] == "--files":
    for file in map(Path, sys.argv[3:]):
        write(Path(sys.argv[2]), file.stem, np.array(Image.open(file).convert("RGB")), {})
else:
    out = Path(__file__).resolve().parent.parent / "testdata" / "goldens" / "encode" / "pictures"
    square = {"size": {"height": 20, "width": 28}, "do_center_crop": False}
    write(out, "cubic_wide", made_up("a", 31, 57), CUT)
    write(out, "cubic_tall_enlarged", made_up("b", 29, 13), CUT)
    write(out, "triangle_box", made_up("c", 33, 41), square | {"resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    write(out, "lanczos_box", made_up("d", 33, 41), square | {"resample": 1, "do_normalize": False})
    write(out, "laid_on_black", made_up("e", 15, 40), {"do_resize": False, "crop_size": {"height": 21, "width": 22}})
    convnext = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 24}}
    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    write(out, "convnext", made_up("f", 45, 38), convnext | imagenet | {"crop_pct": 0.7}, ConvNextImageProcessor)
    write(out, "convnext_silent", made_up("g", 30, 51), convnext | imagenet, ConvNextImageProcessor)
    # By Pillow: halfway between two pixels, torchvision takes another for the nearest.
    kind = {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 23, "width": 23}, "resample": 0}
    twice = imagenet | {"image_std": [0.47853944, 0.4732864, 0.47434163], "include_top": True, "do_center_crop": False}
    write(out, "efficientnet", made_up("h", 52, 37), kind | twice, EfficientNetImageProcessorPil)
    align = {"resample": 2, "crop_size": {"height": 19, "width": 19}, "do_center_crop": True, "rescale_factor": 1 / 127.5}
    align |= {"rescale_offset": True, "do_normalize": False, "include_top": False}
    write(out, "align", made_up("i", 33, 40), kind | align, EfficientNetImageProcessorPil)
    write_frame(out, "frame", made_up("f", 37, 61), CUT)
    # 24 x 47: of the 23 that are left over, torchvision leaves 12 on the left and transformers 11.
    write_open_clip(out, "open_clip_cubic_wide", made_up("f", 30, 59), 24, {})
    halves = {"mean": [0.5] * 3, "std": [0.5] * 3}
    write_open_clip(out, "open_clip_triangle_tall", made_up("g", 61, 31), 24, halves | {"interpolation": "bilinear"})
    write_open_clip(out, "open_clip_longest", made_up("h", 30, 53), 24, {"resize_mode": "longest", "fill_color": 127})
    write_open_clip(out, "open_clip_squash", made_up("i", 30, 53), 24, halves | {"resize_mode": "squash"})
    write_between(out, "brivl_reduced", made_up("j", 61, 34), 21)
    write_between(out, "brivl_enlarged", made_up("k", 9, 30), 21)
    write(out, "blip", made_up("f", 31, 57), {"size": {"height": 24, "width": 24}}, BlipImageProcessor, "blip")
