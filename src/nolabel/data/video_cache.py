"""Decoded videos in one raw file: all frames on end, and how many belong to each video.

Written video by video and committed last; an interrupted decoding goes on with the video it was cut off in.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.data.cache_files import CacheFiles, Progress
from nolabel.data.image_cache import IN_MEMORY, ImageCache
from nolabel.data.replacing import replace_text
from nolabel.data.sources import NothingUsable, Skipped
from nolabel.data.video_decoding import UnreadableVideo, Video, decode_video

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Videos:
    """Videos that are not decoded yet.

    Attributes
    ----------
    names : what each is called: its path, or its value of the column ``video``
    video : position -> what `decode_video` takes
    rows : int64 (n,), the row of the table that stands for each, its middle frame where a row is a frame
    paths : whether the names are paths
    frames : frames in all where they are pixels already, else None
    fingerprint : hash of the content
    """

    names: list[str]
    video: Callable[[int], Video]
    rows: np.ndarray
    paths: bool
    frames: int | None
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    def skip(self, position: int, reason: str) -> Skipped:
        name = self.names[position]
        return Skipped(int(self.rows[position]), name if self.paths else None, reason)


@dataclass
class Decoded:
    """How far a decoding has come: videos looked at, frames and rate of those that are there, the others and why."""

    done: int = 0
    lengths: list[int] = field(default_factory=list)
    rates: list[float | None] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)  # positions of the videos that are there
    skipped: list[Skipped] = field(default_factory=list)

    def as_json(self) -> str:
        return json.dumps({**vars(self), "skipped": [astuple(skip) for skip in self.skipped]})

    @classmethod
    def from_json(cls, text: str) -> Decoded:
        content = json.loads(text)
        return cls(**{**content, "skipped": [Skipped(*skip) for skip in content["skipped"]]})


class VideoCache(ImageCache):
    """Decoded videos of one size: an `ImageCache` of all their frames on end.

    Attributes
    ----------
    lengths : int64 (n,), frames of each video
    first : int64 (n,), where its first frame lies
    kept : int64 (n,), its position among the videos that were to be decoded
    rates : frames a second of each, None where nothing says so
    skipped : videos that could not be decoded, and why
    """

    def __init__(self, pixels: np.ndarray | Path, decoded: Decoded, *, size: int, fingerprint: str) -> None:
        self.lengths, self.rates = np.array(decoded.lengths, np.int64), decoded.rates
        self.first = np.cumsum(self.lengths) - self.lengths
        self.kept = np.array(decoded.kept, np.int64)
        rows = np.arange(int(self.lengths.sum()))
        super().__init__(
            pixels, rows=rows, channels=3, size=size, fingerprint=fingerprint, skipped=list(decoded.skipped)
        )

    def clips(self, videos: np.ndarray, starts: np.ndarray, frames: int) -> np.ndarray:
        """Consecutive frames of videos, uint8 (b, c, frames, 3, size, size); a video that ends begins again.

        Parameters
        ----------
        videos : (b,), positions
        starts : (b, c), the frame at which each clip begins
        """
        at = (starts[:, :, None] + np.arange(frames)) % self.lengths[videos][:, None, None]  # (b, c, frames)
        index = self.first[videos][:, None, None] + at
        return self._read(index.reshape(-1)).reshape(*index.shape, 3, self.size, self.size)


def decode_all(
    videos: Videos, size: int, decoded: Decoded, write: Callable[[np.ndarray], Any], forget: Callable[[int], Any]
) -> Iterator[None]:
    """Decode the videos that `decoded` lacks: frames to `write`; of a video that fails, `forget` so many. Yields after each."""
    for position in range(decoded.done, len(videos)):
        count = 0

        def keep(pixels: np.ndarray) -> None:
            nonlocal count
            write(pixels)
            count += 1

        try:
            rate = decode_video(videos.video(position), size, keep)
        except UnreadableVideo as error:
            forget(count)
            decoded.skipped.append(videos.skip(position, str(error)))
        else:
            decoded.lengths.append(count)
            decoded.rates.append(rate)
            decoded.kept.append(position)
        decoded.done = position + 1
        yield


def require_any(decoded: Decoded) -> None:
    """Raise `NothingUsable` if no video could be decoded."""
    if not decoded.lengths:
        reasons = "; ".join(str(skip) for skip in decoded.skipped[:3])
        raise NothingUsable(f"video: none of {decoded.done} videos can be decoded: {reasons}", decoded.skipped)


def in_memory(videos: Videos, size: int, fingerprint: str) -> VideoCache | None:
    """Small videos that are pixels already need no file."""
    if videos.frames is None or videos.frames * 3 * size**2 > IN_MEMORY:
        return None
    pixels, decoded = np.empty((videos.frames, 3, size, size), np.uint8), Decoded()
    end = 0

    def write(frame: np.ndarray) -> None:
        nonlocal end
        pixels[end] = frame
        end += 1

    def forget(count: int) -> None:
        nonlocal end
        end -= count

    for _ in decode_all(videos, size, decoded, write, forget):
        pass
    require_any(decoded)
    return VideoCache(pixels[:end], decoded, size=size, fingerprint=fingerprint)


class VideoFiles(CacheFiles):
    """A folder of an image cache that holds videos: ``pixels.u8``, and ``cache.json`` says how many frames each has."""

    def _open(self, total: int) -> VideoCache | None:
        try:
            decoded = Decoded.from_json((self.folder / "cache.json").read_text(encoding="utf-8"))
            length = os.path.getsize(self.folder / "pixels.u8")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("decoding again: %s is damaged (%s)", self.folder / "cache.json", error)
            return None
        if decoded.done != total or length != sum(decoded.lengths) * self._stride:
            _log.warning("decoding again: %s is not whole", self.folder / "pixels.u8")
            return None
        denied = [skip.path for skip in decoded.skipped if skip.reason == "permission denied"]
        if any(os.access(path or "", os.R_OK) for path in denied):
            _log.info("decoding again: files that could not be read can be now")
            return None
        return VideoCache(self.folder / "pixels.u8", decoded, size=self.size, fingerprint=self.fingerprint)

    def _so_far(self) -> Decoded:
        """Where an interrupted decoding may go on."""
        try:
            decoded = Decoded.from_json((self.folder / "progress.json").read_text(encoding="utf-8"))
            length = os.path.getsize(self.folder / "pixels.part")
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return Decoded()
        return decoded if length >= sum(decoded.lengths) * self._stride else Decoded()

    def _decode(self, table: Any, column: str, progress: Progress | None) -> None:
        """Decode what is not decoded yet; `table` are the `Videos`."""
        for stale in ("cache.json", "pixels.u8"):
            (self.folder / stale).unlink(missing_ok=True)
        decoded = self._so_far()
        end = sum(decoded.lengths) * self._stride  # bytes that stay
        with open(self.folder / "pixels.part", "ab") as file:
            file.truncate(end)

            def write(pixels: np.ndarray) -> None:
                nonlocal end
                if end % 2**26 < self._stride:  # every 64 MB
                    self._require_room()
                file.write(np.ascontiguousarray(pixels).data)
                end += self._stride

            def forget(count: int) -> None:
                nonlocal end
                end -= count * self._stride
                file.flush()
                file.truncate(end)  # what is written next goes to the new end

            for _ in decode_all(table, self.size, decoded, write, forget):
                file.flush()
                os.fsync(file.fileno())
                replace_text(self.folder / "progress.json", decoded.as_json())
                if progress is not None:
                    progress(decoded.done, len(table))
        if not decoded.lengths:
            for name in ("pixels.part", "progress.json"):
                (self.folder / name).unlink()
            require_any(decoded)
        os.replace(self.folder / "pixels.part", self.folder / "pixels.u8")
        os.replace(self.folder / "progress.json", self.folder / "cache.json")

    def _require_room(self) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < 2**27:
            raise OSError(
                f"the decoded videos fill the disk under {self.folder}, which has {free / 1e6:.0f} MB left; "
                "set NOLABEL_CACHE to another place"
            )
