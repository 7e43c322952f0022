"""Goldens of CNN14, by the network of Kong et al. 2020 written out in torch's layers; versions and use in encode_shared.py.

    python reference/encode_cnn14.py [--full DIR]

The layers and their names are those of the published checkpoint, without the tensors of its front end.
"""

import torch
from torch import nn
from torch.nn import functional as F

from encode_shared import fill, full_dir, inputs, write

FULL = full_dir()


class Block(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.bn2 = nn.BatchNorm2d(n_out)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Cnn14(nn.Module):
    def __init__(self, mel_bins, channels, classes_num):
        super().__init__()
        self.n_blocks = len(channels)
        self.bn0 = nn.BatchNorm2d(mel_bins)
        for i, (n_in, n_out) in enumerate(zip([1, *channels], channels)):
            setattr(self, f"conv_block{i + 1}", Block(n_in, n_out))
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.fc_audioset = nn.Linear(channels[-1], classes_num)

    def forward(self, spectra):
        """Spectra [n, 1, frames, bands] to embeddings, the states after each block on the way, and probabilities."""
        x = self.bn0(spectra.transpose(1, 3)).transpose(1, 3)
        states = [x]
        for i in range(self.n_blocks):
            x = getattr(self, f"conv_block{i + 1}")(x)
            if i + 1 < self.n_blocks:
                x = F.avg_pool2d(x, 2)
            states.append(x)
        x = x.mean(3)
        x = x.max(2).values + x.mean(2)
        embedding = F.relu(self.fc1(x))
        return embedding, states, torch.sigmoid(self.fc_audioset(embedding))


def golden(name, config, frames, n_sounds=2):
    model = Cnn14(config["mel_bins"], config["channels"], config["classes_num"]).eval()
    recipes = fill(model)
    files = {"config.json": config | {"id2label": {str(i): f"sound {i}" for i in range(config["classes_num"])}}}
    spectra = inputs(f"{name}.spectra", (n_sounds, 1, frames, config["mel_bins"]))
    embedding, states, classes = model(spectra)
    tensors = {"input": spectra, "embedding": embedding, "classes": classes}
    tensors |= {f"hidden.{i}": h.permute(0, 2, 3, 1) for i, h in enumerate(states)}
    write(name, "audio", files, recipes, tensors, FULL)


PUBLISHED = {"model_type": "cnn14", "sample_rate": 32000, "window_size": 1024, "hop_size": 320, "mel_bins": 64, "fmin": 50, "fmax": 14000}
PUBLISHED |= {"classes_num": 527, "channels": [64, 128, 256, 512, 1024, 2048]}
if FULL:
    golden("cnn14", PUBLISHED, 1001, 1)
else:
    # Frames and bands that do not divide evenly.
    golden("cnn14", PUBLISHED | {"mel_bins": 13, "classes_num": 3, "channels": [3, 5, 8]}, 21)
