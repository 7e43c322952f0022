"""Emoji pictures and their names in six languages as JSON lines, for `train.toml`; and those that a training has set aside, a table for each language.

    python models/chiasm-nano/emoji.py FOLDER
    python models/chiasm-nano/emoji.py FOLDER SET_ASIDE OUT

where FOLDER holds `png72/emoji_u<hex>[_<hex>...].png` (Noto Emoji, Apache-2.0) and `annotations.<language>.json` (Unicode CLDR, Unicode V3). Writes
`emoji.jsonl` beside this script: `image`, and for each language its name and its keywords. With SET_ASIDE, the `set_aside.json` of a training, it writes
`OUT/LANGUAGE.csv` instead, `image,text`: picture and name of each emoji that was set aside, for `chiasm eval`. Python 3.11, no packages.
"""

import csv
import json
import sys
from pathlib import Path

LANGUAGES = ["en", "zh", "de", "fr", "es", "ja"]
folder, here = Path(sys.argv[1]).resolve(), Path(__file__).resolve().parent
annotations = {}
for language in LANGUAGES:
    with open(folder / f"annotations.{language}.json") as file:
        annotations[language] = json.load(file)["annotations"]["annotations"]

rows = []
for emoji in sorted(annotations["en"]):
    points = [f"{ord(c):04x}" for c in emoji if c != "\ufe0f"]
    picture = folder / "png72" / f"emoji_u{'_'.join(points)}.png"
    if not picture.is_file():
        continue
    row = {"image": str(picture)}
    for language in LANGUAGES:
        of = annotations[language].get(emoji, {})
        texts = list(of.get("tts", []))
        if of.get("default"):
            texts.append(", ".join(of["default"]))
        row[language] = texts
    rows.append(row)

if len(sys.argv) == 2:
    with open(here / "emoji.jsonl", "w") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
else:
    # The emoji are the second source of `train.toml`, number 1.
    aside = [number for source, number in json.loads(Path(sys.argv[2]).read_text()) if source == 1]
    to = Path(sys.argv[3])
    to.mkdir(parents=True, exist_ok=True)
    for language in LANGUAGES:
        with open(to / f"{language}.csv", "w", newline="") as out:
            table = csv.writer(out)
            table.writerow(["image", "text"])
            table.writerows([rows[i]["image"], rows[i][language][0]] for i in aside if rows[i][language])
