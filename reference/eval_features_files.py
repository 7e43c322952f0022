"""Goldens of the feature file readers: testdata/goldens/eval_features/*.

numpy 2.4.6, scipy 1.17.1, h5py 3.16.0 (HDF5 2.0); seed 20240917.

One matrix X [7, 5] of multiples of 1/8 (exact in f16), integers N [7, 5] in -100..100, labels L, a sparse matrix S and a 0/1
matrix H are written in every layout that a reader knows. `expected.json` holds them once; each file must give the same numbers.
"""

import gzip
import json
import pathlib
import struct
import zipfile

import h5py
import numpy as np
import scipy.io
import scipy.sparse

out = pathlib.Path(__file__).parent.parent / "testdata/goldens/eval_features"
out.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(20240917)
X = rng.integers(-64, 64, (7, 5)) / 8
N = rng.integers(-100, 100, (7, 5))
L = np.array([3, 1, 10, 3, 2, -1, 10])
H = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0]])
T = rng.integers(0, 50, (4, 2, 3))
S = np.where(rng.random((7, 5)) < 0.4, X, 0)
words = ["cat", "dog", "cat|dog", "bird", "", "dog", "cat"]
expected = {"x": X, "n": N, "labels": L, "h": H, "s": S, "t_rows": T.reshape(4, 6), "t_matlab": T.reshape(4, 6, order="F")}
(out / "expected.json").write_text(json.dumps({k: v.tolist() for k, v in expected.items()} | {"words": words}) + "\n")

# MAT v5, plain and deflated.
cells = np.empty((7, 1), object)
cells[:, 0] = words
variables = {"X": X, "X32": X.astype("f4"), "Xt": X.T, "N8": N.astype("i1"), "N16": N.astype("i2"), "N64": N.astype("i8"),
             "L": L[:, None], "H": H.astype(bool), "S": scipy.sparse.csc_matrix(S), "T": T.astype("u2"),
             "C": np.array(["a", "bb", "ccc"]), "W": cells, "st": {"a": X}, "z": X + 1j, "E": np.zeros((0, 5)),
             "whole": np.round(X * 8)}
scipy.io.savemat(out / "plain.mat", variables)
scipy.io.savemat(out / "deflated.mat", variables, do_compression=True)
# The time in their heads would change with every run.
for name in ("plain.mat", "deflated.mat"):
    with open(out / name, "r+b") as f:
        f.write(b"MATLAB 5.0 MAT-file, written by scipy".ljust(116))


def big_endian_mat(path, name, a):
    """scipy writes its own endianness only: one f64 variable by hand."""
    tag = lambda kind, data: struct.pack(">ii", kind, len(data)) + data + bytes(-len(data) % 8)
    body = tag(6, struct.pack(">ii", 6, 0)) + tag(5, struct.pack(">ii", *a.shape)) + tag(1, name)
    body += tag(9, a.T.astype(">f8").tobytes())
    path.write_bytes(b"MATLAB 5.0 MAT-file, big-endian".ljust(124) + b"\x01\x00MI" + tag(14, body))
    assert (scipy.io.loadmat(path)[name.decode()] == a).all()


big_endian_mat(out / "big_endian.mat", b"X", X)


# MAT v7.3: what MATLAB writes is HDF5 with reversed dimensions, its class as an attribute, behind a block of 512 bytes.
def matlab(file, name, a, kind, **more):
    d = file.create_dataset(name, data=np.ascontiguousarray(a.T), **more)
    d.attrs["MATLAB_class"] = np.bytes_(kind)


with h5py.File(out / "v73.mat", "w", userblock_size=512, libver="earliest") as f:
    matlab(f, "X", X, "double", chunks=(2, 3), compression="gzip", shuffle=True)
    matlab(f, "X32", X.astype(">f4"), "single")
    matlab(f, "L", L[:, None].astype("f8"), "double")
    matlab(f, "H", H.astype("u1"), "logical")
    matlab(f, "T", T.astype("u2"), "uint16", chunks=(2, 1, 3), fletcher32=True)
    matlab(f, "C", np.array([[ord(c) for c in s.ljust(3)] for s in ("a", "bb", "ccc")], "u2"), "char")
    s = scipy.sparse.csc_matrix(S)
    g = f.create_group("S")
    g.attrs["MATLAB_class"] = np.bytes_("double")
    g.attrs["MATLAB_sparse"] = np.uint64(7)
    g["data"], g["ir"], g["jc"] = s.data, s.indices.astype("u8"), s.indptr.astype("u8")
with open(out / "v73.mat", "r+b") as f:
    f.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")

# HDF5 as h5py writes it, in the oldest and the newest forms.
for version in "earliest", "latest":
    with h5py.File(out / f"{version}.h5", "w", libver=version) as f:
        f["X"] = X
        f.create_dataset("deep/N", data=N.astype(">i2"), chunks=(4, 2), compression="gzip", shuffle=True)
        f.create_dataset("deep/f16", data=X.astype("f2"), chunks=(3, 5), maxshape=(None, 5))
        f["L"] = L
        f["H"] = H.astype(bool)
        f["T"] = T
        f["W"] = np.array(words, h5py.string_dtype())
        f["Wfixed"] = np.array(words, "S8")
        f["records"] = np.zeros(3, [("a", "f4"), ("b", "i4")])

# NumPy.
for kind in ("<f2", ">f4", "<f8", ">f8"):
    np.save(out / f"x_{'be' if kind[0] == '>' else 'le'}_{kind[1:]}.npy", X.astype(kind))
for kind in ("|i1", ">i2", "<i4", "<i8"):
    np.save(out / f"n_{kind[1:]}.npy", N.astype(kind))
np.save(out / "x_fortran.npy", np.asfortranarray(X.astype("f4")))
np.save(out / "h_bool.npy", H.astype(bool))
np.save(out / "labels.npy", L)
np.save(out / "words.npy", np.array(words))
np.save(out / "t.npy", T.astype("u1"))
np.save(out / "objects.npy", np.array([1, "a"], object))
np.save(out / "complex.npy", X.astype("c8"))
np.savez(out / "stored.npz", X=X.astype("f4"), L=L, W=np.array(words, "S"))
np.savez_compressed(out / "deflated.npz", X=X.astype("f4"), L=L)
# Times in the archives would change with every run.
for name in ("stored.npz", "deflated.npz"):
    with zipfile.ZipFile(out / name) as z:
        members = [(i.filename, i.compress_type, z.read(i)) for i in z.infolist()]
    with zipfile.ZipFile(out / name, "w") as z:
        for filename, method, data in members:
            z.writestr(zipfile.ZipInfo(filename), data, compress_type=method)

# TEXMEX and IDX.
for ending, a, kind in (("fvecs", X, "<f4"), ("ivecs", N, "<i4"), ("bvecs", H, "u1")):
    rows = b"".join(struct.pack("<i", a.shape[1]) + row.astype(kind).tobytes() for row in a)
    (out / f"m.{ending}").write_bytes(rows)
idx = struct.pack(">BBBBiii", 0, 0, 8, 3, 4, 2, 3) + T.astype("u1").tobytes()
(out / "t-idx3-ubyte").write_bytes(idx)
(out / "t-idx3-ubyte.gz").write_bytes(gzip.compress(idx, mtime=0))
print(sorted((p.name, p.stat().st_size) for p in out.iterdir()))
