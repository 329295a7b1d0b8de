"""One video to small square frames of uint8 pixels, one frame at a time, so that no video is in memory whole.

Files go through PyAV (FFmpeg's decoders), moving .gif files, folders and lists of images through Pillow; what follows is
the same for all: short side resized, centre square kept, as for images. The frames come as they were recorded, whatever
their rate. Both speeds of a clip are later cut out of these same frames, so that no trace of a codec tells them apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from nolabel.data.decoding import ENDINGS, Cell, UnreadableImage, decode, open_image, square

VERSION = 1  # part of every cache's name: raise it when the pixels of a frame may come out differently

#: Endings of video files; a .gif is one if it moves.
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
MOVING = (*VIDEOS, ".gif")

Video: TypeAlias = "str | Iterable[Cell]"  # path of a file, path of a folder of frames, or the frames as images
Keep: TypeAlias = Callable[[np.ndarray], None]


class UnreadableVideo(ValueError):
    """Why one video cannot be used."""


def natural(name: str) -> list[Any]:
    """A key that sorts frame 2 before frame 10.

    >>> sorted(["f10.png", "f2.png"], key=natural)
    ['f2.png', 'f10.png']
    """
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def frame_files(folder: str) -> list[str]:
    """The images of a folder of frames, in order; hidden files are passed over."""
    names = [name for name in os.listdir(folder) if name.lower().endswith(ENDINGS) and not name.startswith(".")]
    return [os.path.join(folder, name) for name in sorted(names, key=natural)]


def decode_video(video: Video, size: int, keep: Keep) -> float | None:
    """Hand every frame of a video to `keep`, as uint8 (3, size, size).

    Returns
    -------
    frames a second; None where nothing says so

    Raises
    ------
    UnreadableVideo
        With the reason; some frames may have been handed over before.
    ImportError
        For a video file where PyAV is not installed.
    """
    frames = _frames(video, size)
    while True:  # `keep` stands outside: a disk that is full is no damage of the video
        try:
            pixels = next(frames)
        except StopIteration as end:
            rate: float | None = end.value
            return rate
        keep(pixels)


def _frames(video: Video, size: int) -> Generator[np.ndarray, None, float | None]:
    if not isinstance(video, str):
        yield from _of_images(video, size)
        return None
    try:
        if os.path.isdir(video):
            yield from _of_images(frame_files(video), size)
            return None
        if os.path.exists(video) and not os.path.isfile(video):  # opening a pipe would wait for ever
            raise UnreadableVideo("not a regular file")
        if os.path.getsize(video) == 0:
            raise UnreadableVideo("empty file")
        with open(video, "rb"):
            pass
    except FileNotFoundError:
        raise UnreadableVideo("no such file") from None
    except PermissionError:
        raise UnreadableVideo("permission denied") from None
    return (yield from _of_file(video, size))


def _of_images(images: Iterable[Cell], size: int) -> Generator[np.ndarray, None, None]:
    number, first = -1, None
    for number, cell in enumerate(images):
        try:
            pixels = decode(cell, size, 3)
        except UnreadableImage as error:
            raise UnreadableVideo(f"frame {number}: {error}") from None
        with open_image(cell) as image:
            first = _same(first, image.size, number)
        yield pixels
    if number < 0:
        raise UnreadableVideo("no frames")


def _of_file(path: str, size: int) -> Generator[np.ndarray, None, float | None]:
    number, first, rate = -1, None, None
    shown = _gif(path) if path.lower().endswith(".gif") else _container(path)
    try:
        for number, (image, turns, known) in enumerate(shown):
            rate = known
            first = _same(first, image.size, number)
            pixels = square(image, size, 3)
            yield np.rot90(pixels, turns, axes=(1, 2)) if turns else pixels
    except (UnreadableVideo, ImportError):
        raise
    except Exception as error:  # damaged files make the decoders raise nearly anything
        after = f" after {number + 1} frames" if number >= 0 else ""
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UnreadableVideo(f"damaged{after} ({type(error).__name__}: {reason[:120]})") from error
    if number < 0:
        raise UnreadableVideo("no frames")
    return rate


#: A frame, quarter turns counter-clockwise as the camera was held, frames a second as far as is known by then.
Shown: TypeAlias = tuple[Image.Image, int, float | None]


def _container(path: str) -> Iterator[Shown]:
    try:
        import av
    except ImportError:
        raise ImportError("reading video files needs PyAV: pip install 'nolabel[video]'") from None
    with av.open(path, metadata_errors="ignore") as container:
        if not container.streams.video:
            raise UnreadableVideo(f"no pictures in it, only {_kinds(container)}")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate) if stream.average_rate else None
        for frame in container.decode(stream):
            yield Image.fromarray(frame.to_ndarray(format="rgb24")), round(frame.rotation / 90) % 4, rate


def _gif(path: str) -> Iterator[Shown]:
    """Through Pillow: FFmpeg shows nothing after the first frame where a file tells no durations."""
    seconds = 0.0
    with Image.open(path, formats=["GIF"]) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            seconds += image.info.get("duration", 0) / 1000
            yield image, 0, (number + 1) / seconds if seconds else None


def _same(first: tuple[int, int] | None, size: tuple[int, int], number: int) -> tuple[int, int]:
    """The size of the first frame, which all others must have."""
    if first is not None and size != first:
        came = f"{first[0]} x {first[1]} and, from frame {number}, {size[0]} x {size[1]}"
        raise UnreadableVideo(f"frames of different sizes: {came}")
    return size


def _kinds(container: Any) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"
