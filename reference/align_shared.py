"""What the scripts of the classical bridges share: the synthetic rows, their labels, and how a golden is written.

Pinned: Python 3.11, numpy 2.4.6. Writes nothing itself; `align_subspace_goldens.py`, `align_discriminative_goldens.py` and
`align_hashing_goldens.py` beside it do. Every input is a multiple of 1/64, so that f32 and the decimal text hold it exactly.
"""

import json
import pathlib

import numpy as np

N_CLASSES = 4


def grid(a):
    """Rounded to multiples of 1/64."""
    return np.round(np.asarray(a) * 64) / 64


def synthetic(seed, n, n_new, dims, positive=False):
    """`n` training rows and `n_new` unseen ones of each view.

    Returns (train views, unseen views, classes [n], classes [n_new], label sets [n]). A row is its class's centre plus what its
    views share plus noise of its own. The label set of a row is its class and, for every third row, one more class.
    """
    rng = np.random.default_rng(seed)
    total = n + n_new
    classes = rng.permutation(np.arange(total) % N_CLASSES)
    latent = 1.3 * rng.normal(size=(N_CLASSES, 5))[classes] + rng.normal(size=(total, 5))
    views = []
    for d in dims:
        rows = latent @ rng.normal(size=(5, d)) + 0.9 * rng.normal(size=(total, d)) + 2 * rng.normal(size=d)
        views.append(grid(np.exp(0.25 * rows)) if positive else grid(rows))
    extra = rng.integers(0, N_CLASSES, size=total)
    sets = [sorted({int(c), int(e)}) if i % 3 == 0 else [int(c)] for i, (c, e) in enumerate(zip(classes, extra))]
    return [v[:n] for v in views], [v[n:] for v in views], classes[:n], classes[n:], sets[:n]


def one_hot(sets):
    """Label sets, or classes, as a 0/1 matrix [n, c]."""
    out = np.zeros((len(sets), N_CLASSES))
    for i, labels in enumerate(sets):
        out[i, labels] = 1
    return out


def signed(w, *others):
    """The entry of largest absolute value of each column of `w` made positive; `others` follow."""
    flip = np.sign(w[np.abs(w).argmax(0), np.arange(w.shape[1])])
    return [m * flip for m in (w, *others)]


def bits(projections, thresholds=0.0):
    """Codes as text, one string a row, '1' where the projection reaches its threshold; none may be too close to call."""
    away = np.abs(projections - thresholds)
    assert (away > 1e-7 * np.abs(projections).max(0)).all(), away.min()
    return ["".join("1" if b else "0" for b in row) for row in projections >= thresholds]


def plain(value):
    """Arrays to lists, numpy numbers to Python's."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def write(name, out):
    """testdata/goldens/align/`name`.json, at most 120 kB."""
    path = pathlib.Path(__file__).parent.parent / "testdata" / "goldens" / "align" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(out)) + "\n"
    assert len(text) < 120_000, (name, len(text))
    path.write_text(text)
    print("wrote", path.name, len(text), "bytes")
