"""Goldens of tokenisers that come without `tokenizer.json`: small vocabularies, learnt here from the sentences below, and the ids that the
tokenisers of transformers give with them; versions in encode_shared.py, and tokenizers 0.23.3, sentencepiece 0.2.3.

    python reference/encode_tokenisers.py [--full DIR]

testdata/goldens/encode/tokenisers/NAME.json holds the files of a folder (those of SentencePiece in base64), the texts and their ids. With
`--full DIR` the vocabularies of SentencePiece replace characters by all the rules of NFKC, whose table is large; compared by

    CHIASM_PARITY_TOKENS=DIR cargo test -p chiasm-encode --lib older_tokenisers -- --nocapture

Words that are equally frequent are learnt in an order that differs from run to run; each golden holds the vocabulary that its ids are of.
"""

import base64
import io
import json
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer, CLIPTokenizer, RobertaTokenizer, SiglipTokenizer, XLMRobertaTokenizer, XLNetTokenizer
from transformers.convert_slow_tokenizer import SentencePieceExtractor, check_number_comma

from encode_shared import full_dir

FULL = full_dir()

SENTENCES = [
    "A brown dog runs over the green meadow and carries a stick.",
    "Two children are playing in the snow, wearing red jackets.",
    "The man's bicycle isn't here; they've taken it, we'll see, I'm sure he'd know.",
    "Ein brauner Hund läuft über die grüne Wiese und trägt einen Stock.",
    "Zwei Kinder spielen im Schnee und tragen rote Jacken. Größe: 12,5 Meter.",
    "Un chien brun court à travers la prairie verte; déjà vu, garçon, cœur.",
    "Бурая собака бежит по зелёному лугу и несёт палку.",
    "Ένας καφέ σκύλος τρέχει στο πράσινο λιβάδι.",
    "一只棕色的狗在绿色的草地上奔跑。两个孩子在雪地里玩。",
    "茶色の犬が緑の草原を走っています。カタカナも。",
    "갈색 개가 푸른 초원을 달린다.",
    "كلب بني يجري فوق المرج الأخضر",
    "भूरा कुत्ता हरे मैदान में दौड़ता है।",
    "In 1999, 2,000 people paid $3.50 each (about 1,234,567 in all).",
    "e-mail: someone@example.org, http://example.org/a_b?c=d#e",
]

# What may go wrong: spaces of all kinds, controls, marks that join, signs beyond the basic plane, quotes, digits and commas, special tokens.
ODD = [
    "a", "  a  ", "a  b   c", "a\tb\nc\r\nd", "\u00a0a\u00a0b\u3000c\u2003d", "a\u200bb\u200dc\ufeffd", "\x00a\x01b\x7fc", "\x85a\u2028b\u2029c",
    "...", "!?!?", "don't", "DON'T", "We'll, they've; I'm", "''quoted'' ``text``", "“curly” ‘quotes’", "1,2,3", "9,", "a9,", "2,000,000.50",
    "½ ² ③ Ⅳ ㎏ ﬁ ﬀ", "Ｆｕｌｌ　ｗｉｄｔｈ １２３", "ﾊﾝｶｸ ｶﾞ", "e\u0301 = é, A\u030a = Å", "ạ\u0302\u0301", "İstanbul ISPARTA ıi", "ẞ ß SS", "ΣΊΣΥΦΟΣ ς",
    "naïve café déjà", "Ångström", "🙂", "👩‍👩‍👧‍👦 family", "🇩🇪🇫🇷", "👍🏽 ok", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𠀀𠀁 rare", "中文English混合123", "日本語。テスト", "한국어 시험",
    "\u1112\u1161\u11ab", "हिन्दी", "ไทยไม่มีช่องว่าง", "שָׁלוֹם", "العربية ١٢٣", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢", "a/b\\c|d", "C++ & C#", "x=y^2_i", "#tag @user", "http://example.org/a?b=c&d=e",
    "snake_case camelCase", "▁a ▁ b", "a▁b", "##a", "Ġa", "</w>", "<s>", "a <s> b", "<mask>", "a <mask> b", "a<mask>b", "[CLS]", "[MASK] b", "a[SEP]b", "<|endoftext|>",
    "a <|startoftext|> b", "<unk>", "<pad> a", "<cls>", "the</s> end", "&amp; &lt;", "ß" * 9, "a" * 120, "dog " * 30, "ab " * 3 + "  ", "—–‐- −", "…", "°C ‰ €5 £6 ¥7",
    "\ud7ff\ue000\ufffd", "\U0010ffff", "tab\there", "new\nline", " leading", "trailing ", "MiXeD CaSe", "ǅ ǆ Ǆ", "ﷺ", "\u0958 \u0915\u093c", "\u2126 \u212b \u212a", "a,b;c:d.e",
    "3.14 10:30 1/2", "(a) [b] {c}", "~`!@$%^*+=", "a\u0300\u0301\u0302b",
]
TEXTS = SENTENCES + ODD

# Replacements of a few characters, for small goldens.
RULES = {"\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u2003": " ", "\u200b": " ", "\ufeff": "", "\x01": "", "\x7f": "", "ﬁ": "fi", "½": "1⁄2"}
RULES |= {"²": "2", "③": "3", "㎏": "kg", "…": "...", "A\u030a": "\u00c5", "e\u0301": "\u00e9", "ﷺ": "صلى الله عليه وسلم"}
RULES |= {chr(0xFF01 + i): chr(0x21 + i) for i in range(94)}


def write(name, files, ids, texts=TEXTS):
    out = FULL or Path(__file__).resolve().parent.parent / "testdata" / "goldens" / "encode" / "tokenisers"
    out.mkdir(parents=True, exist_ok=True)
    golden = {"files": files, "texts": texts, "ids": ids}
    (out / f"{name}.json").write_text(json.dumps(golden, ensure_ascii=True).replace('], "', '],\n"') + "\n")
    print(f"{name}: {len(texts)} texts, {sum(map(len, ids))} tokens, {len({i for t in ids for i in t})} of them different")


def learnt(tokenizer, trainer):
    """The files of a byte-pair vocabulary."""
    tokenizer.train_from_iterator(SENTENCES, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return {"vocab.json": json.dumps(model["vocab"]), "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n"}


def encoded(kind, files, **options):
    with tempfile.TemporaryDirectory() as folder:
        for file, text in files.items():
            (Path(folder) / file).write_bytes(text if isinstance(text, bytes) else text.encode())
        tokenizer = kind.from_pretrained(folder, **options)
        return [tokenizer(text)["input_ids"] for text in TEXTS]


def clip():
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=900, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False)
    files = learnt(tokenizer, trainer)
    vocab = json.loads(files["vocab.json"])
    # Every byte, within a word and at its end, as CLIP's own vocabulary has it, and the special tokens last.
    for token in [*(letter + "</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]:
        vocab.setdefault(token, len(vocab))
    files["vocab.json"] = json.dumps(vocab)
    write("clip", files, encoded(CLIPTokenizer, files))


def roberta():
    for name, prefix in [("roberta", False), ("roberta_prefixed", True)]:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        files = learnt(tokenizer, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, special_tokens=special, show_progress=False))
        if prefix:
            files["tokenizer_config.json"] = json.dumps({"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True})
        write(name, files, encoded(RobertaTokenizer, files))


def bert():
    for name, options in [
        ("bert", {}),
        ("bert_cased", {"do_lower_case": False}),
        ("bert_accents", {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}),
    ]:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        lower = options.get("do_lower_case", True)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=options.get("strip_accents"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=special, show_progress=False)
        tokenizer.train_from_iterator(SENTENCES, trainer)
        vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        files = {"vocab.txt": "".join(word + "\n" for word, _ in vocab)}
        if options:
            files["tokenizer_config.json"] = json.dumps({"tokenizer_class": "BertTokenizer"} | options)
        write(name, files, encoded(BertTokenizer, files))


def unigram(**options):
    """A model of SentencePiece."""
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.tsv"
        hexed = lambda text: " ".join(f"{ord(c):X}" for c in text)
        rules.write_text("".join(f"{hexed(a)}\t{hexed(b)}\n" for a, b in sorted(RULES.items())))
        rule = {"normalization_rule_name": "nmt_nfkc"} if FULL else {"normalization_rule_tsv": str(rules)}
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 3), model_writer=out, hard_vocab_limit=False, character_coverage=1.0, num_threads=1,
            minloglevel=2, **rule, **options,
        )
        return out.getvalue()


def in_base64(file, model):
    return {file: base64.b64encode(model).decode()}


def sentence_pieces():
    model = unigram(vocab_size=520)
    files = {"sentencepiece.bpe.model": model}
    write("xlm_roberta", in_base64("sentencepiece.bpe.model", model), encoded(XLMRobertaTokenizer, files))

    controls = ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
    model = unigram(vocab_size=480, control_symbols=controls)
    for name, lower in [("xlnet", False), ("xlnet_lower", True)]:
        with tempfile.NamedTemporaryFile() as file:
            file.write(model)
            file.flush()
            extractor = SentencePieceExtractor(file.name)
        scores = [(p.piece, p.score if check_number_comma(p.piece) else p.score - 100) for p in extractor.proto.pieces]
        charsmap = extractor.proto.normalizer_spec.precompiled_charsmap
        tokenizer = XLNetTokenizer(vocab=scores, unk_id=0, do_lower_case=lower, _spm_precompiled_charsmap=charsmap)
        files = in_base64("spiece.model", model)
        if lower:
            files["tokenizer_config.json"] = json.dumps({"tokenizer_class": "XLNetTokenizer", "do_lower_case": True})
        write(name, files, [tokenizer(text)["input_ids"] for text in TEXTS])

    model = unigram(vocab_size=480, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spiece.model"
        path.write_bytes(model)
        tokenizer = SiglipTokenizer(str(path))
        # Left out: special tokens, which it looks for before it takes the punctuation away, ours behind; white space at the beginning, for which
        # it gives a token that no model was trained with; and two texts in which several characters are replaced together, where it takes
        # the longest that fits, and the fast tokenisers of transformers, whose library is ours too, graphemes as a whole or none of it.
        others = {"\uff8a\uff9d\uff76\uff78 \uff76\uff9e", "a\u0300\u0301\u0302b"}
        texts = [text for text in TEXTS if not any(token in text for token in ("<unk>", "<pad>", "</s>")) and text not in others]
        texts = [text for text in texts if not text.replace("\u2581", " ")[0].isspace()]
        ids = [tokenizer(text)["input_ids"] for text in texts]
    write("siglip", in_base64("spiece.model", model), ids, texts)


if not FULL:
    clip()
    roberta()
    bert()
sentence_pieces()
