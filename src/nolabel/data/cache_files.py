"""The files of an image cache: decoded in order, in threads, committed last, resumed after an interruption."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from nolabel.data.cells import cells
from nolabel.data.columns import column_blocks
from nolabel.data.decoding import Cell, UnreadableImage, decode
from nolabel.data.image_cache import ImageCache
from nolabel.data.locks import exclusive
from nolabel.data.replacing import naming, replace_text
from nolabel.data.sources import NothingUsable, Skipped

if TYPE_CHECKING:
    from datasets import Dataset

_log = logging.getLogger(__name__)
_BLOCK = 32  # images decoded by one task
_CHECKPOINT = 32 * 2**20  # bytes between two checkpoints
Progress = Callable[[int, int], None]


@dataclass
class _State:
    """How far a decode has come: rows looked at, and those of them that were skipped."""

    done: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def as_json(self) -> str:
        return json.dumps({"done": self.done, "skipped": [astuple(skip) for skip in self.skipped]})

    @classmethod
    def from_json(cls, text: str) -> _State:
        content = json.loads(text)
        return cls(int(content["done"]), [Skipped(*skip) for skip in content["skipped"]])


@dataclass(frozen=True)
class CacheFiles:
    """A folder: ``pixels.u8`` and, written last, ``cache.json``; before that ``pixels.part`` and ``progress.json``."""

    folder: Path
    size: int
    channels: int
    fingerprint: str

    @property
    def _stride(self) -> int:
        return self.channels * self.size**2

    def open_or_decode(self, table: Dataset, column: str, progress: Progress | None) -> ImageCache:
        """Open the finished cache; make it first if need be."""
        cache = self._open(len(table))
        if cache is not None:
            return cache
        self.folder.mkdir(parents=True, exist_ok=True)
        with naming(self.folder), exclusive(self.folder / "lock", str(self.folder), wait=True):
            cache = self._open(len(table))  # perhaps another process has made it meanwhile
            if cache is not None:
                return cache
            self._decode(table, column, progress)
            cache = self._open(len(table))
            assert cache is not None
            return cache

    def _open(self, total: int) -> ImageCache | None:
        """The finished cache; None where there is none or it cannot be trusted."""
        try:
            state = _State.from_json((self.folder / "cache.json").read_text(encoding="utf-8"))
            length = os.path.getsize(self.folder / "pixels.u8")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("decoding again: %s is damaged (%s)", self.folder / "cache.json", error)
            return None
        rows = np.setdiff1d(np.arange(total), [skip.row for skip in state.skipped], assume_unique=True)
        if state.done != total or length != len(rows) * self._stride:
            _log.warning("decoding again: %s is not whole", self.folder / "pixels.u8")
            return None
        if any(skip.reason == "permission denied" and os.access(skip.path or "", os.R_OK) for skip in state.skipped):
            _log.info("decoding again: files that could not be read can be now")
            return None
        return ImageCache(
            self.folder / "pixels.u8",
            rows=rows,
            channels=self.channels,
            size=self.size,
            fingerprint=self.fingerprint,
            skipped=state.skipped,
        )

    def _checkpoint(self) -> _State:
        """Where an interrupted decode may go on."""
        try:
            state = _State.from_json((self.folder / "progress.json").read_text(encoding="utf-8"))
            length = os.path.getsize(self.folder / "pixels.part")
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return _State()
        return state if length >= (state.done - len(state.skipped)) * self._stride else _State()

    def _decode(self, table: Dataset, column: str, progress: Progress | None) -> None:
        """Decode what is not decoded yet, then put the files under their final names, the description last."""
        for stale in ("cache.json", "pixels.u8"):
            (self.folder / stale).unlink(missing_ok=True)
        state, total = self._checkpoint(), len(table)
        written = (state.done - len(state.skipped)) * self._stride
        needed, free = (total - state.done) * self._stride, shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(
                f"the decoded images need {needed / 1e9:.1f} GB in {self.folder}, which has {free / 1e9:.1f} GB; "
                "set NOLABEL_CACHE to another place"
            )
        with (
            open(self.folder / "pixels.part", "ab") as file,
            warnings.catch_warnings(),
            contextlib.closing(self._decoded_blocks(table, column, state.done)) as blocks,
        ):
            warnings.filterwarnings("ignore", module=r"PIL\.")  # doubts about a file that was decoded all the same
            file.truncate(written)
            saved = written
            for pixels, skipped, count in blocks:
                file.write(pixels.data)
                written += pixels.nbytes
                state.skipped += skipped
                state.done += count
                if written - saved >= _CHECKPOINT:
                    self._save(file, state)
                    saved = written
                if progress is not None:
                    progress(state.done, total)
            self._save(file, state)
        if not written:
            for name in ("pixels.part", "progress.json"):
                (self.folder / name).unlink()
            reasons = "; ".join(str(skip) for skip in state.skipped[:3])
            why = f"column: none of {total} images in {column!r} can be decoded: {reasons}"
            raise NothingUsable(why, state.skipped)
        os.replace(self.folder / "pixels.part", self.folder / "pixels.u8")
        os.replace(self.folder / "progress.json", self.folder / "cache.json")

    def _save(self, file: IO[bytes], state: _State) -> None:
        """Note how far the decode has come, once its pixels are on the disk."""
        file.flush()
        os.fsync(file.fileno())
        replace_text(self.folder / "progress.json", state.as_json())

    def _decoded_blocks(
        self, table: Dataset, column: str, start: int
    ) -> Generator[tuple[np.ndarray, list[Skipped], int]]:
        """Decode the rows from ``start`` on in threads (the decoders release the interpreter); blocks come in order.

        Only a few blocks are under way at a time, so memory does not grow with the table.
        """
        workers = min(16, os.cpu_count() or 1)
        waiting: deque[Future[tuple[np.ndarray, list[Skipped], int]]] = deque()
        rest = table.select(range(start, len(table)))
        with ThreadPoolExecutor(workers, "nolabel-decode") as pool:
            try:
                for block in column_blocks(rest, column, _BLOCK):
                    waiting.append(pool.submit(self._decode_block, cells(block), start))
                    start += len(block)
                    if len(waiting) > 2 * workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _decode_block(self, block: list[Cell], start: int) -> tuple[np.ndarray, list[Skipped], int]:
        """Pixels of the readable images of a block (k, c, h, w), the others and why, and the number of rows."""
        pixels = np.empty((len(block), self.channels, self.size, self.size), np.uint8)
        skipped: list[Skipped] = []
        for row, cell in enumerate(block, start):
            try:
                pixels[row - start - len(skipped)] = decode(cell, self.size, self.channels)
            except UnreadableImage as error:
                skipped.append(Skipped(row, cell if isinstance(cell, str) else None, str(error)))
        return pixels[: len(block) - len(skipped)], skipped, len(block)
