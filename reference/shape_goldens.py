"""Goldens of shapes: files of one shape in every format, its measures, its outlines from three sides, and distances on its surface, by trimesh.

Pinned: Python 3.11, trimesh 5.2.0, rtree 1.4.1, numpy 2.4.6, scipy 1.17.1. Seed 7. All content is synthetic. Run from the repository's root:

    python -m venv .venv && .venv/bin/pip install trimesh==5.2.0 rtree==1.4.1 numpy==2.4.6 scipy==1.17.1
    .venv/bin/python reference/shape_goldens.py
"""

import json
from pathlib import Path

import numpy as np
import trimesh

OUT = Path(__file__).resolve().parent.parent / "testdata" / "goldens" / "media"
SIDE, REACH, N_VIEWS, ELEVATION = 48, 0.94, 12, np.radians(30)
BINS, FARTHEST = 64, 3.0


def shape() -> trimesh.Trimesh:
    """A flat box with a ball on one of its ends: no side is like another but from below."""
    box = trimesh.creation.box(extents=(2.0, 1.0, 0.4))
    ball = trimesh.creation.icosphere(subdivisions=1, radius=0.4)
    ball.apply_translation((0.6, -0.1, 0.7))
    both = trimesh.util.concatenate([box, ball])
    both.apply_translation((3.0, -2.0, 1.0))
    return both


def write_files(mesh: trimesh.Trimesh) -> None:
    for name, kind in [("shape.stl", "stl"), ("shape_text.stl", "stl_ascii"), ("shape.off", "off")]:
        data = mesh.export(file_type=kind)
        (OUT / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    (OUT / "shape.ply").write_bytes(mesh.export(file_type="ply", encoding="binary"))
    (OUT / "shape_text.ply").write_bytes(mesh.export(file_type="ply", encoding="ascii"))
    header = (
        f"ply\nformat binary_big_endian 1.0\nelement vertex {len(mesh.vertices)}\nproperty double x\nproperty double y\nproperty double z\n"
        f"element face {len(mesh.faces)}\nproperty uchar flags\nproperty list ushort int vertex_indices\nend_header\n"
    )
    faces = b"".join(b"\x07" + np.array([3], ">u2").tobytes() + np.array(face, ">i4").tobytes() for face in mesh.faces)
    (OUT / "shape_big.ply").write_bytes(header.encode() + mesh.vertices.astype(">f8").tobytes() + faces)
    # In OBJ files y points upwards, and z to the one who looks.
    x, y, z = mesh.vertices.T
    lines = [f"v {a:.9g} {b:.9g} {c:.9g}" for a, b, c in zip(x, z, -y)]
    lines += ["f " + " ".join(f"{corner + 1}//1" for corner in face) for face in mesh.faces]
    (OUT / "shape.obj").write_text("# a shape\nvn 0 0 1\n" + "\n".join(lines) + "\n")


def outline(mesh: trimesh.Trimesh, view: int) -> str:
    """Which of SIDE x SIDE rays towards the shape meet it, row by row from the top."""
    middle = mesh.bounds.mean(axis=0)
    radius = np.linalg.norm(mesh.vertices - middle, axis=1).max()
    azimuth = 2 * np.pi * (view / N_VIEWS - 0.25)
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    back = np.array([np.cos(ELEVATION) * np.cos(azimuth), np.cos(ELEVATION) * np.sin(azimuth), np.sin(ELEVATION)])
    up = np.cross(back, right)
    at = (2 * (np.arange(SIDE) + 0.5) / SIDE - 1) / REACH
    rows, columns = np.meshgrid(-at, at, indexing="ij")
    starts = middle + radius * (columns.reshape(-1, 1) * right + rows.reshape(-1, 1) * up + 3 * back)
    hits = mesh.ray.intersects_any(starts, np.tile(-back, (len(starts), 1)))
    return "".join("#" if hit else "." for hit in hits)


def distances(mesh: trimesh.Trimesh) -> list[float]:
    """Shares of distances between two random points of the surface, in BINS bins up to FARTHEST times their mean, each shared by the two nearest bins."""
    n = 1_000_000
    points, _ = trimesh.sample.sample_surface(mesh, 2 * n, seed=7)
    between = np.linalg.norm(points[:n] - points[n:], axis=1)
    place = np.clip(between / (FARTHEST * between.mean()) * (BINS - 1), 0, BINS - 1)
    low = np.minimum(place.astype(int), BINS - 2)
    bins = np.bincount(low, 1 - (place - low), BINS) + np.bincount(low + 1, place - low, BINS)
    return (bins / n).round(7).tolist()


def main() -> None:
    mesh = shape()
    write_files(mesh)
    golden = {
        "n_vertices": len(mesh.vertices),
        "n_triangles": len(mesh.faces),
        "area": mesh.area,
        "bounds": mesh.bounds.tolist(),
        "outlines": {str(view): outline(mesh, view) for view in (0, 1, 4)},
        "distances": distances(mesh),
    }
    (OUT / "shape.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
