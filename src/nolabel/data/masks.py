"""Images with a class a pixel: both brought to one height and width alike, decoded once.

A mask is an image of whole numbers, class by class: grey of 8 or 16 bits, a palette (its indices count), or three equal
channels. Images are resized smoothly, masks to the nearest pixel; where images differ in shape they are stretched, so that
nothing is cut off and a mask found for the small image fits the large one.
"""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from nolabel.data.cells import cells
from nolabel.data.columns import column_blocks, require_column
from nolabel.data.decoding import Cell, UnreadableImage, flatten, open_image
from nolabel.data.fingerprints import column_fingerprint, fingerprint
from nolabel.data.image_cache import IN_MEMORY
from nolabel.data.images import _default_channels, _require_images, _sample
from nolabel.data.replacing import naming
from nolabel.data.sources import Skipped, checked_rows

if TYPE_CHECKING:
    from datasets import Dataset

#: Longer side of the images where the user names none and they are larger.
LONGEST = 128
_BLOCK = 32

Shape = tuple[int, int]  # height, width


def decoded(cell: Cell, mask: Cell, shape: Shape, channels: int, masked: bool) -> tuple[np.ndarray, np.ndarray, Shape]:
    """Pixels uint8 (c, h, w) and classes int16 (h, w) of one row, and the image's own height and width.

    Raises
    ------
    UnreadableImage
        With the reason: damaged, not there, a mask of another shape than the image or one that is no mask.
    """
    height, width = shape
    image, own = _upright(cell, "image"), np.zeros((0, 0), np.int16)
    if masked:
        classes = classes_of(_upright(mask, "mask"))
        if classes.shape != image.size[::-1]:
            raise UnreadableImage(
                f"a mask of {classes.shape[1]} x {classes.shape[0]}, an image of {image.width} x {image.height}"
            )
        nearest = Image.fromarray(classes.astype(np.int32)).resize((width, height), Image.Resampling.NEAREST)
        own = np.asarray(nearest).astype(np.int16)
    flat = flatten(image, channels)
    if flat.size != (width, height):
        flat = flat.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    pixels = np.asarray(flat)
    pixels = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    return pixels, own, (image.height, image.width)


def classes_of(mask: Image.Image) -> np.ndarray:
    """Whole numbers (h, w) of a picture of them.

    >>> classes_of(Image.fromarray(np.array([[0, 7]], np.uint8))).tolist()
    [[0, 7]]
    """
    values = np.asarray(mask)
    if values.ndim == 3:  # grey that was saved in colour, or with transparency
        colours = values[..., : {2: 1, 4: 3}.get(values.shape[2], 3)]
        if (colours != colours[..., :1]).any():
            raise UnreadableImage("a mask in colours; expected a class number a pixel, as grey or palette")
        values = colours[..., 0]
    if values.dtype.kind not in "iub" or values.min() < 0 or values.max() >= 2**15:
        raise UnreadableImage(
            f"a mask of {values.dtype} from {values.min()} to {values.max()}; expected 0 to {2**15 - 1}"
        )
    return values.astype(np.int16)


def _upright(cell: Cell, what: str) -> Image.Image:
    """An image with its pixels read, turned as its camera noted."""
    try:
        with open_image(cell) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except UnreadableImage as error:
        raise UnreadableImage(f"{what}: {error}") from None
    except Exception as error:  # damaged files make the decoders raise nearly anything
        reason = str(error).strip().splitlines() or [""]
        raise UnreadableImage(f"{what}: damaged ({type(error).__name__}: {reason[0][:120]})") from error


class MaskedImages:
    """Images of one height and width, with or without masks: a source of batches.

    Attributes
    ----------
    rows : int64 (n,), the rows of the table that the images come from
    skipped : rows that could not be used, and why
    shape, channels : height and width in pixels; 1 (grey) or 3 (RGB)
    sizes : int64 (n, 2), height and width of the images before they were resized
    values : the different numbers that the masks hold, in order; empty without masks
    fingerprint : hash of the images, the masks and the shape
    """

    def __init__(
        self, images: np.ndarray, masks: np.ndarray | None, rows: np.ndarray, sizes: np.ndarray, name: str
    ) -> None:
        self.rows, self.sizes, self.fingerprint = rows, sizes, name
        self.channels, self.shape = images.shape[1], images.shape[2:]
        self.skipped: list[Skipped] = []
        self._images, self._masks = images, masks
        parts = [] if masks is None else [np.unique(masks[i : i + 1024]) for i in range(0, len(masks), 1024)]
        self.values: list[int] = np.unique(np.concatenate(parts)).tolist() if parts else []

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        """Pixels to look at: uint8 (b, h, w, c)."""
        return np.moveaxis(self._images[checked_rows(rows, len(self))], 1, 3)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, (self.channels, *self.shape)))
        return f"MaskedImages({len(self)} images of {shape}, {len(self.skipped)} skipped)"

    def batch(self, rows: np.ndarray | Sequence[int]) -> dict[str, Any]:
        """``image``: uint8 (b, c, h, w); ``mask``, where there are masks: int64 (b, h, w), the numbers as they stand."""
        import torch

        index = checked_rows(rows, len(self))
        found = {"image": torch.from_numpy(np.ascontiguousarray(self._images[index]))}
        if self._masks is not None:
            found["mask"] = torch.from_numpy(self._masks[index].astype(np.int64))
        return found


def open_masked(
    table: Dataset,
    *,
    image: str = "image",
    mask: str | None = "mask",
    size: int | Shape | None = None,
    channels: int | None = None,
) -> MaskedImages:
    """Decode the images of a table, of any shape, and their masks.

    Parameters
    ----------
    table : as ``nolabel.data.read`` gives it
    image, mask : columns; ``mask=None`` reads images alone
    size : (height, width), or the longer side in pixels. By default the images' own shape if all of a sample share it and its
        longer side is at most 128, else the sample's median shape brought to a longer side of 128.
    channels : 1 or 3; by default 1 if all images of a sample are grey

    Returns
    -------
    MaskedImages
        Without the rows that cannot be used: an image or a mask that is damaged or missing, a mask of another shape than its
        image. They are counted in one warning and listed in ``skipped``.

    Raises
    ------
    ValueError
        If no row can be used, a column is missing, or an argument is out of range.
    TypeError
        If a column cannot hold images.

    Examples
    --------
    >>> from nolabel.data import read
    >>> table = read({"image": np.zeros((5, 6, 8), np.uint8), "mask": np.ones((5, 6, 8), np.uint8)})
    >>> source = open_masked(table)
    >>> source, source.values, source.batch([4, 0])["mask"].shape
    (MaskedImages(5 images of 1 x 6 x 8, 0 skipped), [1], torch.Size([2, 6, 8]))
    """
    for name in (image, *([mask] if mask is not None else [])):
        require_column(table, name)
        _require_images(table, name)
    if channels not in (None, 1, 3):
        raise ValueError(f"channels: expected 1, 3 or None, got {channels!r}")
    shape = _shape(table, image, size)
    channels = channels or _default_channels(_sample(table, image, 64)) or 3
    images = _room((len(table), channels, *shape), np.uint8)
    masks = None if mask is None else _room((len(table), *shape), np.int16)
    rows: list[int] = []
    sizes: list[Shape] = []
    skipped: list[Skipped] = []
    for row, found in enumerate(_decoded_rows(table, image, mask, shape, channels)):
        if isinstance(found, Skipped):
            skipped.append(found)
            continue
        images[len(rows)], own, before = found
        if masks is not None:
            masks[len(rows)] = own
        rows.append(row)
        sizes.append(before)
    if not rows:
        reasons = "; ".join(str(skip) for skip in skipped[:3])
        raise ValueError(f"none of {len(table)} rows can be used: {reasons}")
    if skipped:
        warnings.warn(f"{len(skipped)} of {len(table)} images were skipped, first {skipped[0]}", stacklevel=2)
    n = len(rows)
    parts = [column_fingerprint(table, name) for name in (image, mask) if name is not None]
    source = MaskedImages(
        images[:n],
        None if masks is None else masks[:n],
        np.array(rows),
        np.array(sizes),
        fingerprint([*parts, shape, channels]),
    )
    source.skipped = skipped
    return source


def _shape(table: Dataset, image: str, size: int | Shape | None) -> Shape:
    """Height and width that all images are brought to."""
    if isinstance(size, tuple | list):
        if len(size) != 2 or not all(isinstance(side, int) and 1 <= side <= 4096 for side in size):
            raise ValueError(f"size: expected (height, width), each from 1 to 4096, got {size!r}")
        return size[0], size[1]
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 4096):
        raise ValueError(f"size: expected (height, width) or the longer side, from 1 to 4096, got {size!r}")
    shapes = []
    for cell in _sample(table, image, 256):
        try:
            shapes.append(_upright(cell, "image").size[::-1])
        except UnreadableImage:
            continue  # reported when all images are decoded
    if not shapes:
        return (size or LONGEST, size or LONGEST)
    longest = max(shapes[0])
    if len(set(shapes)) == 1 and (longest <= LONGEST if size is None else longest == size):
        return shapes[0]
    aspect = math.exp(np.median([math.log(width / height) for height, width in shapes]))
    longer = size or min(LONGEST, int(np.median([max(shape) for shape in shapes])))
    shorter = max(1, round(longer * min(aspect, 1 / aspect)))
    return (shorter, longer) if aspect >= 1 else (longer, shorter)


def _room(shape: tuple[int, ...], kind: Any) -> np.ndarray:
    """Space for an array: in memory, or from 64 MB in a temporary file that goes away with it."""
    size = math.prod(shape) * np.dtype(kind).itemsize
    if size <= IN_MEMORY:
        return np.empty(shape, kind)
    with naming(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:  # where TMPDIR says
        os.posix_fallocate(file.fileno(), 0, size)  # a disk that is full later would end the process
        return np.memmap(file, kind, "w+", shape=shape)  # outlives the name of the file


def _decoded_rows(table: Dataset, image: str, mask: str | None, shape: Shape, channels: int) -> Iterator[Any]:
    """What `decoded` gives of each row, or why it is skipped; in order, decoded in threads a few blocks ahead."""

    def work(first: int, images: list[Cell], masks: list[Cell]) -> list[Any]:
        found: list[Any] = []
        for row, (cell, own) in enumerate(zip(images, masks, strict=True), first):
            try:
                found.append(decoded(cell, own, shape, channels, mask is not None))
            except UnreadableImage as error:
                found.append(Skipped(row, cell if isinstance(cell, str) else None, str(error)))
        return found

    waiting: deque[Future[list[Any]]] = deque()
    workers = min(16, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, "nolabel-decode") as pool:
        for first in range(0, len(table), _BLOCK):
            part = table.select(range(first, min(first + _BLOCK, len(table))))
            columns = [
                [cell for block in column_blocks(part, name) for cell in cells(block)]
                for name in (image, mask or image)
            ]
            waiting.append(pool.submit(work, first, *columns))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
