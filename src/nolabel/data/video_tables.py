"""Tables of videos: which there are, where their frames lie, and what a folder holds.

A table of videos has a column ``video``: paths of files or of folders of frames, a row a video; or, beside a column
``image``, what each frame belongs to, a row a frame, ordered by ``frame`` where there is that column and else by ``path``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nolabel.data.cells import cells
from nolabel.data.columns import column_blocks, nested_depth, require_column
from nolabel.data.decoding import Cell
from nolabel.data.fingerprints import column_fingerprint, fingerprint
from nolabel.data.video_cache import Videos
from nolabel.data.video_decoding import MOVING, VIDEOS, frame_files, natural

if TYPE_CHECKING:
    from datasets import Dataset


def holds_videos(table: Dataset) -> bool:
    """Whether a table is one of videos: paths of video files in the column ``video``, or frames of named videos."""
    if "video" not in table.column_names:
        return False
    if "image" in table.column_names:
        return True
    sample = [value for value in table[:100]["video"] if value is not None]
    return bool(sample) and all(isinstance(v, str) and (v.lower().endswith(MOVING) or os.path.isdir(v)) for v in sample)


def video_columns(videos: Sequence[np.ndarray]) -> dict[str, Any]:
    """Columns ``video``, ``frame`` and ``image``, a row a frame, of videos (t, h, w, 3).

    Raises
    ------
    ValueError
        For a video of another shape or of values out of range, with its position.

    >>> video_columns([np.zeros((2, 8, 8, 3), np.uint8), np.zeros((3, 8, 8, 3), np.uint8)])["video"]
    [0, 0, 1, 1, 1]
    """
    from nolabel.data.arrays import uint8_images

    arrays = []
    for number, video in enumerate(videos):
        if video.ndim != 4 or video.shape[3] != 3 or not video.size:
            raise ValueError(f"video {number}: expected frames (t, h, w, 3), got {video.shape}")
        arrays.append(uint8_images(video, f"video {number}"))
    alike = len({array.shape[1:] for array in arrays}) == 1
    images = np.concatenate(arrays) if alike else [frame for array in arrays for frame in array]
    return {
        "video": [number for number, array in enumerate(arrays) for _ in array],
        "frame": [frame for array in arrays for frame in range(len(array))],
        "image": images,
    }


def list_videos(table: Dataset) -> Videos:
    """The videos of a table, in the order in which they first appear in it."""
    require_column(table, "video")
    values = table["video"][:]
    for row, value in enumerate(values):
        if value is None:
            raise ValueError(f"video: no value in row {row}; drop the rows without a video")
        if not isinstance(value, (str, int)):
            raise TypeError(f"video: expected paths or names, got {type(value).__name__} in row {row}")
    if "image" in table.column_names:
        return _of_frames(table, [str(value) for value in values])
    if not all(isinstance(value, str) for value in values):
        raise TypeError("video: expected paths of video files, got numbers and no column 'image' of frames")
    files = [os.path.abspath(os.path.expanduser(path)) for path in values]
    rows = np.arange(len(files))
    return Videos(files, files.__getitem__, rows, True, None, fingerprint([_mark(file) for file in files]))


def _mark(path: str) -> Any:
    """What tells a file, or a folder of frames, from an older one of the same name."""
    try:
        if os.path.isdir(path):
            return [path, [_mark(file) for file in frame_files(path)]]
        status = os.stat(path)
    except OSError:
        return [path, "missing"]
    return [path, status.st_size, status.st_mtime_ns]


def _of_frames(table: Dataset, names: list[str]) -> Videos:
    from nolabel.data.modalities import holds_images

    if not holds_images(table, "image"):
        raise TypeError("image: beside a column 'video', expected the frames as images")
    first: dict[str, int] = {}
    of = np.array([first.setdefault(name, len(first)) for name in names])  # number of the video of each row
    if "frame" in table.column_names:
        place = np.asarray(table["frame"][:])
        if place.dtype.kind not in "iuf":
            raise TypeError(f"frame: expected numbers, got {table.features['frame']}")
    else:
        paths = table["path"][:] if "path" in table.column_names else [""] * len(of)
        keys = [natural(path or "") for path in paths]
        place = np.empty(len(of), np.int64)
        place[sorted(range(len(of)), key=keys.__getitem__)] = np.arange(len(of))
    order = np.lexsort((np.arange(len(of)), place, of))
    ends = np.cumsum(np.bincount(of))
    starts = ends - np.bincount(of)

    def frames(position: int) -> Iterator[Cell]:
        for block in column_blocks(table.select(order[starts[position] : ends[position]]), "image", 32):
            yield from cells(block)

    pixels = bool(nested_depth(table.data.schema.field("image").type))
    content = fingerprint([column_fingerprint(table, "image"), order, ends, list(first)])
    middle = order[starts + (ends - starts) // 2]
    return Videos(list(first), frames, middle, False, len(order) if pixels else None, content)


def videos_in_folder(files: Sequence[str], others: Mapping[str, int], root: Path) -> tuple[str, ...]:
    """Endings of the videos of a folder, if videos are what it holds: more of them than images, or images that move.

    `files` are the images below `root`, relative; `others` counts the endings of all other files.
    """
    moving = [name for name in files if name.lower().endswith(".gif")]
    videos = sum(others[ending] for ending in VIDEOS)
    if videos > len(files) - len(moving):
        return MOVING
    if not videos and len(moving) == len(files) and files:
        from PIL import Image

        seen = 0
        for name in moving[:8]:
            try:
                with Image.open(root / name) as image:
                    seen += getattr(image, "is_animated", False)
            except OSError:
                continue
        if 2 * seen > min(len(moving), 8):
            return MOVING
    return ()
