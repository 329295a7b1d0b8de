"""Every image of a table decoded once: the shape chosen, the cache found or made."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.types as kinds

from nolabel.data import decoding
from nolabel.data.arrays import uint8_images
from nolabel.data.cache_files import CacheFiles
from nolabel.data.caching import cache_root
from nolabel.data.cells import cells
from nolabel.data.columns import (
    column_blocks,
    holds_encoded_images,
    nested_depth,
    regular_array,
    require_column,
    value_type,
)
from nolabel.data.fingerprints import column_fingerprint, fingerprint
from nolabel.data.image_cache import IN_MEMORY, ImageCache
from nolabel.data.replacing import replace_text

if TYPE_CHECKING:
    from datasets import Dataset

_log = logging.getLogger(__name__)
_SIZES = (32, 48, 64, 96)
_SAMPLE_SIZES, _SAMPLE_COLOURS = 256, 64


def open_images(
    table: Dataset,
    *,
    column: str = "image",
    size: int | None = None,
    channels: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageCache:
    """Decode all images of a table once, or open what was decoded before.

    Parameters
    ----------
    table : datasets.Dataset, as ``nolabel.data.read`` gives it
    column : the column of images: encoded bytes, paths or arrays
    size : side in pixels. By default the side that all images share if they are squares of at most 64, else the largest
        of 32, 48, 64 and 96 that is not above the median short side.
    channels : 1 or 3; by default 1 if all images of a sample are grey.
    folder : where caches are kept; by default ``$NOLABEL_CACHE/images`` or ``~/.cache/nolabel/images``
    progress : called with the number of rows done and their total

    Returns
    -------
    ImageCache
        Without the images that could not be decoded: they are counted in one warning and listed in ``skipped``.

    Raises
    ------
    ValueError
        If no image can be decoded, the column is missing, or an argument is out of range.
    TypeError
        If the column cannot hold images.

    Examples
    --------
    >>> from nolabel.data import read
    >>> cache = open_images(read(np.zeros((5, 8, 8), np.uint8)))
    >>> cache, cache.batch([4, 0])["image"].shape
    (ImageCache(5 images of 1 x 8 x 8, 0 skipped), torch.Size([2, 1, 8, 8]))
    """
    require_column(table, column)
    if size is not None and not (isinstance(size, (int, np.integer)) and 1 <= size <= 4096):
        raise ValueError(f"size: expected an integer from 1 to 4096, got {size!r}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels: expected 1, 3 or None, got {channels!r}")
    _require_images(table, column)
    content = column_fingerprint(table, column)
    store = _cache_folder(folder) / content
    if size is None or channels is None:
        default_size, default_channels = _default_shape(table, column, store / "defaults.json")
        size, channels = size or default_size, channels or default_channels
    name = fingerprint([content, size, channels, decoding.VERSION])
    cache = _from_memory(table, column, size, channels, name)
    if cache is None:
        files = CacheFiles(
            store / f"{channels}x{size}-{decoding.VERSION}", size=size, channels=channels, fingerprint=name
        )
        cache = files.open_or_decode(table, column, progress)
    if cache.skipped:
        warnings.warn(
            f"{len(cache.skipped)} of {len(table)} images were skipped, first {cache.skipped[0]}", stacklevel=2
        )
    return cache


def _require_images(table: Dataset, column: str) -> None:
    kind = table.data.schema.field(column).type
    texts = kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_binary(kind) or kinds.is_large_binary(kind)
    number = kinds.is_integer(value_type(kind)) or kinds.is_floating(value_type(kind))
    if not (texts or holds_encoded_images(kind) or (nested_depth(kind) in (2, 3) and number)):
        raise TypeError(f"column: {column!r} holds {kind}; expected encoded images, paths or arrays of pixels")


def _cache_folder(folder: str | os.PathLike[str] | None) -> Path:
    if folder is not None:
        return Path(folder).expanduser()
    return cache_root() / "images"


def _sample(table: Dataset, column: str, count: int) -> list[decoding.Cell]:
    """At most ``count`` cells, spread evenly over the table."""
    rows = np.unique(np.linspace(0, len(table) - 1, count).astype(int))
    return [cell for block in column_blocks(table.select(rows), column) for cell in cells(block)]


def _default_shape(table: Dataset, column: str, memory: Path) -> tuple[int, int]:
    """Size and channels that suit a sample of the images; for encoded images they are noted in the file ``memory``."""
    if memory.is_file():
        noted = json.loads(memory.read_text(encoding="utf-8"))
        return noted["size"], noted["channels"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        size = _default_size(_sample(table, column, _SAMPLE_SIZES))
        channels = _default_channels(_sample(table, column, _SAMPLE_COLOURS))
    if size is None or channels is None:  # nothing in the sample is readable, perhaps the rest is
        return size or _SIZES[0], channels or 3
    if not nested_depth(table.data.schema.field(column).type):
        memory.parent.mkdir(parents=True, exist_ok=True)
        replace_text(memory, json.dumps({"size": size, "channels": channels}))
    return size, channels


def _default_size(sample: list[decoding.Cell]) -> int | None:
    sides = []
    for cell in sample:
        try:
            with decoding.open_image(cell) as image:
                sides.append(image.size)
        except Exception as error:  # reported when all images are decoded
            _log.debug("left out of the sample: %s", error)
    if not sides:
        return None
    width, height = sides[0]
    if width == height <= 64 and set(sides) == {sides[0]}:
        return width
    median = np.median([min(pair) for pair in sides])
    return max([side for side in _SIZES if side <= median], default=_SIZES[0])


def _default_channels(sample: list[decoding.Cell]) -> int | None:
    """1 if all readable images of the sample are grey, else 3."""
    readable = 0
    for cell in sample:
        try:
            red, green, blue = decoding.decode(cell, 32, 3)
        except decoding.UnreadableImage:
            continue
        readable += 1
        if not (np.array_equal(red, green) and np.array_equal(red, blue)):
            return 3
    return 1 if readable else None


def _from_memory(table: Dataset, column: str, size: int, channels: int, name: str) -> ImageCache | None:
    """Small arrays that already have the wanted shape need no file."""
    kind = table.data.schema.field(column).type
    if not nested_depth(kind) or len(table) * channels * size**2 > IN_MEMORY:
        return None
    blocks = []
    for block in column_blocks(table, column, rows=4096):
        regular = regular_array(block)
        if regular is None:
            return None
        images = uint8_images(regular, column)
        images = images[..., None] if images.ndim == 3 else images
        if images.shape[1:] != (size, size, channels):
            return None
        blocks.append(images.transpose(0, 3, 1, 2))  # (b, c, h, w)
    pixels = np.ascontiguousarray(np.concatenate(blocks))
    return ImageCache(pixels, rows=np.arange(len(pixels)), channels=channels, size=size, fingerprint=name, skipped=[])
