"""What is said of all vectors of a corpus: exact sums over its shards, and a seeded sample of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from nolabel.assess.inputs import as_embeddings
from nolabel.assess.moments import Moments
from nolabel.corpus.engine import Attempt, each
from nolabel.corpus.reading import count_rows, pieces
from nolabel.corpus.shards import Corpus, Shard


@dataclass(frozen=True)
class Summary:
    """A corpus of vectors.

    Attributes
    ----------
    moments : of all rows
    sample : (m, d) vectors of rows drawn without replacement, in the order of the corpus
    places : (m, 2) the shard that each is of, by its number in the corpus, and its row there
    columns : of the sampled rows, those that were asked for
    """

    moments: Moments
    sample: np.ndarray
    places: np.ndarray
    columns: dict[str, list[Any]]


def summarise(
    corpus: Corpus,
    *,
    sample: int = 20_000,
    columns: tuple[str, ...] = (),
    random_state: int = 0,
    engine: str = "local",
    address: str | None = None,
) -> Summary:
    """Read the column ``vector`` of every shard once; the result is the same whatever the engine.

    Parameters
    ----------
    sample : rows drawn, at most; all of a corpus that has no more
    columns : further columns, of the sampled rows
    random_state : seed of the draw
    engine, address : as in `each`

    Raises
    ------
    ValueError : no such column, vectors of several widths, NaN; the message names the shard
    """
    known = {shard.name: shard.rows for shard in corpus.shards}
    if None in known.values():
        found = each(corpus.shards, count_rows, engine=engine, address=address)
        known = {attempt.item.name: _value(attempt) for attempt in found}
    counts = np.array([known[shard.name] for shard in corpus.shards], np.int64)
    ends = counts.cumsum()
    total = int(ends[-1])
    rng = np.random.default_rng(random_state)
    drawn = np.arange(total) if total <= sample else np.sort(rng.choice(total, sample, replace=False))
    parts = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
    items = [(shard, rows - end + count) for shard, rows, end, count in zip(corpus.shards, parts, ends, counts)]
    moments: Moments | None = None
    kept: dict[str, tuple[np.ndarray, dict[str, list[Any]]]] = {}
    for attempt in each(items, _Reading(columns), engine=engine, address=address):
        own, vectors, cells = _value(attempt)
        if moments is not None and len(moments.mean) != len(own.mean):
            raise ValueError(f"vectors of {len(moments.mean)} and of {len(own.mean)} numbers in {corpus.url}")
        moments = own if moments is None else moments + own
        kept[attempt.item[0].name] = vectors, cells
    assert moments is not None
    order = [kept[shard.name] for shard in corpus.shards]
    places = np.concatenate(
        [np.stack([np.full(len(rows), number), rows], axis=1) for number, (_, rows) in enumerate(items)]
    )
    together = {name: [cell for _, cells in order for cell in cells[name]] for name in columns}
    return Summary(moments, np.concatenate([vectors for vectors, _ in order]), places, together)


def _value(attempt: Attempt) -> Any:
    if attempt.error is not None:
        shard = attempt.item[0] if isinstance(attempt.item, tuple) else attempt.item
        raise ValueError(f"{shard.name}: {attempt.error}")
    return attempt.value


class _Reading:
    """Moments of one shard, and its sampled rows."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns

    def __call__(self, item: tuple[Shard, np.ndarray]) -> tuple[Moments, np.ndarray, dict[str, list[Any]]]:
        shard, rows = item
        moments: Moments | None = None
        vectors: list[np.ndarray] = []
        cells: dict[str, list[Any]] = {name: [] for name in self.columns}
        start = 0
        for piece in pieces(shard, ("vector", *self.columns)):
            z = matrix(piece["vector"], start)
            moments = Moments.of(z) if moments is None else moments + Moments.of(z)
            own = rows[(rows >= start) & (rows < start + len(z))] - start
            vectors.append(z[own])
            for name in self.columns:
                cells[name] += piece[name].take(own).to_pylist()
            start += len(z)
        if moments is None:
            raise ValueError("holds no rows")
        return moments, np.concatenate(vectors), cells


def matrix(column: pa.ChunkedArray, start: int = 0) -> np.ndarray:
    """A column of vectors as float32 (n, d); `start` is the number of its first row, for the messages."""
    from nolabel.data.columns import regular_array

    found = regular_array(column.combine_chunks())
    if found is None or found.ndim != 2:
        raise ValueError(f"vector: expected vectors of one width in rows {start} to {start + len(column) - 1}")
    return as_embeddings(found.astype(np.float32, copy=False), f"vector, from row {start} on", at_least=1)
