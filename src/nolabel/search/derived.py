"""The structures kept beside the store: found again when they fit, rebuilt when missing, damaged or too old."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from nolabel.data.locks import exclusive
from nolabel.search.files import publishing
from nolabel.search.store import SCAN_ROWS, Store

# Rows that may lie beside the structure, or be masked in it, before it is rebuilt: this many, or this share.
BESIDE_ROWS, BESIDE_SHARE = 4096, 0.1
log = logging.getLogger(__name__)


class Kind(Protocol):
    """What rows are compared by: which columns it needs, and how these are held, on disk and in memory.

    A structure is anything with `rows`, their number. The contents of rows can be indexed by row and stacked.
    """

    name: str
    columns: tuple[str, ...]

    def build(self, folder: Path, pieces: Callable[[], Iterator[pa.RecordBatch]], rows: int) -> None:
        """Write the structure of the rows that `pieces()` streams, as often as it is called, into an empty folder."""

    def load(self, folder: Path) -> Any:
        """The structure of a folder; OSError, ValueError, RuntimeError, KeyError or TypeError says what is wrong."""

    def read(self, rows: pa.Table) -> Any:
        """The contents of some rows."""

    def stack(self, parts: Sequence[Any]) -> Any:
        """The contents of several parts as one."""

    def hold(self, contents: Any) -> Any:
        """A structure in memory."""

    def contents(self, structure: Any) -> Any:
        """The contents of a structure that was held in memory."""


@dataclass(frozen=True)
class Base:
    """A structure over the rows of one version, with the id and the address of each of its rows, ids rising."""

    structure: Any
    ids: Int64[np.ndarray, " n"]
    addresses: Int64[np.ndarray, " n"]

    @cached_property
    def _by_address(self) -> Int64[np.ndarray, " n"] | None:
        return None if (np.diff(self.addresses) > 0).all() else np.argsort(self.addresses)

    def compare(self, ids: np.ndarray, addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of its rows are still there (n,), and which of the given rows it lacks (m,).

        Lance never changes a row in place: an updated row gets a new address, so equal address means equal contents.
        """
        at = np.searchsorted(self.addresses, addresses, sorter=self._by_address)
        at = np.minimum(at, len(self.addresses) - 1)
        if self._by_address is not None:
            at = self._by_address[at]
        same = (self.addresses[at] == addresses) & (self.ids[at] == ids)
        there = np.zeros(len(self.ids), dtype=bool)
        there[at[same]] = True
        return there, ~same


def too_far(base: Base | None, ids: np.ndarray, addresses: np.ndarray) -> bool:
    """Whether so much was added, changed or deleted since that the structure should be built anew."""
    if base is None:
        return len(ids) > BESIDE_ROWS
    there, lacks = base.compare(ids, addresses)
    return int(lacks.sum() + (~there).sum()) > max(BESIDE_ROWS, BESIDE_SHARE * len(base.ids))


def kept(store: Store, kind: Kind) -> list[Path]:
    """The folders of this kind for this very data set, the newest first."""
    names = [p for p in store.derived.glob("*") if re.fullmatch(_prefix(store, kind) + r"\d{12}", p.name)]
    return sorted(names, reverse=True)


def find(store: Store, kind: Kind) -> Base | None:
    """The newest sound structure of this very data set, or None."""
    for folder in kept(store, kind):
        try:
            return _load(folder, kind)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            log.info("%s cannot be used and will be rebuilt: %s", folder, str(error).splitlines()[0])
    return None


def build(store: Store, kind: Kind, table: Any, version: int, ids: np.ndarray, addresses: np.ndarray) -> Base:
    """Build the structure of one version from its rows, streamed; other processes wait and share it."""
    store.derived.mkdir(exist_ok=True)
    with exclusive(store.derived / "build.lock", str(store.derived), wait=True):
        found = find(store, kind)
        if found is not None and not too_far(found, ids, addresses):
            return found
        final = store.derived / f"{_prefix(store, kind)}{version:012d}"
        log.info("building the search structure of %s for version %d (%d rows)", store.folder, version, len(ids))
        order = np.argsort(ids, kind="stable")
        with publishing(final) as folder:
            np.save(folder / "ids.npy", ids[order])
            np.save(folder / "addresses.npy", addresses[order])
            kind.build(folder, partial(_pieces, store, table, kind.columns, addresses[order]), len(ids))
        same_data = re.escape(store.identity[:12])
        for old in store.derived.iterdir():  # readers that have them mapped keep them until they close
            other_kind = re.match(same_data, old.name) and not old.name.startswith(_prefix(store, kind))
            if old.is_dir() and old != final and not other_kind:
                shutil.rmtree(old, ignore_errors=True)
        return _load(final, kind)


def _prefix(store: Store, kind: Kind) -> str:
    return f"{store.identity[:12]}-v" if kind.name == "dense" else f"{store.identity[:12]}-{kind.name}-v"


def _pieces(
    store: Store, table: Any, columns: tuple[str, ...], addresses: np.ndarray
) -> Iterator[pa.RecordBatch | pa.Table]:
    """The columns of all rows in the order of these addresses: as they lie, or taken where updates moved them."""
    if (np.diff(addresses) > 0).all():
        done = 0
        for at, batch in store.scan(table, columns):
            if not np.array_equal(at, addresses[done : done + len(at)]):
                raise RuntimeError("the data set was not read in the order of its rows")
            done += len(at)
            yield batch
    else:
        for start in range(0, len(addresses), SCAN_ROWS):
            yield store.take(table, addresses[start : start + SCAN_ROWS], columns)


def _load(folder: Path, kind: Kind) -> Base:
    structure = kind.load(folder)
    ids, addresses = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("ids", "addresses"))
    if not len(ids) == len(addresses) == structure.rows:
        raise ValueError("its ids do not belong to its rows")
    if not (np.diff(ids) > 0).all():
        raise ValueError("its ids do not rise")
    return Base(structure, ids, addresses)


def disk_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
