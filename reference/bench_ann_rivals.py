"""Peers of `chiasm bench ann`: the approximate indexes of faiss, hnswlib, usearch, ScaNN and SVS over the same vectors, timed here.

Pinned: Python 3.11, numpy 2.4.6, faiss-cpu 1.15.1, hnswlib 0.8.0, usearch 2.26.6, scann 1.4.2, scalable-vs 0.5.0. `chiasm bench ann --python PYTHON` calls it:

    python bench_ann_rivals.py PEER DIM THREADS BASE TRAIN QUERIES_OOD QUERIES_ID    a request a line on stdin, an answer a line on stdout

The files are little-endian f32, row after row, of unit length; TRAIN (a sample of queries of the other modality) is `-` where there is none. Requests and answers:

    {"do": "build"}  ->  {"wall", "cpu", "memory_mib", "index_bytes", "about", "ladders"}
    {"do": "search", "queries": 0 or 1, "setting": {...}, "threads": N, "rounds": N, "hits": bool}  ->  {"wall", "cpu", "hits"}

Seconds are those of all rounds, `cpu` of all threads together. `memory_mib` is what the process holds in private pages after the build above what it held before,
the base itself given back; `index_bytes` is the index's own word, its size once written. `ladders` are lists of settings, of growing effort each. `hits` are row
numbers, 10 a query, -1 where there is none. All queries go into one call. The best of what each library's own documents advise is asked of it: see `PEERS`.
"""

import ctypes
import gc
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path

K = 10
SEED = 1
WIDTHS = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 896, 1280, 1792]
PROBES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]


def written(write):
    """Bytes of the files that `write` makes in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())


def near_power_of_two(x):
    return 1 << max(2, round(math.log2(x)))


def ladder(name, values, **others):
    return [{name: v, **others} for v in values]


class Faiss:
    def __init__(self, threads):
        import faiss

        self.faiss = faiss
        faiss.omp_set_num_threads(threads)

    def threads(self, n):
        self.faiss.omp_set_num_threads(n)

    def bytes(self):
        # Counted as it is written: memory may not hold it twice.
        total = 0

        def count(block):
            nonlocal total
            total += len(block)

        self.faiss.write_index(self.index, self.faiss.PyCallbackIOWriter(count))
        return total

    def search(self, queries):
        return self.index.search(queries, K)[1]


class FaissIvfPq(Faiss):
    """4-bit product quantisation scanned by shuffles, the best of it scored again. About sqrt(n) lists: four times as many are slower here."""

    def __init__(self, threads, subspace, refine):
        super().__init__(threads)
        self.subspace, self.refine = subspace, refine

    def build(self, base, train):
        faiss, (n, dim) = self.faiss, base.shape
        lists, parts = near_power_of_two(n ** 0.5), dim // self.subspace
        name = f"IVF{lists},PQ{parts}x4fs,{self.refine}"
        self.index = faiss.index_factory(dim, name, faiss.METRIC_INNER_PRODUCT)
        self.ivf = faiss.extract_index_ivf(self.index)
        self.index.train(base)
        self.index.add(base)
        probes = [p for p in PROBES if p <= lists]
        return f"faiss {faiss.__version__}: {name}", [ladder("nprobe", probes, k_factor=k) for k in (2, 4, 8, 16, 32, 64)]

    def set(self, nprobe, k_factor):
        self.ivf.nprobe, self.index.k_factor = nprobe, k_factor


class FaissHnsw(Faiss):
    def __init__(self, threads, m, codes):
        super().__init__(threads)
        self.m, self.codes = m, codes

    def build(self, base, train):
        faiss = self.faiss
        name = f"HNSW{self.m},{self.codes}"
        self.index = faiss.index_factory(base.shape[1], name, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = 200
        self.index.train(base)
        self.index.add(base)
        return f"faiss {faiss.__version__}: {name}, efConstruction 200", [ladder("efSearch", WIDTHS)]

    def set(self, efSearch):
        self.index.hnsw.efSearch = efSearch


class FaissNsg(Faiss):
    """L2, which ranks unit vectors as the inner product does and is what NSG's pruning is made for."""

    def build(self, base, train):
        faiss = self.faiss
        self.index = faiss.IndexNSGFlat(base.shape[1], 32, faiss.METRIC_L2)
        self.index.build_type, self.index.GK = 1, 64
        self.index.train(base)
        self.index.add(base)
        return f"faiss {faiss.__version__}: NSG32,Flat, NN-descent of 64", [ladder("search_L", WIDTHS)]

    def set(self, search_L):
        self.index.nsg.search_L = search_L


class Hnswlib:
    def __init__(self, threads, m):
        import hnswlib

        self.lib, self.m, self.n_threads = hnswlib, m, threads

    def build(self, base, train):
        from importlib.metadata import version

        self.index = self.lib.Index(space="ip", dim=base.shape[1])
        self.index.init_index(max_elements=len(base), ef_construction=200, M=self.m, random_seed=SEED)
        self.index.set_num_threads(self.n_threads)
        self.index.add_items(base)
        return f"hnswlib {version('hnswlib')}: M {self.m}, ef_construction 200", [ladder("ef", WIDTHS)]

    def bytes(self):
        return self.index.index_file_size()

    def threads(self, n):
        self.index.set_num_threads(n)

    def set(self, ef):
        self.index.set_ef(ef)

    def search(self, queries):
        return self.index.knn_query(queries, K)[0]


class Usearch:
    def __init__(self, threads, dtype):
        import usearch
        from usearch.index import Index

        self.lib, self.make, self.dtype, self.n_threads = usearch, Index, dtype, threads

    def build(self, base, train):
        import numpy as np

        self.index = self.make(ndim=base.shape[1], metric="ip", dtype=self.dtype, connectivity=16, expansion_add=200)
        self.index.add(np.arange(len(base), dtype=np.uint64), base, threads=self.n_threads)
        about = f"usearch {self.lib.__version__}: {self.dtype}, {self.index.hardware_acceleration}, connectivity 16, expansion_add 200"
        return about, [ladder("expansion_search", WIDTHS)]

    def bytes(self):
        return self.index.serialized_length

    def threads(self, n):
        self.n_threads = n

    def set(self, expansion_search):
        self.index.expansion_search = expansion_search

    def search(self, queries):
        return self.index.search(queries, K, threads=self.n_threads).keys


class Scann:
    """Leaves, sample and threshold as ScaNN's documents advise for inner products of unit vectors."""

    def __init__(self, threads, soar):
        import scann

        self.lib, self.soar, self.n_threads = scann, soar, threads

    def build(self, base, train):
        from importlib.metadata import version

        n = len(base)
        leaves = near_power_of_two(2 * n ** 0.5)
        spill = {"soar_lambda": 1.5, "overretrieve_factor": 2.0} if self.soar else {}
        builder = self.lib.scann_ops_pybind.builder(base, K, "dot_product").set_n_training_threads(self.n_threads)
        builder = builder.tree(num_leaves=leaves, num_leaves_to_search=leaves // 20 + 1, training_sample_size=min(n, 250_000), **spill)
        self.index = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).build()
        about = f"scann {version('scann')}: {leaves} leaves, blocks of 2, anisotropic 0.2{', SOAR 1.5' if self.soar else ''}"
        probes = [p for p in PROBES if p <= leaves]
        return about, [ladder("leaves", probes, reorder=r) for r in (20, 40, 80, 160, 320)]

    def bytes(self):
        return written(lambda folder: self.index.serialize(str(folder)))

    def threads(self, n):
        self.n_threads = n
        self.index.set_num_threads(n)

    def set(self, leaves, reorder):
        self.leaves, self.reorder = leaves, reorder

    def search(self, queries):
        how = {"final_num_neighbors": K, "pre_reorder_num_neighbors": self.reorder, "leaves_to_search": self.leaves}
        if self.n_threads == 1:
            return self.index.search_batched(queries, **how)[0]
        return self.index.search_batched_parallel(queries, **how)[0]


class Svs:
    def __init__(self, threads, codes):
        import svs

        self.svs, self.codes, self.n_threads = svs, codes, threads

    def build(self, base, train):
        import numpy as np

        svs = self.svs
        how = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=32, window_size=200)
        about = f"svs {svs.library_version()}: {self.codes}, degree 32, window 200, alpha 0.95"
        with tempfile.TemporaryDirectory() as folder:
            if self.codes == "float16":
                data = base.astype(np.float16)
            else:
                file = os.path.join(folder, "base.fvecs")
                svs.write_vecs(base, file)
                loader = svs.VectorDataLoader(file, svs.DataType.float32, dims=base.shape[1])
                data = self.compressed(loader, base, train)
            self.index = svs.Vamana.build(how, data, svs.DistanceType.MIP, num_threads=self.n_threads)
        if not self.codes.startswith("LeanVec"):
            return about, [[{"window": w} for w in WIDTHS]]
        # The first stage keeps more than it visits, for the second to score again.
        return about, [[{"window": w, "capacity": max(w, more)} for w in WIDTHS] for more in (0, 40, 80, 160)]

    def compressed(self, loader, base, train):
        import numpy as np

        svs = self.svs
        if self.codes == "LVQ4x8":
            return svs.LVQLoader(loader, primary=4, residual=8)
        if self.codes == "LVQ8":
            return svs.LVQLoader(loader, primary=8)
        kinds = {"primary_kind": svs.LeanVecKind.lvq8, "secondary_kind": svs.LeanVecKind.lvq8}
        if self.codes == "LeanVec":
            return svs.LeanVecLoader(loader, leanvec_dims=160, **kinds)
        if train is None:
            raise ValueError("LeanVec-OOD needs a sample of queries, and there is none")
        data, query = svs.compute_leanvec_matrices(base, train, 160)
        return svs.LeanVecLoader(loader, leanvec_dims=160, data_matrix=np.ascontiguousarray(data), query_matrix=np.ascontiguousarray(query), **kinds)

    def bytes(self):
        return written(lambda folder: self.index.save(*(str(folder / part) for part in ("config", "graph", "data"))))

    def threads(self, n):
        self.index.num_threads = n

    def set(self, window, capacity=None):
        parameters = self.index.search_parameters
        config = self.svs.SearchBufferConfig
        parameters.buffer_config = config(window) if capacity is None else config(window, capacity)
        self.index.search_parameters = parameters

    def search(self, queries):
        return self.index.search(queries, K)[0]


PEERS = {
    "faiss-ivfpq2": lambda t: FaissIvfPq(t, 2, "RFlat"),
    "faiss-ivfpq2-sq8": lambda t: FaissIvfPq(t, 2, "Refine(SQ8)"),
    "faiss-ivfpq4": lambda t: FaissIvfPq(t, 4, "RFlat"),
    "faiss-hnsw32-sq8": lambda t: FaissHnsw(t, 32, "SQ8"),
    "faiss-hnsw16": lambda t: FaissHnsw(t, 16, "Flat"),
    "faiss-hnsw32": lambda t: FaissHnsw(t, 32, "Flat"),
    "faiss-nsg32": FaissNsg,
    "hnswlib-16": lambda t: Hnswlib(t, 16),
    "hnswlib-32": lambda t: Hnswlib(t, 32),
    "usearch-bf16": lambda t: Usearch(t, "bf16"),
    "scann": lambda t: Scann(t, False),
    "scann-soar": lambda t: Scann(t, True),
    "svs-f16": lambda t: Svs(t, "float16"),
    "svs-lvq4x8": lambda t: Svs(t, "LVQ4x8"),
    "svs-leanvec": lambda t: Svs(t, "LeanVec"),
    "svs-leanvec-ood": lambda t: Svs(t, "LeanVec-OOD"),
}


def private_mib():
    """Private pages of this process, after what was freed has gone back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


def run(peer, dim, threads, base, train, *queries):
    import numpy as np

    def load(file):
        return np.fromfile(file, "<f4").reshape(-1, dim)

    def mapped(file):
        # The base stays in its file, so that memory holds the index alone, however large both are.
        return np.memmap(file, "<f4", "r").reshape(-1, dim)

    queries = [load(file) for file in queries]
    subject = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "build":
                subject = PEERS[peer](threads)
                before = private_mib()
                rows, sample = mapped(base), None if train == "-" else load(train)
                wall, cpu = time.perf_counter(), time.process_time()
                about, ladders = subject.build(rows, sample)
                answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "about": about, "ladders": ladders}
                del rows, sample
                answer["memory_mib"] = private_mib() - before
                answer["index_bytes"] = subject.bytes()
            else:
                subject.threads(request["threads"])
                subject.set(**request["setting"])
                asked = queries[request["queries"]]
                wall, cpu = time.perf_counter(), time.process_time()
                for _ in range(request["rounds"]):
                    found = subject.search(asked)
                answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
                if request["hits"]:
                    answer["hits"] = np.asarray(found).astype(np.int64).ravel().tolist()
        except Exception as error:  # one line of answer whatever happens
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    # Libraries that print must not disturb the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = sys.argv[3]
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
