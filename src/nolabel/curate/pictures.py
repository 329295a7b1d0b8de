"""What a filter has to know of images: which are the same, how large they are, which look alike.

Two images look alike if their 64-bit perceptual hashes differ in few bits. The hash is of the grey image at 32 x 32: the
signs of its 8 x 8 lowest cosine coefficients after their median, without that of the mean, is taken away. It survives
resizing, recompression and changes of brightness; it does not survive mirroring or strong crops. An image without any
structure has no hash.
"""

from typing import Any

import numpy as np
import xxhash
from scipy.fft import dctn

from nolabel.data.columns import column_blocks
from nolabel.data.decoding import UnreadableImage, decode, open_image

#: Standard deviation of grey values below which an image is flat.
FLAT = 2.0


def image_cells(table: Any) -> list[Any]:
    """The images of a table, encoded, as paths or as pixels."""
    from nolabel.data.cells import cells

    return [cell for block in column_blocks(table, "image") for cell in cells(block)]


def content_key(cell: Any) -> int | None:
    """A number, int64, for what an image holds, byte by byte; None where there is none."""
    if isinstance(cell, str):
        try:
            with open(cell, "rb") as file:
                cell = file.read()
        except OSError:
            return None
    if cell is None or not len(cell):
        return None
    held = np.ascontiguousarray(cell).tobytes() + str(cell.shape).encode() if isinstance(cell, np.ndarray) else cell
    return int(np.uint64(xxhash.xxh3_64_intdigest(held)).view(np.int64))


def size_of(cell: Any) -> tuple[int, int] | str:
    """Width and height of an image from its header, or why it cannot be read."""
    try:
        with open_image(cell) as image:
            return image.size
    except UnreadableImage as error:
        return str(error)
    except Exception as error:  # damaged headers make the decoders raise nearly anything
        return f"damaged ({type(error).__name__})"


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """Packed hashes, uint8 (n, 8), of grey images, uint8 (n, 32, 32).

    >>> ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (1, 32, 1))
    >>> bool((perceptual_hash(ramp) == perceptual_hash(ramp // 2 + 20)).mean() > 0.9)
    True
    """
    low = dctn(pixels.astype(np.float64), axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(pixels), 64)
    middle = np.median(low[:, 1:], axis=1, keepdims=True)
    low[:, 0] = middle[:, 0]
    return np.packbits(low > middle + FLAT, axis=1)  # what is 0 but for rounding stays so


def hash_of(cell: Any) -> np.ndarray | None:
    """The hash, uint8 (8,), of one image; None where it is flat or cannot be read."""
    try:
        pixels = decode(cell, 32, 1)
    except UnreadableImage:
        return None
    return None if pixels.std() < FLAT else perceptual_hash(pixels)[0]


def nearest_bits(hashes: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Fewest bits in which each hash, uint8 (n, 8), differs from one `among` others, uint8 (m, 8): int64 (n,).

    >>> nearest_bits(np.array([[255] + 7 * [0]], np.uint8), np.array([[254] + 7 * [0]], np.uint8)).tolist()
    [1]
    """
    import faiss

    index = faiss.IndexBinaryFlat(64)
    index.add(np.ascontiguousarray(among))
    distances: np.ndarray = index.search(np.ascontiguousarray(hashes), 1)[0]
    return distances[:, 0].astype(np.int64)
