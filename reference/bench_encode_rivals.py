"""Rivals of `chiasm bench encode`: the same random weights on the same input by onnxruntime, OpenVINO and torch, timed here.

Pinned: Python 3.11, torch 2.15.0, transformers 5.23.0, onnxruntime 1.32.0, openvino 2026.4.1, onnx 1.23.2, onnxscript 0.7.2. `chiasm bench encode --python
PYTHON` calls it in two ways:

    python bench_encode_rivals.py make MODEL DIR       a checkpoint of random weights, what it is fed, and its ONNX graphs
    python bench_encode_rivals.py run RIVAL DIR N      a contestant on N threads: a request a line on stdin, an answer a line on stdout

Request: {"batch", "rounds"}. Answer: {"wall", "cpu", "peak_mib", "values"} or {"error"}: seconds for all rounds, of all threads together for `cpu`; the
greatest resident memory of the process; the embeddings of the batch, at unit length. Pixels are normalised and texts cut to tokens before the
clock starts; the program's own times include both. Graphs are of fixed shape, the fastest for their runtimes.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

BATCHES = (1, 16)
SEED = 0
WORDS = "a the dog cat runs over wet green grass with red ball two small children play near water under tall old tree while it rains".split()
CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
# Width, inner width, layers, heads, patch, projection.
VISION = {
    "ViT-B-32": (768, 3072, 12, 12, 32, 512),
    "ViT-B-16": (768, 3072, 12, 12, 16, 512),
    "ViT-L-14": (1024, 4096, 24, 16, 14, 768),
}


def texts(n):
    rng = np.random.default_rng(SEED)
    return [" ".join(rng.choice(WORDS, rng.integers(4, 20))) for _ in range(n)]


def tokenizer(vocab_size, special):
    words = {f"w{i}": i for i in range(vocab_size)}
    for i, word in enumerate(WORDS):
        del words[f"w{i + 5}"]
        words[word] = i + 5
    for word, i in special.items():
        words.pop(f"w{i}", None)
        words[word] = i
    first, last = list(special)[:2]
    add = [{"id": i, "content": w, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
           for w, i in sorted(special.items(), key=lambda x: x[1])]
    template = [{"SpecialToken": {"id": first, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": last, "type_id": 0}}]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": add, "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "decoder": None,
        "post_processor": {"type": "TemplateProcessing", "single": template, "pair": template,
                           "special_tokens": {w: {"id": w, "ids": [special[w]], "tokens": [w]} for w in (first, last)}},
        "model": {"type": "WordLevel", "vocab": dict(sorted(words.items(), key=lambda x: x[1])), "unk_token": "w0"},
    }


def build(name):
    """The reference module, its checkpoint's other files, and what kind of thing it is fed."""
    import torch
    from transformers import ASTConfig, ASTModel, BertConfig, BertModel, CLIPConfig, CLIPModel

    torch.manual_seed(SEED)
    if name == "MiniLM":
        config = BertConfig(vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        model = BertModel(config, add_pooling_layer=False).eval()
        modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                   {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                   {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]
        files = {"tokenizer.json": tokenizer(30522, {"[CLS]": 101, "[SEP]": 102, "[PAD]": 0}), "modules.json": modules,
                 "1_Pooling/config.json": {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
                 "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False}}
        return model, files, "text"
    if name == "AST":
        config = ASTConfig()
        files = {"preprocessor_config.json": {"feature_extractor_type": "ASTFeatureExtractor", "sampling_rate": 16000, "num_mel_bins": 128,
                                              "max_length": 1024, "do_normalize": True, "mean": -4.2677393, "std": 4.5689974}}
        return ASTModel(config).eval(), files, "audio"
    dim, wide, layers, heads, patch, projected = VISION.get(name, VISION["ViT-B-32"])
    vision = dict(hidden_size=dim, intermediate_size=wide, num_hidden_layers=layers, num_attention_heads=heads, patch_size=patch, image_size=224)
    config = CLIPConfig(vision_config=vision, text_config=dict(eos_token_id=49407, bos_token_id=49406, pad_token_id=1), projection_dim=projected)
    files = {"tokenizer.json": tokenizer(49408, {"<|startoftext|>": 49406, "<|endoftext|>": 49407}),
             "preprocessor_config.json": {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224},
                                          "image_mean": CLIP_MEAN.tolist(), "image_std": CLIP_STD.tolist()}}
    return CLIPModel(config).eval(), files, "text" if name == "CLIP-text" else "image"


def module(name, model, kind):
    """From preprocessed input to embeddings at unit length."""
    import torch

    class Embed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x, mask=None):
            if name == "MiniLM":
                states = self.model(input_ids=x, attention_mask=mask).last_hidden_state
                out = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            elif kind == "audio":
                return self.model(x).pooler_output
            elif kind == "text":
                out = self.model.text_projection(self.model.text_model(input_ids=x, attention_mask=mask).pooler_output)
            else:
                out = self.model.visual_projection(self.model.vision_model(x).pooler_output)
            return out / out.norm(dim=-1, keepdim=True)

    return Embed()


def inputs(folder, batch):
    """What the rivals are fed, preprocessed."""
    kind = (folder / "kind").read_text()
    if kind == "image":
        rgb = np.fromfile(folder / "input.rgb", np.uint8).reshape(-1, 224, 224, 3)[:batch]
        return [np.ascontiguousarray(((rgb.astype(np.float32) / 255 - CLIP_MEAN) / CLIP_STD).transpose(0, 3, 1, 2))]
    if kind == "audio":
        return [np.load(folder / "spectra.npy")[:batch]]
    from tokenizers import Tokenizer

    rows = [e.ids for e in Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch((folder / "input.txt").read_text().split("\n")[:batch])]
    longest = max(map(len, rows))
    pad = rows[0][-1] if "<|end" in (folder / "tokenizer.json").read_text() else 0
    ids = np.array([row + [pad] * (longest - len(row)) for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], np.int64)
    return [ids, mask]


def make(name, folder):
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    model, files, kind = build(name)
    # Under the names that published checkpoints have, which are not always those of the modules.
    model.save_pretrained(folder)
    for file, content in {**files, "config.json": model.config.to_dict()}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(content))
    (folder / "kind").write_text(kind)
    rng = np.random.default_rng(SEED)
    if kind == "image":
        rng.integers(0, 256, (max(BATCHES), 224, 224, 3), np.uint8).tofile(folder / "input.rgb")
    elif kind == "text":
        (folder / "input.txt").write_text("\n".join(texts(max(BATCHES))))
    else:
        from transformers import ASTFeatureExtractor

        waves = rng.uniform(-0.5, 0.5, (max(BATCHES), 160000)).astype(np.float32)
        waves.tofile(folder / "input.f32")
        np.save(folder / "spectra.npy", ASTFeatureExtractor()(list(waves), sampling_rate=16000, return_tensors="np")["input_values"])
    embed = module(name, model, kind)
    for batch in BATCHES:
        args = tuple(map(torch.from_numpy, inputs(folder, batch)))
        torch.onnx.export(embed, args, str(folder / f"batch{batch}.onnx"), input_names=["x", "mask"][: len(args)], output_names=["y"],
                          dynamo=False, opset_version=17)
    print(json.dumps({"kind": kind}))


def onnxruntime_(folder, threads, integers=False):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1

    def load(batch):
        path = folder / f"batch{batch}.onnx"
        if integers:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            small = folder / f"batch{batch}.int8.onnx"
            if not small.exists():
                quantize_dynamic(path, small, weight_type=QuantType.QInt8, per_channel=True)
            path = small
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feed = {i.name: a for i, a in zip(session.get_inputs(), inputs(folder, batch))}
        return lambda: session.run(None, feed)[0]

    return load


def openvino_(folder, threads, precision="f32"):
    import openvino as ov

    core = ov.Core()

    def load(batch):
        hints = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
        request = core.compile_model(core.read_model(folder / f"batch{batch}.onnx"), "CPU", hints).create_infer_request()
        feed = inputs(folder, batch)
        return lambda: next(iter(request.infer(feed).values()))

    return load


def torch_(folder, threads):
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    name = (folder / "name").read_text()
    model, _, kind = build(name)
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    embed = module(name, model, kind)

    def load(batch):
        args = tuple(map(torch.from_numpy, inputs(folder, batch)))
        return lambda: embed(*args).numpy()

    return load


RIVALS = {
    "onnxruntime": onnxruntime_,
    "onnxruntime int8": lambda folder, threads: onnxruntime_(folder, threads, integers=True),
    "openvino": openvino_,
    "openvino bf16": lambda folder, threads: openvino_(folder, threads, precision="bf16"),
    "torch": torch_,
}


def run(rival, folder, threads):
    load, loaded = None, {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            load = load or RIVALS[rival](folder, threads)
            batch = request["batch"]
            if batch not in loaded:
                loaded.clear()
                loaded[batch] = load(batch)
                loaded[batch]()
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(request["rounds"]):
                values = loaded[batch]()
            answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu,
                      "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "values": np.asarray(values, np.float64).ravel().tolist()}
        except Exception as error:  # one line of answer whatever happens
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        folder = Path(sys.argv[3])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(sys.argv[2])
        make(sys.argv[2], folder)
    else:
        os.environ.setdefault("OMP_NUM_THREADS", sys.argv[4])
        run(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
