"""A durable index of rows with payload: a Lance data set, searched through structures derived from it.

`index.lance/` holds vectors, codes, sparse vectors and texts as given, the payload, SQL filters and versions; any Lance
reader opens it. Beside it `index.faiss/` holds what searching needs, memory-mapped: it is rebuilt by itself when it is
lost, damaged or too far behind, and rows that came since are compared exactly in the meantime. Every write is one
atomic commit: a killed process leaves the index as it was before the call.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from nolabel.search import derived
from nolabel.search.across import answer_across
from nolabel.search.answers import Options, answer
from nolabel.search.batches import BATCH_BYTES, Batch, as_ids, as_payload, batches
from nolabel.search.fields import arrow, matrix_of
from nolabel.search.modes import HYBRID, as_fields, kinds
from nolabel.search.records import fill, numbered, record, twice
from nolabel.search.snapshot import Snapshot
from nolabel.search.store import Store
from nolabel.search.views import Views


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
        self._have = kinds(self._store.fields)
        self._views = Views(self._store, self._have)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        dim: int | None = None,
        *,
        metric: str = "cosine",
        bits: int | None = None,
        vocabulary: int | Sequence[str] | None = None,
        text: str | None = None,
        language: str | None = "english",
        encoder: str | None = None,
    ) -> Index:
        """Make an empty index; FileExistsError if there is one.

        Its rows hold one or more of: vectors of dimension `dim`; binary codes of `bits` bits, a multiple of 8; sparse
        non-negative vectors over a `vocabulary`, given as its words or as how many there are; and a payload column
        `text` that is searched by its words. Each makes a mode of `search` possible, two or more hybrid search.

        Parameters
        ----------
        metric
            How vectors are compared: `cosine`, `dot` (inner product) or `l2` (Euclidean distance).
        language
            Whose words are stemmed (a Snowball algorithm, such as "english", "german"); None leaves words as they are.
        """
        fields, words = as_fields(dim, metric, bits, vocabulary, text, language)
        return cls(Store.create(path, fields, encoder, words).folder)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, encoder: str | None = None) -> Index:
        """The same as `Index(path)`."""
        return cls(path, encoder=encoder)

    @property
    def modes(self) -> tuple[str, ...]:
        """The ways in which this index can be searched."""
        return (*self._have, HYBRID) if len(self._have) > 1 else tuple(self._have)

    @property
    def dim(self) -> int:
        """Width of the vectors, 0 where there are none."""
        return self._store.fields.dim

    @property
    def bits(self) -> int:
        """Width of the binary codes, 0 where there are none."""
        return self._store.fields.bits

    @property
    def words(self) -> int:
        """How many words the sparse vectors are over, 0 where there are none."""
        return self._store.fields.words

    @property
    def metric(self) -> str:
        return self._store.fields.metric

    @property
    def encoder(self) -> str | None:
        """Name or fingerprint of the encoder that made the vectors, if the index was made with one."""
        return self._store.encoder

    @property
    def version(self) -> int:
        """Number of the newest commit; the same number means the same rows."""
        return self._store.current()[1]

    @property
    def schema(self) -> pa.Schema:
        """Columns of `rows` with their types."""
        return self._store.current()[0].schema

    def __len__(self) -> int:
        return int(self._store.current()[0].count_rows())

    def __repr__(self) -> str:
        held = self._store.fields.described
        return f"Index({str(self._store.folder)!r}: {len(self)} rows of {held})"

    def add(
        self, vectors: Any = None, payload: Any = None, ids: Any = None, *, codes: Any = None, sparse: Any = None
    ) -> Int64[np.ndarray, " n"]:
        """Append rows in one commit and return their ids. Rows bring everything that the index was made for.

        Parameters
        ----------
        vectors
            Array or tensor (n, dim), or an iterator: what is larger than memory goes in piece by piece. It yields
            arrays, tuples (vectors, payload, ids), or dicts with the names of these arguments.
        payload
            Dict of columns, DataFrame or Arrow table with n rows. A column not seen before is null in the rows before;
            one that is left out is null in these.
        ids
            Whole numbers that the index does not hold yet; by default they count on and are never given twice.
        codes
            Packed uint8 (n, bits / 8), as `numpy.packbits` makes them, or bool (n, bits).
        sparse
            SciPy sparse matrix or array (n, words), non-negative.
        """
        fields = self._store.fields
        with self._store.writing():
            table = self._store.newest()
            known = np.sort(self._store.keys(table)[0])
            pieces = batches({"vectors": vectors, "codes": codes, "sparse": sparse}, payload, ids, fields)
            first = next(pieces, None)
            if first is None:
                return np.empty(0, dtype=np.int64)
            schema = self._widen(table, first.payload)
            given: list[np.ndarray] = []
            start = max(int(known[-1]) + 1 if len(known) else 0, _mark(schema))
            rows = numbered(chain([first], pieces), known, start, schema, fields, given)
            self._store.commit(schema, rows, table.add)
            return np.concatenate(given)

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        mode: str | None = None,
        where: str | None = None,
        dim: int | None = None,
        rescore: int | None = None,
        funnel: Sequence[tuple[int, int]] | None = None,
        exact: bool = False,
        query_vector: Any = None,
        fusion: str | None = None,
        depth: int | None = None,
    ) -> Any:
        """The k nearest rows of one query as `Hits`, or of several as a list of `Hits`.

        There are fewer than k where the index, or what `where` leaves of it, holds fewer rows; by sparse vectors and
        by words only rows that share a word with the query are found. Equal scores are ordered by id.

        Parameters
        ----------
        query
            By mode: `dense` a vector (dim,); `binary` a code, bool (bits,) or packed uint8 (bits / 8,), found by the
            fewest differing bits; `sparse` a sparse array (words,), by the largest inner product; `bm25` a text;
            `hybrid` a dict with a query for two or more of these, such as `{"dense": vector, "bm25": text}`. Several
            queries have one axis more or are a list of texts.
        mode
            By default what the query is: a text is bm25, a sparse matrix sparse, a dict hybrid, any other array the
            first that the index has of dense, binary and sparse.
        where
            SQL expression over id and payload columns, such as `"year > 2020 AND lang = 'en'"`.
        dim
            Compare only the first `dim` coordinates, of unit length again for cosine (Matryoshka prefix, Kusupati et
            al. 2022, arXiv:2205.13147). The first search with a new `dim` builds what it needs, which is kept.
        rescore
            Take this many rows by prefix or by code and rank them again by the whole vector; needs `dim`, or for codes
            `query_vector`. Scores are then those of the vectors.
        funnel
            Stages (dimension, rows to keep), such as `[(16, 200), (64, 50), (512, 10)]`: the first compares every row
            by so many coordinates, each later one ranks what is left by more; the last gives the k rows and their
            scores. `dim=16, rescore=200` is `funnel=[(16, 200), (index.dim, k)]`.
        exact
            Compare every row. Otherwise an index above 20 000 vectors (64 MiB of codes) visits as many inverted lists
            as found 98 % of the ten nearest neighbours among its own rows; queries unlike all rows (text against
            images) may want `exact`.
        query_vector
            For codes: the real vector of the query, for `rescore`.
        fusion
            How hybrid search makes one list: `rrf` by ranks or `zscore` by standardised scores, see
            `nolabel.search.fusion`.
        depth
            How many rows of each list hybrid search fuses, by default 100 or k if that is more.
        """
        options = Options(k, where, dim, rescore, funnel, exact, query_vector, fusion, depth)
        return answer(self._store, self._have, self._views.current, query, mode, options)

    def search_across(
        self, query: Any, anchors: Any, anchor_vectors: Any, k: int = 10, *, where: str | None = None
    ) -> Any:
        """The k nearest rows to a query of another encoder, as `search` gives them; every row is compared.

        Encoders that learned apart agree on how like an item is to others (Moschella et al. 2023, arXiv:2209.15430): the
        query and the rows are compared by their cosines to items that both encoders have seen.

        Parameters
        ----------
        query
            Vector (e,) of the other encoder, or several (q, e).
        anchors
            Ids of rows (m,), none twice; 100 to 500, and better not fewer than the other encoder's width e.
        anchor_vectors
            The same items by the other encoder, in that order: (m, e).
        where
            As in `search`.
        """
        if not self.dim:
            raise ValueError(f"search_across: compares vectors, and this index holds {self._store.fields.described}")
        numbers = as_ids(anchors)
        if len(np.unique(numbers)) < len(numbers):
            raise ValueError(f"anchors: {twice(numbers)} comes twice")
        own = matrix_of(self.rows(numbers, ["vector"])["vector"])
        return answer_across(self._store, self._views.current, query, own, anchor_vectors, k, where)

    def rows(self, ids: Any = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows with these ids in that order, or all of them: an Arrow table of id, vector and payload, or of `columns`."""
        table = self._store.newest()
        names = list(table.schema.names)
        missing = [name for name in columns or () if name not in names]
        if missing:
            raise ValueError(f"columns: the index holds no {missing[0]!r} among {', '.join(names)}")
        names = names if columns is None else list(columns)
        if ids is None:
            return self._store.whole(table, names)
        return self._store.take(table, self._addresses(table, as_ids(ids)), names)

    def ids(self, where: str | None = None) -> Int64[np.ndarray, " n"]:
        """The ids of all rows, or of those that an SQL expression matches, such as `"year > 2020"`."""
        table = self._store.newest()
        known, addresses = self._store.keys(table)
        return known if where is None else known[np.isin(addresses, self._store.matching(table, where))]

    def update(
        self, ids: Any, *, vectors: Any = None, payload: Any = None, codes: Any = None, sparse: Any = None
    ) -> None:
        """Replace vectors, payload columns, codes or sparse vectors of the rows with these ids, in one commit.

        What is not named keeps its values; a new column is null in the other rows.
        """
        numbers, fields = as_ids(ids), self._store.fields
        given = {"vectors": vectors, "codes": codes, "sparse": sparse}
        given = {name: rows for name, rows in given.items() if rows is not None}
        if not given and payload is None:
            raise ValueError("update: expected vectors=, payload= or both, got neither")
        if len(np.unique(numbers)) < len(numbers):
            raise ValueError(f"ids: {twice(numbers)} comes twice")
        with self._store.writing():
            table = self._store.newest()
            addresses = self._addresses(table, numbers)
            columns = as_payload(payload, len(numbers), fields.columns)
            checked = fields.replacements(given, len(numbers))
            if not len(numbers):
                return
            schema = self._widen(table, columns)
            rows = self._replaced(table, addresses, schema, checked, columns)
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
        """Rewrite the data set into few files without deleted rows, drop its older versions, rebuild the structures.

        Results of earlier searches, also in other processes, can no longer read their payload.
        """
        with self._store.writing():
            self._store.compact()
        self._views.rebuild()

    def info(self) -> dict[str, Any]:
        """What the index holds and how it is searched; structures as of the last search in this process."""
        table, version = self._store.current()
        fields, payload = self._store.fields, set(self._store.payload(self._store.current()[0]))
        structures = {name: _structure(self._views.newest.get(name)) for name in self._have}
        return {
            "path": str(self._store.folder),
            "rows": len(self),
            "dim": self.dim,
            "metric": self.metric,
            "bits": fields.bits,
            "words": fields.words,
            "text": fields.text,
            "modes": self.modes,
            "encoder": self._store.encoder,
            "version": version,
            "columns": {field.name: str(field.type) for field in table.schema if field.name in payload},
            **next(iter(structures.values())),
            "structures": structures,
            "store_bytes": derived.disk_bytes(self._store.folder),
            "derived_bytes": derived.disk_bytes(self._store.derived),
        }

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
        fill(payload.slice(0, 0), pa.unify_schemas([table.schema, pa.schema(new)]), 0, self._store.fields)
        if new:
            table.add_columns(pa.schema([field.with_nullable(True) for field in new]))
        return table.schema

    def _replaced(
        self, table: Any, addresses: np.ndarray, schema: pa.Schema, given: dict[str, Any], payload: pa.Table
    ) -> Iterator[pa.RecordBatch]:
        fields = self._store.fields
        step = max(1, BATCH_BYTES // fields.row_bytes)
        for start in range(0, len(addresses), step):
            rows = self._store.take(table, addresses[start : start + step], schema.names)
            columns = {name: rows[name].combine_chunks() for name in fields.columns}
            for name, every in given.items():
                columns |= arrow(name, every[start : start + step])
            merged = payload.slice(start, len(rows))
            for name in schema.names:
                if name not in ("id", *fields.columns, *payload.column_names):
                    merged = merged.append_column(name, rows[name])
            yield record(Batch(len(rows), columns, merged, None), rows["id"].to_numpy(), schema, fields)


def _structure(snapshot: Snapshot | None) -> dict[str, Any]:
    """What a kind of search uses, for `Index.info`."""
    structure = None if snapshot is None or snapshot.base is None else snapshot.base.structure
    return {
        "structure": "exact" if structure is None else structure.kind,
        "structure_rows": 0 if structure is None else structure.rows,
        "lists_visited": None if structure is None else structure.lists_visited,
        "rows_beside": 0 if snapshot is None else snapshot.beside.rows,
        "rows_masked": 0 if snapshot is None else snapshot.masked,
    }


def _mark(schema: pa.Schema) -> int:
    """The number after the highest id that was ever deleted."""
    return int((schema.field("id").metadata or {}).get(b"nolabel.next", b"0"))
