"""What a search found: ids, scores and, on demand, the payload of the rows and what matched in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from nolabel.search.found import Matches

WIDTH = 40


@dataclass(frozen=True, eq=False, repr=False)
class Hits:
    """The nearest rows of one query, best first.

    Attributes
    ----------
    ids
        int64 (k,), the rows found.
    scores
        float32 (k,): cosine, dot product, BM25 or fused score (larger is nearer), or Euclidean or Hamming distance
        (smaller is nearer).
    payload
        The other columns of those rows as an Arrow table, read from disk when first asked for. It shows the rows as
        they were when the search ran.
    multiply_adds
        Of comparing the query with rows, on average over the queries of the call. Inverted lists count with their mean
        size, as measured with rows for queries. An inverted index counts the entries it read; comparing codes takes none.
    parts
        Of a hybrid search: for each mode the scores (k,) of these rows in its list, NaN for a row that the list lacks.
    """

    ids: Int64[np.ndarray, " k"]
    scores: Float32[np.ndarray, " k"]
    fetch: Callable[[], pa.Table]
    multiply_adds: int = 0
    explain: Callable[[], list[Matches]] | None = None
    parts: Mapping[str, Float32[np.ndarray, " k"]] = field(default_factory=dict)

    @cached_property
    def payload(self) -> pa.Table:
        return self.fetch()

    @cached_property
    def matches(self) -> list[Matches]:
        """For each row the words that matched, with what each adds to its score, the largest first.

        For sparse vectors the words of the vocabulary, or dimensions where the index was made without words, with
        query weight times row weight; for BM25 the words as typed in the query. A hybrid search names both. Dense and
        binary search compare whole vectors: no word matched.
        """
        return [[] for _ in self.ids] if self.explain is None else self.explain()

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_dicts())

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict a row: `id`, `score`, then the payload."""
        rows = self.payload.to_pylist()
        return [
            {"id": int(number), "score": float(score), **row} for number, score, row in zip(self.ids, self.scores, rows)
        ]

    def __repr__(self) -> str:
        if not len(self):
            return "Hits(0 rows)"
        names = ["id", "score", *self.payload.column_names]
        lines = [names] + [
            [str(row["id"]), f"{row['score']:.4f}", *(_short(row[name]) for name in names[2:])] for row in self
        ]
        widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
