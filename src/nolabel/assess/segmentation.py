"""How well masks match true ones: intersection over union, Dice and confusion, from counts of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nolabel.assess.inputs import as_array


@dataclass(frozen=True)
class SegmentationScores:
    """What masks got right.

    Attributes
    ----------
    accuracy : share of pixels named rightly, in [0, 1].
    mean_iou, mean_dice : means over the classes of `iou` and of `dice`, in [0, 1].
    iou : by class, the pixels rightly given it over those given it or of it; of every class that a pixel has or was given.
    dice : by class, twice the pixels rightly given it over those given it plus those of it: 2 IoU / (1 + IoU).
    confusion : pixels by true class (rows) and found class (columns), in the order of `classes`.
    classes : every class that was named or that a pixel has or was given.
    pixels : those that counted.
    """

    accuracy: float
    mean_iou: float
    mean_dice: float
    iou: dict[int, float]
    dice: dict[int, float]
    confusion: list[list[int]]
    classes: list[int]
    pixels: int

    def __str__(self) -> str:
        found = f"accuracy {self.accuracy:.3f}, mean IoU {self.mean_iou:.3f}, mean Dice {self.mean_dice:.3f}"
        return f"{found} ({len(self.iou)} classes, {self.pixels:,} pixels)"

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def confusion_of(truth: Any, found: Any, classes: Sequence[int], *, ignore: int | None = None) -> np.ndarray:
    """Pixels by true class (rows) and found class (columns), int64 (k, k); may be summed over batches of masks.

    Parameters
    ----------
    truth, found : (n, h, w) whole numbers, all of them among `classes` where `truth` is not `ignore`
    ignore : true class whose pixels do not count

    >>> confusion_of(np.array([[[0, 1, 9]]]), np.array([[[0, 0, 1]]]), [0, 1], ignore=9).tolist()
    [[1, 0], [1, 0]]
    """
    true, told = _masks(truth, "truth"), _masks(found, "found")
    if true.shape != told.shape:
        raise ValueError(f"truth and found: masks of one shape were expected, got {true.shape} and {told.shape}")
    counted = np.ones(true.shape, bool) if ignore is None else true != ignore
    true, told = true[counted], told[counted]
    names = np.array(sorted(classes), np.int64)
    for values, name in ((true, "truth"), (told, "found")):
        strange = np.setdiff1d(values, names)
        if len(strange):
            raise ValueError(f"{name}: class {strange[0]} is none of {names.tolist()}")
    k = len(names)
    places = np.searchsorted(names, true) * k + np.searchsorted(names, told)
    return np.bincount(places, minlength=k * k).reshape(k, k)


def scores_of_confusion(confusion: np.ndarray, classes: Sequence[int]) -> SegmentationScores:
    """The scores that counts of pixels (k, k) amount to, true classes in rows, in rising order of `classes`.

    >>> print(scores_of_confusion(np.array([[3, 1], [0, 2]]), [0, 1]))
    accuracy 0.833, mean IoU 0.708, mean Dice 0.829 (2 classes, 6 pixels)
    """
    confusion = np.asarray(confusion)
    if not confusion.sum():
        raise ValueError("truth: no pixel is left to score")
    right, true, told = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    seen = true + told > 0
    names = [name for name, there in zip(sorted(classes), seen) if there]
    iou = right[seen] / (true + told - right)[seen]
    dice = 2 * right[seen] / (true + told)[seen]
    return SegmentationScores(
        accuracy=float(right.sum() / confusion.sum()),
        mean_iou=float(iou.mean()),
        mean_dice=float(dice.mean()),
        iou=dict(zip(names, iou.tolist())),
        dice=dict(zip(names, dice.tolist())),
        confusion=confusion.tolist(),
        classes=sorted(classes),
        pixels=int(confusion.sum()),
    )


def segmentation_scores(truth: Any, found: Any, *, ignore: int | None = None) -> SegmentationScores:
    """Compare masks with true ones, pixel by pixel.

    All pixels of all masks are counted together, as usual for scenes; where each image is to weigh the same, call it for each.

    Parameters
    ----------
    truth, found : (n, h, w) whole numbers
    ignore : true class whose pixels do not count, such as void

    Raises
    ------
    TypeError
        Masks that are not whole numbers.
    ValueError
        Masks of different shapes, or nothing left to score.

    >>> print(segmentation_scores([[[0, 0, 1, 255]]], [[[0, 1, 1, 0]]], ignore=255))
    accuracy 0.667, mean IoU 0.500, mean Dice 0.667 (2 classes, 3 pixels)
    """
    true, told = _masks(truth, "truth"), _masks(found, "found")
    classes = [int(name) for name in np.union1d(true[true != ignore] if ignore is not None else true, told)]
    return scores_of_confusion(confusion_of(true, told, classes, ignore=ignore), classes)


def _masks(values: Any, name: str) -> np.ndarray:
    array = as_array(values, name)
    if array.dtype.kind not in "iub":
        raise TypeError(f"{name}: whole numbers were expected, got dtype {array.dtype}")
    if array.ndim != 3 or not array.size:
        raise ValueError(f"{name}: masks (n, h, w) were expected, got shape {array.shape}")
    return array.astype(np.int64)
