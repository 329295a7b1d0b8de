"""Search by sparse non-negative vectors, one dimension a word: largest inner products, and the words that made them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from nolabel.search.fields import sparse_of
from nolabel.search.files import seal, sealed
from nolabel.search.found import Found, Matches
from nolabel.search.postings import Postings, top
from nolabel.search.snapshot import Snapshot

FORMAT = 1


class Sparse:
    """Sparse vectors in `Postings`."""

    name = "sparse"
    columns: tuple[str, ...] = ("sparse_indices", "sparse_values")

    def __init__(self, words: int) -> None:
        self.words = words

    def build(self, folder: Path, pieces: Callable[[], Iterator[pa.RecordBatch]], rows: int) -> None:
        """Reads the rows twice, once to count and once to place, so that memory holds a few thousand of them."""
        per_column = np.zeros(self.words, dtype=np.int64)
        for piece in pieces():
            per_column += np.bincount(sparse_of(piece, self.words).indices, minlength=self.words)
        Postings.build(folder, per_column, (sparse_of(piece, self.words) for piece in pieces()), rows)
        seal(folder, {"format": FORMAT, "rows": rows, "words": self.words})

    def load(self, folder: Path) -> Postings:
        notes = sealed(folder, FORMAT)
        if notes["words"] != self.words:
            raise ValueError(f"it is for {notes['words']} dimensions")
        return Postings.load(folder, notes["rows"])

    def read(self, rows: pa.Table) -> sparse.csr_array:
        return sparse_of(rows, self.words)

    def stack(self, parts: Sequence[sparse.csr_array]) -> sparse.csr_array:
        return sparse.vstack(parts, format="csr")

    def hold(self, contents: sparse.csr_array) -> Postings:
        return Postings.of(contents)

    def contents(self, structure: Postings) -> sparse.csr_array:
        return structure.matrix


def kept_mask(structure: Postings, rows: np.ndarray) -> np.ndarray:
    """The rows that a filter lets through, as a mask."""
    mask = np.zeros(structure.rows, dtype=bool)
    mask[rows] = True
    return mask


def search(
    snapshot: Snapshot,
    queries: sparse.csr_array,
    k: int,
    where: str | None,
    vocabulary: Callable[[], list[str] | None],
    *,
    lenient: bool = False,
) -> list[Found]:
    """The k rows with the largest positive inner products, ties by id; rows that share no dimension are not found.

    A query without any dimension that a row of the index has is a ValueError unless `lenient`.
    """
    kept = snapshot.filtered(where, None, kept_mask)
    answers = []
    for number in range(queries.shape[0]):
        row = slice(queries.indptr[number], queries.indptr[number + 1])
        columns, weights = queries.indices[row].tolist(), queries.data[row].astype(np.float64)
        scores, positions, read = [], [], 0
        for (postings, start), mask in zip(snapshot.parts, kept):
            total, entries = postings.sum(columns, partial(_worth, weights))
            near, rows = top(total, k, mask)
            scores.append(near)
            positions.append(rows + start)
            read += entries
        if snapshot.rows and not read and not lenient:
            raise ValueError(f"query: row {number} has no dimension that any row of the index has")
        near, at = snapshot.best(np.concatenate(scores)[None], np.concatenate(positions)[None], k)
        answers.append(Found(near[0], at[0], read, partial(_explain, snapshot, columns, weights, vocabulary)))
    return answers


def _worth(weights: np.ndarray, place: int, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.asarray(weights[place] * values)


def _explain(
    snapshot: Snapshot,
    columns: list[int],
    weights: np.ndarray,
    vocabulary: Callable[[], list[str] | None],
    positions: np.ndarray,
) -> list[Matches]:
    words = vocabulary()
    names: list[str | int] = [column if words is None else words[column] for column in columns]
    return named(snapshot, positions, names, lambda part, rows: part.entries(rows, columns) * weights)


def named(
    snapshot: Snapshot,
    positions: np.ndarray,
    names: Sequence[str | int],
    contributions: Callable[[Any, np.ndarray], np.ndarray],
) -> list[Matches]:
    """For each row its names with their positive contributions, the largest first, ties in the query's order."""
    found = np.zeros((len(positions), len(names)))
    for part, start in snapshot.parts:
        inside = (positions >= start) & (positions < start + part.rows)
        if inside.any():
            found[inside] = contributions(part, positions[inside] - start)
    order = np.argsort(-found, axis=1, kind="stable")
    return [[(names[at], float(row[at])) for at in best if row[at] > 0] for row, best in zip(found, order)]
