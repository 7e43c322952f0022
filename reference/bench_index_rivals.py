"""Rivals of `chiasm bench index`: the same files and the same random weights through rclip, clip-retrieval and a plain loop over open_clip.

Pinned: Python 3.11, torch 2.15.0, open_clip_torch 3.3.0, onnx 1.23.2, onnxruntime 1.32.0, pillow 13.0.0, rclip 3.3.0, clip-retrieval 2.45.0 with all_clip 1.3.0,
sentence-transformers 6.2.0, wandb 0.31.0, fire 0.5.0, pandas 2.3.3 (with python-dateutil, pytz), pyarrow 26.0.1, webdataset 1.0.2, pi-heif 1.4.0, rawpy 0.28.0, torchvision 0.29.2 (installed with --no-deps: the
bounds that rclip and clip-retrieval state would bring an older numpy and open_clip). clip-retrieval also imports at its start: clip-anytorch 2.6.0 (which wants setuptools below 81), flask 3.1.3,
flask_restful 0.3.10, flask_cors 6.0.5, prometheus-client 0.26.0, termcolor 3.3.0, h5py 3.16.0, braceexpand 0.1.7, platformdirs 4.14.9, xxhash 4.1.0, opentelemetry-exporter-otlp-proto-http 1.45.2.
`chiasm bench index --python PYTHON` calls it in these ways:

    python bench_index_rivals.py files PHOTOS N SIDE NOISE DIR   N different JPEGs from those in PHOTOS; longer edge enlarged to SIDE unless it is 0
    python bench_index_rivals.py make DIR                        the model, as each contestant reads it
    python bench_index_rivals.py run RIVAL DIR FILES OUT         a contestant, from its start to its end, in this process
    python bench_index_rivals.py compare NAME=OUT ...            cosines to the first one's embeddings, as a JSON object

The model is ViT-B-32-256 of open_clip, the only one that rclip runs. Nothing of a rival is replaced. rclip finds the ONNX graph of these weights in its data
folder, where it would have put its own; it is asked for what is like a picture, since its other graph, for texts, is not made here. clip-retrieval is given the
checkpoint's path in the name of the model, as open_clip takes it, and 32 items at once, for by its own 256 it would spend most of the time on two batches to warm
up. Otherwise both keep their own numbers of threads, workers and items.
"""

import io
import json
import os
import sqlite3
import struct
import sys
from pathlib import Path

MODEL, SIDE, BATCH, SEED = "ViT-B-32-256", 256, 32, 0
RCLIP = "ViT-B-32-256-datacomp_s34b_b86k"


def files(photos, n, side, noise, folder):
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    paths = sorted(p for p in photos.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))
    rng = np.random.default_rng(SEED)
    for i in range(n):
        data = paths[i % len(paths)].read_bytes()
        if side:
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            scale = side / max(picture.size)
            picture = picture.resize([round(s * scale) for s in picture.size], Image.Resampling.BICUBIC)
            if noise:  # a sensor's, without which an enlarged picture has next to nothing to decode
                pixels = np.asarray(picture, np.float32) + rng.normal(0, noise, (picture.height, picture.width, 1)).astype(np.float32)
                picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=90)
            data = out.getvalue()
        # A comment, so that no two files are alike.
        comment = f"copy {i}".encode()
        (folder / f"{i:06}.jpg").write_bytes(data[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + data[2:])


def make(folder):
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(SEED)
    model = open_clip.create_model(MODEL).eval()
    place = folder / "model"
    place.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, place / "open_clip_model.safetensors")
    preprocess = {"mean": list(model.visual.image_mean), "std": list(model.visual.image_std)}
    config = {"model_cfg": open_clip.get_model_config(MODEL), "preprocess_cfg": preprocess}
    (place / "open_clip_config.json").write_text(json.dumps(config))
    (place / "tokenizer.json").write_text(json.dumps(tokenizer()))

    class Visual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model.encode_image(x)

    graph = folder / "rclip" / RCLIP / "visual.onnx"
    graph.parent.mkdir(parents=True)
    torch.onnx.export(Visual(), (torch.zeros(2, 3, SIDE, SIDE),), str(graph), input_names=["input"], output_names=["output"],
                      dynamic_axes={"input": {0: "n"}, "output": {0: "n"}}, dynamo=False, opset_version=17)
    # Looked for at the start and opened with the first text.
    (folder / "rclip" / RCLIP / "textual.onnx").touch()
    (folder / "rclip" / "tokenizer").mkdir()
    (folder / "rclip" / "tokenizer" / "bpe_simple_vocab_16e6.txt.gz").touch()


def tokenizer():
    """Of the right size; no text is embedded."""
    special = {"<start_of_text>": 49406, "<end_of_text>": 49407}
    words = {f"w{i}": i for i in range(49406)} | special
    add = [{"id": i, "content": w, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
           for w, i in special.items()]
    template = [{"SpecialToken": {"id": "<start_of_text>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<end_of_text>", "type_id": 0}}]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": add, "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "decoder": None,
        "post_processor": {"type": "TemplateProcessing", "single": template, "pair": template,
                           "special_tokens": {w: {"id": w, "ids": [i], "tokens": [w]} for w, i in special.items()}},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"},
    }


def checkpoint(folder):
    return str((folder / "model" / "open_clip_model.safetensors").resolve())


def rclip(folder, photos, out):
    out.mkdir()
    for file in (folder / "rclip").iterdir():
        (out / file.name).symlink_to(file.resolve())
    os.environ["RCLIP_DATADIR"] = str(out.resolve())
    os.chdir(photos)
    sys.argv = ["rclip", "--top", "1", str(min(Path.cwd().glob("*.jpg")))]
    from rclip.main import main

    main()


def clip_retrieval(folder, photos, out):
    from clip_retrieval.clip_inference.main import main

    main(input_dataset=str(photos), output_folder=str(out), enable_text=False, enable_image=True, batch_size=BATCH,
         clip_model=f"open_clip:{MODEL}/{checkpoint(folder)}")


class Photos:
    def __init__(self, paths, transform):
        self.paths, self.transform = paths, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        from PIL import Image

        return self.transform(Image.open(self.paths[i]))


def open_clip_loop(folder, photos, out):
    import numpy as np
    import open_clip
    import torch

    model, _, transform = open_clip.create_model_and_transforms(MODEL, pretrained=checkpoint(folder))
    model.eval()
    paths = sorted(photos.glob("*.jpg"))
    loader = torch.utils.data.DataLoader(Photos(paths, transform), batch_size=BATCH, num_workers=os.cpu_count())
    with torch.inference_mode():
        rows = [torch.nn.functional.normalize(model.encode_image(batch), dim=-1).numpy() for batch in loader]
    out.mkdir()
    np.save(out / "rows.npy", np.concatenate(rows))
    (out / "names.json").write_text(json.dumps([path.name for path in paths]))


RIVALS = {"rclip": rclip, "clip-retrieval": clip_retrieval, "open_clip": open_clip_loop}


def vectors(out):
    """What a contestant stored: embeddings by the names of the files."""
    import numpy as np

    if (out / "library.db").exists():
        sql = "SELECT p.name, v.vector FROM paths p JOIN segments s ON s.item = p.item JOIN vectors v ON v.segment = s.id"
        return {name: np.frombuffer(row, "<f4") for name, row in sqlite3.connect(out / "library.db").execute(sql)}
    if (out / "db.sqlite3").exists():
        rows = sqlite3.connect(out / "db.sqlite3").execute("SELECT filepath, vector FROM images")
        return {Path(path).name: np.frombuffer(row, np.float32) for path, row in rows}
    if (out / "rows.npy").exists():
        return dict(zip(json.loads((out / "names.json").read_text()), np.load(out / "rows.npy")))
    import pandas

    all_rows = {}
    for part in sorted((out / "img_emb").glob("*.npy")):
        names = pandas.read_parquet(out / "metadata" / f"metadata_{part.stem.removeprefix('img_emb_')}.parquet")["image_path"]
        all_rows.update(zip((Path(name).name for name in names), np.load(part)))
    return all_rows


def compare(pairs):
    import numpy as np

    first, told = None, {}
    for pair in pairs:
        name, out = pair.split("=", 1)
        rows = {k: v.astype(np.float64) / np.linalg.norm(v.astype(np.float64)) for k, v in vectors(Path(out)).items()}
        first = first or rows
        cosines = [float(first[k] @ rows[k]) for k in first if k in rows]
        told[name] = {"n": len(rows), "least": min(cosines, default=None), "mean": float(np.mean(cosines)) if cosines else None}
    print(json.dumps(told))


if __name__ == "__main__":
    what, *args = sys.argv[1:]
    if what == "files":
        files(Path(args[0]), int(args[1]), int(args[2]), float(args[3]), Path(args[4]))
    elif what == "make":
        make(Path(args[0]))
    elif what == "run":
        RIVALS[args[0]](*map(Path, args[1:]))
    else:
        compare(args)
