"""Shards as WebDataset has them: plain tar files, the members of a sample side by side under one key.

``0001.jpg``, ``0001.txt`` and ``0001.json`` are the sample ``0001``. Members are read, never unpacked: their names are words
and no paths, links and devices are passed over, and pickles are refused.
"""

from __future__ import annotations

import io
import json
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nolabel.data.decoding import ENDINGS

#: Endings of members that hold texts, and the columns they become.
TEXTS = {
    "txt": "text",
    "text": "text",
    "caption": "text",
    "json": "json",
    "html": "html",
    "url": "url",
    "cls": "label",
}
PICKLES = ("pyd", "pickle", "pkl", "pth", "pt", "ten", "dill")


def column_of(ending: str) -> str | None:
    """The column that a member with this ending belongs to.

    >>> column_of("jpg"), column_of("txt"), column_of("npy"), column_of("wav")
    ('image', 'text', 'vector', None)
    """
    if ending in PICKLES:
        raise ValueError(f"members that end in .{ending} are pickles, which can run code: they are not read")
    if f".{ending}" in ENDINGS:
        return "image"
    return "vector" if ending == "npy" else TEXTS.get(ending)


def _split(name: str) -> tuple[str, str]:
    """Key and ending: what stands before and after the first dot of the last part of the name."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return folder + slash + stem, ending.lower().rpartition(".")[2]


def _samples(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo], list[str]]]:
    """Key, members by column, and endings that belong to no column, of each run of members with one key."""
    key: str | None = None
    members: dict[str, tarfile.TarInfo] = {}
    strange: list[str] = []
    for member in tar:
        if not member.isfile():
            continue
        own, ending = _split(member.name)
        if own != key:
            if key is not None:
                yield key, members, strange
            key, members, strange = own, {}, []
        column = column_of(ending)
        if column is None:
            strange.append(ending)
        else:
            members.setdefault(column, member)
    if key is not None:
        yield key, members, strange


def listed(path: Path) -> tuple[list[str], int]:
    """The columns of a shard, the key first, and how many samples it has, by the headers alone."""
    seen: dict[str, None] = {}
    strange: Counter[str] = Counter()
    count = 0
    with tarfile.open(path, "r:") as tar:
        for _, members, others in _samples(tar):
            seen |= dict.fromkeys(members)
            strange.update(others)
            count += 1
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # the library takes this for the end
            raise tarfile.ReadError("cut off: no block of zeros at the end")
    if strange:
        what = ", ".join(f"{number} that end in .{ending}" for ending, number in strange.most_common(3))
        warnings.warn(f"{path.name}: left out members of no known kind: {what}", stacklevel=2)
    order = ("image", "vector", *dict.fromkeys(TEXTS.values()))
    return ["key", *(name for name in order if name in seen)], count


def read(path: Path, columns: Sequence[str], rows: int, size: int) -> Iterator[pa.Table]:
    """Tables of the columns: at most `rows` samples, and members of about `size` bytes."""
    with tarfile.open(path, "r:") as tar:
        cells: dict[str, list[Any]] = {name: [] for name in columns}
        held = 0
        for count, (key, members, _) in enumerate(_samples(tar), 1):
            for name in columns:
                data = key if name == "key" else _content(tar, members.get(name))
                cells[name].append(data)
                held += len(data or ())
            if held >= size or count % rows == 0:
                yield _table(cells)
                cells, held = {name: [] for name in columns}, 0
        if any(cells.values()):
            yield _table(cells)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> bytes | None:
    if member is None:
        return None
    file = tar.extractfile(member)
    assert file is not None  # a regular file
    return file.read()


def _table(cells: dict[str, list[Any]]) -> pa.Table:
    made = {}
    for name, values in cells.items():
        if name == "image":
            made[name] = pa.array(values, pa.binary())
        elif name == "vector":
            made[name] = _vectors(values)
        else:
            words = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values]
            made[name] = pa.array(words, pa.string())
    return pa.table(made)


def _vectors(values: Sequence[bytes | None]) -> pa.Array:
    if None in values:
        raise ValueError("expected a vector in every sample or in none: some have no .npy")
    found = [np.load(io.BytesIO(value), allow_pickle=False) for value in values if value is not None]
    shapes = {array.shape for array in found}
    if len(shapes) != 1 or found[0].ndim != 1:
        raise ValueError(f"expected a vector of one width in each .npy, got shapes {sorted(shapes)[:3]}")
    flat = np.concatenate(found).astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), len(found[0]))


def write(path: Path, tables: Iterable[pa.Table]) -> None:
    """A sample a row: ``KEY.npy`` with the vector, ``KEY.json`` with the other columns. Equal rows give equal files."""
    count = 0
    with tarfile.open(path, "w") as tar:
        for table in tables:
            width = table.schema.field("vector").type.list_size
            vectors = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
            for vector, others in zip(vectors, table.drop_columns(["vector"]).to_pylist(), strict=True):
                buffer = io.BytesIO()
                np.save(buffer, vector, allow_pickle=False)
                _add(tar, f"{count:09d}.npy", buffer.getvalue())
                _add(tar, f"{count:09d}.json", json.dumps(others, default=str).encode())
                count += 1


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
