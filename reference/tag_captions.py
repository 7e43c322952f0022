"""A table for `chiasm tag import`: the first 300 pictures of `chiasm demo` with the colours and shapes that their captions name.

    python reference/tag_captions.py chiasm-demo/train.csv > tags.csv

Python 3.11, nothing beside it.
"""

import csv
import re
import sys

TAGS = "red orange yellow green blue purple pink brown black white grey gray circle square triangle star heart cross plus ring".split()
PICTURES = 300

with open(sys.argv[1], encoding="utf-8", newline="") as table:
    rows = [(row["image"], [tag for tag in TAGS if re.search(rf"\b{tag}s?\b", row["text"])]) for row in csv.DictReader(table)]
out = csv.writer(sys.stdout, lineterminator="\n")
out.writerow(["file", "tags"])
out.writerows((image, "|".join(tags)) for image, tags in [row for row in rows if row[1]][:PICTURES])
