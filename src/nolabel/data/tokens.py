"""Texts as token ids: encoded once, drawn in padded batches."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nolabel.data.caching import cache_root
from nolabel.data.columns import require_column
from nolabel.data.piece_cache import PieceCache
from nolabel.data.replacing import naming
from nolabel.data.sources import NothingUsable, Skipped, checked_rows
from nolabel.data.tokenisers import SpecialIds, special_ids

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer

_BLOCK = 2048  # texts encoded at a time
_IN_MEMORY = 64 * 2**20  # bytes of ids; more lie in a file
_LONGEST_WORD = 24  # characters a token, generously: what is cut off before encoding could not have been kept


def usable_texts(table: Dataset, columns: Sequence[str]) -> tuple[np.ndarray, list[Skipped]]:
    """Rows (n,) whose texts in all `columns` hold something, and the others with the reason.

    Raises
    ------
    ValueError
        For a column that is not there, or no usable row.
    TypeError
        For a column that does not hold strings.
    """
    import pyarrow.compute as compute
    import pyarrow.types as kinds

    skipped: list[Skipped] = []
    keep = np.ones(len(table), bool)
    paths = table["path"] if "path" in table.column_names else None
    for name in columns:
        require_column(table, name, "columns")
        kind = table.data.schema.field(name).type
        if not (kinds.is_string(kind) or kinds.is_large_string(kind)):
            raise TypeError(f"columns: {name!r} holds {kind}; expected texts")
        values = table.with_format("arrow")[:][name]
        # what a tokeniser drops, white space and control characters, does not make a text
        blank = compute.match_substring_regex(values, r"^[\s\x00-\x1f\x7f]*$")
        empty = compute.fill_null(blank, True).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(empty & keep):
            reason = "empty text" if len(columns) == 1 else f"empty text in column {name!r}"
            skipped.append(Skipped(int(row), None if paths is None else paths[int(row)], reason))
        keep &= ~empty
    if not keep.any():
        raise NothingUsable(f"columns: all {len(table)} texts in {', '.join(map(repr, columns))} are empty", skipped)
    return np.flatnonzero(keep), sorted(skipped, key=lambda skip: skip.row)


class TokenSource:
    """Texts of a table as batches of token ids.

    A batch holds, by column, ``{"tokens": int64 (b, length), "mask": bool (b, length)}``: start token, pieces, end token,
    padding where ``mask`` is False.

    Parameters
    ----------
    table : datasets.Dataset
    columns : text columns to draw
    tokeniser : of the `tokenizers` library, with a start, an end and a padding token
    max_length : tokens a text is cut to, start and end among them; one number, or one a column

    Attributes
    ----------
    rows : int64 (n,), the rows of the table that are here
    skipped : rows without text, and why
    lengths : by column, tokens of each text (n,), start and end among them
    truncated : by column, how many texts were cut off
    fingerprint : hash of texts, tokeniser and lengths

    Examples
    --------
    >>> from nolabel.data import read
    >>> from nolabel.data.tokenisers import train_wordpiece
    >>> table = read(["a cat sat", "", "cats"])
    >>> source = TokenSource(table.select([0, 2]), ("text",), train_wordpiece(["a cat sat", "cats"], 30), 16)
    >>> source.batch([0, 1])["text"]["mask"].sum(dim=1).tolist()
    [5, 3]
    """

    def __init__(
        self,
        table: Dataset,
        columns: Sequence[str],
        tokeniser: Tokenizer,
        max_length: int | Sequence[int],
        *,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        from nolabel.data.fingerprints import column_fingerprint, fingerprint

        limits = [max_length] * len(columns) if isinstance(max_length, int) else list(max_length)
        for limit in limits:
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 3:
                raise ValueError(f"max_length must be a whole number of at least 3 tokens, got {limit!r}")
        self.rows, self.skipped = usable_texts(table, columns)
        self.tokeniser = tokeniser.to_str()
        self.special: SpecialIds = special_ids(tokeniser)
        self.limits = dict(zip(columns, limits, strict=True))
        content = [[column_fingerprint(table, name), limit] for name, limit in self.limits.items()]
        self.fingerprint = fingerprint([content, self.tokeniser])
        self._ids: dict[str, np.ndarray] = {}
        self._ends: dict[str, np.ndarray] = {}
        self.lengths: dict[str, np.ndarray] = {}
        self.truncated: dict[str, int] = {}
        whole = len(self.rows) == len(table)
        kept = table if whole else table.select(self.rows)
        for name, limit in self.limits.items():
            store = _Store(self.fingerprint, name, folder)
            wide = tokeniser.get_vocab_size() > 2**16
            ids, ends, cut = store.encoded(_texts(kept, name), tokeniser, limit - 2, np.int32 if wide else np.uint16)
            self._ids[name], self._ends[name], self.truncated[name] = ids, ends, cut
            self.lengths[name] = np.diff(ends, prepend=0) + 2
        if self.skipped:
            total = len(table)
            warnings.warn(f"{len(self.skipped)} of {total} texts were skipped, first {self.skipped[0]}", stacklevel=3)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"TokenSource({len(self)} rows of {', '.join(self.limits)}, {len(self.skipped)} skipped)"

    def stream(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """All pieces of a column on end, without start and end tokens, and the end (n,) of each text among them."""
        return self._ids[column], self._ends[column]

    def batch(self, rows: np.ndarray | Sequence[int]) -> dict[str, Any]:
        """By column ``tokens`` and ``mask`` (b, length); ``row``: int64 (b,), the positions asked for."""
        import torch

        index = checked_rows(rows, len(self))
        batch: dict[str, Any] = {name: self._padded(name, index) for name in self.limits}
        batch["row"] = torch.from_numpy(index)
        return batch

    def _padded(self, name: str, index: np.ndarray) -> dict[str, torch.Tensor]:
        ends = self._ends[name]
        starts = np.where(index > 0, ends[index - 1], 0) if len(ends) else index
        return framed(self._ids[name], starts, ends[index] - starts, self.special)


def framed(ids: np.ndarray, starts: np.ndarray, counts: np.ndarray, special: SpecialIds) -> dict[str, torch.Tensor]:
    """Pieces ``ids[start : start + count]`` of each row between a start and an end token, padded.

    >>> found = framed(np.arange(10, 20), np.array([0, 4]), np.array([2, 1]), SpecialIds(0, 1, 2, 3, 4))
    >>> found["tokens"].tolist()
    [[2, 10, 11, 3], [2, 14, 3, 0]]
    """
    import torch

    longest = int(counts.max(initial=0))
    place = np.arange(longest)
    inside = place < counts[:, None]  # (b, longest)
    tokens = np.full((len(counts), longest + 2), special.pad, np.int64)
    tokens[:, 0] = special.start
    where = np.minimum(starts[:, None] + place, max(len(ids) - 1, 0))
    if longest:
        tokens[:, 1:-1] = np.where(inside, ids[where], special.pad)
    tokens[np.arange(len(counts)), counts + 1] = special.end
    mask = np.arange(longest + 2) < counts[:, None] + 2
    return {"tokens": torch.from_numpy(tokens), "mask": torch.from_numpy(mask)}


def _texts(table: Dataset, column: str) -> Iterator[list[str]]:
    from nolabel.data.columns import column_blocks

    for block in column_blocks(table, column, rows=_BLOCK):
        yield block.to_pylist()


class _Store:
    """Where the ids of one column are kept: in memory while they are few, else in a file of the cache."""

    def __init__(self, fingerprint: str, column: str, folder: str | os.PathLike[str] | None) -> None:
        root = cache_root() if folder is None else Path(folder).expanduser()
        self.file = root / "tokens" / fingerprint / column.encode().hex()

    def encoded(
        self, texts: Iterator[list[str]], tokeniser: Tokenizer, limit: int, dtype: type
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Ids on end, the end of each text, and how many texts were cut."""
        pieces_file, ends_file = (self.file.with_suffix(suffix) for suffix in (".ids.npy", ".ends.npy"))
        if ends_file.is_file() and pieces_file.is_file():  # the ends are written last
            *ends, cut = np.load(ends_file, allow_pickle=False)
            return np.load(pieces_file, mmap_mode="r", allow_pickle=False), np.array(ends, np.int64), int(cut)
        parts: list[np.ndarray] = []
        numbers: list[np.ndarray] = []
        cut = 0
        longer: deque[np.ndarray] = deque()  # than is encoded, of the blocks on their way

        def shortened() -> Iterator[list[str]]:
            for block in texts:
                longer.append(np.fromiter(map(len, block), np.int64) > limit * _LONGEST_WORD)
                yield [text[: limit * _LONGEST_WORD] for text in block]

        for found, counts in PieceCache(tokeniser).stream(shortened()):
            cut += int((longer.popleft() | (counts > limit)).sum())
            inside = np.arange(len(found)) - np.repeat(counts.cumsum() - counts, counts) < limit
            parts.append(found[inside].astype(dtype))
            numbers.append(np.minimum(counts, limit))
        ids, ends = np.concatenate(parts), np.concatenate(numbers).cumsum()
        if ids.nbytes > _IN_MEMORY:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            for path, array in ((pieces_file, ids), (ends_file, np.append(ends, cut))):
                partial = path.with_suffix(f".{os.getpid()}.partial")
                with naming(path, partial), partial.open("wb") as handle:
                    np.save(handle, array, allow_pickle=False)
                os.replace(partial, path)
            ids = np.load(pieces_file, mmap_mode="r", allow_pickle=False)
        return ids, ends, cut
