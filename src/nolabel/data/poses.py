"""Views of objects in known poses: rendered solids, turned images, ready-made pairs.

All are tables with one row a view: ``image``, ``object`` (a number, the same for all views of one object) and ``pose``. What
leads from one view of an object to another is computed from their poses by `nolabel.ops.quaternions.relative_pose`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

from nolabel.ops.quaternions import GROUPS, quaternion_from_euler, rotation_matrix

if TYPE_CHECKING:
    from datasets import Dataset

    from nolabel.data.meshes import Mesh

_LIGHT_DISTANCE = 4.0
_PIXELS_AT_ONCE = 2**19  # bounds the memory of what is turned together


def checked_poses(poses: Any, group: str, name: str = "pose") -> np.ndarray:
    """Poses, or transformations of ``so3`` and ``vector``, as float64 (n, p), checked.

    Raises
    ------
    ValueError
        An unknown group, another shape, a value that is not finite, or quaternions that are not of unit length.

    >>> checked_poses([0.1, 0.2], "so2").shape
    (2, 1)
    """
    if group not in GROUPS:
        raise ValueError(f"group must be one of {', '.join(GROUPS)}, got {group!r}")
    if isinstance(poses, list) and len({np.shape(pose) for pose in poses}) > 1:
        raise ValueError(f"{name} must hold the same number of values in every row, and none missing")
    array = np.asarray(poses)
    array = array[:, None] if array.ndim == 1 else array
    least = 4 if group == "so3" else 1
    if array.dtype.kind not in "iuf" or array.ndim != 2 or array.shape[1] < least:
        expected = f"{least} or more numbers a row (group {group!r})"
        raise ValueError(f"{name} must hold {expected}, got {array.dtype} of shape {array.shape}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: row {int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])} is not finite")
    if group == "so3":
        _require_unit(array[:, :4], f"{name}: the quaternion")
    return array


def _require_unit(vectors: np.ndarray, what: str) -> None:
    norms = np.linalg.norm(vectors, axis=1)
    bad = np.abs(norms - 1) > 1e-3
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"{what} of row {row} has length {norms[row]:.4g}, expected 1")


def checked_transformations(Z: Any, group: str, name: str = "Z") -> np.ndarray:
    """Transformations as float64 (n, g): relative quaternions, cosine and sine, or differences, and further differences.

    Raises
    ------
    ValueError
        As `checked_poses`; also cosine and sine that are not on the unit circle.

    >>> checked_transformations([[0.0, 1.0]], "so2").tolist()
    [[0.0, 1.0]]
    """
    if group != "so2":
        return checked_poses(Z, group, name)
    array = checked_poses(Z, "vector", name)
    if array.shape[1] < 2:
        raise ValueError(f"{name} must hold cosine and sine in every row (group 'so2'), got shape {array.shape}")
    _require_unit(array[:, :2], f"{name}: (cosine, sine)")
    return array


def pair_table(X1: Any, X2: Any, Z: Any, group: str = "so3") -> Dataset:
    """Make a table of views from pairs of images with known transformations.

    Parameters
    ----------
    X1, X2 : images before and after, as arrays (n, h, w), (n, h, w, c) or (n, c, h, w)
    Z : the transformation of each pair: a relative unit quaternion R1^-1 R2 (``so3``, (n, 4 or more)), cosine and sine of
        the angle (``so2``, (n, 2 or more)), or any numbers that are negated on the way back (``vector``)
    group : ``so3``, ``so2`` or ``vector``

    Returns
    -------
    datasets.Dataset of 2n rows, ``image``, ``object`` (number of the pair) and ``pose``: nothing for the first image of a
    pair, the transformation for the second.

    Raises
    ------
    ValueError
        Images of different shapes, numbers of rows that differ, and transformations that `checked_transformations` refuses
        or that are all the same.

    Examples
    --------
    >>> X = np.zeros((3, 8, 8), np.uint8)
    >>> table = pair_table(X, X, [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], "so2")
    >>> table["object"][:], [round(pose[0], 2) for pose in table["pose"]]
    ([0, 1, 2, 0, 1, 2], [0.0, 0.0, 0.0, 0.0, 1.57, 3.14])
    """
    from nolabel.data.reading import read

    X1, X2 = np.asarray(X1), np.asarray(X2)
    if X1.shape != X2.shape:
        raise ValueError(f"X1 and X2 must have one shape, got {X1.shape} and {X2.shape}")
    z = checked_transformations(Z, group)
    if len(z) != len(X1):
        raise ValueError(f"Z must have one row a pair, got {len(z)} rows for {len(X1)} pairs")
    require_variety(z)
    before, after = np.zeros_like(z), z
    if group == "so3":
        before[:, 3] = 1.0
    elif group == "so2":
        after = np.concatenate([np.arctan2(z[:, 1:2], z[:, :1]), z[:, 2:]], axis=1)
        before = np.zeros_like(after)
    images = np.concatenate([X1, X2])
    return read({"image": images, "object": np.tile(np.arange(len(z)), 2), "pose": np.concatenate([before, after])})


def require_variety(transformations: np.ndarray) -> None:
    """Raise a ValueError if all transformations (n, g) are the same."""
    if not len(transformations) or np.ptp(transformations, axis=0).max() < 1e-6:
        raise ValueError("all transformations are identical: equivariance cannot be learned; use VICReg")


def make_pose_views(
    objects: int | str | Path | Sequence[Mesh] = 200, views: int = 10, size: int = 32, random_state: int = 0
) -> Dataset:
    """Render objects in random orientations, under a light and over a floor of random colours.

    After 3DIEBench: three angles in +-90 degrees (extrinsic ``xyz``), the hue of the floor, the hue of the light and its two
    angles; the camera stands at distance 2.5 and elevation 45 degrees, objects are centred by their bounding box.

    Parameters
    ----------
    objects : how many random solids (of all `nolabel.data.meshes.KINDS` in turn); or meshes as pairs (vertices, faces); or a
        folder of ``.obj`` files, searched with its sub-folders
    views : how many views of each object
    size : side of the images in pixels
    random_state : seed of solids, poses and colours

    Returns
    -------
    datasets.Dataset of objects x views rows, object after object: ``image`` (size, size, 3), ``object``, ``class`` (kind of
    solid, folder of the file, or ``mesh``), ``pose`` (unit quaternion x, y, z, w with w >= 0), ``floor_hue`` and
    ``light_hue`` in [0, 1], ``light_theta`` (from the zenith) and ``light_phi`` in radians.

    Raises
    ------
    FileNotFoundError
        No such folder.
    ValueError
        Numbers out of range, no ``.obj`` file in the folder, a mesh that is none.

    References
    ----------
    Garrido, Najman and LeCun 2023, arXiv:2302.10283.

    Examples
    --------
    >>> table = make_pose_views(2, views=3, size=16)
    >>> table["object"][:], table["class"][0]
    ([0, 0, 0, 1, 1, 1], 'boxes')
    """
    from nolabel.data.rasteriser import render
    from nolabel.data.reading import read

    _require_whole("views", views, 1)
    _require_whole("size", size, 4)
    rng = np.random.default_rng(random_state)
    meshes, classes = _meshes(objects, rng)
    n = len(meshes) * views
    pose = quaternion_from_euler(torch.from_numpy(rng.uniform(-np.pi / 2, np.pi / 2, (n, 3))))
    floor_hue, light_hue = rng.random(n), rng.random(n)
    theta, phi = rng.uniform(0, np.pi / 4, n), rng.uniform(0, 2 * np.pi, n)
    light = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1)
    images = render(
        [mesh for mesh in meshes for _ in range(views)],
        rotation_matrix(pose).numpy(),
        _coloured(floor_hue, 0.6, 0.6),
        _LIGHT_DISTANCE * light,
        _coloured(light_hue, 1.0, 0.8),
        size,
    )
    columns = {"floor_hue": floor_hue, "light_hue": light_hue, "light_theta": theta, "light_phi": phi}
    names = [name for name in classes for _ in range(views)]
    number = np.repeat(np.arange(len(meshes)), views)
    return read({"image": images, "object": number, "class": names, "pose": pose.numpy(), **columns})


def _require_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _coloured(hues: np.ndarray, saturation: float, value: float) -> np.ndarray:
    return np.array([colorsys.hsv_to_rgb(hue, saturation, value) for hue in hues])


def _meshes(objects: Any, rng: np.random.Generator) -> tuple[list[Mesh], list[str]]:
    """Centred meshes and the class of each."""
    from nolabel.data.meshes import KINDS, as_mesh, centred, random_mesh, read_obj

    if isinstance(objects, (str, Path)):
        folder = Path(objects).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"objects: no folder {folder}")
        files = sorted(folder.rglob("*.obj"))
        if not files:
            raise ValueError(f"objects: no .obj file in {folder}")
        return [centred(read_obj(file)) for file in files], [file.parent.name for file in files]
    if isinstance(objects, (list, tuple)):
        if not objects:
            raise ValueError("objects must hold at least one mesh, got none")
        meshes = [centred(as_mesh(mesh, f"objects: mesh {row}")) for row, mesh in enumerate(objects)]
        return meshes, ["mesh"] * len(meshes)
    _require_whole("objects", objects, 1)
    kinds = [list(KINDS)[number % len(KINDS)] for number in range(objects)]
    return [random_mesh(kind, rng) for kind in kinds], kinds


def rotated_images(
    images: Any,
    views: int = 4,
    *,
    size: int | None = None,
    zoom: float = 1.25,
    contrast: tuple[float, float] = (0.6, 1.0),
    noise: float = 0.05,
    random_state: int = 0,
) -> Dataset:
    """Turn each image in its plane by known random angles in +-180 degrees.

    Bilinear, black outside; then each view is darkened by a random factor and gets Gaussian noise, so that pixels alone do
    not tell which views belong together.

    Parameters
    ----------
    images : whatever `nolabel.data.read` takes
    views : how many views of each image
    size : side of the views in pixels; ``None``: that of the images
    zoom : how much smaller the image is shown; from 1.42 no corner is ever cut off
    contrast : least and largest factor
    noise : its standard deviation; 1 is the range of the pixels
    random_state : seed of angles, factors and noise

    Returns
    -------
    datasets.Dataset, all views of an image in a row: ``image``, ``object`` (row of the image), ``pose`` (radians,
    counter-clockwise, one number). Images that cannot be read have no views.

    Raises
    ------
    ValueError
        Numbers out of range.

    Examples
    --------
    >>> table = rotated_images(np.zeros((5, 8, 8), np.uint8), views=2)
    >>> len(table), table["object"][:4]
    (10, [0, 0, 1, 1])
    """
    from nolabel.data.images import open_images
    from nolabel.data.reading import read

    _require_whole("views", views, 1)
    if size is not None:
        _require_whole("size", size, 4)
    if not zoom > 0 or not noise >= 0 or not 0 <= contrast[0] <= contrast[1] <= 1:
        expected = "zoom above 0, noise at least 0, 0 <= contrast[0] <= contrast[1] <= 1"
        raise ValueError(f"expected {expected}, got {zoom}, {noise} and {contrast}")
    cache = open_images(read(images))
    side = size or cache.size
    rng = np.random.default_rng(random_state)
    angles = rng.uniform(-np.pi, np.pi, len(cache) * views)
    owner = np.repeat(np.arange(len(cache)), views)
    result = np.empty((len(owner), side, side, cache.channels), np.uint8)
    step = max(1, _PIXELS_AT_ONCE // side**2)
    for start in range(0, len(owner), step):
        part = slice(start, start + step)
        pixels = _turned(cache.batch(owner[part])["image"], angles[part], side, zoom)
        pixels *= rng.uniform(*contrast, (len(pixels), 1, 1, 1)).astype(np.float32)
        pixels += noise * rng.standard_normal(pixels.shape, dtype=np.float32)
        result[part] = np.rint(255 * pixels.clip(0, 1)).transpose(0, 2, 3, 1)
    return read({"image": result, "object": np.asarray(cache.rows)[owner], "pose": angles[:, None]})


def _turned(images: torch.Tensor, angles: np.ndarray, size: int, zoom: float) -> np.ndarray:
    """Images (n, c, h, w) turned counter-clockwise about their middle, shown `zoom` times smaller: float32 in [0, 1]."""
    cosine, sine = zoom * np.cos(angles), zoom * np.sin(angles)
    zero = np.zeros_like(angles)
    # from a place of the view to its source; rows run downwards
    back = np.stack([np.stack([cosine, -sine, zero], axis=1), np.stack([sine, cosine, zero], axis=1)], axis=1)
    grid = affine_grid(torch.from_numpy(back).float(), [len(images), images.shape[1], size, size], align_corners=False)
    return grid_sample(images.float() / 255, grid, "bilinear", "zeros", align_corners=False).numpy()
