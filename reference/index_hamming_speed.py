"""Search of binary codes beside faiss: `index_hamming_speed.py PROGRAM [turns]`, PROGRAM being the built example hamming_scan.

numpy 2.4.6, faiss-cpu 1.15.1; seed 1. No golden: it prints a table.

A million random codes, k = 10, on one and on two threads. The program and faiss (IndexBinaryFlat) run in turns, five rounds each, so
that both meet the same neighbours on a shared machine; faiss with its heap and with its counting, the better counts. Per turn the
least wall time counts. Shown: the least of all turns, the median of the turns' ratios and their range. On a machine where others work
the figures of two threads say little: faiss's threads wait for each other.
"""

import os
import statistics
import subprocess
import sys
import time

import faiss
import numpy as np

program, turns = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
N, ROUNDS = 1_000_000, 5
rng = np.random.default_rng(1)
base = {b: rng.integers(0, 256, (N, b // 8), dtype=np.uint8) for b in (64, 128, 256)}
queries = {b: rng.integers(0, 256, (64, b // 8), dtype=np.uint8) for b in base}
indexes = {}
for b, codes in base.items():
    indexes[b] = faiss.IndexBinaryFlat(b)
    indexes[b].add(codes)


def ours(threads):
    env = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    lines = subprocess.run([program, str(N), str(ROUNDS)], env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = (line.split() for line in lines[2:])
    return {(int(r[0]), int(r[3])): float(r[4]) for r in rows if r[1:3] == ["top", "10"]}


def theirs(threads):
    faiss.omp_set_num_threads(threads)
    best = {}
    for b in base:
        for n in (1, 64):
            for i in range(2 * ROUNDS):
                indexes[b].use_heap = i % 2 == 0
                start = time.perf_counter()
                indexes[b].search(queries[b][:n], 10)
                best[b, n] = min(best.get((b, n), np.inf), 1e3 * (time.perf_counter() - start))
    return best


print(faiss.get_compile_options())
print(f"{'threads':>7} {'bits':>5} {'queries':>7} {'ours ms':>9} {'faiss ms':>9} {'faiss / ours':>12} {'of turns':>16}")
for threads in (1, 2):
    pairs = [(ours(threads), theirs(threads)) for _ in range(turns)]
    for key in pairs[0][1]:
        a, b = min(p[0][key] for p in pairs), min(p[1][key] for p in pairs)
        ratios = [p[1][key] / p[0][key] for p in pairs]
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        print(f"{threads:>7} {key[0]:>5} {key[1]:>7} {a:>9.3f} {b:>9.3f} {statistics.median(ratios):>12.2f} {spread:>16}")
