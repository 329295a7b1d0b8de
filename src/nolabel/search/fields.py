"""What the rows of an index can be searched by, as they are given and as they lie in Lance.

A row can hold a vector, a packed binary code, a sparse non-negative vector with one dimension a word, and a text: any
of them, the same for all rows of an index. The text is an ordinary payload column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, UInt8
from scipy import sparse

from nolabel.ops.finite import finite_rows
from nolabel.search.funnel import whole

METRICS = ("cosine", "dot", "l2")
LEAST_BYTES = 256  # a row counts as at least so many bytes when rows are cut into batches


@dataclass(frozen=True)
class Fields:
    """The fields of an index: a width of 0, or no text column, where it lacks one."""

    dim: int = 0
    metric: str = "cosine"
    bits: int = 0
    words: int = 0
    text: str | None = None
    language: str | None = "english"

    @property
    def given(self) -> dict[str, int]:
        """Names of the arguments that rows come in, with the width of each."""
        widths = {"vectors": self.dim, "codes": self.bits, "sparse": self.words}
        return {name: width for name, width in widths.items() if width}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the Lance table that are neither id nor payload."""
        names = {"vectors": ("vector",), "codes": ("code",), "sparse": ("sparse_indices", "sparse_values")}
        return tuple(column for name in self.given for column in names[name])

    def schema(self) -> list[pa.Field]:
        columns = [pa.field("id", pa.int64(), nullable=False)]
        if self.dim:
            columns.append(pa.field("vector", pa.list_(pa.float32(), self.dim)))
        if self.bits:
            columns.append(pa.field("code", pa.list_(pa.uint8(), self.bits // 8)))
        if self.words:
            columns.append(pa.field("sparse_indices", pa.list_(pa.int32())))
            columns.append(pa.field("sparse_values", pa.list_(pa.float32())))
        if self.text is not None:
            columns.append(pa.field(self.text, pa.string()))
        return columns

    def check(self, name: str, rows: Any, first: int) -> Any:
        """Rows of one field, checked: float32 (n, dim), uint8 (n, bits / 8) or csr (n, words)."""
        if name == "vectors":
            return as_vectors(rows, self.dim, self.metric, first=first)
        return as_codes(rows, self.bits, first=first) if name == "codes" else as_sparse(rows, self.words, first=first)

    def opened(self, given: Mapping[str, Any], first: int) -> tuple[int, dict[str, Any]]:
        """How many rows there are, and the rows of each field so that they can be cut, none missing."""
        for name in given:
            if name not in self.given:
                raise ValueError(f"{name}: the index holds none{_how(name)}; its rows are {self.said}")
        missing = [name for name in self.given if name not in given]
        if missing:
            raise ValueError(f"{missing[0]}: missing; the rows of this index are {self.said}")
        whole = {name: self._open(name, rows, first) for name, rows in given.items()}
        lengths = {name: int(rows.shape[0]) for name, rows in whole.items()}
        leading, rows = next(iter(lengths.items()))
        for name, length in lengths.items():
            if length != rows:
                raise ValueError(f"{name}: expected one for each of {rows} {leading}, got {length}")
        return rows, whole

    def pieces(self, whole: Mapping[str, Any], rows: int, first: int, size: int) -> Iterator[tuple[int, int, Any]]:
        """Start, length and Arrow columns of pieces of at most `size` bytes, each checked as it comes."""
        nonzero = whole["sparse"].nnz // max(1, rows) if sparse.issparse(whole.get("sparse")) else self.words
        step = max(1, size // self.row_bytes + 8 * nonzero)
        for start in range(0, rows, step):
            columns: dict[str, Any] = {}
            for name, all_rows in whole.items():
                columns |= arrow(name, self.check(name, all_rows[start : start + step], first + start))
            yield start, min(step, rows - start), columns

    def _open(self, name: str, rows: Any, first: int) -> Any:
        """Rows that can be cut: arrays and matrices as they are, possibly on disk; anything else checked and copied."""
        if sparse.issparse(rows):
            rows = rows.tocsr() if rows.ndim == 2 else rows
        if not hasattr(rows, "shape"):
            rows = self.check(name, rows, first)
        if len(rows.shape) != 2:
            self.check(name, rows, first)
        return rows

    def replacements(self, given: Mapping[str, Any], ids: int) -> dict[str, Any]:
        """Checked rows of some of the fields, one for each of so many ids."""
        checked = {}
        for name, rows in given.items():
            if name not in self.given:
                raise ValueError(f"{name}: the index holds none{_how(name)}; its rows are {self.said}")
            checked[name] = self.check(name, rows, 0)
            if checked[name].shape[0] != ids:
                raise ValueError(f"{name}: expected one for each of {ids} ids, got {checked[name].shape[0]}")
        return checked

    @property
    def row_bytes(self) -> int:
        """Of what a row is searched by, roughly."""
        return max(LEAST_BYTES, 4 * self.dim + self.bits // 8)

    @property
    def described(self) -> str:
        held = [f"dimension {self.dim}, {self.metric}"] if self.dim else []
        held += [f"{self.bits} bits"] if self.bits else []
        held += [f"{self.words} words"] if self.words else []
        return ", ".join(held + ([f"text {self.text!r}"] if self.text is not None else []))

    @property
    def said(self) -> str:
        names = [f"{name}=" for name in self.given]
        if self.text is not None:
            names.append(f"payload={{{self.text!r}: ...}}")
        return ", ".join(names)


def _how(name: str) -> str:
    argument = {"vectors": "dim", "codes": "bits", "sparse": "vocabulary"}.get(name)
    return f" (Index.create makes one with {argument}=)" if argument else ""


def as_vectors(
    given: Any, dim: int, metric: str, *, name: str = "vectors", first: int = 0
) -> Float32[np.ndarray, "n d"]:
    """Rows as float32 (n, dim), checked; `first` is the number of the first row in what the caller handed over."""
    if hasattr(given, "detach"):  # a torch tensor, wherever it lies
        given = given.detach().float().cpu().numpy()
    try:
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(given, dtype=np.float32)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected numbers of shape (n, {dim}), got {type(given).__name__}") from None
    shape = np.shape(given)  # ascontiguousarray makes (1,) of a scalar
    if len(shape) != 2 or shape[1] != dim:
        raise ValueError(f"{name}: the index holds vectors of dimension {dim}, got an array of shape {shape}")
    finite = finite_rows(rows)
    if not finite.all():
        raise ValueError(f"{name}: row {first + int(np.argmin(finite))} holds NaN or infinity")
    if metric == "cosine":
        zero = ~rows.any(axis=1)
        if zero.any():
            raise ValueError(f"{name}: row {first + int(np.argmax(zero))} is all zeros, which has no cosine")
    return rows


def as_codes(given: Any, bits: int, *, name: str = "codes", first: int = 0) -> UInt8[np.ndarray, "n b"]:
    """Binary codes as packed bytes (n, bits / 8), from such bytes or from bool (n, bits); the first bit is the highest.

    >>> as_codes([[True, False, False, False, False, False, True, True]], 8)
    array([[131]], dtype=uint8)
    """
    rows = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    expected = f"the index holds codes of {bits} bits: bool (n, {bits}) or packed uint8 (n, {bits // 8})"
    if rows.dtype not in (np.bool_, np.uint8):
        raise TypeError(f"{name}: {expected}, got {rows.dtype} of shape {rows.shape}")
    width = rows.shape[-1] * (1 if rows.dtype == np.bool_ else 8) if rows.ndim else 0
    if rows.ndim != 2 or width != bits:
        said = f", which is {width} bits" if rows.ndim == 2 else ""
        raise ValueError(f"{name}: {expected}, got {rows.dtype} of shape {rows.shape}{said}")
    return np.ascontiguousarray(np.packbits(rows, axis=1) if rows.dtype == np.bool_ else rows)


def as_sparse(given: Any, words: int, *, name: str = "sparse", first: int = 0) -> sparse.csr_array:
    """Non-negative rows as float32 csr (n, words) with rising indices and no stored zeros; dense arrays are taken too.

    >>> as_sparse([[0.0, 2.0, 0.0]], 3).indices
    array([1], dtype=int32)
    """
    if hasattr(given, "detach"):
        given = given.detach().float().cpu().numpy()
    if not sparse.issparse(given):
        given = np.asarray(given)
        if given.dtype.kind not in "fiub":
            raise TypeError(f"{name}: expected a sparse or dense matrix (n, {words}), got {given.dtype}")
    if given.ndim != 2 or given.shape[1] != words:
        raise ValueError(f"{name}: the index holds sparse vectors of {words} dimensions, got shape {given.shape}")
    rows = sparse.csr_array(given, dtype=np.float32, copy=True)  # the caller's stays as it is
    rows.sum_duplicates()
    for wrong, said in ((~np.isfinite(rows.data), "holds NaN or infinity"), (rows.data < 0, "holds a negative weight")):
        if wrong.any():
            at = int(np.argmax(wrong))
            row = int(np.searchsorted(rows.indptr, at, side="right")) - 1
            raise ValueError(f"{name}: row {first + row} {said} in dimension {rows.indices[at]}")
    rows.eliminate_zeros()
    rows.indices = rows.indices.astype(np.int32, copy=False)
    return rows


def arrow(name: str, rows: Any) -> dict[str, pa.Array]:
    """Checked rows of one field as the columns of the table."""
    if name == "sparse":
        starts = pa.array(rows.indptr.astype(np.int32))
        return {
            "sparse_indices": pa.ListArray.from_arrays(starts, pa.array(rows.indices)),
            "sparse_values": pa.ListArray.from_arrays(starts, pa.array(rows.data)),
        }
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    return {"vector" if name == "vectors" else "code": column}


def matrix_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column as an array (n, d)."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.flatten().to_numpy().reshape(len(array), array.type.list_size)


def sparse_of(rows: pa.Table | pa.RecordBatch, words: int) -> sparse.csr_array:
    """The two list columns of sparse vectors as csr (n, words)."""
    indices, values = (
        column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        for column in (rows["sparse_indices"], rows["sparse_values"])
    )
    lengths = indices.value_lengths().fill_null(0).to_numpy()
    if not np.array_equal(lengths, values.value_lengths().fill_null(0).to_numpy()):
        raise ValueError("sparse: a row of the data set has not as many indices as values")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    data = values.flatten().to_numpy()
    return sparse.csr_array((data, indices.flatten().to_numpy(), starts), shape=(len(lengths), words))


def as_vocabulary(given: int | Sequence[str]) -> tuple[int, list[str] | None]:
    """The number of dimensions of sparse vectors and, when they were given, their words."""
    if isinstance(given, int | np.integer):
        return whole("vocabulary", given, 1), None
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(f"vocabulary: expected words or how many there are, got {type(given).__name__}")
    words = list(given)
    wrong = [word for word in words if not isinstance(word, str) or not word]
    if wrong or not words:
        raise ValueError(
            f"vocabulary: expected words, got {wrong[0]!r}" if words else "vocabulary: expected words, got none"
        )
    if len(set(words)) < len(words):
        seen: set[str] = set()
        again = next(word for word in words if word in seen or seen.add(word))  # type: ignore[func-returns-value]
        raise ValueError(f"vocabulary: the word {again!r} comes twice")
    return len(words), words
