"""A durable index of vectors with payload: a Lance data set, searched through faiss structures derived from it.

`index.lance/` holds the vectors as given, the payload, SQL filters and versions; any Lance reader opens it. Beside it
`index.faiss/` holds what searching needs, memory-mapped: it is rebuilt by itself when it is lost, damaged or too far
behind, and rows that came since are compared exactly in the meantime. Every write is one atomic commit: a killed
process leaves the index as it was before the call.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from nolabel.search import derived
from nolabel.search.batches import BATCH_BYTES, Batch, as_ids, as_payload, as_vectors, batches
from nolabel.search.funnel import Tally, plan
from nolabel.search.hits import Hits
from nolabel.search.records import fill, numbered, record, twice
from nolabel.search.snapshot import Snapshot
from nolabel.search.store import Store, matrix_of


class Index:
    """Vectors on disk with payload columns, searched by similarity and SQL.

    Parameters
    ----------
    path
        A run folder that holds `index.lance`, or a folder `NAME.lance` itself. Must exist: `Index.create` makes one.
    encoder
        Name or fingerprint of the encoder whose vectors will be searched; refused when the index was made by another.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> index = Index.create(tempfile.mkdtemp(), dim=2)
    >>> index.add(np.eye(2), {"name": ["east", "north"]})
    array([0, 1])
    >>> index.search([1.0, 0.1], k=1).to_dicts()[0]["name"]
    'east'
    >>> index.search([1.0, 0.1], where="name = 'north'").ids
    array([1])
    """

    def __init__(self, path: str | os.PathLike[str], *, encoder: str | None = None) -> None:
        self._store = Store(path)
        if encoder is not None and encoder != self._store.encoder:
            made = "no named encoder" if self._store.encoder is None else f"encoder {self._store.encoder!r}"
            raise ValueError(f"encoder: the index {self._store.folder} was made by {made}, got {encoder!r}")
        self._snapshot: Snapshot | None = None
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], dim: int, *, metric: str = "cosine", encoder: str | None = None
    ) -> Index:
        """Make an empty index for vectors of dimension `dim`; FileExistsError if there is one.

        `metric` is `cosine`, `dot` (inner product) or `l2` (Euclidean distance).
        """
        return cls(Store.create(path, dim, metric, encoder).folder)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, encoder: str | None = None) -> Index:
        """The same as `Index(path)`."""
        return cls(path, encoder=encoder)

    @property
    def dim(self) -> int:
        return self._store.dim

    @property
    def metric(self) -> str:
        return self._store.metric

    def __len__(self) -> int:
        return int(self._store.current()[0].count_rows())

    def __repr__(self) -> str:
        return f"Index({str(self._store.folder)!r}: {len(self)} rows of dimension {self.dim}, {self.metric})"

    def add(self, vectors: Any, payload: Any = None, ids: Any = None) -> Int64[np.ndarray, " n"]:
        """Append rows in one commit and return their ids.

        Parameters
        ----------
        vectors
            Array or tensor (n, dim), or an iterator of arrays or of tuples (vectors, payload, ids): what is larger than
            memory goes in piece by piece.
        payload
            Dict of columns, DataFrame or Arrow table with n rows. A column not seen before is null in the rows before;
            one that is left out is null in these.
        ids
            Whole numbers that the index does not hold yet; by default they count on and are never given twice.
        """
        with self._store.writing():
            table = self._store.newest()
            known = np.sort(self._store.keys(table)[0])
            pieces = batches(vectors, payload, ids, self.dim, self.metric)
            first = next(pieces, None)
            if first is None:
                return np.empty(0, dtype=np.int64)
            schema = self._widen(table, first.payload)
            given: list[np.ndarray] = []
            start = max(int(known[-1]) + 1 if len(known) else 0, _mark(schema))
            rows = numbered(first, pieces, known, start, schema, given)
            self._store.commit(schema, rows, table.add)
            return np.concatenate(given)

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        where: str | None = None,
        dim: int | None = None,
        rescore: int | None = None,
        funnel: Sequence[tuple[int, int]] | None = None,
        exact: bool = False,
    ) -> Any:
        """The k nearest rows of a query (dim,) as `Hits`, or of queries (q, dim) as a list of `Hits`.

        Parameters
        ----------
        where
            SQL expression over id and payload columns, such as `"year > 2020 AND lang = 'en'"`.
        dim
            Compare only the first `dim` coordinates, of unit length again for cosine (Matryoshka prefix, Kusupati et
            al. 2022, arXiv:2205.13147). The first search with a new `dim` builds what it needs, which is kept.
        rescore
            Take this many rows by prefix and rank them again by the whole vector; needs `dim`.
        funnel
            Stages (dimension, rows to keep), such as `[(16, 200), (64, 50), (512, 10)]`: the first compares every row
            by so many coordinates, each later one ranks what is left by more; the last gives the k rows and their
            scores. `dim=16, rescore=200` is `funnel=[(16, 200), (index.dim, k)]`.
        exact
            Compare every row. Otherwise an index above 20 000 rows visits as many inverted lists as found 98 % of the
            ten nearest neighbours among its own rows; queries unlike all rows (text against images) may want `exact`.
        """
        array = np.asarray(query.detach().float().cpu() if hasattr(query, "detach") else query)
        if array.ndim not in (1, 2):
            raise ValueError(f"query: expected shape ({self.dim},) or (q, {self.dim}), got {array.shape}")
        queries = as_vectors(array[None] if array.ndim == 1 else array, self.dim, self.metric, name="query")
        stages = plan(k, self.dim, dim, rescore, funnel)
        narrow = stages[0].dim
        if self.metric == "cosine" and narrow < self.dim and not (directed := queries[:, :narrow].any(axis=1)).all():
            row = int(np.argmin(directed))
            raise ValueError(f"query: row {row} is all zeros in its first {narrow} coordinates, which has no cosine")
        snapshot, tally = self._current(), Tally()
        scores, positions = snapshot.search(queries, k, where, stages, exact, tally)
        if self.metric == "l2":
            scores = -scores
        cost = round(tally.multiply_adds / max(1, len(queries)))
        hits = [self._hits(snapshot, *row, cost) for row in zip(scores, positions)]
        return hits[0] if array.ndim == 1 else hits

    def rows(self, ids: Any = None) -> pa.Table:
        """The rows with these ids in that order, or all of them: an Arrow table of id, vector and payload."""
        table = self._store.newest()
        addresses = self._store.keys(table)[1] if ids is None else self._addresses(table, as_ids(ids))
        return self._store.take(table, addresses, list(table.schema.names))

    def update(self, ids: Any, *, vectors: Any = None, payload: Any = None) -> None:
        """Replace vectors (n, dim), payload columns, or both, of the rows with these ids, in one commit.

        Columns that are not named keep their values; a new column is null in the other rows.
        """
        numbers = as_ids(ids)
        if vectors is None and payload is None:
            raise ValueError("update: expected vectors=, payload= or both, got neither")
        if len(np.unique(numbers)) < len(numbers):
            raise ValueError(f"ids: {twice(numbers)} comes twice")
        with self._store.writing():
            table = self._store.newest()
            addresses = self._addresses(table, numbers)
            columns = as_payload(payload, len(numbers))
            if vectors is not None:
                vectors = as_vectors(vectors, self.dim, self.metric)
                if len(vectors) != len(numbers):
                    raise ValueError(f"vectors: expected one for each of {len(numbers)} ids, got {len(vectors)}")
            if not len(numbers):
                return
            schema = self._widen(table, columns)
            rows = self._replaced(table, addresses, schema, vectors, columns)
            self._store.commit(schema, rows, table.merge_insert("id").when_matched_update_all().execute)

    def delete(self, *, where: str | None = None, ids: Any = None) -> int:
        """Delete the rows that an SQL expression matches or that have these ids; returns how many there were.

        They are gone from every answer at once, and from the disk after `compact`.
        """
        if (where is None) == (ids is None):
            raise ValueError("delete: expected either where= or ids=")
        with self._store.writing():
            table = self._store.newest()
            known, addresses = self._store.keys(table)
            if where is not None:
                gone = np.isin(addresses, self._store.matching(table, where))
            else:
                gone = np.isin(known, as_ids(ids))
            if not gone.any():
                return 0
            highest = int(known.max())
            if known[gone].max() == highest and _mark(table.schema) <= highest:
                # Noted before the rows go, so that their numbers are not given to other rows.
                table.update_field_metadata({"path": "id", "metadata": {"nolabel.next": str(highest + 1)}})
            table.delete(where if where is not None else f"id IN ({','.join(map(str, known[gone].tolist()))})")
            return int(gone.sum())

    def compact(self) -> None:
        """Rewrite the data set into few files without deleted rows, drop its older versions, rebuild the structure.

        Results of earlier searches, also in other processes, can no longer read their payload.
        """
        with self._store.writing():
            self._store.compact()
        self._current()

    def info(self) -> dict[str, Any]:
        """What the index holds and how it is searched; the structure as of the last search in this process."""
        table, version = self._store.current()
        snapshot = self._snapshot
        structure = None if snapshot is None or snapshot.base is None else snapshot.base.structure
        return {
            "path": str(self._store.folder),
            "rows": len(self),
            "dim": self.dim,
            "metric": self.metric,
            "encoder": self._store.encoder,
            "version": version,
            "columns": {field.name: str(field.type) for field in table.schema if field.name not in ("id", "vector")},
            "structure": "exact" if structure is None else structure.kind,
            "structure_rows": 0 if structure is None else structure.rows,
            "lists_visited": None if structure is None or structure.ivf is None else structure.nprobe,
            "rows_beside": 0 if snapshot is None else snapshot.beside.rows,
            "rows_masked": 0 if snapshot is None else snapshot.masked,
            "store_bytes": derived.disk_bytes(self._store.folder),
            "derived_bytes": derived.disk_bytes(self._store.derived),
        }

    def _current(self) -> Snapshot:
        """The newest version, ready to search."""
        snapshot = self._snapshot
        if snapshot is not None and snapshot.version == self._store.current()[1]:
            return snapshot
        with self._lock:
            while True:
                table, version = self._store.current()
                if self._snapshot is None or self._snapshot.version != version:
                    try:
                        self._snapshot = self._read(table, version)
                    except RuntimeError:
                        if self._store.current()[1] == version:
                            raise
                        continue  # another process compacted the data set while it was read
                return self._snapshot

    def _read(self, table: Any, version: int) -> Snapshot:
        previous = self._snapshot
        ids, addresses = self._store.keys(table)
        base = previous.base if previous is not None and previous.base is not None else derived.find(self._store)
        if derived.too_far(base, ids, addresses):
            base = (
                derived.build(self._store, table, version, ids, addresses) if len(ids) > derived.BESIDE_ROWS else None
            )
        return Snapshot(self._store, table, version, ids, addresses, base, previous)

    def _hits(self, snapshot: Snapshot, scores: np.ndarray, positions: np.ndarray, cost: int) -> Hits:
        fetch = partial(_payload, snapshot, positions)
        return Hits(snapshot.ids[positions], scores, fetch, cost)

    def _addresses(self, table: Any, numbers: np.ndarray) -> np.ndarray:
        """Where the rows with these ids lie; ValueError names the first that is not there."""
        known, addresses = self._store.keys(table)
        order = np.argsort(known)
        place = np.searchsorted(known, numbers, sorter=order)
        missing = place == len(known)
        missing[~missing] = known[order[place[~missing]]] != numbers[~missing]
        if missing.any():
            raise ValueError(f"ids: the index holds no row {numbers[missing][0]}")
        return addresses[order[place]]

    def _widen(self, table: Any, payload: pa.Table) -> pa.Schema:
        """Add the payload's new columns to the table, null so far, and return its schema."""
        have = {name.lower() for name in table.schema.names}
        new = [field for field in payload.schema if field.name.lower() not in have]
        for field in new:
            if pa.types.is_null(field.type):
                raise ValueError(f"payload: new column {field.name!r} holds only nulls, so its type is unknown")
        fill(payload.slice(0, 0), pa.unify_schemas([table.schema, pa.schema(new)]), 0)
        if new:
            table.add_columns(pa.schema([field.with_nullable(True) for field in new]))
        return table.schema

    def _replaced(
        self, table: Any, addresses: np.ndarray, schema: pa.Schema, vectors: np.ndarray | None, payload: pa.Table
    ) -> Iterator[pa.RecordBatch]:
        step = max(1, BATCH_BYTES // (4 * self.dim))
        for start in range(0, len(addresses), step):
            part = slice(start, start + step)
            rows = self._store.take(table, addresses[part], schema.names)
            matrix = matrix_of(rows["vector"]) if vectors is None else vectors[part]
            old = rows.select([n for n in schema.names if n not in ("id", "vector", *payload.column_names)])
            merged = payload.slice(start, len(rows))
            for name in old.column_names:
                merged = merged.append_column(name, old[name])
            yield record(Batch(matrix, merged, None), rows["id"].to_numpy(), schema)


def _mark(schema: pa.Schema) -> int:
    """The number after the highest id that was ever deleted."""
    return int((schema.field("id").metadata or {}).get(b"nolabel.next", b"0"))


def _payload(snapshot: Snapshot, positions: np.ndarray) -> pa.Table:
    names = [name for name in snapshot.table.schema.names if name not in ("id", "vector")]
    if not names or not len(positions):
        return as_payload(None, len(positions)) if not names else pa.table({name: [] for name in names})
    return snapshot.store.take(snapshot.table, snapshot.addresses[positions], names)
