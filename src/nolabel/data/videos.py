"""Videos as sources of clips: decoded once into a cache of small frames, then cut at any frame."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nolabel.data.caching import cache_root
from nolabel.data.fingerprints import fingerprint
from nolabel.data.sources import NothingUsable, Skipped, checked_rows
from nolabel.data.video_cache import VideoCache, VideoFiles, Videos, in_memory
from nolabel.data.video_decoding import VERSION
from nolabel.data.video_tables import list_videos

if TYPE_CHECKING:
    from datasets import Dataset

SHORT = ("skip", "loop", "error")


def open_videos(
    table: Dataset,
    *,
    size: int = 48,
    frames: int = 1,
    clips: int = 1,
    short: str = "skip",
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VideoSource:
    """Decode all videos of a table once, or open what was decoded before.

    Parameters
    ----------
    table : datasets.Dataset, as ``nolabel.data.read`` gives it, with a column ``video``
    size : side of the square frames that are kept, in pixels
    frames, clips : frames of a clip, and how many clips of a video a batch holds
    short : what to do with videos that are too short for one clip: ``skip`` leaves them out, ``loop`` begins them again,
        ``error`` refuses them
    folder : where caches are kept; by default ``$NOLABEL_CACHE/videos`` or ``~/.cache/nolabel/videos``
    progress : called with the number of videos done and their total

    Returns
    -------
    VideoSource
        Without the videos that are too short or cannot be decoded (frames of different sizes in one video among them):
        they are counted in one warning and listed in ``skipped``.

    Raises
    ------
    ValueError
        If no video can be used, one is too short and `short` is ``error``, the column is missing or empty, or an argument
        is out of range.
    TypeError
        If the column holds neither paths nor, beside ``image``, names.
    ImportError
        For video files where PyAV is not installed.

    Examples
    --------
    >>> from nolabel.data import read
    >>> table = read([np.zeros((20, 8, 8, 3), np.uint8), np.zeros((30, 8, 8, 3), np.uint8)])
    >>> open_videos(table, size=8, frames=16, clips=2).batch([1])["video"].shape
    torch.Size([1, 2, 16, 3, 8, 8])
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 8 <= size <= 1024:
        raise ValueError(f"size: expected an integer from 8 to 1024, got {size!r}")
    listed = list_videos(table)
    name = fingerprint([listed.fingerprint, int(size), VERSION])
    cache = in_memory(listed, size, name)
    if cache is None:
        place = _cache_folder(folder) / listed.fingerprint / f"{size}-{VERSION}"
        files = VideoFiles(place, size=size, channels=3, fingerprint=name)
        opened: Any = files.open_or_decode(listed, "video", progress)
        cache = opened
    source = VideoSource(cache, listed, frames=frames, clips=clips, short=short)
    if source.skipped:
        left = f"{len(source.skipped)} of {len(listed)} videos were skipped, first {source.skipped[0]}"
        warnings.warn(left, stacklevel=2)
    return source


def _cache_folder(folder: str | os.PathLike[str] | None) -> Path:
    if folder is not None:
        return Path(folder).expanduser()
    return cache_root() / "videos"


class VideoSource:
    """Videos as rows, of each of which a batch holds some clips, evenly spread over it.

    Attributes
    ----------
    rows : int64 (n,), the row of the table that stands for each video: its middle frame where a row is a frame
    names : what each is called; lengths : its frames, int64 (n,); seconds : how long it lasts, NaN where nothing says so
    skipped : videos that are not here, and why
    size : side of the frames in pixels
    frames, clips : frames of a clip, clips of a video
    fingerprint : hash of the videos and the size
    """

    def __init__(
        self, cache: VideoCache, videos: Videos, *, frames: int = 1, clips: int = 1, short: str = "skip"
    ) -> None:
        for name, value in (("frames", frames), ("clips", clips)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if short not in SHORT:
            raise ValueError(f"short must be one of {', '.join(SHORT)}, got {short!r}")
        self.cache, self.videos, self.frames, self.clips, self.short = cache, videos, frames, clips, short
        self.size, self.channels, self.fingerprint = cache.size, 3, cache.fingerprint
        brief = np.flatnonzero(cache.lengths < frames)
        if len(brief) and short == "error":
            at = int(cache.kept[brief[0]])
            came = f"video {at} ({videos.names[at]}) has {cache.lengths[brief[0]]} frames"
            raise ValueError(f"{came}, a clip needs {frames}: leave it out, or choose short='loop' or short='skip'")
        self.skipped: list[Skipped] = list(cache.skipped)
        if short == "skip":
            few = [(int(cache.kept[i]), f"{cache.lengths[i]} frames, fewer than {frames}") for i in brief]
            self.skipped = sorted([*self.skipped, *(videos.skip(*one) for one in few)], key=lambda skip: skip.row)
            self._at = np.setdiff1d(np.arange(len(cache.lengths)), brief)
        else:
            self._at = np.arange(len(cache.lengths))
        if not len(self._at):
            reasons = "; ".join(str(skip) for skip in self.skipped[:3])
            raise NothingUsable(f"video: none of {len(videos)} videos can be used: {reasons}", self.skipped)
        kept = cache.kept[self._at]
        self.rows, self.lengths = videos.rows[kept], cache.lengths[self._at]
        self.names = [videos.names[i] for i in kept]
        rates = np.array([cache.rates[i] or np.nan for i in self._at])
        self.seconds = self.lengths / rates

    def __len__(self) -> int:
        return len(self._at)

    def __repr__(self) -> str:
        total = f"{len(self)} videos, {int(self.lengths.sum())} frames of 3 x {self.size} x {self.size}"
        return f"VideoSource({total}, {len(self.skipped)} skipped)"

    def latest(self) -> np.ndarray:
        """The last frame of each video at which a clip can begin, int64 (n,)."""
        return np.maximum(self.lengths - self.frames, 0)

    def cut(self, rows: np.ndarray, starts: np.ndarray) -> Any:
        """Clips that begin at given frames (b, c): uint8 tensor (b, c, frames, 3, size, size)."""
        import torch

        return torch.from_numpy(self.cache.clips(self._at[rows], starts, self.frames))

    def batch(self, rows: np.ndarray | Sequence[int]) -> dict[str, Any]:
        """``video``: uint8 (b, clips, frames, 3, size, size), the middles of the clips evenly spread; ``row``: (b,)."""
        import torch

        index = checked_rows(rows, len(self))
        share = (np.arange(self.clips) + 0.5) / self.clips
        starts = np.rint(self.latest()[index][:, None] * share).astype(np.int64)  # (b, clips)
        return {"video": self.cut(index, starts), "row": torch.from_numpy(index)}

    def images(self, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        """The middle frame of each video to look at: uint8 (b, size, size, 3)."""
        index = checked_rows(rows, len(self))
        return self.cache.images(self.cache.first[self._at[index]] + self.lengths[index] // 2)

    def strip(self, row: int, frames: int = 4) -> np.ndarray:
        """Frames of one video to look at, evenly spread: uint8 (frames, size, size, 3)."""
        share = (np.arange(frames) + 0.5) / frames
        at = (self.lengths[row] * share).astype(np.int64)
        return self.cache.images(self.cache.first[self._at[row]] + at)


class ClipSource:
    """The places of videos at which a clip can be cut, side by side: what a learner sees in one epoch.

    A row is a place; a video of n frames has as many as whole clips fit into it, and at least one. A batch by row number
    holds the clip at each place and the one half a video away; by row number and starts (b, 1 + c), as `draw` gives them, the
    c clips that begin there, anywhere in the video.

    A batch is ``{"video": uint8 (b, c, frames, 3, size, size), "number": int64 (b,), "row": int64 (b,)}``; ``number`` says
    which video.

    >>> from nolabel.data import read
    >>> table = read([np.zeros((20, 8, 8, 3), np.uint8), np.zeros((32, 8, 8, 3), np.uint8)])
    >>> clips = ClipSource(open_videos(table, size=8, frames=16))
    >>> len(clips), clips.batch(clips.draw(np.random.default_rng(0), 2))["number"].tolist()
    (3, [0, 1, 1])
    """

    def __init__(self, videos: VideoSource) -> None:
        self.videos, self.skipped = videos, videos.skipped
        places = np.maximum(videos.lengths // videos.frames, 1)
        self.number = np.repeat(np.arange(len(videos)), places)
        self._place = (np.arange(len(self.number)) - np.repeat(np.cumsum(places) - places, places)) * videos.frames
        self._latest = videos.latest()[self.number]
        self.fingerprint = f"{videos.fingerprint}[clips of {videos.frames}, {videos.short}]"

    def __len__(self) -> int:
        return len(self.number)

    def __repr__(self) -> str:
        return f"ClipSource({len(self)} clips of {self.videos.frames} frames, {len(self.videos)} videos)"

    def draw(self, rng: np.random.Generator, clips: int) -> np.ndarray:
        """Row numbers, and where `clips` clips of the row's video begin, independently: int64 (n, 1 + clips)."""
        starts = rng.integers(0, self._latest[:, None] + 1, (len(self), clips))
        return np.column_stack([np.arange(len(self)), starts])

    def batch(self, rows: np.ndarray | Sequence[int]) -> dict[str, Any]:
        """See the class."""
        import torch

        rows = np.asarray(rows)
        index = checked_rows(rows[:, 0] if rows.ndim == 2 else rows, len(self))
        number = self.number[index]
        if rows.ndim == 2:
            starts = rows[:, 1:]
        else:
            here, latest = np.minimum(self._place[index], self._latest[index]), self._latest[index]
            starts = np.column_stack([here, (here + (latest + 1) // 2) % (latest + 1)])
        return {
            "video": self.videos.cut(number, starts),
            "number": torch.from_numpy(number),
            "row": torch.from_numpy(index),
        }
