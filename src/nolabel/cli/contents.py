"""The rows of a run as people see them: what the index keeps of each, and what the report shows."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nolabel.data.thumbnails import jpeg, strips


@dataclass(frozen=True)
class Contents:
    """Rows of images, videos or texts.

    Attributes
    ----------
    noun : ``images``, ``videos`` or ``texts``
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
    """The contents of an opened source of images, videos or texts, or of a graph's nodes."""
    if hasattr(table, "graph"):
        from nolabel.cli.graphs import node_contents

        return node_contents(table)
    source = opened.sources[0] if hasattr(opened, "sources") else opened
    if hasattr(source, "seconds"):
        return _videos(source)
    return _images(source, table) if hasattr(source, "images") else _texts(source, table)


def _images(source: Any, table: Any) -> Contents:
    told = "text" in table.column_names and _is_text(table)

    def payload(positions: np.ndarray) -> dict[str, list[Any]]:
        kept: dict[str, list[Any]] = {"thumbnail": [jpeg(pixels) for pixels in source.images(positions)]}
        if told:
            cells = table.select(source.rows[np.asarray(positions)])["text"]
            kept["text"] = [" / ".join(filter(None, cell)) if isinstance(cell, list) else cell or "" for cell in cells]
        return kept

    high, wide = getattr(source, "shape", None) or (source.size, source.size)
    shape = f"{len(source):,} images of {source.channels} x {high} x {wide}"
    return Contents("images", shape, source.rows, source.skipped, payload, {"thumbnails": source.images})


def _is_text(table: Any) -> bool:
    """Whether the column ``text`` holds texts or lists of texts."""
    import pyarrow.types as kinds

    from nolabel.data.columns import value_type

    kind = value_type(table.data.schema.field("text").type)
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind))


def _videos(source: Any) -> Contents:
    def payload(positions: np.ndarray) -> dict[str, list[Any]]:
        return {
            "video": [os.path.basename(source.names[at]) for at in positions],
            "frames": source.lengths[positions].tolist(),
            "seconds": [round(float(seconds), 2) for seconds in source.seconds[positions]],
            "thumbnail": strips(source, positions),
        }

    total = int(source.lengths.sum())
    shape = f"{len(source):,} videos, {total:,} frames of {source.channels} x {source.size} x {source.size}"
    return Contents("videos", shape, source.rows, source.skipped, payload, {"thumbnails": source.images})


def _texts(source: Any, table: Any) -> Contents:
    rows = getattr(source, "rows", np.arange(len(source)))

    column = next(iter(getattr(source, "limits", ())), "text")

    def texts(positions: np.ndarray) -> list[str]:
        return list(table.select(rows[np.asarray(positions)])[column])

    described = f"{len(source):,} texts"
    if hasattr(source, "truncated"):
        described += f" of {int(np.median(source.lengths[column]))} tokens in the median"
        cut = source.truncated[column]
        described += f", {cut:,} of them cut to {source.limits[column]}" if cut else ""
    return Contents("texts", described, rows, source.skipped, lambda at: {"text": texts(at)}, {"texts": texts})
