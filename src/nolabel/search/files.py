"""Where an index lies on disk, who may write it, and how a folder of derived files appears in one step."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nolabel.data.replacing import naming

T = TypeVar("T")

SAMPLES, SAMPLE_BYTES = 64, 4096
TEMPORARY = ".temporary-"


def locate(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """Folder and table name of an index: `runs/x` holds `index.lance`, `runs/x/texts.lance` is named itself."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path: expected a string or a path, got {type(path).__name__}")
    if "://" in str(path):
        raise ValueError(f"path: an index lies in a local folder, got {str(path)!r}")
    given = Path(path).expanduser().absolute()
    folder, name = (given.parent, given.stem) if given.suffix == ".lance" else (given, "index")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ValueError(f"path: a table's name is made of letters, digits, '_', '-' and '.', got {name!r}")
    return folder, name


def when_free(write: Callable[[], T], patience: float = 30.0) -> T:
    """What `write` returns, tried again while another process writes the index; BlockingIOError after `patience` seconds."""
    begun = time.monotonic()
    while True:
        try:
            return write()
        except BlockingIOError:
            if time.monotonic() - begun > patience:
                raise
            time.sleep(0.05)


@contextmanager
def publishing(final: Path) -> Iterator[Path]:
    """Hand out an empty temporary folder that becomes `final` in one rename when the block ends well.

    The caller holds the lock of the parent folder: what else is temporary there was left by a killed process.
    """
    for left in final.parent.glob(f"{TEMPORARY}*"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = final.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        with naming(final):
            yield temporary
        for file in temporary.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        if final.exists():  # damaged, else the caller would have used it
            os.replace(final, final.parent / f"{TEMPORARY}{uuid.uuid4().hex}")
        os.replace(temporary, final)
    finally:
        for left in final.parent.glob(f"{TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)


def allocated(path: Path, kind: Any, shape: tuple[int, ...]) -> np.memmap:
    """A mapped array in a new file whose room is taken at once: a full disk is an OSError here, not a dead process later."""
    array: np.memmap = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    with naming(path), path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def checksum(file: Path) -> str:
    """Size and hash of 64 blocks spread over the file: finds torn and foreign files without reading gigabytes."""
    size = file.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    step = max((size - SAMPLE_BYTES) // (SAMPLES - 1), SAMPLE_BYTES)
    with file.open("rb") as stream:
        for start in range(0, size, step):
            stream.seek(start)
            digest.update(stream.read(SAMPLE_BYTES))
    return f"{size}-{digest.hexdigest()}"


def seal(folder: Path, notes: dict[str, Any]) -> None:
    """Write `structure.json`: the notes and a checksum of every file that is there."""
    files = {file.name: checksum(file) for file in sorted(folder.iterdir())}
    (folder / "structure.json").write_text(json.dumps({**notes, "files": files}, indent=1))


def sealed(folder: Path, number: int) -> dict[str, Any]:
    """The notes of a sealed folder of format `number`; OSError or ValueError says what is wrong with it."""
    notes: dict[str, Any] = json.loads((folder / "structure.json").read_text())
    if notes["format"] != number:
        raise ValueError(f"structure format {notes['format']}, this version reads {number}")
    for name, expected in notes["files"].items():
        if checksum(folder / Path(name).name) != expected:
            raise ValueError(f"{name} is damaged")
    return notes
