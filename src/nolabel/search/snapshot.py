"""One version of an index as one kind of search sees it: the structure, what was deleted since, and what lies beside it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from nolabel.search.derived import Base, Kind
from nolabel.search.store import SCAN_ROWS, Store

KEPT_FILTERS = 4


class Snapshot:
    """The rows of one Lance version, ready to be searched by one kind of structure.

    A row's position is its place in the structure or, beside it, the structure's size plus its place there; in both
    places ids rise.
    """

    def __init__(
        self,
        store: Store,
        kind: Kind,
        table: Any,
        version: int,
        ids: Int64[np.ndarray, " n"],
        addresses: Int64[np.ndarray, " n"],
        base: Base | None,
        previous: Snapshot | None,
    ) -> None:
        self.store, self.table, self.version, self.base = store, table, version, base
        self.kind: Any = kind  # each kind has settings of its own
        self.rows = len(ids)
        if base is None:
            there, lacks = np.zeros(0, dtype=bool), np.ones(len(ids), dtype=bool)
        else:
            there, lacks = base.compare(ids, addresses)
        self.there, self.masked = there, int((~there).sum())  # counted once: every search asks whether it is 0
        rising = np.flatnonzero(lacks)[np.argsort(ids[lacks], kind="stable")]
        self.beside_addresses = addresses[rising]
        self.beside = self._read_beside(previous)
        self.ids = np.concatenate([base.ids, ids[rising]]) if base is not None else ids[rising]
        self.addresses = (
            np.concatenate([base.addresses, self.beside_addresses]) if base is not None else self.beside_addresses
        )
        self.parts: list[tuple[Any, int]] = [] if base is None else [(base.structure, 0)]
        self.parts.append((self.beside, len(there)))
        self._filters: OrderedDict[Any, list[Any]] = OrderedDict()
        self._notes: dict[str, Any] = {}
        self._lock = threading.Lock()

    def _read_beside(self, previous: Snapshot | None) -> Any:
        """Contents of the rows beside the structure; those the previous version held are not read again."""
        wanted = self.beside_addresses
        known, contents = np.zeros(len(wanted), dtype=bool), []
        if previous is not None and previous.beside.rows and len(wanted):
            order = np.argsort(previous.beside_addresses)
            at = np.searchsorted(previous.beside_addresses, wanted, sorter=order)
            at = order[np.minimum(at, len(order) - 1)]
            known = previous.beside_addresses[at] == wanted
            contents.append(self.kind.contents(previous.beside)[at[known]])
        missing = np.flatnonzero(~known)
        for start in range(0, len(missing), SCAN_ROWS):
            rows = wanted[missing[start : start + SCAN_ROWS]]
            contents.append(self.kind.read(self.store.take(self.table, rows, self.kind.columns)))
        if not contents:
            contents.append(self.kind.read(self.table.schema.empty_table().select(self.kind.columns)))
        place = np.argsort(np.concatenate([np.flatnonzero(known), missing]))
        return self.kind.hold(self.kind.stack(contents)[place])

    def filtered(self, where: str | None, key: Any, make: Callable[[Any, np.ndarray], Any]) -> list[Any]:
        """For each part None when all of its rows count, else `make(structure, rows)`; kept for the last few filters."""
        if where is None and not self.masked:
            return [None] * len(self.parts)
        with self._lock:
            if (where, key) in self._filters:
                self._filters.move_to_end((where, key))
                return self._filters[where, key]
        kept = self._positions(where)
        made: list[Any] = []
        for structure, start in self.parts:
            rows = kept[(kept >= start) & (kept < start + structure.rows)] - start
            made.append(None if len(rows) == structure.rows else make(structure, rows))
        with self._lock:
            self._filters[where, key] = made
            if len(self._filters) > KEPT_FILTERS:
                self._filters.popitem(last=False)
        return made

    def best(
        self, scores: Float32[np.ndarray, "q m"], positions: Int64[np.ndarray, "q m"], k: int
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """The k largest scores a row, ties by id."""
        order = np.lexsort((self.ids[positions], -scores), axis=-1)[:, :k]
        query = np.arange(len(order))[:, None]
        return scores[query, order], positions[query, order]

    def places(self, ids: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """Positions of rows that are there, by id."""
        found = np.full(len(ids), -1)
        for structure, start in self.parts:
            if structure.rows:
                part = self.ids[start : start + structure.rows]
                at = np.minimum(np.searchsorted(part, ids), structure.rows - 1)
                same = (part[at] == ids) & (self.there[at] if start == 0 and self.base is not None else True)
                found[same] = start + at[same]
        return found

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` computes from these rows, computed the first time."""
        if key not in self._notes:
            self._notes[key] = make()
        return self._notes[key]

    def live(self, start: int) -> Bool[np.ndarray, " n"] | None:
        """Which rows of the part that begins at `start` are there; None for all."""
        return None if self.base is None or start or not self.masked else self.there

    def _positions(self, where: str | None) -> Int64[np.ndarray, " m"]:
        """Rising positions of the rows a filter leaves."""
        beside = np.arange(len(self.there), len(self.ids))
        if where is None:
            return np.concatenate([np.flatnonzero(self.there), beside])
        matching = self.store.matching(self.table, where)
        in_base = np.flatnonzero(self.there & _is_in(self.addresses[: len(self.there)], matching))
        return np.concatenate([in_base, beside[_is_in(self.beside_addresses, matching)]])


def joined(
    found: Sequence[tuple[np.ndarray, np.ndarray]], queries: int
) -> tuple[Float32[np.ndarray, "q m"], Int64[np.ndarray, "q m"]]:
    """Scores and positions that several parts found, side by side."""
    if not found:
        return np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)
    scores, positions = (np.concatenate(both, axis=1) for both in zip(*found))
    return scores, positions


def _is_in(values: np.ndarray, rising: np.ndarray) -> np.ndarray:
    if not len(rising):
        return np.zeros(len(values), dtype=bool)
    at = np.minimum(np.searchsorted(rising, values), len(rising) - 1)
    return rising[at] == values
