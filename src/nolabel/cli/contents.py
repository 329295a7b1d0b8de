"""The rows of a run as people see them: what the index keeps of each, and what the report shows."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

THUMBNAIL = 48


@dataclass(frozen=True)
class Contents:
    """Rows of images or texts.

    Attributes
    ----------
    noun : ``images`` or ``texts``
    described : what they are like, in words
    rows : int64 (n,), their rows of the table
    skipped : rows that could not be used
    payload : positions -> columns for the index, beside the table's own
    shown : the report's ``thumbnails`` or ``texts``
    """

    noun: str
    described: str
    rows: np.ndarray
    skipped: list[Any]
    payload: Callable[[np.ndarray], dict[str, list[Any]]]
    shown: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.rows)


def contents_of(opened: Any, table: Any) -> Contents:
    """The contents of an opened source of images or texts."""
    source = opened.sources[0] if hasattr(opened, "sources") else opened
    return _images(source) if hasattr(source, "images") else _texts(source, table)


def _images(source: Any) -> Contents:
    def thumbnails(positions: np.ndarray) -> dict[str, list[Any]]:
        return {"thumbnail": [jpeg(pixels) for pixels in source.images(positions)]}

    shape = f"{len(source):,} images of {source.channels} x {source.size} x {source.size}"
    return Contents("images", shape, source.rows, source.skipped, thumbnails, {"thumbnails": source.images})


def _texts(source: Any, table: Any) -> Contents:
    rows = getattr(source, "rows", np.arange(len(source)))

    def texts(positions: np.ndarray) -> list[str]:
        return list(table.select(rows[np.asarray(positions)])["text"])

    described = f"{len(source):,} texts"
    if hasattr(source, "truncated"):
        described += f" of {int(np.median(source.lengths['text']))} tokens in the median"
        cut = source.truncated["text"]
        described += f", {cut:,} of them cut to {source.limits['text']}" if cut else ""
    return Contents("texts", described, rows, source.skipped, lambda at: {"text": texts(at)}, {"texts": texts})


def jpeg(pixels: np.ndarray, side: int = THUMBNAIL) -> bytes:
    """A small JPEG of uint8 pixels (h, w, c)."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
