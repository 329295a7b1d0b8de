"""Tables of features: categories as stable keys, cells of several values, and numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nolabel.data.columns import column_blocks, require_column
from nolabel.data.sources import Skipped, checked_rows
from nolabel.ops.hashing import ColumnKeys, column_keys

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

CATEGORY, NUMBER = "category", "number"
#: Distinct values of a column of floats above which it is no column of categories: a share of the rows, and a number.
MANY_SHARE, MANY = 0.5, 10_000


def split_cells(table: Dataset, columns: Mapping[str, str]) -> Dataset:
    """Texts that hold several values as lists of values; a missing text is an empty list.

    Parameters
    ----------
    columns : name of the column to what stands between its values: ``{"genres": "|"}``; of `` `` any white space separates

    Raises
    ------
    ValueError
        No such column, or one that does not hold texts.

    >>> from nolabel.data import read
    >>> split_cells(read({"genres": ["Drama Comedy", None]}), {"genres": " "})["genres"][:]
    [['Drama', 'Comedy'], []]
    """
    import pyarrow as pa

    from nolabel.data.reading import from_arrow

    arrow = table.with_format("arrow")[:]
    for name, between in columns.items():
        require_column(table, name, "columns")
        cells = arrow[name].to_pylist()
        wrong = next((cell for cell in cells if cell is not None and not isinstance(cell, str)), None)
        if wrong is not None:
            raise ValueError(f"columns: {name!r} must hold texts to be split, got a {type(wrong).__name__}")
        parts = [(cell or "").split(None if between == " " else between) for cell in cells]
        lists = [[part.strip() for part in row if part.strip()] for row in parts]
        arrow = arrow.set_column(arrow.column_names.index(name), name, pa.array(lists, pa.list_(pa.string())))
    return from_arrow(arrow)


def kinds_of(table: Dataset, columns: Iterable[str] | Mapping[str, str] | None, without: str = "") -> dict[str, str]:
    """What each feature of a table is: ``category`` or ``number``.

    Parameters
    ----------
    columns : names, or names with their kinds; None is every column. A column of floats that are not all whole numbers is a
        number unless a kind is given; all others are categories
    without : a column that is left out where `columns` is None

    Raises
    ------
    ValueError
        No such column, another kind, or a number asked for where the column holds none.
    """
    from pyarrow import types

    from nolabel.data.columns import nested_depth

    if isinstance(columns, str):
        raise TypeError(f"features must be a list of columns or a dict from column to kind, got {columns!r}")
    chosen = [name for name in table.column_names if name != without] if columns is None else list(columns)
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"features: a column is named twice among {', '.join(chosen)}")
    found: dict[str, str] = {}
    for name in chosen:
        require_column(table, name, "features")
        kind = table.data.schema.field(name).type
        if isinstance(columns, Mapping):
            found[name] = columns[name]
            if found[name] not in (CATEGORY, NUMBER):
                raise ValueError(f"features: {name!r} must be 'category' or 'number', got {found[name]!r}")
            plain = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
            if found[name] == NUMBER and not plain:
                raise ValueError(f"features: {name!r} holds {kind}, which is no number")
        elif types.is_floating(kind) and nested_depth(kind) == 0:
            values = _numbers(table, name)
            whole = values[np.isfinite(values)]
            found[name] = CATEGORY if (whole == np.round(whole)).all() else NUMBER
        else:
            found[name] = CATEGORY
    return found


class FeatureTable:
    """Features of a table as a source of batches: keys of categories, and numbers as they are.

    A batch is ``{"categories": {column: keys}, "numbers": (b, m) float32, "row": (b,)}``, where keys are int64 (b,), or
    ``{"keys": (values,), "lengths": (b,)}`` for columns of lists. A number that is missing is NaN.

    Parameters
    ----------
    table : datasets.Dataset
    kinds : ``category`` or ``number`` of each feature, in order
    missing : ``value``: a missing category is a value of its own; ``error``: it is refused

    Examples
    --------
    >>> from nolabel.data import read
    >>> table = FeatureTable(read({"year": [1995, 1996], "price": [2.5, 3.0]}), {"year": "category", "price": "number"})
    >>> table.batch(np.array([1]))["numbers"].tolist()
    [[3.0]]
    """

    def __init__(self, table: Dataset, kinds: Mapping[str, str], *, missing: str = "value") -> None:
        from nolabel.data.fingerprints import column_fingerprint, fingerprint

        for name in kinds:
            require_column(table, name, "features")
        self.kinds = dict(kinds)
        self._length = len(table)
        self.keys: dict[str, ColumnKeys] = {}
        for name, kind in kinds.items():
            if kind == CATEGORY:
                self.keys[name] = column_keys(cells_of(table, name), name, missing=missing)
                _warn_of_many(table, name, self.keys[name])
        numbers = [_numbers(table, name) for name, kind in kinds.items() if kind == NUMBER]
        self.numbers = np.stack(numbers, axis=1) if numbers else np.zeros((len(table), 0), np.float32)
        self.fingerprint = fingerprint({name: [kind, column_fingerprint(table, name)] for name, kind in kinds.items()})
        self.skipped: list[Skipped] = []

    def __len__(self) -> int:
        return self._length

    def batch(self, rows: np.ndarray | Sequence[int]) -> dict[str, Any]:
        """The rows at these positions."""
        import torch

        index = checked_rows(rows, len(self))
        categories = {name: keys.take(index).tensors() for name, keys in self.keys.items()}
        numbers = torch.from_numpy(self.numbers[index])
        return {"categories": categories, "numbers": numbers, "row": torch.from_numpy(index)}

    def vocabularies(self) -> dict[str, np.ndarray]:
        """The distinct keys of each column of categories, int64, sorted."""
        return {name: np.unique(column.keys) for name, column in self.keys.items()}

    def codes(self, bins: int = 10) -> np.ndarray:
        """Each feature as whole numbers (n, k): what a row holds altogether; a number by its tenth of the values."""
        found, number = [], 0
        for name, kind in self.kinds.items():
            if kind == CATEGORY:
                found.append(np.unique(self.keys[name].whole(), return_inverse=True)[1].reshape(-1))
                continue
            values = self.numbers[:, number]
            number += 1
            finite = np.isfinite(values)
            edges = np.quantile(values[finite], np.arange(1, bins) / bins) if finite.any() else np.zeros(0)
            found.append(np.where(finite, np.searchsorted(edges, values, side="right"), -1))
        return np.stack(found, axis=1)


def _column(table: Dataset, name: str) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array(list(column_blocks(table, name, rows=65536)), type=table.data.schema.field(name).type)


def cells_of(table: Dataset, name: str) -> Any:
    """A column as an array where it holds numbers without gaps, else as a list."""
    from pyarrow import types

    column = _column(table, name)
    plain = types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)
    return column.to_numpy() if plain and not column.null_count else column.to_pylist()


def _numbers(table: Dataset, name: str) -> np.ndarray:
    """A column of numbers as float32 with NaN for what is missing."""
    from pyarrow import float64

    return np.asarray(_column(table, name).cast(float64()).to_numpy(zero_copy_only=False), np.float32)


def _warn_of_many(table: Dataset, name: str, keys: ColumnKeys) -> None:
    """Floats that nearly all differ make a row of the table each, and none is seen twice."""
    from pyarrow import types

    if not types.is_floating(table.data.schema.field(name).type):
        return
    distinct = len(np.unique(keys.keys))
    if distinct > min(MANY, MANY_SHARE * len(keys)) and distinct > 10:
        warnings.warn(
            f"column {name!r} holds {distinct:,} distinct floats in {len(keys):,} rows: as categories each is learned alone; "
            "put them into bins, or declare the column a number",
            stacklevel=4,
        )
