"""Goldens of R3D, by the residual networks over videos of torchvision 0.29.2; other versions and use in encode_shared.py.

    python reference/encode_r3d.py [--full DIR]
"""

from torch import nn
from torchvision.models.video import r3d_18
from torchvision.models.video.resnet import BasicBlock, BasicStem, Conv3DSimple, VideoResNet

from encode_shared import fill, full_dir, inputs, write

FULL = full_dir()


def small(widths, depths):
    """The same classes with fewer channels; the stem's width, which the class fixes at 64, is replaced."""
    model = VideoResNet(BasicBlock, [Conv3DSimple] * 4, [1] * 4, BasicStem, num_classes=3)
    n_in = widths[0]
    model.stem = nn.Sequential(nn.Conv3d(3, n_in, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), nn.BatchNorm3d(n_in), nn.ReLU())
    model.inplanes = n_in
    for i, (width, depth) in enumerate(zip(widths, depths)):
        setattr(model, f"layer{i + 1}", model._make_layer(BasicBlock, Conv3DSimple, width, depth, stride=2 if i else 1))
    for i in range(len(widths), 4):
        delattr(model, f"layer{i + 1}")
    model.fc = nn.Linear(widths[-1], 3)
    return model


def golden(name, model, frames, side, config, n_videos):
    model = model.eval()
    recipes = fill(model)
    files = {
        "config.json": {"model_type": "r3d", "num_frames": frames} | config,
        "preprocessor_config.json": {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}},
    }
    pixels = inputs(f"{name}.pixels", (n_videos, frames, 3, side, side))
    x = model.stem(pixels.transpose(1, 2))
    states = [x]
    for stage in [child for child_name, child in model.named_children() if child_name.startswith("layer")]:
        for block in stage:
            states.append(block(states[-1]))
    # Channels last, as the inputs' pixels lie in memory on the other side.
    tensors = {f"hidden.{i}": h.permute(0, 2, 3, 4, 1).contiguous() for i, h in enumerate(states)}
    tensors |= {"input": pixels, "embedding": states[-1].mean((2, 3, 4))}
    write(name, "video", files, recipes, tensors, FULL)


if FULL:
    model = r3d_18(weights=None)
    golden("r3d_18", model, 16, 112, {}, 1)
else:
    widths, depths = [4, 6, 6], [2, 1, 1]
    golden("r3d", small(widths, depths), 5, 12, {"widths": widths, "depths": depths}, 2)
