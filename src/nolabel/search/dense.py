"""Search by vectors: which rows are nearest by cosine, inner product or Euclidean distance, at any prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from nolabel.search.fields import matrix_of
from nolabel.search.found import Found
from nolabel.search.funnel import Stage, Tally
from nolabel.search.snapshot import Snapshot, joined
from nolabel.search.structure import Chosen, Structure, prepare


class Dense:
    """Vectors in a `Structure`: a matrix and, when large, inverted lists."""

    name = "dense"
    columns: tuple[str, ...] = ("vector",)

    def __init__(self, dim: int, metric: str) -> None:
        self.dim, self.metric = dim, metric

    def build(self, folder: Path, pieces: Callable[[], Iterator[pa.RecordBatch]], rows: int) -> None:
        chunks = (matrix_of(piece["vector"]) for piece in pieces())
        Structure.build(folder, chunks, rows, self.dim, self.metric)

    def load(self, folder: Path) -> Structure:
        structure = Structure.load(folder)
        if structure.dim != self.dim or structure.metric != self.metric:
            raise ValueError(f"it is for dimension {structure.dim} and {structure.metric}")
        return structure

    def read(self, rows: pa.Table) -> Float32[np.ndarray, "n d"]:
        return prepare(matrix_of(rows["vector"]), self.metric)

    def stack(self, parts: Sequence[np.ndarray]) -> Float32[np.ndarray, "n d"]:
        return np.concatenate(parts)

    def hold(self, contents: np.ndarray) -> Structure:
        return Structure(contents, self.metric)

    def contents(self, structure: Structure) -> Float32[np.ndarray, "n d"]:
        return structure.matrix


def check_prefix(queries: Float32[np.ndarray, "q d"], dim: int, metric: str) -> None:
    """A query without direction in its first coordinates is a ValueError that names it."""
    if metric == "cosine" and dim < queries.shape[1] and not (directed := queries[:, :dim].any(axis=1)).all():
        row = int(np.argmin(directed))
        raise ValueError(f"query: row {row} is all zeros in its first {dim} coordinates, which has no cosine")


def search(
    snapshot: Snapshot,
    queries: Float32[np.ndarray, "q d"],
    k: int,
    where: str | None,
    stages: Sequence[Stage],
    exact: bool,
) -> list[Found]:
    """The k best rows for each query; fewer where fewer rows are left.

    The first stage finds rows by its prefix, each later one ranks them again by a longer one.
    """
    (dim, wanted), *later = stages
    metric, tally = snapshot.kind.metric, Tally()
    chosen = snapshot.filtered(where, dim, lambda structure, rows: Chosen(structure.prefix(dim), rows))
    cut = prepare(queries[:, :dim], metric)
    found = []
    for (structure, start), rows in zip(snapshot.parts, chosen):
        if structure.rows and (rows is None or len(rows.rows)):
            prefix = structure.prefix(dim)
            _refuse_zeros(snapshot, prefix, rows, start)
            scores, positions = prefix.search(cut, wanted, rows, exact=exact, tally=tally)
            found.append((scores, positions + start))
    scores, positions = joined(found, len(queries))
    if len(found) > 1:
        scores, positions = snapshot.best(scores, positions, wanted)
    for dim, wanted in later:
        cut = prepare(queries[:, :dim], metric)
        scores = np.full(positions.shape, -np.inf, dtype=np.float32)
        for structure, start in snapshot.parts:
            if structure.rows:
                inside = (positions >= start) & (positions < start + structure.rows)
                ranked = structure.scores(cut, np.where(inside, positions - start, -1), tally)
                scores = np.maximum(scores, ranked)
        scores, positions = snapshot.best(scores, positions, wanted)
    cost = round(tally.multiply_adds / max(1, len(queries)))
    return [Found(scores[row, :k], positions[row, :k], cost) for row in range(len(queries))]


def _refuse_zeros(snapshot: Snapshot, prefix: Structure, rows: Chosen | None, start: int) -> None:
    """A row whose first coordinates are all 0 has no cosine with anything, so it could not be ranked."""
    zeros = prefix.zeros if rows is None or not len(prefix.zeros) else np.intersect1d(prefix.zeros, rows.rows)
    if len(zeros):
        others = f" (and {len(zeros) - 1} more)" if len(zeros) > 1 else ""
        raise ValueError(
            f"dim: row {snapshot.ids[start + zeros[0]]}{others} is all zeros in its first {prefix.dim} coordinates, "
            "which has no cosine; search by more of them, or leave it out with where="
        )
