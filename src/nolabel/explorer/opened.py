"""A run as the explorer holds it: its index, its vectors at one moment, and the learner once somebody asks for it."""

import hashlib
import json
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds
import xxhash
from jaxtyping import Float32, Int64

from nolabel.explorer.folders import run_folder
from nolabel.search import Index

#: Columns of the payload that people see in a way of their own, and not as values.
SHOWN_APART = {"row", "text", "thumbnail", "curated", "curated_tags"}
SEARCHED = {"vector", "code", "sparse_indices", "sparse_values"}
TITLES = ("path", "node", "video", "url", "name", "title")
MOMENT = 1.0  # seconds
FOLDER = "explorer"  # in the run's folder: what the explorer makes and may make again, and the journal of marks


class NoSuchItem(LookupError):
    """An id that the index does not hold."""


@dataclass(frozen=True)
class Rows:
    """All rows at one moment.

    Attributes
    ----------
    ids : int64 (n,), ascending
    vectors : float32 (n, d), scaled to unit length: what a search by cosine compares
    key : changes with the ids and the vectors
    """

    ids: Int64[np.ndarray, " n"]
    vectors: Float32[np.ndarray, "n d"]
    key: str

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Where these ids stand; -1 for one that came later."""
        place = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        found: np.ndarray = np.where(self.ids[place] == ids, place, -1)
        return found


class OpenRun:
    """A run folder with an index, opened for looking.

    Parameters
    ----------
    folder : run folder of `nolabel learn`, `classify`, `curate` or any other command that leaves `index.lance`

    Raises
    ------
    FileNotFoundError, ValueError : no folder, no index in it
    """

    def __init__(self, folder: Path) -> None:
        self.folder = run_folder(folder)
        self.index = Index.open(folder)
        self._lock = threading.RLock()
        self._rows: tuple[int, Rows] | None = None
        self._reading: threading.Timer | None = None
        self._starting = threading.Lock()
        self._model = threading.Lock()
        self.trouble: str | None = None if self.config else "the folder holds no model"

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """What `config.json` says, without anything of it being made; empty for an index alone."""
        path = self.folder / "config.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    @cached_property
    def stamp(self) -> str:
        """Tells this run from others in the addresses of its pictures."""
        return hashlib.blake2b(f"{self.folder} {self.index.encoder}".encode(), digest_size=6).hexdigest()

    @property
    def method(self) -> str:
        return str(self.config.get("class", "an index")).rpartition(".")[2]

    @cached_property
    def learner(self) -> Any:
        """The estimator that reads queries; ValueError where there is none that made the index."""
        from nolabel.training import identity, load

        made = self.index.encoder
        if not self.config:
            raise ValueError(f"{self.folder} holds no model")
        if made is not None and made != identity(self.folder):
            raise ValueError(f"the model in {self.folder} is not the one that made its index")
        return load(self.folder)

    def read(self) -> None:
        """Read the learner; what goes wrong is kept as `trouble`, and the run is searched without one."""
        with self._model:
            if self.trouble is None:
                try:
                    _ = self.learner
                except (ValueError, TypeError, OSError, ImportError) as error:
                    self.trouble = str(error)

    def start_reading(self) -> None:
        """Read the learner in the background, once; a moment later, so that it takes no processor from the first picture."""
        with self._starting:
            if self._reading is None:
                self._reading = threading.Timer(MOMENT, self.read)
                self._reading.daemon = True
                self._reading.start()

    def stop(self) -> None:
        """Let nothing be read any more; a reading that has begun is waited for."""
        with self._starting:
            if self._reading is not None:
                self._reading.cancel()
                self._reading.join()

    @property
    def ready(self) -> bool:
        """Whether it is known how the run can be asked."""
        return self.trouble is not None or "learner" in self.__dict__

    @property
    def columns(self) -> dict[str, str]:
        """Payload columns to filter, colour and sort by: "text", "number" or "boolean"."""
        found = {}
        for field in self.index.schema:
            if field.name in SHOWN_APART or field.name == "id":
                continue
            if kinds.is_boolean(field.type):
                found[field.name] = "boolean"
            elif kinds.is_integer(field.type) or kinds.is_floating(field.type):
                found[field.name] = "number"
            elif kinds.is_string(field.type) or kinds.is_large_string(field.type):
                found[field.name] = "text"
        return found

    @property
    def noun(self) -> str:
        """What an item is."""
        names = self.index.schema.names
        if "video" in names:
            return "videos"
        if "thumbnail" in names:
            return "images"
        return "nodes" if "node" in names else "texts" if "text" in names else "rows"

    def rows(self) -> Rows:
        """All rows as they are now; read again only when rows came or went."""
        with self._lock:
            version = self.index.version
            if self._rows is not None:
                if self._rows[0] == version:
                    return self._rows[1]
                if np.array_equal(np.sort(self.index.ids()), self._rows[1].ids):
                    self._rows = (version, self._rows[1])
                    return self._rows[1]
            self._rows = (version, _read(self.index))
            return self._rows[1]

    def column(self, name: str, ids: np.ndarray) -> pa.ChunkedArray:
        """One payload column of these rows; nulls where an item has gone since."""
        table = self.index.rows(columns=["id", name])
        known = table["id"].to_numpy()
        order = np.argsort(known, kind="stable")
        place = np.searchsorted(known, ids, sorter=order).clip(max=max(len(order) - 1, 0))
        if not len(order):
            return pa.chunked_array([pa.nulls(len(ids), table[name].type)])
        at = order[place]
        return table[name].take(pa.array(at, mask=known[at] != ids))

    def taken(self, ids: Any) -> list[dict[str, Any]]:
        """The payload of these rows, in that order, without what they are searched by."""
        try:
            wanted = [name for name in self.index.schema.names if name not in SEARCHED]
            found: list[dict[str, Any]] = self.index.rows(ids, wanted).to_pylist()
        except ValueError as error:
            if str(error).startswith("ids: the index holds no row"):
                raise NoSuchItem(str(error).removeprefix("ids: ")) from None
            raise
        return found


def _read(index: Index) -> Rows:
    """All ids with something that tells rows apart: vectors, else codes, else the main directions of sparse vectors."""
    from nolabel.report.vectors import unit_rows
    from nolabel.search.fields import matrix_of, sparse_of

    if index.dim:
        table = index.rows(columns=["id", "vector"])
        values = matrix_of(table["vector"])
    elif index.bits:
        table = index.rows(columns=["id", "code"])
        codes = matrix_of(table["code"])
        values = np.unpackbits(codes.astype(np.uint8), axis=1).astype(np.float32) - 0.5
    else:
        names = [name for name in ("id", "sparse_indices", "sparse_values") if name in index.schema.names]
        table = index.rows(columns=names)
        words = index.words
        values = _directions(sparse_of(table, words)) if words and len(table) > 2 else np.zeros((len(table), 2))
    vectors = unit_rows(np.asarray(values, dtype=np.float32)) if len(table) else np.zeros((0, 2), np.float32)
    order = np.argsort(table["id"].to_numpy(), kind="stable")  # rows that were updated lie elsewhere, and are the same
    ids, vectors = table["id"].to_numpy()[order], vectors[order]
    key = xxhash.xxh3_64(ids.tobytes())
    key.update(vectors.tobytes())
    return Rows(ids, vectors, key.hexdigest())


def _directions(matrix: Any) -> np.ndarray:
    from sklearn.decomposition import TruncatedSVD

    found: np.ndarray = TruncatedSVD(min(50, *(n - 1 for n in matrix.shape)), random_state=0).fit_transform(matrix)
    return found
