"""What kind of data a table holds, from the types and the content of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.types as kinds

from nolabel.data.columns import column_blocks, holds_encoded_images, nested_depth, value_type
from nolabel.data.decoding import ENDINGS

if TYPE_CHECKING:
    from datasets import Dataset

_MAGIC = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"qoif", b"\0\0\1\0"),
    *(b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "),
)
_SAMPLE = 100


def is_image(data: bytes) -> bool:
    """Whether encoded bytes begin as a known image format does."""
    boxed = (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or data[4:12] in (b"ftypavif", b"ftypavis")
    return boxed or data.startswith(_MAGIC)


def _first_rows(table: Dataset, column: str) -> list[Any]:
    block = next(column_blocks(table, column, rows=_SAMPLE), None)
    return [] if block is None else [value for value in block.to_pylist() if value is not None]


def holds_image_bytes(table: Dataset, column: str) -> bool:
    """Whether a binary column holds encoded images: most of its first rows begin as one."""
    kind = table.data.schema.field(column).type
    if not (kinds.is_binary(kind) or kinds.is_large_binary(kind)):
        return False
    values = _first_rows(table, column)
    return bool(values) and 2 * sum(is_image(value) for value in values) > len(values)


def holds_images(table: Dataset, column: str) -> bool:
    """Whether a column holds images: encoded, or arrays (h, w) or (h, w, c) of a fixed size."""
    kind = table.data.schema.field(column).type
    array = isinstance(kind, pa.ExtensionType) and nested_depth(kind) in (2, 3)
    pixels = array and (kinds.is_integer(value_type(kind)) or kinds.is_floating(value_type(kind)))
    return pixels or holds_encoded_images(kind) or holds_image_bytes(table, column)


def holds_texts(table: Dataset, column: str) -> bool:
    """Whether a column holds texts (or lists of texts): strings of three words and more, not names or labels.

    A column called ``text`` counts whatever the length of its strings.
    """
    kind = value_type(table.data.schema.field(column).type)
    if not (kinds.is_string(kind) or kinds.is_large_string(kind)):
        return False
    if column == "text":
        return True
    values = _first_rows(table, column)
    texts = [" ".join(value) if isinstance(value, list) else value for value in values]
    wordy = [text for text in texts if len(text.split()) >= 3 and not text.lower().endswith(ENDINGS)]
    return 2 * len(wordy) > min(_SAMPLE, len(table))


def modality(source: Any) -> str:
    """Say what a source holds: ``image``, ``video``, ``text``, ``image-text`` or ``table`` (anything else).

    Parameters
    ----------
    source : whatever ``nolabel.data.read`` takes

    Examples
    --------
    >>> modality(["a cat sat on a mat", "the dog of the house"])
    'text'
    """
    from nolabel.data.reading import read
    from nolabel.data.video_tables import holds_videos

    table = read(source)
    if holds_videos(table):
        return "video"
    images = any(holds_images(table, name) for name in table.column_names)
    texts = any(holds_texts(table, name) for name in table.column_names)
    return {(True, True): "image-text", (True, False): "image", (False, True): "text"}.get((images, texts), "table")
