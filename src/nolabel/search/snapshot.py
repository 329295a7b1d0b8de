"""One version of an index in memory: the structure, what was deleted from it, and the rows that lie beside it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from nolabel.search.derived import Base
from nolabel.search.funnel import Stage, Tally
from nolabel.search.store import SCAN_ROWS, Store, matrix_of
from nolabel.search.structure import Chosen, Structure, best, prepare

KEPT_FILTERS = 4


class Snapshot:
    """Answers queries for the rows of one Lance version.

    A row's position is its place in the structure or, beside it, the structure's size plus its place there.
    """

    def __init__(
        self,
        store: Store,
        table: Any,
        version: int,
        ids: Int64[np.ndarray, " n"],
        addresses: Int64[np.ndarray, " n"],
        base: Base | None,
        previous: Snapshot | None,
    ) -> None:
        self.store, self.table, self.version, self.base = store, table, version, base
        self.rows = len(ids)
        if base is None:
            there, lacks = np.zeros(0, dtype=bool), np.ones(len(ids), dtype=bool)
        else:
            there, lacks = base.compare(ids, addresses)
        self.there = there
        self.beside_addresses = addresses[lacks]
        self.beside = self._read_beside(previous)
        self.ids = np.concatenate([base.ids, ids[lacks]]) if base is not None else ids[lacks]
        self.addresses = (
            np.concatenate([base.addresses, self.beside_addresses]) if base is not None else self.beside_addresses
        )
        self._filters: OrderedDict[tuple[str | None, int], list[Chosen | None]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def masked(self) -> int:
        return int((~self.there).sum())

    def _read_beside(self, previous: Snapshot | None) -> Structure:
        """Vectors of the rows beside the structure; those the previous version held are not read again."""
        wanted = self.beside_addresses
        matrix = np.empty((len(wanted), self.store.dim), dtype=np.float32)
        new = np.ones(len(wanted), dtype=bool)
        if previous is not None and previous.beside.rows and len(wanted):
            at = np.minimum(np.searchsorted(previous.beside_addresses, wanted), previous.beside.rows - 1)
            new = previous.beside_addresses[at] != wanted
            matrix[~new] = previous.beside.matrix[at[~new]]
        missing = np.flatnonzero(new)
        for start in range(0, len(missing), SCAN_ROWS):
            rows = missing[start : start + SCAN_ROWS]
            taken = self.store.take(self.table, wanted[rows], ["vector"])
            matrix[rows] = prepare(matrix_of(taken["vector"]), self.store.metric)
        return Structure(matrix, self.store.metric)

    def search(
        self,
        queries: Float32[np.ndarray, "q d"],
        k: int,
        where: str | None,
        stages: Sequence[Stage],
        exact: bool,
        tally: Tally,
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """Scores (larger is nearer) and positions, best first; fewer than k where fewer rows are left.

        The first stage finds rows by its prefix, each later one ranks them again by a longer one.
        """
        (dim, wanted), *later = stages
        parts = [(self.beside, len(self.there))]
        if self.base is not None:
            parts.insert(0, (self.base.structure, 0))
        chosen = self._chosen(where, dim, parts)
        cut = prepare(queries[:, :dim], self.store.metric)
        found = []
        for (structure, start), rows in zip(parts, chosen):
            if structure.rows and (rows is None or len(rows.rows)):
                prefix = structure.prefix(dim)
                self._refuse_zeros(prefix, rows, start)
                scores, positions = prefix.search(cut, wanted, rows, exact=exact, tally=tally)
                found.append((scores, positions + start))
        if not found:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        scores, positions = found[0]
        if len(found) > 1:
            scores, positions = (np.concatenate(both, axis=1) for both in zip(*found))
            scores, positions = best(scores, positions, wanted)
        for dim, wanted in later:
            cut = prepare(queries[:, :dim], self.store.metric)
            scores = np.full(positions.shape, -np.inf, dtype=np.float32)
            for structure, start in parts:
                if structure.rows:
                    inside = (positions >= start) & (positions < start + structure.rows)
                    ranked = structure.scores(cut, np.where(inside, positions - start, -1), tally)
                    scores = np.maximum(scores, ranked)
            scores, positions = best(scores, positions, wanted)
        return scores[:, :k], positions[:, :k]

    def _refuse_zeros(self, prefix: Structure, rows: Chosen | None, start: int) -> None:
        """A row whose first coordinates are all 0 has no cosine with anything, so it could not be ranked."""
        zeros = prefix.zeros if rows is None or not len(prefix.zeros) else np.intersect1d(prefix.zeros, rows.rows)
        if len(zeros):
            others = f" (and {len(zeros) - 1} more)" if len(zeros) > 1 else ""
            raise ValueError(
                f"dim: row {self.ids[start + zeros[0]]}{others} is all zeros in its first {prefix.dim} coordinates, "
                "which has no cosine; search by more of them, or leave it out with where="
            )

    def _chosen(self, where: str | None, dim: int, parts: list[tuple[Structure, int]]) -> list[Chosen | None]:
        """The rows of each part that a filter and the deletions leave, kept for the last few filters."""
        if where is None and self.there.all():
            return [None] * len(parts)
        key = (where, dim)
        with self._lock:
            if key in self._filters:
                self._filters.move_to_end(key)
                return self._filters[key]
        kept = self._positions(where)
        chosen: list[Chosen | None] = []
        for structure, start in parts:
            rows = kept[(kept >= start) & (kept < start + structure.rows)] - start
            everything = len(rows) == structure.rows
            chosen.append(None if everything else Chosen(structure.prefix(dim), rows))
        with self._lock:
            self._filters[key] = chosen
            if len(self._filters) > KEPT_FILTERS:
                self._filters.popitem(last=False)
        return chosen

    def _positions(self, where: str | None) -> Int64[np.ndarray, " m"]:
        """Rising positions of the rows a filter leaves."""
        beside = np.arange(len(self.there), len(self.ids))
        if where is None:
            return np.concatenate([np.flatnonzero(self.there), beside])
        matching = self.store.matching(self.table, where)
        in_base = np.flatnonzero(self.there & _is_in(self.addresses[: len(self.there)], matching))
        return np.concatenate([in_base, beside[_is_in(self.beside_addresses, matching)]])


def _is_in(values: np.ndarray, rising: np.ndarray) -> np.ndarray:
    if not len(rising):
        return np.zeros(len(values), dtype=bool)
    at = np.minimum(np.searchsorted(rising, values), len(rising) - 1)
    return rising[at] == values
