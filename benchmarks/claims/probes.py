"""What the claims measure on frozen features, and an untrained network to compare with."""

from typing import Any

import numpy as np

from nolabel.assess import knn_accuracy, ridge_probe
from nolabel.data import load, open_images
from nolabel.learn import Untrained
from nolabel.training import Training


def split(name: str, part: str, **filters: Any) -> tuple[Any, np.ndarray]:
    """Images and labels of one part of a known set. The labels audit; nothing learns from them."""
    table = load(name, split=part, **filters)
    return table.select_columns(["image"]), np.asarray(table["label"])


def grey(table: Any) -> np.ndarray:
    """Grey images of one size as pixels: uint8 (n, h, w)."""
    opened = open_images(table)
    pixels: np.ndarray = opened.images(np.arange(len(opened)))
    return pixels[..., 0]


def judged(train: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> dict[str, float]:
    """k-NN (k = 20) and ridge accuracy in per cent."""
    return {
        "k-NN": 100 * knn_accuracy(train, labels, test, test_labels),
        "ridge": 100 * ridge_probe(train, labels, test, test_labels),
    }


def untrained(encoder: Any, images: Any, seed: int, **options: Any) -> Untrained:
    """The encoder with its initial weights."""
    return Untrained(encoder, training=Training(random_state=seed, batch_size=64), **options).fit(images)
