"""Images with their texts: one text a cell, several of which each epoch sees another, or documents of sentences."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from nolabel.data.sources import NothingUsable, Skipped
from nolabel.data.tokens import TokenSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasets import Dataset
    from tokenizers import Tokenizer

#: Sentences of fewer words are left out where a text has others.
SHORTEST = 3


def sentences(text: str, least: int = SHORTEST) -> list[str]:
    """The sentences of a text that have at least `least` words; the whole text if none has.

    >>> sentences("No effusion is seen. Normal. The heart is large, e.g. at 1.5 times.")
    ['No effusion is seen.', 'The heart is large, e.g. at 1.5 times.']
    """
    parts = [part.strip() for part in re.split(r"(?<=[.!?;])\s+(?=[\"'(\[]?[A-Z0-9])|\n+", text)]
    return [part for part in parts if len(part.split()) >= least] or [text]


def texts_of_cells(table: Dataset, column: str, split: bool) -> tuple[list[list[str]], list[Skipped]]:
    """The texts of each usable cell, or none for a cell without any, and these with the reason.

    Parameters
    ----------
    column : of strings, or of lists of strings
    split : cut each text into `sentences`

    Raises
    ------
    TypeError
        For a column of anything else.
    ValueError
        For a column that is not there, or without any text.
    """
    import pyarrow.types as kinds

    from nolabel.data.columns import require_column, value_type

    require_column(table, column, "columns")
    kind = value_type(table.data.schema.field(column).type)
    if not (kinds.is_string(kind) or kinds.is_large_string(kind)):
        raise TypeError(f"columns: {column!r} holds {kind}; expected texts or lists of texts")
    found: list[list[str]] = []
    skipped = []
    for row, cell in enumerate(table[column]):
        given = [cell] if isinstance(cell, str) or cell is None else cell
        texts = [text for text in given if text is not None and re.search(r"[^\s\x00-\x1f\x7f]", text)]
        found.append([part for text in texts for part in sentences(text)] if split else texts)
        if not texts:
            skipped.append(Skipped(row, None, f"empty text in column {column!r}"))
    if len(skipped) == len(found):
        raise NothingUsable(f"columns: all {len(found)} texts in {column!r} are empty", skipped)
    if skipped:
        warnings.warn(f"{len(skipped)} of {len(found)} texts were skipped, first {skipped[0]}", stacklevel=3)
    return found, skipped


class ImagesWithTexts:
    """Rows of images and, for each, one or several texts.

    A batch holds ``image`` as its source gives it, ``text`` ``{"tokens", "mask"}`` and ``row``. The rows asked for are (b,),
    for the first text of each, or (b, 2), image and which of its texts.

    Parameters
    ----------
    images : source of images
    texts : for each of these a list of texts; an image without any is left out
    tokeniser, max_length : as in `TokenSource`
    skipped : rows left out before

    Attributes
    ----------
    rows : int64 (n,), the rows of the table that are here
    """

    def __init__(
        self,
        images: Any,
        texts: list[list[str]],
        tokeniser: Tokenizer,
        max_length: int,
        *,
        skipped: Iterable[Skipped] = (),
    ) -> None:
        from nolabel.data.reading import read

        if len(images) != len(texts):
            raise ValueError(f"texts: expected one list for each of {len(images)} images, got {len(texts)}")
        flat = [text for several in texts for text in several]
        if not flat:
            raise NothingUsable("texts: no image that can be read has a text", list(skipped))
        self.images_source = images
        self.places = np.flatnonzero([bool(several) for several in texts])  # among the images
        self.rows = np.asarray(images.rows)[self.places]
        self.texts = TokenSource(read({"text": flat}), ("text",), tokeniser, max_length)
        self.counts = np.array([len(texts[place]) for place in self.places])
        self.starts = np.cumsum(self.counts) - self.counts
        self.tokeniser = self.texts.tokeniser
        self.skipped = sorted(skipped, key=lambda skip: skip.row)
        self.fingerprint = f"{images.fingerprint}|{self.texts.fingerprint}"

    def __len__(self) -> int:
        return len(self.rows)

    def drawn(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The rows (b,) with one text of each, any as likely as another: (b, 2)."""
        return np.column_stack([rows, (rng.random(len(rows)) * self.counts[rows]).astype(np.int64)])

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        import torch

        rows = np.asarray(rows)
        which = rows[:, 1] if rows.ndim == 2 else np.zeros(len(rows), np.int64)
        rows = rows[:, 0] if rows.ndim == 2 else rows
        batch: dict[str, Any] = self.images_source.batch(self.places[rows])
        return {
            **batch,
            "row": torch.from_numpy(np.ascontiguousarray(rows, np.int64)),
            "text": self.texts.batch(self.starts[rows] + which)["text"],
        }
