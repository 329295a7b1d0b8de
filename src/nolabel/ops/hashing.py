"""Stable 64-bit keys of categorical values, and the rows of a table that they hash to.

A value becomes a key once, from its canonical text, and a key becomes a row once for each salt:

    key = xxh3_64(text(v)),        row = mix(key xor salt) mod M,

with `mix` the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), a bijection of 64-bit words whose outputs for
different salts are as good as independent. Both are the same in every process and on every machine.
"""

import datetime
import decimal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xxhash
from jaxtyping import Int64
from torch import Tensor

#: The key of a missing value; no text has it but by a chance of 1 in 2**64.
MISSING = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_OTHERS = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, np.datetime64, np.timedelta64)


def canonical(value: Any) -> bytes:
    """The bytes that stand for a value: the same for 1, 1.0 and "1", which a file may hold as any of these.

    Whole numbers are their decimal digits, other floats the shortest text of the double, booleans ``true`` and ``false``,
    texts their UTF-8, bytes themselves, dates and times their ISO text.

    Raises
    ------
    TypeError
        For any other kind of value.

    >>> canonical(1), canonical(1.0), canonical("1"), canonical(True), canonical(0.5)
    (b'1', b'1', b'1', b'true', b'0.5')
    """
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bool | np.bool_):
        return b"true" if value else b"false"
    if isinstance(value, int | np.integer):
        return str(int(value)).encode()
    if isinstance(value, float | np.floating):
        number = float(value)
        return (str(int(number)) if number.is_integer() else repr(number)).encode()
    if isinstance(value, bytes):
        return value
    if isinstance(value, _OTHERS):
        return str(value).encode()
    raise TypeError(f"a category must be a text, number, boolean, date or bytes, got {type(value).__name__}")


def is_missing(value: Any) -> bool:
    """Whether a value is None or not a number (or not a time)."""
    return value is None or bool(isinstance(value, float | np.floating | np.datetime64) and value != value)


def hash64(values: Any) -> np.ndarray:
    """Keys, uint64 (n,), of n values; None and NaN have the key `MISSING`.

    Raises
    ------
    TypeError
        A value of a kind that `canonical` refuses; the message names its position.
    ValueError
        An array that is not one-dimensional.

    >>> hash64([7, "7", None]).tolist() == [*hash64(np.array([7, 7])).tolist(), int(MISSING)]
    True
    """
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError(f"values must be one-dimensional, got shape {values.shape}")
        if values.dtype.kind in "biuf":  # few distinct numbers, as a rule
            distinct, where = np.unique(values, return_inverse=True)
            return _keys(distinct.tolist())[where.reshape(-1)]
        values = values.tolist() if values.dtype.kind != "M" else list(values)
    return _keys(values)


def _keys(values: Sequence[Any]) -> np.ndarray:
    digest = xxhash.xxh3_64_intdigest
    keys = np.empty(len(values), np.uint64)
    for place, value in enumerate(values):
        if type(value) is str:  # as are nearly all, and there may be millions
            keys[place] = digest(value.encode("utf-8", "surrogatepass"))
            continue
        if type(value) is int:
            keys[place] = digest(b"%d" % value)
            continue
        if is_missing(value):
            keys[place] = MISSING
            continue
        try:
            keys[place] = digest(canonical(value))
        except TypeError as error:
            raise TypeError(f"position {place}: {error}") from None
    return keys


def salt64(name: str, number: int, seed: int) -> int:
    """The salt of chunk `number` of the column `name`: of its name, so that no other column's coming or going changes it.

    >>> salt64("user", 0, 0) != salt64("user", 1, 0) != salt64("item", 0, 0)
    True
    """
    text = f"{seed}\0{number}\0".encode() + name.encode("utf-8", "surrogatepass")
    return int(xxhash.xxh3_64_intdigest(text))  # its own seed only shifts a byte of short texts


def hashed_rows(keys: Int64[Tensor, " n"], salt: int, rows: int) -> Int64[Tensor, " n"]:
    """The row in [0, rows) of each key under a salt.

    Parameters
    ----------
    keys : int64 (n,), the bits of keys from `hash64`
    salt : 64 bits, such as from `salt64`
    rows : at least 1

    >>> hashed_rows(torch.tensor([5, 5, 6]), salt=1, rows=10).shape
    torch.Size([3])
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    x = keys ^ _signed(salt)
    for shift, multiplier in zip((30, 27), _MULTIPLIERS):
        x = (x ^ _right(x, shift)) * _signed(multiplier)
    return _right(x ^ _right(x, 31), 1) % rows  # 63 bits, so that the sign plays no part


def _right(x: Tensor, bits: int) -> Tensor:
    """A shift to the right that fills with zeros, which int64 does not have."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    """The int64 with the bits of an unsigned word."""
    word %= 2**64
    return word - 2**64 if word >= 2**63 else word


@dataclass(frozen=True, eq=False)
class ColumnKeys:
    """The keys of one column of categories.

    Attributes
    ----------
    keys : int64 (values,), the bits of keys from `hash64`, row after row
    lengths : int64 (rows,), how many values each row has; None where every row has one
    """

    keys: np.ndarray
    lengths: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keys if self.lengths is None else self.lengths)

    def take(self, rows: np.ndarray) -> "ColumnKeys":
        """The rows at the given positions, in that order."""
        if self.lengths is None:
            return ColumnKeys(self.keys[rows])
        lengths = self.lengths[rows]
        begins = (self.lengths.cumsum() - self.lengths)[rows]
        inner = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
        return ColumnKeys(self.keys[np.repeat(begins, lengths) + inner], lengths)

    def tensors(self) -> "Tensor | dict[str, Tensor]":
        """The keys (rows,) as a tensor; with several values a row, ``{"keys": (values,), "lengths": (rows,)}``."""
        keys = torch.from_numpy(self.keys)
        return keys if self.lengths is None else {"keys": keys, "lengths": torch.from_numpy(self.lengths)}

    def whole(self) -> np.ndarray:
        """One key (rows,) for what a row holds altogether, whatever the order of its values."""
        if self.lengths is None:
            return self.keys
        owner = np.repeat(np.arange(len(self)), self.lengths)
        order = np.lexsort((self.keys, owner))
        ordered, ends = self.keys[order], self.lengths.cumsum()
        return hash64([ordered[end - n : end].tobytes() for end, n in zip(ends, self.lengths)]).view(np.int64)


def column_keys(cells: Any, name: str, *, missing: str = "error") -> ColumnKeys:
    """The keys of a column: n values, or n lists of values (which may be empty).

    Parameters
    ----------
    cells : array, list or Arrow column
    name : of the column, for the errors
    missing : ``value``: None and NaN are a value of their own; ``error``: they are refused

    Raises
    ------
    TypeError
        A cell that is no category (a dict, an array), or single values beside lists; column and row are named.
    ValueError
        Missing values, with their number, unless ``missing="value"``.

    >>> column_keys([["a", "b"], [], ["a"]], "tags").lengths.tolist()
    [2, 0, 1]
    """
    if missing not in ("error", "value"):
        raise ValueError(f"missing must be 'error' or 'value', got {missing!r}")
    if hasattr(cells, "detach"):
        cells = cells.detach().cpu().numpy()
    if hasattr(cells, "to_pylist"):
        cells = cells.to_pylist()
    if isinstance(cells, str | bytes) or not hasattr(cells, "__len__"):
        raise TypeError(f"column {name!r}: an array or list of values was expected, got {type(cells).__name__}")
    plain = isinstance(cells, np.ndarray) and cells.dtype.kind in "biufUSM"
    cells = cells if plain else list(cells)
    lists = not plain and any(isinstance(cell, list | tuple) for cell in cells)
    found = _several(cells, name) if lists else ColumnKeys(_of_column(cells, name, None).view(np.int64))
    gaps = int((found.keys.view(np.uint64) == MISSING).sum())
    if gaps and missing == "error":
        raise ValueError(
            f"column {name!r}: {gaps} of {len(found.keys)} values are missing; fill them, or set missing='value'"
        )
    return found


def _several(cells: list[Any], name: str) -> ColumnKeys:
    """Keys of lists; a missing list is a list of one missing value."""
    lists = [[None] if is_missing(cell) else cell for cell in cells]
    wrong = next((row for row, cell in enumerate(lists) if not isinstance(cell, list | tuple)), None)
    if wrong is not None:
        raise TypeError(
            f"column {name!r}, row {wrong}: a list of values was expected as in other rows, got {type(lists[wrong]).__name__}"
        )
    lengths = np.array([len(cell) for cell in lists], np.int64)
    flat = [value for cell in lists for value in cell]
    return ColumnKeys(_of_column(flat, name, lengths).view(np.int64), lengths)


def _of_column(values: Any, name: str, lengths: np.ndarray | None) -> np.ndarray:
    try:
        return hash64(values)
    except TypeError as error:
        place, _, reason = str(error).removeprefix("position ").partition(": ")
        row = int(place) if lengths is None else int(np.searchsorted(lengths.cumsum(), int(place), side="right"))
        raise TypeError(f"column {name!r}, row {row}: {reason}") from None
