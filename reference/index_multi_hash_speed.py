"""Multi-index hashing beside faiss: `index_multi_hash_speed.py PROGRAM [turns] [codes] [sets]`, PROGRAM being the built example multi_hash.

numpy 2.4.6, faiss-cpu 1.15.1; seeds 1 to 3. No golden: it prints a table. About 3 GB of memory with the ten million codes of the default.

The best 10 of uniform and of clustered codes; sets are `uniform-64,clustered-64,clustered-128` unless named. Clustered: signs of a random projection of a mixture of 10,000 Gaussians in 64 dimensions
(cosine within a component about 0.8), the queries being base vectors with noise a quarter as large as they are. One thread, CPU time per
query. The program and faiss run in turns, so that both meet the same neighbours on a shared machine; per turn the least of three rounds
counts (of one for the hashes of faiss, over 10 queries), shown is the median of the turns. faiss's indexes: Flat by its heap and by its counting, the better counts; BinaryHash and
BinaryMultiHash at the least number of flips at which the distances found are exact for every query, "none" where eight are too few or
queries of more than 150 ms still miss some. The program's distances are compared with Flat's each turn.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import faiss
import numpy as np

program = sys.argv[1]
turns = int(sys.argv[2]) if len(sys.argv) > 2 else 3
N = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000_000
SETS = (sys.argv[4] if len(sys.argv) > 4 else "uniform-64,clustered-64,clustered-128").split(",")
NQ, NQ_SLOW, K, ROUNDS, MS_MOST = 100, 10, 10, 3, 150
faiss.omp_set_num_threads(1)


def uniform(bits):
    return [np.random.default_rng(seed).integers(0, 256, (n, bits // 8), dtype=np.uint8) for seed, n in ((1, N), (2, NQ))]


def clustered(bits):
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((10_000, 64), dtype=np.float32)
    projection = rng.standard_normal((64, bits), dtype=np.float32)
    base, queries = np.empty((N, bits // 8), np.uint8), None
    for start in range(0, N, 100_000):
        n = min(100_000, N - start)
        x = centres[rng.integers(0, len(centres), n)] + 0.5 * rng.standard_normal((n, 64), dtype=np.float32)
        base[start : start + n] = np.packbits(x @ projection >= 0, axis=1, bitorder="little")
        if queries is None:
            x = x[:NQ] + 0.25 * rng.standard_normal((NQ, 64), dtype=np.float32)
            queries = np.packbits(x @ projection >= 0, axis=1, bitorder="little")
    return base, queries


def cpu_ms(search, queries):
    best = np.inf
    for _ in range(ROUNDS if len(queries) == NQ else 1):
        start = time.process_time()
        search(queries, K)
        best = min(best, 1e3 * (time.process_time() - start) / len(queries))
    return best


def exact(index, queries, expected):
    """The least number of flips that finds the distances of Flat."""
    for index.nflip in range(9):
        start = time.process_time()
        found = index.search(queries[:NQ_SLOW], K)[0]
        if np.array_equal(found, expected[:NQ_SLOW]):
            return True
        if 1e3 * (time.process_time() - start) / NQ_SLOW > MS_MOST:
            return False
    return False


def peers(bits, base, flat, queries, expected):
    """Name and search of each index of faiss, the slower ones over fewer queries."""
    yield "Flat", flat, queries
    m = max(1, round(bits / np.log2(N)))
    indexes = [(f"MultiHash {n} x {bits // n}", faiss.IndexBinaryMultiHash(bits, n, bits // n)) for n in (m, m + 1)]
    indexes.append(("Hash 20", faiss.IndexBinaryHash(bits, 20)))
    for name, index in indexes:
        index.add(base)
        if exact(index, queries, expected):
            yield f"{name}, {index.nflip} flips", index, queries[:NQ_SLOW]
        else:
            yield f"{name}, none", None, queries[:NQ_SLOW]


def ours(bits, folder, expected):
    answers = os.path.join(folder, "answers")
    words = [program, str(bits), f"{folder}/base", f"{folder}/queries", str(K), str(ROUNDS), "estimate,scan", answers]
    env = dict(os.environ, RAYON_NUM_THREADS="1")
    lines = subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    found = np.fromfile(answers, np.uint32).reshape(NQ, K)
    assert np.array_equal(found, expected), "the program's distances are not Flat's"
    times = {f"{what}, {row.split()[0]}": float(row.split()[at]) for row in lines[3:] for at, what in ((1, "batch"), (2, "alone"))}
    return times, lines[1]


print(faiss.get_compile_options())
for words in SETS:
    name, bits = words.split("-")[0], int(words.split("-")[1])
    base, queries = {"uniform": uniform, "clustered": clustered}[name](bits)
    with tempfile.TemporaryDirectory() as folder:
        base.tofile(f"{folder}/base")
        queries.tofile(f"{folder}/queries")
        flat = faiss.IndexBinaryFlat(bits)
        flat.add(base)
        expected = flat.search(queries, K)[0]
        # One index of faiss at a time, each in turns with the program: all at once would not fit into memory.
        print(f"\n{name}, {N} codes of {bits} bits, 10th at distance {np.median(expected[:, -1]):.0f}")
        print(f"{'peer':>26} {'peer ms':>9} {'batch ms':>9} {'alone ms':>9} {'scan ms':>9} {'peer / batch':>12} {'of turns':>14}", flush=True)
        for peer, index, asked in peers(bits, base, flat, queries, expected):
            if index is None:
                print(f"{peer:>26}", flush=True)
                continue
            rows = []
            for _ in range(turns):
                mine, built = ours(bits, folder, expected)
                theirs = np.inf
                for use_heap in (True, False) if index is flat else (True,):
                    index.use_heap = use_heap
                    theirs = min(theirs, cpu_ms(index.search, asked))
                rows.append((theirs, mine["batch, estimate"], mine["alone, estimate"], mine["batch, scan"]))
            ratios = [row[0] / row[1] for row in rows]
            shown = " ".join(f"{statistics.median(column):>9.3f}" for column in zip(*rows))
            print(f"{peer:>26} {shown} {statistics.median(ratios):>12.1f} {min(ratios):>6.1f} to {max(ratios):.1f}", flush=True)
        print(f"  {built}", flush=True)
        del index, flat
