"""What the studies learn from: unlabelled images, and the labels that are looked at only afterwards."""

from typing import Any

import numpy as np

from nolabel.data import load

DATA = ("cifar10", "fashion_mnist", "mnist", "blood_cells")


def sets(name: str, train: int, test: int, seed: int = 0) -> tuple[Any, np.ndarray, Any, np.ndarray]:
    """Train images, their hidden labels, test images, their labels: at most that many rows of each part."""
    parts = []
    for part, limit in (("train", train), ("test", test)):
        table = load(name, split=part, **({"small": True} if name == "cifar10" else {}))
        table = table.select(np.sort(np.random.default_rng(seed).permutation(len(table))[:limit]))
        parts += [table.select_columns(["image"]), np.asarray(table["label"])]
    return parts[0], parts[1], parts[2], parts[3]
