"""Images side by side under one line of words, as photographers look through a film."""

from collections.abc import Sequence
from typing import Any

import numpy as np

TILE, COLUMNS, GAP, HEAD, LINE = 96, 8, 6, 26, 15


def contact_sheet(title: str, images: np.ndarray, captions: Sequence[str], marked: Sequence[bool] | None = None) -> Any:
    """A Pillow picture of images in rows of eight, each over its caption.

    Parameters
    ----------
    title : words above
    images : uint8 (n, h, w, c), shown with their aspect within 96 x 96
    captions : n short words
    marked : which have a red frame

    Raises
    ------
    ValueError
        No images, or captions or marks of another number.

    Examples
    --------
    >>> contact_sheet("cat: 2 images", np.zeros((2, 8, 8, 3), np.uint8), ["0.91", "0.88"]).size
    (210, 149)
    """
    from PIL import Image, ImageDraw, ImageFont

    marked = [False] * len(images) if marked is None else marked
    if not len(images) == len(captions) == len(marked) > 0:
        raise ValueError(f"captions and marked: expected one for each of {len(images)} images, at least 1")
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    large, small = ImageFont.load_default(14), ImageFont.load_default(11)
    width = max(columns * (TILE + GAP) + GAP, round(large.getlength(title)) + 2 * GAP)
    sheet = Image.new("RGB", (width, HEAD + rows * (TILE + LINE + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, fill="black", font=large)
    for number, (pixels, caption, mark) in enumerate(zip(images, captions, marked, strict=True)):
        x = GAP + number % columns * (TILE + GAP)
        y = HEAD + number // columns * (TILE + LINE + GAP) + GAP
        tile = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
        wide, high = (max(1, round(side * TILE / max(tile.size))) for side in tile.size)
        tile = tile.resize((wide, high), Image.Resampling.BICUBIC)
        sheet.paste(tile, (x + (TILE - tile.width) // 2, y + (TILE - tile.height) // 2))
        if mark:
            draw.rectangle((x - 2, y - 2, x + TILE + 1, y + TILE + 1), outline="red", width=2)
        draw.text((x, y + TILE + 1), caption, fill="red" if mark else "#555555", font=small)
    return sheet
