"""Where corpora lie: local paths and URLs that fsspec knows, and files there that are whole or not there at all."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem


def place(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it.

    Raises
    ------
    ValueError : for a kind of URL that fsspec does not know
    ImportError : where the package for it is not installed; the message names it
    """
    try:
        files, path = url_to_fs(os.path.expanduser(url))
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from None
    return files, path.rstrip("/") or "/"


def is_local(files: Any) -> bool:
    return isinstance(files, LocalFileSystem)


def inside(name: str) -> str:
    """A relative path that stays where it is put; anything else is refused.

    >>> inside("2024/part-0.parquet")
    '2024/part-0.parquet'
    >>> inside("../part-0.parquet")
    Traceback (most recent call last):
    ValueError: the name '../part-0.parquet' leaves its folder
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ValueError(f"the name {name!r} leaves its folder")
    return str(path)


@contextmanager
def placed(files: Any, path: str) -> Iterator[Path]:
    """A local file to write, which stands at `path` once the block has ended well: renamed, or put there in one go."""
    folder, _, name = path.rpartition("/")
    if is_local(files):
        os.makedirs(folder, exist_ok=True)
        partial = Path(folder) / f".{name}.{uuid.uuid4().hex}.partial"
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch) / name
            files.makedirs(folder, exist_ok=True)
            files.put_file(str(Path(scratch) / name), path)


@contextmanager
def on_disk(files: Any, path: str) -> Iterator[Path]:
    """A file as a local one: itself, or a copy that goes with the block."""
    if is_local(files):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        files.get_file(path, str(copy))
        yield copy


def remove_leftovers(folder: str) -> None:
    """Delete what writers that were killed left under a folder on this machine; elsewhere they leave nothing."""
    for partial in Path(folder).rglob(".*.partial"):
        partial.unlink(missing_ok=True)
