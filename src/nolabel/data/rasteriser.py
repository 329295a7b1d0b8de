"""A small software renderer: triangles, a depth buffer, flat Lambert shading, one coloured light.

The camera looks at the origin from above; z points up. The floor is a plain colour that fills what no triangle covers, lit by
the same light; nothing throws a shadow. Normals are turned towards the camera, so that the order of a face's corners, which
``.obj`` files often get wrong, does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nolabel.data.meshes import Mesh

#: Distance of the camera from the origin, its elevation in degrees, and half the width it sees at distance 1.
DISTANCE, ELEVATION, HALF_WIDTH = 2.5, 45.0, 0.36
#: Share of white light that reaches every surface; how the objects reflect light; samples a pixel has on each axis.
AMBIENT, ALBEDO, SAMPLES = 0.35, 0.85, 2
_SAMPLES_AT_ONCE, _FACES_AT_ONCE = 2**20, 100_000  # bound the memory of what is rasterised together


def camera_axes(azimuth: float = 0.0) -> np.ndarray:
    """The camera's right, up and backward directions as rows (3, 3), when it stands at an azimuth (radians).

    >>> camera_axes()[2].round(3).tolist()  # towards the camera: in front (-y) and above
    [0.0, -0.707, 0.707]
    """
    elevation = np.radians(ELEVATION)
    right = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    front = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    back = np.cos(elevation) * front + np.array([0.0, 0.0, np.sin(elevation)])
    return np.stack([right, np.cross(back, right), back])


def project(points: np.ndarray, axes: np.ndarray, size: int) -> np.ndarray:
    """Points (..., 3) of the world to column, row and inverse depth (..., 3) of an image of a side.

    Columns and rows are counted in pixels from the upper left corner; a pixel's middle lies at halves. Inverse depth is what
    is linear across a triangle on the screen; it is larger for what is nearer.
    """
    seen = points @ axes.T
    inverse = 1.0 / (DISTANCE - seen[..., 2])
    scale = 0.5 * size / HALF_WIDTH
    column, row = 0.5 * size + scale * seen[..., 0] * inverse, 0.5 * size - scale * seen[..., 1] * inverse
    return np.stack([column, row, inverse], axis=-1)


def rasterise(triangles: np.ndarray, image: np.ndarray, images: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which triangle is nearest at each pixel's middle.

    Parameters
    ----------
    triangles : projected corners (t, 3, 3): column, row, inverse depth
    image : the number of the image that each triangle lies in, (t,)
    images, size : how many images, and their side in pixels

    Returns
    -------
    int64 (images, size, size) row numbers of `triangles`, -1 where there is none; float64, the inverse depth there, 0 where
    there is none.
    """
    plane = triangles[..., :2]
    low = np.clip(np.ceil(plane.min(axis=1) - 0.5).astype(np.int64), 0, size)  # first middle inside, (t, 2)
    high = np.clip(np.floor(plane.max(axis=1) - 0.5).astype(np.int64) + 1, 0, size)  # one past the last
    extent = np.maximum(high - low, 0)
    counts = extent[:, 0] * extent[:, 1]
    owner = np.repeat(np.arange(len(triangles)), counts)  # (fragments,)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = extent[owner, 0]
    column, row = low[owner, 0] + place % np.maximum(width, 1), low[owner, 1] + place // np.maximum(width, 1)
    origin, one, two = plane[:, 0], plane[:, 1] - plane[:, 0], plane[:, 2] - plane[:, 0]
    area = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]
    unit = np.divide(1.0, area, out=np.zeros_like(area), where=area != 0)
    x, y = column + 0.5 - origin[owner, 0], row + 0.5 - origin[owner, 1]
    second = (x * two[owner, 1] - y * two[owner, 0]) * unit[owner]  # barycentric shares of the second and third corner
    third = (y * one[owner, 0] - x * one[owner, 1]) * unit[owner]
    inside = (second >= 0) & (third >= 0) & (second + third <= 1) & (area[owner] != 0)
    owner, second, third = owner[inside], second[inside], third[inside]
    pixel = (image[owner] * size + row[inside]) * size + column[inside]
    depth = triangles[..., 2]
    inverse = (
        depth[owner, 0] + second * (depth[owner, 1] - depth[owner, 0]) + third * (depth[owner, 2] - depth[owner, 0])
    )
    nearest = np.zeros(images * size * size)
    np.maximum.at(nearest, pixel, inverse)
    front = inverse == nearest[pixel]
    found = np.full(images * size * size, -1)
    found[pixel[front]] = owner[front]
    return found.reshape(images, size, size), nearest.reshape(images, size, size)


def shade(normals: np.ndarray, points: np.ndarray, lights: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Light (n, 3) that Lambert surfaces reflect: a white share from everywhere and a coloured one from the light.

    Parameters
    ----------
    normals, points : unit normals and middles of the surfaces (n, 3)
    lights, colours : places and colours (in [0, 1]) of the light for each of them (n, 3)
    """
    towards = lights - points
    towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    return AMBIENT + (1 - AMBIENT) * np.maximum((normals * towards).sum(axis=1), 0.0)[:, None] * colours


def render(
    meshes: Sequence[Mesh],
    rotations: np.ndarray,
    floors: np.ndarray,
    lights: np.ndarray,
    colours: np.ndarray,
    size: int,
    *,
    azimuth: float = 0.0,
) -> np.ndarray:
    """Pictures of turned objects.

    Parameters
    ----------
    meshes : one a picture; the same object may stand there many times
    rotations : matrices that turn the objects (n, 3, 3)
    floors : colours of the floor (n, 3), in [0, 1]
    lights, colours : places of the light and its colours (n, 3)
    size : side of the pictures in pixels
    azimuth : where the camera stands, in radians

    Returns
    -------
    uint8 (n, size, size, 3)
    """
    pictures = np.empty((len(meshes), size, size, 3), np.uint8)
    axes = camera_axes(azimuth)
    largest = max(len(faces) for _, faces in meshes)
    step = max(1, min(_SAMPLES_AT_ONCE // (size * SAMPLES) ** 2, _FACES_AT_ONCE // largest))
    for start in range(0, len(meshes), step):
        part = slice(start, start + step)
        pictures[part] = _chunk(meshes[part], rotations[part], floors[part], lights[part], colours[part], size, axes)
    return pictures


def _chunk(
    meshes: Sequence[Mesh],
    rotations: np.ndarray,
    floors: np.ndarray,
    lights: np.ndarray,
    colours: np.ndarray,
    size: int,
    axes: np.ndarray,
) -> np.ndarray:
    corners = np.concatenate([(v @ turn.T)[f] for (v, f), turn in zip(meshes, rotations)])  # (t, 3, 3)
    image = np.repeat(np.arange(len(meshes)), [len(faces) for _, faces in meshes])
    fine = size * SAMPLES
    found, _ = rasterise(project(corners, axes, fine), image, len(meshes), fine)
    middles = corners.mean(axis=1)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    away = (normals * (DISTANCE * axes[2] - middles)).sum(axis=1) < 0
    normals[away] *= -1
    faces = ALBEDO * shade(normals, middles, lights[image], colours[image])
    up = np.broadcast_to([0.0, 0.0, 1.0], (len(meshes), 3))
    ground = floors * shade(up, np.zeros((len(meshes), 3)), lights, colours)
    seen = np.where(found[..., None] >= 0, faces[found], ground[:, None, None])  # (n, fine, fine, 3)
    pooled = seen.reshape(len(meshes), size, SAMPLES, size, SAMPLES, 3).mean(axis=(2, 4))
    return np.rint(255 * np.clip(pooled, 0, 1)).astype(np.uint8)
