"""Triangle meshes: solids with random proportions that look different from every side, and ``.obj`` files.

A mesh is a pair ``(vertices, faces)``: floats (v, 3) and row numbers (f, 3). Solids of several parts are the parts laid into
one another; a renderer with a depth buffer needs no more. Every solid here lacks rotational symmetry, for a pose that
cannot be seen cannot be learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Mesh = tuple[np.ndarray, np.ndarray]

#: Distance of the vertex farthest from the centre, after `centred`.
RADIUS = 0.8


def as_mesh(mesh: Any, name: str = "mesh") -> Mesh:
    """Check a mesh: float64 vertices (v, 3), int64 faces (f, 3).

    Raises
    ------
    ValueError
        Not a pair, other shapes, no face, a vertex that is not finite, or a face that names a vertex that is not there.
    """
    try:
        vertices, faces = mesh
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair (vertices, faces), got {type(mesh).__name__}") from None
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        shapes = f"{vertices.shape} and {faces.shape}"
        raise ValueError(f"{name} must have vertices (v, 3) and at least one face (f, 3), got shapes {shapes}")
    if faces.dtype.kind not in "iu":
        raise ValueError(f"{name}: faces must be whole row numbers of vertices, got {faces.dtype}")
    if not np.isfinite(vertices).all():
        row = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
        raise ValueError(f"{name}: vertex {row} is not finite")
    if faces.min() < 0 or faces.max() >= len(vertices):
        span = f"{faces.min()} to {faces.max()}"
        raise ValueError(f"{name}: faces must name vertices 0 to {len(vertices) - 1}, got {span}")
    return vertices, faces.astype(np.int64)


def centred(mesh: Mesh) -> Mesh:
    """The mesh with the centre of its bounding box at the origin, scaled so that no vertex is farther than `RADIUS`.

    >>> vertices, _ = centred(box((2, 2, 2), (5, 5, 5)))
    >>> vertices.mean(axis=0).round(6).tolist(), round(float(np.linalg.norm(vertices, axis=1).max()), 6)
    ([0.0, 0.0, 0.0], 0.8)
    """
    vertices, faces = mesh
    used = vertices[np.unique(faces)]
    vertices = vertices - (used.min(axis=0) + used.max(axis=0)) / 2
    radius = np.linalg.norm(vertices[np.unique(faces)], axis=1).max()
    if radius == 0:
        raise ValueError("mesh has no extent: all its vertices are one point")
    return vertices * (RADIUS / radius), faces


def union(*meshes: Mesh) -> Mesh:
    """Several meshes as one."""
    offsets = np.cumsum([0, *(len(vertices) for vertices, _ in meshes[:-1])])
    faces = [faces + offset for (_, faces), offset in zip(meshes, offsets)]
    return np.concatenate([vertices for vertices, _ in meshes]), np.concatenate(faces)


def box(size: Sequence[float] | np.ndarray, centre: Sequence[float] | np.ndarray = (0, 0, 0)) -> Mesh:
    """A cuboid of edge lengths `size`: 8 vertices, 12 faces."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [(a, b, c) for a, b, c, _ in quads] + [(a, c, d) for a, _, c, d in quads]
    return corners * np.asarray(size, float) + np.asarray(centre, float), np.array(faces)


def _grid(points: np.ndarray, closed: tuple[bool, bool]) -> Mesh:
    """Two triangles a cell of a grid of points (rows, columns, 3); a closed axis runs round."""
    rows, columns = points.shape[:2]
    cells = np.indices((rows - (not closed[0]), columns - (not closed[1])))
    i, j = cells.reshape(2, -1)
    below, right = (i + 1) % rows, (j + 1) % columns
    a, b, c, d = i * columns + j, below * columns + j, below * columns + right, i * columns + right
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    return points.reshape(-1, 3), faces


def frustum(bottom: float, top: float, height: float, sides: int = 20) -> Mesh:
    """A cone cut off at the radius `top` (0 for a whole cone, `bottom` for a cylinder), its axis along z, closed."""
    angle = np.arange(sides) * (2 * np.pi / sides)
    rings = [(0.0, -height / 2), (bottom, -height / 2), (top, height / 2), (0.0, height / 2)]
    points = [np.stack([r * np.cos(angle), r * np.sin(angle), np.full(sides, z)], axis=1) for r, z in rings]
    return _grid(np.stack(points), (False, True))


def torus(radius: float, tube: float, sides: int = 20, rings: int = 10) -> Mesh:
    """A ring of the given radius and tube, its axis along z."""
    around = np.arange(sides)[:, None] * (2 * np.pi / sides)
    across = np.arange(rings)[None] * (2 * np.pi / rings)
    reach = radius + tube * np.cos(across)
    z = np.broadcast_to(tube * np.sin(across), (sides, rings))
    return _grid(np.stack([reach * np.cos(around), reach * np.sin(around), z], axis=-1), (True, True))


def superquadric(size: Sequence[float] | np.ndarray, squareness: tuple[float, float], sides: int = 20) -> Mesh:
    """An ellipsoid with half-axes `size` whose exponents (north-south, east-west) go from a box (0) over 1 to a spindle (2)."""

    def power(values: np.ndarray, exponent: float) -> np.ndarray:
        return np.sign(values) * np.abs(values) ** exponent

    latitude = np.linspace(-np.pi / 2, np.pi / 2, sides // 2 + 1)[:, None]
    longitude = np.arange(sides)[None] * (2 * np.pi / sides)
    flat = power(np.cos(latitude), squareness[0])
    x, y = flat * power(np.cos(longitude), squareness[1]), flat * power(np.sin(longitude), squareness[1])
    z = np.broadcast_to(power(np.sin(latitude), squareness[0]), x.shape)
    return _grid(np.stack([x, y, z], axis=-1) * np.asarray(size, float), (False, True))


def _with_arm(body: Mesh, rng: np.random.Generator) -> Mesh:
    """A body with a bar that sticks out of its side, off its middle: no turn brings it onto itself."""
    low, high = body[0].min(axis=0), body[0].max(axis=0)
    span = high - low
    length, thick = rng.uniform(0.5, 0.9) * span[0], rng.uniform(0.15, 0.25) * span.max()
    centre = [high[0] * 0.5 + length / 2, rng.uniform(0.03, 0.1) * span[1], low[2] + rng.uniform(0.7, 0.85) * span[2]]
    return union(body, box((length + high[0], thick, 0.6 * thick), centre))


def _boxes(rng: np.random.Generator) -> Mesh:
    core = rng.uniform(0.4, 1.0, 3)
    parts = [box(core)]
    for axis in range(3):  # one block on a side of each axis, off the middle of that side
        size = rng.uniform(0.25, 0.6, 3)
        centre = rng.uniform(0.1, 0.3, 3) * rng.choice([-1, 1], 3)
        centre[axis] = rng.choice([-1, 1]) * (core[axis] + size[axis]) * 0.5
        parts.append(box(size, centre))
    return union(*parts)


def _l_shape(rng: np.random.Generator) -> Mesh:
    thick, wide = rng.uniform(0.2, 0.4), rng.uniform(0.3, 0.7)
    long, short = rng.uniform(1.2, 1.8), rng.uniform(0.6, 1.0)
    upright = box((thick, wide, long), (0, 0, long / 2))
    return union(upright, box((short, wide, thick), (short / 2, 0, thick / 2)))


def _chair(rng: np.random.Generator) -> Mesh:
    wide, deep, leg = rng.uniform(0.7, 1.1), rng.uniform(0.7, 1.1), rng.uniform(0.5, 1.0)
    thick, back = rng.uniform(0.08, 0.16), rng.uniform(0.6, 1.2)
    inset = np.array([wide - thick, deep - thick]) / 2
    legs = [box((thick, thick, leg), (x * inset[0], y * inset[1], -leg / 2)) for x in (-1, 1) for y in (-1, 1)]
    seat = box((wide, deep, thick), (0, 0, thick / 2))
    rest = box((wide, thick, back), (0, inset[1], thick + back / 2))
    arm = box((thick, deep, thick), (inset[0], 0, thick + 0.4 * back))  # on one side: even the mirror image differs
    return union(*legs, seat, rest, arm)


def _cone(rng: np.random.Generator) -> Mesh:
    return _with_arm(frustum(rng.uniform(0.4, 0.7), rng.uniform(0, 0.15), rng.uniform(0.9, 1.5)), rng)


def _cylinder(rng: np.random.Generator) -> Mesh:
    radius = rng.uniform(0.25, 0.55)
    return _with_arm(frustum(radius, radius, rng.uniform(0.8, 1.5)), rng)


def _torus(rng: np.random.Generator) -> Mesh:
    return _with_arm(torus(rng.uniform(0.5, 0.7), rng.uniform(0.15, 0.3)), rng)


def _superquadric(rng: np.random.Generator) -> Mesh:
    exponents = tuple(rng.uniform(0.3, 1.6, 2))
    return _with_arm(superquadric(rng.uniform(0.3, 0.8, 3), (exponents[0], exponents[1])), rng)


#: Kinds of random solids, by name.
KINDS: dict[str, Callable[[np.random.Generator], Mesh]] = {
    "boxes": _boxes,
    "l-shape": _l_shape,
    "chair": _chair,
    "cone": _cone,
    "cylinder": _cylinder,
    "torus": _torus,
    "superquadric": _superquadric,
}


def random_mesh(kind: str, rng: np.random.Generator) -> Mesh:
    """A solid of a kind with random proportions, centred; no rotation but none brings it onto itself.

    Raises
    ------
    ValueError
        An unknown kind.

    >>> len(random_mesh("l-shape", np.random.default_rng(0))[1])  # two boxes
    24
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return centred(KINDS[kind](rng))


def read_obj(path: str | Path) -> Mesh:
    """The triangles of a Wavefront ``.obj`` file; polygons are cut into fans, textures and normals are passed over.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A line that cannot be read, or no faces.
    """
    vertices: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            word, *rest = line.split() or [""]
            try:
                if word == "v":
                    x, y, z = map(float, rest[:3])
                    vertices.append([x, y, z])
                elif word == "f":
                    corners = [int(corner.split("/")[0]) for corner in rest]
                    if 0 in corners or len(corners) < 3:
                        raise ValueError
                    rows = [c - 1 if c > 0 else len(vertices) + c for c in corners]  # negative: back from here
                    faces += [(rows[0], b, c) for b, c in zip(rows[1:], rows[2:])]
            except ValueError:
                raise ValueError(f"{path}: line {number} cannot be read: {line.strip()[:60]!r}") from None
    return as_mesh((np.array(vertices).reshape(-1, 3), np.array(faces, np.int64).reshape(-1, 3)), str(path))
