"""What the claims of image-text models share: 1,906 concepts, each with a text and drawn by two hands."""

from typing import Any

import numpy as np

from nolabel.data import load
from nolabel.learn.dual_encoder import DualEncoder
from nolabel.ops.neighbours import nearest

ENCODER, TEXT_ENCODER, SIZE = "conv4-growing", "bert-1x96", 32
HANDS = ("image_a", "image_b")


def concepts(seed: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """The table, and which rows are learned from and which are held out."""
    table = load("picto")
    order = np.random.default_rng([seed, 53]).permutation(len(table))
    held = len(table) // 4 + 1
    return table, np.sort(order[held:]), np.sort(order[:held])


def pixels(table: Any, rows: np.ndarray, hand: str) -> np.ndarray:
    """Drawings of one hand, uint8 (n, 3, 32, 32)."""
    from nolabel.data.cells import cells
    from nolabel.data.columns import column_blocks
    from nolabel.data.decoding import decode

    found = [cell for block in column_blocks(table.select(rows), hand) for cell in cells(block)]
    return np.stack([decode(cell, SIZE, 3) for cell in found])


def text_to_image(model: DualEncoder, texts: list[str], images: np.ndarray, k: int = 10) -> float:
    """Share of texts whose own image is among the k nearest, per cent."""
    found = nearest(model.embed_texts(texts), model.embed_images(images), k, metric="cosine")[1]
    return 100 * float((found == np.arange(len(texts))[:, None]).any(axis=1).mean())
