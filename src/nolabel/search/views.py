"""The newest version of an index, ready to be searched: a snapshot for each kind of search that was used."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nolabel.search import derived
from nolabel.search.derived import Base, Kind
from nolabel.search.snapshot import Snapshot
from nolabel.search.store import Store


class Views:
    """Keeps the snapshots of one process and follows what others commit."""

    def __init__(self, store: Store, have: Mapping[str, Kind]) -> None:
        self.store, self.have = store, have
        self.newest: dict[str, Snapshot] = {}
        self._keys: tuple[int, np.ndarray, np.ndarray] | None = None
        self._lock = threading.Lock()

    def current(self, names: Sequence[str]) -> dict[str, Snapshot]:
        """Snapshots for these kinds of search, all of the newest version."""
        version = self.store.current()[1]
        found = {name: self.newest.get(name) for name in names}
        ready = {name: each for name, each in found.items() if each is not None and each.version == version}
        if len(ready) == len(names):
            return ready
        with self._lock:
            while True:
                table, version = self.store.current()
                try:
                    for name in names:
                        known = self.newest.get(name)
                        if known is None or known.version != version:
                            self.newest[name] = self._read(name, table, version)
                    return {name: self.newest[name] for name in names}
                except (RuntimeError, OSError):
                    if self.store.current()[1] == version:
                        raise
                    # another process compacted the data set while it was read

    def rebuild(self) -> None:
        """Bring up to date what was searched before, here or by another process."""
        used = [name for name, kind in self.have.items() if name in self.newest or derived.kept(self.store, kind)]
        self.current(used)

    def _read(self, name: str, table: Any, version: int) -> Snapshot:
        kind, previous = self.have[name], self.newest.get(name)
        if self._keys is None or self._keys[0] != version:
            self._keys = (version, *self.store.keys(table))
        _, ids, addresses = self._keys
        base = previous.base if previous is not None and previous.base is not None else derived.find(self.store, kind)
        if derived.too_far(base, ids, addresses):
            large = len(ids) > derived.BESIDE_ROWS
            base = self._built(kind, table, version, ids, addresses) if large else None
        return Snapshot(self.store, kind, table, version, ids, addresses, base, previous)

    def _built(self, kind: Kind, table: Any, version: int, ids: np.ndarray, addresses: np.ndarray) -> Base | None:
        """A structure of all rows; None, with a warning, where the disk is full or may not be written."""
        try:
            return derived.build(self.store, kind, table, version, ids, addresses)
        except OSError as error:
            warnings.warn(
                f"every row is compared, which is slower: {self.store.derived} cannot be written ({error})",
                stacklevel=2,
            )
            return None
