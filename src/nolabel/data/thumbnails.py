"""Small pictures of images and videos, as an index keeps them."""

import io
from typing import Any

import numpy as np
from PIL import Image

SIDE = 96
FRAMES, FRAME_SIDE = 5, 48  # of a video, side by side


def jpeg(pixels: np.ndarray, side: int = SIDE) -> bytes:
    """A JPEG of uint8 pixels (h, w, c), its longer side at most `side`.

    >>> jpeg(np.zeros((8, 8, 1), np.uint8))[:3]
    b'\\xff\\xd8\\xff'
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def strips(source: Any, positions: Any) -> list[bytes]:
    """Some frames of each video of a source side by side."""
    return [jpeg(np.concatenate([*source.strip(int(at), FRAMES)], axis=1), FRAMES * FRAME_SIDE) for at in positions]
