"""Golden token ids and embeddings of all-MiniLM-L6-v2 on fifty sentences, by sentence-transformers.

    python reference/encode_minilm.py ../shared/data/small_models/all-MiniLM-L6-v2

writes testdata/goldens/encode/minilm_50.json (the sentences and their token ids) and minilm_50.safetensors (`embeddings`,
f32, [50, 384]). Made with torch 2.15.0, transformers 5.23.0, sentence-transformers 6.2.0, in f32 on the
CPU. No seed: nothing here is random.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

LONG = (
    "The ferry leaves the harbour at dawn, long before the cafes on the quay put out their chairs, and for the first hour "
    "there is nothing to see but a grey line where the water ends and a paler grey where the sky begins. "
)

SENTENCES = [
    # Plain English.
    "A dog runs on the grass.",
    "a dog runs on the grass",
    "Two children build a castle of wet sand while the tide comes in.",
    "The orchestra tuned for a minute and then fell silent.",
    "She fixed the bicycle herself, with a borrowed wrench and some patience.",
    "Nobody in the village remembers who planted the chestnut trees.",
    "Is there a later train to the coast on Sundays?",
    "Stop!",
    "no",
    "I have never not wanted to see it again.",
    "Old photographs of bridges, most of them since rebuilt or torn down.",
    "thunder far away, then rain on a tin roof",
    "The cat sat on the mat; the mat, apparently, did not mind.",
    "It depends on what the meaning of the word is is.",
    "Buffalo buffalo Buffalo buffalo buffalo buffalo Buffalo buffalo.",
    # Case, accents, other Latin languages: the tokeniser lower-cases and strips marks.
    "SHOUTING IN CAPITALS ABOUT A SMALL MATTER",
    "Café, naïve, façade, coöperate, jalapeño, Ångström, Dvořák.",
    "Der Zug nach München fährt um halb acht vom anderen Gleis.",
    "Le chien dort sous la table pendant que nous mangeons.",
    "El niño dibuja una casa con una chimenea muy alta.",
    "Straße, œuvre, ﬁne ligatures and a lone combining mark: e\u0301.",
    # Chinese, Japanese, Korean, other scripts.
    "一只狗在草地上奔跑。",
    "今天天气很好,我们去公园散步吧!",
    "红色的圆在蓝色的方块左边",
    "机器学习 is 机器 learning 学习",
    "犬が芝生の上を走っています。",
    "개가 잔디 위를 달린다.",
    "Собака бежит по траве.",
    "كلب يجري على العشب",
    "כלב רץ על הדשא",
    "कुत्ता घास पर दौड़ता है",
    # Emoji and symbols.
    "🐶🌱",
    "Happy birthday! 🎂🎉🥳",
    "family: 👨‍👩‍👧‍👦, flag: 🇸🇪, thumb: 👍🏽",
    "temperature ≥ 37.5 °C ± 0.2, p < 0.05, Δx → 0",
    # Numbers, punctuation, addresses, code.
    "3.14159265358979",
    "Invoice 2024-03-17/0042: 1,299.00 EUR (VAT 19 %), due in 30 days.",
    "Call +46 8 123 456 78 or write to someone@example.org.",
    "https://example.org/a/b?c=d&e=f#g",
    "fn main() { println!(\"{}\", 1 + 1); }",
    "... --- ... ?! ;:,.'\"`~@#$%^&*()_+-=[]{}|\\/<>",
    "don't can't won't it's we'd they'll y'all's",
    "state-of-the-art, mother-in-law, 24/7, and/or, C++, C#, F.B.I.",
    # Odd spaces, tokens that look special, words the vocabulary has not.
    "  spaces   before,\tbetween\nand after  ",
    "text with a zero\u200bwidth space and a no\u00a0break one",
    "[CLS] this was typed by hand [SEP] and so was [MASK]",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 101,
    # Long: one within the limit of 256 tokens, one far beyond it.
    LONG * 4,
    LONG * 12,
]

folder = Path(sys.argv[1])
out = Path(__file__).resolve().parent.parent / "testdata" / "goldens" / "encode"
assert len(SENTENCES) == len(set(SENTENCES)) == 50

torch.set_num_threads(1)
model = SentenceTransformer(str(folder), device="cpu").float().eval()
tokens = [model.tokenize([s])["input_ids"][0].tolist() for s in SENTENCES]
# One at a time, so that no padding enters.
embeddings = torch.cat([model.encode([s], convert_to_tensor=True) for s in SENTENCES]).float().contiguous()
assert embeddings.shape == (50, 384) and max(map(len, tokens)) == 256

out.mkdir(parents=True, exist_ok=True)
rows = [{"text": s, "tokens": t} for s, t in zip(SENTENCES, tokens)]
lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
(out / "minilm_50.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
save_file({"embeddings": embeddings}, out / "minilm_50.safetensors")
batched = model.encode(SENTENCES, batch_size=50, convert_to_tensor=True)
print("largest difference of the reference to itself in one padded batch:", (batched - embeddings).abs().max().item())
