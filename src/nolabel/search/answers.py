"""From a query to `Hits`: which search it asks for, whether its options fit, and what each search found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from nolabel.search import binary, bm25, dense, sparse
from nolabel.search.fields import as_codes, as_sparse, as_vectors
from nolabel.search.found import Found, Matches
from nolabel.search.funnel import plan, whole
from nolabel.search.fusion import METHODS, fuse
from nolabel.search.hits import Hits
from nolabel.search.modes import HYBRID, resolve, rows_of
from nolabel.search.snapshot import Snapshot
from nolabel.search.store import Store

DEPTH = 100  # rows of each list that hybrid search fuses, unless k is larger
TAKEN_BY = {
    "dim": ("dense",),
    "funnel": ("dense",),
    "rescore": ("dense", "binary"),
    "exact": ("dense", "binary", HYBRID),
    "query_vector": ("binary",),
    "fusion": (HYBRID,),
    "depth": (HYBRID,),
}


@dataclass(frozen=True)
class Options:
    """What a search was asked for beside the query, as `Index.search` explains it."""

    k: int
    where: str | None
    dim: int | None = None
    rescore: int | None = None
    funnel: Sequence[tuple[int, int]] | None = None
    exact: bool = False
    query_vector: Any = None
    fusion: str | None = None
    depth: int | None = None

    def check(self, mode: str) -> None:
        """Every option that does not belong to the mode is refused."""
        whole("k", self.k, 1)
        for name, modes in TAKEN_BY.items():
            value = getattr(self, name)
            if value is not None and value is not False and mode not in modes:
                raise ValueError(f"{name}: belongs to mode {' or '.join(modes)}, and this query is {mode}")


def answer(
    store: Store, have: Mapping[str, Any], snapshots: Callable[[Sequence[str]], dict[str, Snapshot]], query: Any,
    mode: str | None, options: Options,
) -> Any:  # fmt: skip
    """`Hits` for one query, a list of them for several."""
    mode = resolve(mode, query, have)
    options.check(mode)
    if mode == HYBRID:
        return _hybrid(store, have, snapshots, query, options)
    ready = _prepared(store, mode, query, options)
    snapshot = snapshots([mode])[mode]
    found = ready.search(snapshot)
    sign = _told(mode, store, options)
    hits = [as_hits(snapshot, each, sign) for each in found]
    return hits[0] if ready.single else hits


@dataclass(frozen=True)
class Ready:
    """A checked query of one mode: how many there are, and the search that waits for a snapshot."""

    search: Callable[[Snapshot], list[Found]]
    count: int
    single: bool


def _prepared(store: Store, mode: str, query: Any, options: Options, *, lenient: bool = False) -> Ready:
    """Check the query before anything is read or built."""
    fields, k, where = store.fields, options.k, options.where
    rows, single = rows_of(query, mode, fields)
    if mode == "bm25":
        texts = bm25.asked(rows, fields.language)
        return Ready(lambda s: bm25.search(s, texts, k, where, lenient=lenient), len(texts), single)
    if mode == "sparse":
        queries = as_sparse(rows, fields.words, name="query")
        empty = np.flatnonzero(np.diff(queries.indptr) == 0)
        if len(empty):
            raise ValueError(f"query: row {empty[0]} is all zeros, so it has no word to search by")
        words = partial(getattr, store, "vocabulary")
        return Ready(lambda s: sparse.search(s, queries, k, where, words, lenient=lenient), queries.shape[0], single)
    if mode == "binary":
        codes = as_codes(rows, fields.bits, name="query")
        return Ready(_by_codes(store, codes, single, options), len(codes), single)
    if rows.ndim != 2:
        raise ValueError(f"query: expected shape ({fields.dim},) or (q, {fields.dim}), got {np.shape(query)}")
    vectors = as_vectors(rows, fields.dim, fields.metric, name="query")
    stages = plan(k, fields.dim, options.dim, options.rescore, options.funnel)
    dense.check_prefix(vectors, stages[0].dim, fields.metric)
    return Ready(lambda s: dense.search(s, vectors, k, where, stages, options.exact), len(vectors), single)


def _by_codes(store: Store, codes: np.ndarray, single: bool, options: Options) -> Callable[[Snapshot], list[Found]]:
    """Search by codes and, when asked, rank a short-list again by real vectors."""
    fields, k, rescore, given = store.fields, options.k, options.rescore, options.query_vector
    if (rescore is None) != (given is None):
        raise ValueError("rescore: ranks what the codes found by real vectors: it goes together with query_vector=")
    if rescore is None:
        return lambda s: binary.search(s, codes, k, options.where, options.exact)
    if not fields.dim:
        raise ValueError("rescore: this index holds no real vectors; Index.create makes one with dim= and bits=")
    if whole("rescore", rescore, 1) < k:
        raise ValueError(f"rescore: expected at least k = {k} rows, got {rescore}")
    vectors, one = rows_of(given, "dense", fields)
    vectors = as_vectors(vectors, fields.dim, fields.metric, name="query_vector")
    if one != single or len(vectors) != len(codes):
        raise ValueError(f"query_vector: expected one for each of {len(codes)} codes, got shape {np.shape(given)}")

    def search(snapshot: Snapshot) -> list[Found]:
        short = binary.search(snapshot, codes, rescore, options.where, options.exact)
        return binary.rescored(snapshot, short, vectors, k, fields.metric)

    return search


def _hybrid(
    store: Store, have: Mapping[str, Any], snapshots: Callable[[Sequence[str]], dict[str, Snapshot]], query: Any,
    options: Options,
) -> Any:  # fmt: skip
    """Search in each mode that the query names and fuse the lists."""
    if not isinstance(query, Mapping) or len(query) < 2:
        raise ValueError(
            f"query: hybrid takes a dict with a query for two or more of {', '.join(have)}, got "
            f"{sorted(query) if isinstance(query, Mapping) else type(query).__name__}"
        )
    if HYBRID in query:
        raise ValueError(f"query: hybrid takes a query for each of {', '.join(have)}, none for itself")
    method = METHODS[0] if options.fusion is None else options.fusion
    if method not in METHODS:
        raise ValueError(f"fusion: expected one of {', '.join(METHODS)}, got {method!r}")
    depth = max(DEPTH, options.k) if options.depth is None else whole("depth", options.depth, 1)
    if depth < options.k:
        raise ValueError(f"depth: expected at least k = {options.k} rows of each list, got {depth}")
    each = Options(depth, options.where, exact=options.exact)
    ready = {resolve(name, one, have): _prepared(store, name, one, each, lenient=True) for name, one in query.items()}
    counts = {(one.count, one.single) for one in ready.values()}
    if len(counts) > 1:
        said = ", ".join(f"{one.count} for {name}" for name, one in ready.items())
        raise ValueError(f"query: expected as many for each mode, got {said}")
    at = snapshots(list(ready))
    found = {name: one.search(at[name]) for name, one in ready.items()}
    hits = [
        _fused(store, at, {name: lists[number] for name, lists in found.items()}, options.k, method)
        for number in range(next(iter(counts))[0])
    ]
    return hits[0] if next(iter(counts))[1] else hits


def _fused(store: Store, at: Mapping[str, Snapshot], found: Mapping[str, Found], k: int, method: str) -> Hits:
    lists = {name: (at[name].ids[one.positions], one.scores) for name, one in found.items()}
    ids, scores = fuse(lists, k, method)
    parts = {}
    for name, (known, near) in lists.items():
        order = np.argsort(known)
        place = np.minimum(np.searchsorted(known, ids, sorter=order), max(0, len(known) - 1))
        parts[name] = np.full(len(ids), np.nan, dtype=np.float32)
        if len(known):
            same = known[order[place]] == ids
            parts[name][same] = _told(name, store, None) * near[order[place[same]]]
    some = next(iter(at.values()))
    cost = sum(one.multiply_adds for one in found.values())

    def explain() -> list[Matches]:
        told = [one.explain(at[name].places(ids)) for name, one in found.items() if one.explain is not None]
        return [[match for matches in row for match in matches] for row in zip(*told)] if told else [[] for _ in ids]

    addresses = some.addresses[some.places(ids)]
    return Hits(ids, scores.astype(np.float32), partial(payload, some, addresses), cost, explain, parts)


def _told(mode: str, store: Store, options: Options | None) -> float:
    """-1 where people are told distances, of which the smallest is nearest."""
    by_vector = mode == "dense" or (options is not None and options.rescore is not None)
    return -1.0 if (store.fields.metric == "l2" if by_vector else mode == "binary") else 1.0


def as_hits(snapshot: Snapshot, found: Found, sign: float) -> Hits:
    """What one query found, its scores times `sign`."""
    positions, explain = found.positions, found.explain
    told = None if explain is None else partial(explain, positions)
    fetch = partial(payload, snapshot, snapshot.addresses[positions])
    return Hits(snapshot.ids[positions], sign * found.scores, fetch, found.multiply_adds, told)


def payload(snapshot: Snapshot, addresses: np.ndarray) -> pa.Table:
    """The payload columns of some rows, in their order."""
    names = snapshot.store.payload(snapshot.table)
    if not names or not len(addresses):
        empty = pa.table({"": pa.nulls(len(addresses))}).select([])
        return empty if not names else pa.table({name: [] for name in names})
    return snapshot.store.take(snapshot.table, addresses, names)
