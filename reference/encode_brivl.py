"""Goldens of BriVL's two towers, by EfficientNet of timm 1.0.31, BertModel of transformers and TransformerEncoder of torch; versions
and use in encode_shared.py.

    python reference/encode_brivl.py [--full DIR]

The modules are put together as the public code does it (BAAI-WuDao/BriVL, neilfei/brivl-nmi) and bear its names, so that the tensors have
those of its checkpoints.
"""

import timm
import torch
import torch.nn.functional as F
from timm.models.efficientnet import _gen_efficientnet
from torch import nn
from transformers import BertConfig, BertModel, EfficientNetConfig

from encode_shared import channels_last, fill, full_dir, ids, inputs, vocabulary, write

FULL = full_dir()


class Dense(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(n_in, n_out), nn.Linear(n_out, n_out)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


def attention(width, own, kind):
    layer = nn.TransformerEncoderLayer(width, own[f"{kind}_attention_heads"], own["attention_intermediate_size"])
    return nn.TransformerEncoder(layer, own[f"{kind}_attention_layers"])


def attend(encoder, dense, x, mask):
    """Through attention, mean and dense layers: the embedding, and the states on the way."""
    x = F.normalize(x, dim=-1)
    states = [x]
    for layer in encoder.layers:
        states.append(layer(states[-1].transpose(0, 1), src_key_padding_mask=~mask).transpose(0, 1))
    whole = encoder(x.transpose(0, 1), src_key_padding_mask=~mask).transpose(0, 1)
    assert torch.allclose(states[-1][mask], whole[mask], atol=1e-5)
    pooled = (states[-1] * mask[..., None]).sum(1) / mask.sum(1)[:, None]
    return dense(pooled), [state[mask] for state in states]


class Image(nn.Module):
    def __init__(self, backbone, width, own):
        super().__init__()
        self.own, self.backbone = own, backbone
        pooling = nn.Sequential(nn.Conv2d(width, width, 1), nn.AvgPool2d(own["patch_points"], stride=1))
        self.learnable = nn.ModuleDict(
            {"imgFC": Dense(width, width), "imgAtt": attention(width, own, "image"), "max_pool": pooling}
        )

    def patches(self, features):
        """Of one picture, for the cells of the grid, column by column, and for the whole."""
        n, points = self.own["patch_grid"], self.own["patch_points"]
        height, width = features.shape[1:]
        cells = [[i / n, j / n, (i + 1) / n, (j + 1) / n] for i in range(n) for j in range(n)] + [[0.0, 0.0, 1.0, 1.0]]
        x1, y1, x2, y2 = (torch.tensor(cells) * height).T
        zero = torch.zeros_like(x1)
        across = torch.stack([(x2 - x1) / (width - 1), zero, (x1 + x2 - width + 1) / (width - 1)], 1)
        down = torch.stack([zero, (y2 - y1) / (height - 1), (y1 + y2 - height + 1) / (height - 1)], 1)
        grid = F.affine_grid(torch.stack([across, down], 1), (len(cells), len(features), points, points), align_corners=False)
        sampled = F.grid_sample(features[None].expand(len(cells), -1, -1, -1), grid, align_corners=False)
        return self.learnable["max_pool"](sampled).flatten(1)

    def features(self, pixels):
        """What the network gives, and its states after the stem and after each block."""
        states, hooks = [], []
        for module in [self.backbone.bn1, *(block for stage in self.backbone.blocks for block in stage)]:
            hooks.append(module.register_forward_hook(lambda _, args, out: states.append(channels_last(out).contiguous())))
        features = self.backbone.forward_features(pixels)
        for hook in hooks:
            hook.remove()
        return features, states

    def forward(self, pixels):
        features, states = self.features(pixels)
        patches = torch.stack([self.patches(f) for f in features])
        mask = torch.ones(patches.shape[:2], dtype=torch.bool)
        embedding, attended = attend(self.learnable["imgAtt"], self.learnable["imgFC"], patches, mask)
        return embedding, states + attended


class Bert(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.bert = BertModel(config)


class Text(nn.Module):
    def __init__(self, config, width, own):
        super().__init__()
        self.backbone = Bert(config)
        self.learnable = nn.ModuleDict(
            {"textFC": Dense(config.hidden_size, width), "textAtt": attention(config.hidden_size, own, "text")}
        )

    def forward(self, padded, mask):
        out = self.backbone.bert(input_ids=padded, output_hidden_states=True)
        embedding, states = attend(self.learnable["textAtt"], self.learnable["textFC"], out.last_hidden_state, mask)
        return embedding, [h.flatten(0, 1) for h in out.hidden_states] + states


def golden(name, backbone, vision_config, text_config, own, lengths, n_pictures=2):
    width, size, n = vision_config.hidden_dim, vision_config.image_size, own["max_text_length"]
    model = nn.ModuleDict({"imgencoder": Image(backbone, width, own), "textencoder": Text(text_config, width, own)}).eval()
    recipes = fill(model)
    config = {"model_type": "brivl"} | own
    config |= {"vision_config": vision_config.to_dict(), "text_config": text_config.to_dict()}
    for part in ["vision_config", "text_config"]:
        config[part].pop("transformers_version", None)
    vocab = text_config.vocab_size
    files = {"config.json": config, "tokenizer.json": vocabulary(vocab, {"[PAD]": 0, "[CLS]": 2, "[SEP]": 3})}

    pixels = inputs(f"{name}.pixels", (n_pictures, 3, size, size))
    embedding, states = model["imgencoder"](pixels)
    tensors = {"input": pixels, "embedding": embedding} | {f"hidden.{i}": h for i, h in enumerate(states)}
    write(f"{name}_image", "image", files, recipes, tensors, FULL)

    texts = ids(f"{name}.ids", lengths, 4, vocab, 2, 3)
    padded = torch.tensor([text + [0] * (n - len(text)) for text in texts])
    embedding, states = model["textencoder"](padded, torch.arange(n)[None] < torch.tensor(lengths)[:, None])
    tensors = {"input": padded.flatten(), "lengths": torch.full((len(texts),), n), "embedding": embedding}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(states)}
    write(f"{name}_text", "text", files, recipes, tensors, FULL)


OWN = dict(patch_grid=6, patch_points=4, image_attention_layers=4, image_attention_heads=4, text_attention_layers=4)
OWN |= dict(text_attention_heads=4, attention_intermediate_size=2048, max_text_length=80)
if FULL:
    vision = EfficientNetConfig(
        image_size=456, width_coefficient=1.6, depth_coefficient=2.2, hidden_dim=2048, depthwise_padding=[13, 27]
    )
    golden("brivl", timm.create_model("tf_efficientnet_b5"), vision, BertConfig(vocab_size=21128), OWN, [5, 80], 1)
else:
    own = OWN | dict(patch_grid=2, patch_points=3, image_attention_layers=2, text_attention_layers=1, max_text_length=12)
    own |= dict(text_attention_heads=3, attention_intermediate_size=48)
    # Blocks 1, 5 and 11 step through grids of odd sides.
    vision = EfficientNetConfig(image_size=38, width_coefficient=0.1, depth_coefficient=1.0, hidden_dim=128)
    vision.depthwise_padding = [1, 5, 11]
    backbone = _gen_efficientnet("tf_efficientnet_b0", 0.1, 1.0, pad_type="same", bn_eps=1e-3, num_classes=5)
    text = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    golden("brivl", backbone, vision, BertConfig(**text, max_position_embeddings=14), own, [5, 12])
