"""An inverted index: for each column the rows that have it and their weights, in memory-mapped files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from scipy import sparse

from nolabel.search.files import allocated

FILES = ("starts", "row_of", "weights")


class Postings:
    """A sparse matrix (rows, columns) read by column; `matrix` is the same by row, where it was made in memory."""

    kind, lists_visited = "postings", None

    def __init__(
        self,
        rows: int,
        starts: Int64[np.ndarray, " c+1"],
        row_of: Int32[np.ndarray, " p"],
        weights: Float32[np.ndarray, " p"],
        matrix: sparse.csr_array | None = None,
    ) -> None:
        self.rows, self.starts, self.row_of, self.weights, self.matrix = rows, starts, row_of, weights, matrix

    @classmethod
    def of(cls, matrix: sparse.csr_array) -> Postings:
        """Postings in memory of a csr matrix."""
        columns = matrix.tocsc()
        return cls(
            matrix.shape[0], columns.indptr.astype(np.int64), columns.indices.astype(np.int32), columns.data, matrix
        )

    @classmethod
    def build(
        cls, folder: Path, per_column: Int64[np.ndarray, " c"], pieces: Iterable[sparse.csr_array], rows: int
    ) -> None:
        """Write the postings of the rows of all pieces, of which each column has so many; memory holds one piece."""
        starts = np.concatenate([[0], np.cumsum(per_column, dtype=np.int64)])
        np.save(folder / "starts.npy", starts)
        size = (int(starts[-1]),)
        row_of = allocated(folder / "row_of.npy", np.int32, size)
        weights = allocated(folder / "weights.npy", np.float32, size)
        free, first = starts[:-1].copy(), 0
        for piece in pieces:
            columns = piece.tocsc()
            lengths = np.diff(columns.indptr)
            # where each entry of the piece goes: behind what its column holds already
            to = np.repeat(free - columns.indptr[:-1], lengths) + np.arange(columns.nnz)
            row_of[to], weights[to] = columns.indices + first, columns.data
            free += lengths
            first += piece.shape[0]
        if first != rows or not np.array_equal(free, starts[1:]):
            raise RuntimeError(f"expected {rows} rows with {starts[-1]} entries to build from, got {first}")
        row_of.flush()
        weights.flush()

    @classmethod
    def load(cls, folder: Path, rows: int) -> Postings:
        """Map the files of a folder, which the caller has verified."""
        starts, row_of, weights = (
            np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)) for name in FILES
        )
        if len(row_of) != len(weights) or len(row_of) != starts[-1]:
            raise ValueError("its postings do not belong to each other")
        return cls(rows, starts, row_of, weights)

    def column(self, number: int) -> tuple[Int32[np.ndarray, " m"], Float32[np.ndarray, " m"]]:
        """The rows that have a column, rising, and their weights."""
        part = slice(self.starts[number], self.starts[number + 1])
        return self.row_of[part], self.weights[part]

    def sum(
        self,
        columns: Sequence[int],
        worth: Callable[[int, np.ndarray, np.ndarray], np.ndarray],
    ) -> tuple[Float64[np.ndarray, " n"], int]:
        """For each row the sum of `worth(i, rows, weights)` over the i-th of the columns it has; and how many it read."""
        total, read = np.zeros(self.rows), 0
        for place, number in enumerate(columns):
            rows, weights = self.column(number)
            total[rows] += worth(place, rows, weights)  # a row comes once in a column
            read += len(rows)
        return total, read

    def entries(self, rows: Int64[np.ndarray, " m"], columns: Sequence[int]) -> Float32[np.ndarray, "m c"]:
        """The weights of some rows in some columns, 0 where they have none."""
        found = np.zeros((len(rows), len(columns)), dtype=np.float32)
        for place, number in enumerate(columns):
            have, weights = self.column(number)
            if len(have):
                at = np.minimum(np.searchsorted(have, rows), len(have) - 1)
                same = have[at] == rows
                found[same, place] = weights[at[same]]
        return found


def top(
    scores: Float64[np.ndarray, " n"], k: int, kept: Bool[np.ndarray, " n"] | None = None
) -> tuple[Float32[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Scores and rows of at least the k best positive scores, all ties of the last among them, by row.

    >>> top(np.array([0.0, 2.0, 1.0, 1.0]), 2)
    (array([2., 1., 1.], dtype=float32), array([1, 2, 3]))
    """
    rows = np.flatnonzero(scores > 0 if kept is None else (scores > 0) & kept)
    near = scores[rows].astype(np.float32)
    if len(rows) > k:
        enough = near >= np.partition(near, len(near) - k)[len(near) - k]
        rows, near = rows[enough], near[enough]
    return near, rows
