"""What points of the map are coloured by: clusters, an outlier score, marks, and the columns of the run."""

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from nolabel.explorer.opened import OpenRun, Rows

CLUSTER, OUTLIER, MARK = "cluster", "outlier score", "mark"
NAMES = 20  # categories with a colour of their own; the others share one
NONE = 0xFFFF
NEIGHBOURS = 10
EXACT_ROWS = 20_000
OUTLIER_SAYS = "one minus the mean cosine to an item's ten nearest: high for items unlike all others"


@dataclass(frozen=True)
class Colouring:
    """Categories, with codes uint16 (n,) where 65535 is none; or numbers float32 (n,) where NaN is none."""

    described: dict[str, Any]
    values: np.ndarray = field(repr=False)


def outlier_scores(vectors: np.ndarray) -> np.ndarray:
    """One minus the mean cosine of each unit row to its ten nearest others, float32 (n,).

    The distance to the nearest neighbours as in Ramaswamy, Rastogi and Shim, SIGMOD 2000, their mean as in Angiulli and
    Pizzuti, PKDD 2002.

    >>> outlier_scores(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=np.float32)).round(2).tolist()
    [0.5, 0.5, 1.0]
    """
    from nolabel.ops.neighbours import nearest

    k = min(NEIGHBOURS, len(vectors) - 1)
    if k < 1:
        return np.zeros(len(vectors), dtype=np.float32)
    cosines, _ = nearest(vectors, vectors, k, exclude_self=True, exact=len(vectors) <= EXACT_ROWS)
    return (1 - cosines.mean(axis=1)).astype(np.float32)


def categories(column: pa.ChunkedArray, names: list[str] | None = None) -> Colouring:
    """Values as categories, the largest first unless `names` gives their order.

    >>> found = categories(pa.chunked_array([["b", "a", None, "b"]]))
    >>> found.described["names"], found.described["counts"], found.values.tolist()
    (['b', 'a'], [2, 1], [0, 1, 65535, 0])
    """
    texts = pc.cast(column, pa.string()).combine_chunks()
    if names is None:
        counted = pc.value_counts(texts.drop_null())
        pairs = [(row["values"].as_py(), row["counts"].as_py()) for row in counted]
        names = [name for name, _ in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))]
    shown, rest = names[:NAMES], names[NAMES:]
    found = pc.index_in(texts, pa.array(names, pa.string())).fill_null(NONE).to_numpy(zero_copy_only=False)
    codes = np.where(found == NONE, NONE, np.minimum(found, NAMES)).astype(np.uint16)
    counts = np.bincount(codes[codes != NONE], minlength=len(shown) + bool(rest)).tolist()
    labels = [*shown, f"{len(rest):,} others"] if rest else shown
    return Colouring({"kind": "categories", "names": labels, "counts": counts}, codes)


def numbers(values: np.ndarray, what: str) -> Colouring:
    """Numbers with the range that a scale of colours spans: without the hundredth at either end."""
    values = values.astype(np.float32)
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, [0.01, 0.99]).tolist() if len(finite) else (0.0, 1.0)
    if low == high and len(finite):
        low, high = float(finite.min()), float(finite.max())
    values = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
    return Colouring({"kind": "numbers", "low": low, "high": high, "what": what}, values)


class Colours:
    """The colourings of a run; what is slow to make is kept until rows come or go."""

    def __init__(self, run: OpenRun, clusters: Any) -> None:
        self.run, self.clusters = run, clusters
        self._lock = threading.Lock()
        self._scores: tuple[str, np.ndarray] | None = None

    def names(self) -> list[str]:
        """What there is to colour by; texts that hardly repeat, such as paths, are left out."""
        columns = self.run.columns
        suited = [name for name, kind in columns.items() if kind != "text" or self._repeats(name)]
        return [CLUSTER, OUTLIER, MARK, *(name for name in suited if name not in (CLUSTER, OUTLIER, MARK))]

    def of(self, name: str, rows: Rows) -> Colouring:
        """A colouring of these rows; LookupError for a name that is not among `names`."""
        if name == CLUSTER:
            groups = self.clusters.of(rows)
            described = {"kind": "categories", "names": [group.name for group in groups.groups]}
            counts = [group.size for group in groups.groups]
            return Colouring(described | {"counts": counts}, groups.codes.astype(np.uint16))
        if name == OUTLIER:
            return numbers(self.scores(rows), OUTLIER_SAYS)
        if name == MARK:
            from nolabel.explorer.marks import COLUMN, MARKS

            if COLUMN not in self.run.index.schema.names:
                return categories(pa.chunked_array([pa.nulls(len(rows.ids), pa.string())]), list(MARKS))
            return categories(self.run.column(COLUMN, rows.ids), list(MARKS))
        if name not in self.run.columns:
            raise LookupError(f"there is no colouring {name[:60]!r}; there are {', '.join(self.names())}")
        column = self.run.column(name, rows.ids)
        if kinds.is_floating(column.type) or (kinds.is_integer(column.type) and len(pc.unique(column)) > NAMES):
            values = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
            return numbers(values, f"the column {name}")
        return categories(column)

    def scores(self, rows: Rows) -> np.ndarray:
        with self._lock:
            if self._scores is None or self._scores[0] != rows.key:
                self._scores = (rows.key, outlier_scores(rows.vectors))
            return self._scores[1]

    def _repeats(self, name: str) -> bool:
        column = self.run.index.rows(columns=[name])[name]
        return bool(len(column)) and len(pc.unique(column)) <= max(NAMES, len(column) // 4)
