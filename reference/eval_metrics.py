"""Goldens of the retrieval metrics: testdata/goldens/eval/metrics.json.

ranx 0.3.21, pytrec_eval-terrier 0.5.11, numpy 2.4.6; seed 20240601.

200 random queries of 1 to 24 documents: a third binary, a third graded 0..3, a third graded with many ties; some with nothing
relevant, some with everything, some with judged documents that were not retrieved. Documents are listed in the order of their ids;
both oracles are fed rankings whose ties were broken beforehand by (score descending, id ascending), since each has a rule of its own.
"""

import json
import pathlib

import numpy as np
import pytrec_eval
from ranx import Qrels, Run, evaluate

rng = np.random.default_rng(20240601)
CUTS = (1, 3, 5, 10)
queries = []
for i in range(200):
    n = int(rng.integers(1, 25))
    top = 1 if i % 3 == 0 else 3
    gains = rng.integers(0, top + 1, n) * (rng.random(n) < 0.5)
    if i % 17 == 0:
        gains[:] = 0
    if i % 19 == 0:
        gains[:] = rng.integers(1, top + 1, n)
    scores = rng.permutation(n) / 8 if i % 3 < 2 else rng.integers(0, 4, n) / 8
    missing = rng.integers(0, top + 1, int(rng.integers(0, 4))) if i % 2 and i % 17 else np.zeros(0, int)
    queries.append((scores.astype(float), gains.astype(int), missing.astype(int)))

qrel, run = {}, {}
for i, (scores, gains, missing) in enumerate(queries):
    docs = {f"d{j:03}": int(g) for j, g in enumerate(gains)}
    docs.update({f"m{j:03}": int(g) for j, g in enumerate(missing)})
    order = sorted(range(len(scores)), key=lambda j: (-scores[j], j))
    qrel[f"q{i:03}"] = docs
    run[f"q{i:03}"] = {f"d{j:03}": float(len(order) - r) for r, j in enumerate(order)}

names = {"map", "ndcg", "recip_rank", "Rprec", "iprec_at_recall"}
for name in ("P", "recall", "map_cut", "ndcg_cut", "success"):
    names.add(name + "." + ",".join(map(str, CUTS)))
trec = pytrec_eval.RelevanceEvaluator(qrel, names).evaluate(run)

keep = [q for q in qrel if any(g > 0 for g in qrel[q].values())]
other = ["map", "ndcg", "ndcg_burges", "mrr", "r-precision"]
other += [f"{m}@{k}" for m in ("map", "ndcg", "ndcg_burges", "precision", "recall", "hit_rate") for k in CUTS]
# ranx drops documents of relevance 0 from the qrels by itself; queries without any are left out, as chiasm leaves them out.
ranx_qrels = Qrels({q: {d: g for d, g in qrel[q].items() if g > 0} for q in keep})
ranx_run = Run({q: run[q] for q in keep})
evaluate(ranx_qrels, ranx_run, other, make_comparable=True)
ranx_scores = {m: dict(ranx_run.scores[m]) for m in other}

out = []
for i, (scores, gains, missing) in enumerate(queries):
    q = f"q{i:03}"
    entry = {"scores": scores.tolist(), "gains": gains.tolist(), "missing": missing.tolist()}
    if q in keep:
        entry["trec"] = {k: float(v) for k, v in sorted(trec[q].items())}
        entry["ranx"] = {m: float(ranx_scores[m][q]) for m in other}
    out.append(entry)
path = pathlib.Path(__file__).parent.parent / "testdata/goldens/eval/metrics.json"
path.write_text("[\n" + ",\n".join(json.dumps(e) for e in out) + "\n]\n")
print(path, path.stat().st_size, len(keep))
