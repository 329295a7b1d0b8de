"""The Lance data set of an index: rows, payload, SQL and versions. Everything else is derived from it."""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from nolabel.data.locks import exclusive
from nolabel.search.fields import Fields
from nolabel.search.files import locate
from nolabel.search.lance import lancedb

FORMAT = 2  # 1 holds vectors only
PREFIX = "nolabel."  # of our entries in the schema's metadata
SCAN_ROWS = 16_384
SETTLED = 0.1  # seconds after which a folder's time stamp cannot hide a second change, by a clock that nobody sets


class Store:
    """One Lance table with its settings; the handle of a version does not change under its reader."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.parent, self.name = locate(path)
        self.folder = self.parent / f"{self.name}.lance"
        self.derived = self.parent / f"{self.name}.faiss"
        self._versions = str(self.folder / "_versions")
        given = Path(path)
        if not given.exists():
            raise FileNotFoundError(f"path: there is no index at {given}")
        if not (self.folder / "_versions").is_dir():
            raise ValueError(f"path: {given} is not an index: it holds no Lance data set {self.folder.name}")
        self._db = lancedb.connect(str(self.parent))
        self._lock = threading.Lock()
        self._stamp = (0, 0.0, False)
        self._known: tuple[Any, np.ndarray, np.ndarray] | None = None
        try:
            table = self._db.open_table(self.name)
            self._newest = (table, int(table.version))
        except Exception as error:  # damaged files make Lance raise nearly anything
            raise ValueError(f"path: {given} is not an index: {one_line(error)}") from None
        notes = _notes(table)
        if "format" not in notes:
            raise ValueError(f"path: {given} is a Lance data set, but not an index made by nolabel")
        if int(notes["format"]) > FORMAT:
            raise ValueError(f"path: {given} has index format {notes['format']}, but this nolabel reads up to {FORMAT}")
        self.identity, self.encoder = notes["identity"], notes.get("encoder")
        self.fields = Fields(
            table.schema.field("vector").type.list_size if "vector" in table.schema.names else 0,
            notes["metric"],
            int(notes.get("bits", 0)),
            int(notes.get("words", 0)),
            notes.get("text"),
            notes.get("language"),
        )
        self._has_words = "vocabulary" in notes

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], fields: Fields, encoder: str | None, vocabulary: Sequence[str] | None = None
    ) -> Store:
        parent, name = locate(path)
        if encoder is not None and not isinstance(encoder, str):
            raise TypeError(f"encoder: expected a name or fingerprint, got {type(encoder).__name__}")
        folder = parent / f"{name}.lance"
        if parent.is_file() or folder.is_file() or (folder / "_versions").is_dir():
            raise FileExistsError(f"path: {folder if folder.exists() else parent} exists already")
        parent.mkdir(parents=True, exist_ok=True)
        plain = fields.dim and not (fields.bits or fields.words or fields.text)
        notes = {"format": "1" if plain else "2", "metric": fields.metric, "identity": uuid.uuid4().hex}
        notes |= {key: str(value) for key, value in (("bits", fields.bits), ("words", fields.words)) if value}
        notes |= {"vocabulary": "kept"} if vocabulary is not None else {}
        if fields.text is not None:
            notes |= {"text": fields.text} | ({"language": fields.language} if fields.language else {})
        if encoder is not None:
            notes["encoder"] = encoder
        with exclusive(parent / f"{name}.lock", f"the index {folder}"):
            database = lancedb.connect(str(parent))
            if vocabulary is not None:
                _write_vocabulary(database, parent, name, vocabulary, notes["identity"])
            database.create_table(name, schema=pa.schema(fields.schema(), metadata=_metadata(notes)))
        return cls(folder)

    @cached_property
    def vocabulary(self) -> list[str] | None:
        """The words of the sparse vectors' dimensions, if the index was made with them."""
        if not self._has_words:
            return None
        try:
            table = self._db.open_table(f"{self.name}.vocabulary")
        except (ValueError, RuntimeError, OSError):
            table = None
        if table is None or _notes(table).get("identity") != self.identity:
            raise ValueError(f"the words of {self.folder} are missing: {self.name}.vocabulary.lance belongs beside it")
        found: list[str] = table.to_arrow()["word"].to_pylist()
        return found

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer among all processes; a second one gets BlockingIOError naming the first.

        What keeps Lance from writing, such as a full disk, becomes an OSError that names the index.
        """
        with exclusive(self.parent / f"{self.name}.lock", f"the index {self.folder}"):
            try:
                yield
            except RuntimeError as error:
                if not str(error).startswith("lance error"):
                    raise
                raise OSError(f"could not write the index {self.folder}: {one_line(error)}") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What Lance says of files that are damaged or gone, nearly anything, as an OSError that names the index."""
        try:
            yield
        except Exception as error:
            raise OSError(f"could not read the index {self.folder}: {one_line(error)}") from error

    def current(self) -> tuple[Any, int]:
        """The newest version and its number; while nothing was committed this costs one look at a time stamp."""
        stamp, seen, settled = self._stamp
        try:
            now = os.stat(self._versions).st_mtime_ns
        except FileNotFoundError:
            raise FileNotFoundError(f"the index {self.folder} is gone") from None
        if stamp == now and settled:
            return self._newest
        with self._lock:
            table = self._db.open_table(self.name)
            version = int(table.version)  # a round trip through Lance, hence kept
            if _notes(table).get("identity") != self.identity:
                raise ValueError(f"the index {self.folder} was replaced by another: open it again")
            if version != self._newest[1]:
                self._newest = (table, version)
            seen = seen if stamp == now else time.monotonic()
            self._stamp = (now, seen, time.monotonic() - seen > SETTLED)
            return self._newest

    def newest(self) -> Any:
        """A handle to write through, at the newest version."""
        return self._db.open_table(self.name)

    def keys(self, table: Any) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Ids and row addresses of all rows, by rising address. An address never comes to hold another row."""
        commit = (_notes(table).get("identity"), int(table.version))
        known = self._known
        if known is None or known[0] != commit:
            with self._reading():
                ids, addresses = _by_address(table.search().with_row_id(True).select(["id"]).to_arrow())
            ids.flags.writeable = addresses.flags.writeable = False  # kept for the next who asks
            self._known = known = (commit, ids, addresses)
        return known[1:]

    def matching(self, table: Any, where: str) -> Int64[np.ndarray, " m"]:
        """Rising addresses of the rows for which an SQL expression holds."""
        check_where(where)
        try:
            found = table.search().where(where).with_row_id(True).select(["id"]).to_arrow()
        except (ValueError, RuntimeError, OSError) as error:
            columns = ", ".join(["id", *self.payload(table)])
            raise ValueError(f"where: {one_line(error)}; the columns are {columns}") from None
        return _by_address(found)[1]

    def scan(self, table: Any, columns: Sequence[str]) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Addresses and columns of all rows, a few thousand at a time."""
        with self._reading():
            for batch in table.search().with_row_id(True).select(list(columns)).to_batches(SCAN_ROWS):
                yield batch["_rowid"].to_numpy().astype(np.int64), batch.select(list(columns))

    def whole(self, table: Any, columns: Sequence[str]) -> pa.Table:
        """Columns of all rows, by rising address."""
        names = list(columns)
        with self._reading():
            found = table.search().with_row_id(True).select(names).to_arrow()
        at = found["_rowid"].to_numpy()
        rising = (at[1:] > at[:-1]).all()
        return (found if rising else found.take(np.argsort(at))).select(names)

    def take(self, table: Any, addresses: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """The rows at these addresses, in this order."""
        names = list(columns)
        try:
            found = table.take_row_ids(addresses.tolist()).select(names).with_row_id().to_arrow()
        except RuntimeError as error:
            if "not found" not in str(error).lower():
                raise OSError(f"could not read the index {self.folder}: {one_line(error)}") from error
            raise RuntimeError(f"the index was compacted after this search: search again ({one_line(error)})") from None
        at = found["_rowid"].to_numpy().astype(np.int64)
        order = np.argsort(at)
        return found.take(order[np.searchsorted(at, addresses, sorter=order)]).select(names)

    def payload(self, table: Any) -> list[str]:
        """Names of the columns that are neither the id nor what the index is searched by."""
        return [name for name in table.schema.names if name not in ("id", *self.fields.columns)]

    def commit(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], write: Any) -> None:
        """Stream batches into `write` as one commit: all of them or, when one raises, none."""
        raised: list[BaseException] = []

        def guarded() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except BaseException as error:
                raised.append(error)
                raise

        try:
            write(pa.RecordBatchReader.from_batches(schema, guarded()))
        except Exception:
            if raised:  # as it was before Lance wrapped it
                raise raised[0] from None
            raise

    def compact(self) -> None:
        """Rewrite the rows into as few files as possible and drop older versions and files of interrupted writes."""
        table = self.newest()
        batches = table.search().to_batches(SCAN_ROWS)
        if table.count_rows():
            rewritten = (batch.select(table.schema.names).cast(table.schema) for batch in batches)
            self.commit(table.schema, rewritten, lambda reader: table.add(reader, mode="overwrite"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # other readers of old versions: said in Index.compact
            table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
        if left := len(self.newest().list_versions()) - 1:
            warnings.warn(
                f"{left} older versions of {self.folder} stay on the disk, deleted rows and all: they are dated later than now, "
                "as if the clock had been set back; compact again when it has come there",
                stacklevel=3,
            )


def _metadata(notes: Mapping[str, str]) -> dict[str, str]:
    return {f"{PREFIX}{key}": value for key, value in notes.items()}


def _write_vocabulary(database: Any, parent: Path, name: str, words: Sequence[str], identity: str) -> None:
    """Words go into a table of their own: in the notes they would be written again with every commit."""
    folder = parent / f"{name}.vocabulary.lance"
    if folder.exists() and _notes(database.open_table(folder.stem)).keys() != {"identity"}:
        raise FileExistsError(f"path: {folder} exists already")
    schema = pa.schema([pa.field("word", pa.string())], metadata=_metadata({"identity": identity}))
    mode = "overwrite" if folder.exists() else "create"  # Lance warns of overwriting what is not there
    database.create_table(folder.stem, pa.table([pa.array(words)], schema=schema), mode=mode)


def _notes(table: Any) -> dict[str, str]:
    """Our entries in the schema's metadata."""
    found = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return {key.removeprefix(PREFIX): value for key, value in found.items() if key.startswith(PREFIX)}


def one_line(error: BaseException) -> str:
    """The first line of a message, without the engine's own kinds of errors and places in its source."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    first = re.sub(r",? \S+\.rs:\d+:\d+.*$", "", first)
    return re.sub(r"^lance error: (LanceError\(\w+\): )?", "", first).strip().rstrip(".")


def check_where(where: str) -> None:
    if not isinstance(where, str):
        raise TypeError(f"where: expected an SQL expression, got {type(where).__name__}")
    if not where.strip():
        raise ValueError("where: expected an SQL expression, got an empty one")
    if ";" in re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "", where):
        raise ValueError(f"where: expected one SQL expression, got several in {where!r}")


def _by_address(found: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    ids, addresses = found["id"].to_numpy(), found["_rowid"].to_numpy().astype(np.int64)
    order = np.argsort(addresses, kind="stable")
    return ids[order], addresses[order]
