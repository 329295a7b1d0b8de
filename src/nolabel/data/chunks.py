"""A corpus as chunks of like length whose borders move from epoch to epoch."""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import numpy as np

from nolabel.data.sources import Skipped, checked_rows
from nolabel.data.tokens import TokenSource, framed

#: Tokens below which a text holds nothing to learn from.
LEAST = 2


class ChunkSource:
    """Texts cut into chunks of `length` tokens, each between a start and an end token.

    Joined, the texts of a group are one stream, cut as a grid whose offset is drawn anew each epoch (Izacard et al.,
    Contriever, TMLR 2022, arXiv:2112.09118). Otherwise each text has chunks of its own, and a shorter text is one chunk.

    A batch is ``{"text": {"tokens": int64 (b, length + 2), "mask": bool}, "group": int64 (b,), "row": int64 (b,)}``.

    Parameters
    ----------
    texts : TokenSource of one column whose texts were not cut
    length : tokens of a chunk, start and end not counted
    groups : int (texts,), never falling, such as the number of the corpus a text is from; chunks stay within a group
    joined : whether chunks run on from one text of a group to the next

    Attributes
    ----------
    group : int64 (n,), group of each chunk
    sizes : int64 (groups,), tokens of each group
    lengths : ``{"text": int64 (n,)}``, tokens of each chunk, start and end among them
    skipped : texts of fewer than 2 tokens, which are left out

    Raises
    ------
    ValueError
        For a length below 2, groups that do not fit the texts, or no text of at least 2 tokens.

    Examples
    --------
    >>> from nolabel.data import read
    >>> from nolabel.data.tokenisers import train_wordpiece
    >>> words = ["a cat sat on a mat", "cats sat"]
    >>> texts = TokenSource(read(words), ("text",), train_wordpiece(words, 40), 100)
    >>> chunks = ChunkSource(texts, 4)
    >>> len(chunks), chunks.batch([0, 1])["text"]["mask"].sum(dim=1).tolist()
    (2, [6, 6])
    """

    def __init__(
        self, texts: TokenSource, length: int, *, groups: np.ndarray | None = None, joined: bool = True
    ) -> None:
        if isinstance(length, bool) or not isinstance(length, int) or length < LEAST:
            raise ValueError(f"length must be a whole number of at least {LEAST} tokens, got {length!r}")
        (column,) = texts.limits
        ids, ends = texts.stream(column)
        counts = np.diff(ends, prepend=0)
        group = np.zeros(len(counts), np.int64) if groups is None else np.asarray(groups, np.int64)
        if group.shape != counts.shape or (np.diff(group) < 0).any():
            raise ValueError(f"groups must be {len(counts)} numbers, one a text, never falling, got {group.shape}")
        short = counts < LEAST
        self.skipped = texts.skipped + [
            Skipped(int(row), None, f"fewer than {LEAST} tokens") for row in texts.rows[short]
        ]
        if short.any():
            if short.all():
                raise ValueError(f"text: all {len(counts)} texts have fewer than {LEAST} tokens")
            warnings.warn(
                f"{short.sum()} of {len(counts)} texts have fewer than {LEAST} tokens: left out", stacklevel=3
            )
            ids, counts, group = ids[np.repeat(~short, counts)], counts[~short], group[~short]
        self.length, self.joined, self.special = length, joined, texts.special
        self.tokeniser, self._ids = texts.tokeniser, ids
        digest = hashlib.sha256(group.tobytes()).hexdigest()[:16]
        self.fingerprint = f"{texts.fingerprint}[chunks of {length}, {'joined' if joined else 'apart'}, {digest}]"
        self.sizes = np.bincount(group, weights=counts).astype(np.int64)
        if joined:  # one long text a group
            sizes = self.sizes[self.sizes > 0]
            counts, group = sizes, np.unique(group)
        self._cut(counts, group)

    def _cut(self, sizes: np.ndarray, group: np.ndarray) -> None:
        """Where the chunks of streams of these sizes lie, as long as no offset moves them."""
        pieces = np.maximum(sizes // self.length, 1)
        first = np.cumsum(sizes) - sizes
        of = np.repeat(np.arange(len(sizes)), pieces)  # stream of each chunk
        place = np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        self._counts = np.minimum(sizes, self.length)[of]
        self._starts = first[of] + place * self._counts
        self._latest = (first + sizes)[of] - self._counts  # the last place where a chunk can begin
        self._offsets = self.length if self.joined else (np.maximum(sizes - pieces * self.length, 0) + 1)
        self._of, self.group = of, group[of]
        self.lengths = {"text": self._counts + 2}

    def __len__(self) -> int:
        return len(self._starts)

    def __repr__(self) -> str:
        return f"ChunkSource({len(self)} chunks of {self.length} tokens, {len(self.sizes)} groups)"

    def shifts(self, rng: np.random.Generator) -> np.ndarray:
        """How far each chunk is moved in an epoch: one offset a stream, int64 (n,)."""
        return rng.integers(0, self._offsets, self._of[-1] + 1)[self._of]

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        """Chunks by row number (b,), or by row number and shift (b, 2); what would pass the end is moved back to it."""
        import torch

        rows = np.asarray(rows)
        index = checked_rows(rows[:, 0] if rows.ndim == 2 else rows, len(self))
        shift = rows[:, 1] if rows.ndim == 2 else 0
        starts = np.minimum(self._starts[index] + shift, self._latest[index])
        text = framed(self._ids, starts, self._counts[index], self.special)
        return {"text": text, "group": torch.from_numpy(self.group[index]), "row": torch.from_numpy(index)}
