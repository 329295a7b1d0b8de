"""What a training loop draws batches from: the contract, and numeric columns of a table as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


@dataclass(frozen=True)
class Skipped:
    """A row that was left out: its number in the table, its path where it has one, and why."""

    row: int
    path: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.path or f'row {self.row}'}: {self.reason}"


class NothingUsable(ValueError):
    """Not one row could be used; `skipped` says of each why."""

    def __init__(self, message: str, skipped: list[Skipped]) -> None:
        super().__init__(message)
        self.skipped = skipped


@runtime_checkable
class Source(Protocol):
    """Rows that can be drawn in any order; everything a training loop asks of data."""

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""
        ...

    @property
    def skipped(self) -> list[Skipped]:
        """Rows of the table that are not here, and why."""
        ...

    def __len__(self) -> int: ...

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        """The rows at positions ``rows`` (int64, 0 to len - 1), as tensors or lists of that length by name."""
        ...


def checked_rows(rows: np.ndarray | Sequence[int], length: int) -> np.ndarray:
    """Row positions as int64 (b,), each from 0 to ``length`` - 1."""
    array = np.asarray(rows)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise TypeError(f"rows: expected one-dimensional integers, got {array.dtype} of shape {array.shape}")
    if array.size and (array.min() < 0 or array.max() >= length):
        raise ValueError(f"rows: expected positions from 0 to {length - 1}, got {array.min()} to {array.max()}")
    return array.astype(np.int64)


class ColumnSource:
    """Columns of a table in batches: numbers and arrays as tensors, strings and ragged lists as Python lists.

    Parameters
    ----------
    table : datasets.Dataset
    columns : names to draw; by default every column that does not hold images
        (those come from ``nolabel.data.open_images``).

    Raises
    ------
    ValueError
        For a column that is not there, holds images, or holds integers some of which are missing.

    Examples
    --------
    >>> from nolabel.data import read
    >>> source = ColumnSource(read({"age": [31, 8, 64], "name": ["Ada", "Bo", "Cy"]}))
    >>> source.batch([2, 0])
    {'age': tensor([64, 31]), 'name': ['Cy', 'Ada']}
    """

    def __init__(self, table: Dataset, columns: Sequence[str] | None = None) -> None:
        from nolabel.data.columns import require_column
        from nolabel.data.fingerprints import column_fingerprint, fingerprint
        from nolabel.data.modalities import holds_images

        chosen = [name for name in table.column_names if not holds_images(table, name)] if columns is None else columns
        for name in chosen:
            require_column(table, name, "columns")
            if holds_images(table, name):
                raise ValueError(f"columns: {name!r} holds images; nolabel.data.open_images decodes them")
        self._columns = {name: _column_values(table, name) for name in chosen}
        self._length = len(table)
        self.fingerprint = fingerprint({name: column_fingerprint(table, name) for name in chosen})
        self.skipped: list[Skipped] = []

    def __len__(self) -> int:
        return self._length

    def batch(self, rows: np.ndarray | Sequence[int]) -> dict[str, Any]:
        """Tensors (b, ...) or lists of length b by column name, for the positions ``rows``."""
        import torch

        index = checked_rows(rows, len(self))
        return {
            name: torch.from_numpy(values[index]) if isinstance(values, np.ndarray) else values.take(index).to_pylist()
            for name, values in self._columns.items()
        }


def _column_values(table: Dataset, name: str) -> np.ndarray | pa.ChunkedArray:
    """Numbers as one NumPy array, everything else as the Arrow column."""
    import pyarrow as pa
    import pyarrow.types as kinds

    from nolabel.data.columns import column_blocks, regular_array, value_type

    blocks = list(column_blocks(table, name, rows=4096))
    inner = value_type(blocks[0].type)
    if kinds.is_integer(inner) or kinds.is_floating(inner) or kinds.is_boolean(inner):
        plain = inner == blocks[0].type
        nulls = sum(block.null_count for block in blocks) if plain else 0
        if nulls and not kinds.is_floating(inner):
            raise ValueError(f"columns: {name!r} holds {inner} with {nulls} missing; fill them or choose other columns")
        arrays = [block.to_numpy(zero_copy_only=False) if plain else regular_array(block) for block in blocks]
        regular = [array for array in arrays if array is not None]
        if len(regular) == len(arrays) and len({array.shape[1:] for array in regular}) == 1:
            return np.concatenate(regular)
    return pa.chunked_array([getattr(block, "storage", block) for block in blocks])
