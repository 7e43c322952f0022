"""What words add to models, and how much some of them should count: the figures by which `SOME_WORDS` and `FEW_WORDS` were chosen.

Python 3.11, nothing else. Prints, writes nothing. Photos 1 to 400 of a caption file teach the space, 401 to 600 are to choose by, the rest to look
at afterwards. From a folder with the photos 1 to 800, each with its first caption beside it as NAME.txt:

    chiasm space fit --image mobilenet_v2 --text all-MiniLM-L6-v2 --pairs FIRST_400.csv --images FOLDER --method cca -o h.space
    chiasm index FOLDER --space h.space --library LIBRARY
    chiasm serve --library LIBRARY --port 7713 &
    python reference/hybrid_weights.py http://127.0.0.1:7713 captions.txt

The rankings of models and of words come from the server, each alone; they are joined here by reciprocal ranks with each weight for items that hold some of the words. Queries are
whole captions that are not in the library (every second one), and the 2 to 5 rarest words (by the first 400 photos) of the caption in the library or of another.
"""

import collections
import csv
import json
import re
import sys
import urllib.request

URL, TABLE = sys.argv[1:3]
WEIGHTS = (0, 0.05, 0.1, 0.25, 0.5, 1)
captions = collections.OrderedDict()
with open(TABLE, newline="") as table:
    for name, caption in list(csv.reader(table))[1:]:
        captions.setdefault(name, []).append(caption)
names = list(captions)


def words_of(text):
    return re.findall("[a-z]{3,}", text.lower())


frequency = collections.Counter(w for name in names[:400] for caption in captions[name] for w in set(words_of(caption)))


def rarest(caption, n):
    kept = sorted(dict.fromkeys(words_of(caption)), key=lambda word: frequency[word])[:n]
    return " ".join(word for word in words_of(caption) if word in kept)


def ask(text, lane):
    body = json.dumps({"query": [{"text": text}], "k": 200, "lanes": [lane], "kinds": ["image"]}).encode()
    request = urllib.request.Request(URL + "/api/v1/search", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        return [(hit["name"], hit["all_words"]) for hit in json.load(reply)["hits"]]


def joined(models, words, weight):
    scores = collections.defaultdict(float)
    for at, (name, _) in enumerate(models):
        scores[name] += 1 / (61 + at)
    for at, (name, has_all) in enumerate(words):
        scores[name] += (1 if has_all else weight) / (61 + at)
    return sorted(scores, key=lambda name: -scores[name])


def figures(title, queries):
    hits = {key: [0, 0, 0] for key in ("models", *WEIGHTS)}
    for name, text in queries:
        models, words = ask(text, "meaning"), ask(text, "words")
        for key, counts in hits.items():
            order = [n for n, _ in models] if key == "models" else joined(models, words, key)
            rank = order.index(name) if name in order else len(names)
            for i, k in enumerate((1, 5, 10)):
                counts[i] += rank < k
    print(title, *(f"{key}: " + "/".join(f"{100 * c / len(queries):.1f}" for c in counts) for key, counts in hits.items()), sep="  ", flush=True)


for part, chosen in (("401-600", names[400:600]), ("601-", names[600:])):
    figures(f"{part} whole captions", [(name, captions[name][i]) for name in chosen for i in (1, 3)])
    for which, title in ((0, "of the library's caption"), (1, "of another")):
        for n in (2, 3, 4, 5):
            figures(f"{part} {n} words {title}", [(name, rarest(captions[name][which], n)) for name in chosen])
