"""Dense probes: how well a linear classifier names the class at each location of frozen feature maps. They need labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nolabel.assess.inputs import as_array, as_embeddings


@dataclass(frozen=True)
class DenseScores:
    """What a dense probe found on the test maps.

    Attributes
    ----------
    accuracy : share of locations named rightly, in [0, 1].
    mean_iou : mean over classes of `iou`, in [0, 1].
    iou : by class, the locations rightly given it over those given it or of it (intersection over union); of every class
        that a test location has or was given.
    locations : test locations that counted.
    """

    accuracy: float
    mean_iou: float
    iou: dict[int, float]
    locations: int

    def __str__(self) -> str:
        seen = f"{len(self.iou)} classes, {self.locations:,} locations"
        return f"accuracy {self.accuracy:.3f}, mean IoU {self.mean_iou:.3f} ({seen})"

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def dense_probe(
    train_maps: Any,
    train_labels: Any,
    test_maps: Any,
    test_labels: Any,
    *,
    ignore: int | None = None,
    penalty: float = 1.0,
) -> DenseScores:
    """Fit one linear classifier to the locations of the training maps, score it on those of the test maps.

    Ridge regression on one-hot labels over standardised channels, as `ridge_probe`; all locations share its weights.

    Parameters
    ----------
    train_maps, test_maps : (n, d, h, w) and (m, d, h', w') floats.
    train_labels, test_labels : (n, H, W) and (m, H', W') integers, as fine as the maps or finer: a location has the class of
        the pixel under its centre. A class that training lacks is always wrong.
    ignore : class that is neither learned nor scored, such as void.
    penalty : ridge on the weights, above 0.

    Raises
    ------
    TypeError
        Maps that are not floats, labels that are not integers.
    ValueError
        Shapes that do not fit, labels coarser than the maps, NaN, one training class only, or nothing left to score.

    >>> maps = np.array([[[[-1.0, 1.0]]]])  # one map with one channel and 1 x 2 locations
    >>> labels = np.array([[[0, 0, 1, 1]]])  # two pixels a location
    >>> print(dense_probe(maps, labels, maps, labels))
    accuracy 1.000, mean IoU 1.000 (2 classes, 2 locations)
    """
    if not penalty > 0:
        raise ValueError(f"penalty: a positive number was expected, got {penalty!r}")
    x, y = _locations(train_maps, train_labels, "train", ignore)
    x_test, y_test = _locations(test_maps, test_labels, "test", ignore)
    if x.shape[1] != x_test.shape[1]:
        raise ValueError(
            f"train_maps and test_maps: the same channels were expected, got {x.shape[1]} and {x_test.shape[1]}"
        )
    if len(np.unique(y)) < 2:
        raise ValueError(f"train_labels: at least 2 classes were expected, got {np.unique(y).tolist()}")
    if len(y_test) == 0:
        raise ValueError(f"test_labels: every location is of the ignored class {ignore}")
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=penalty)).fit(x, y)
    found = model.predict(x_test)
    iou = {
        int(name): float(np.sum((found == name) & (y_test == name)) / np.sum((found == name) | (y_test == name)))
        for name in np.union1d(y_test, found)
    }
    return DenseScores(float(np.mean(found == y_test)), float(np.mean(list(iou.values()))), iou, len(y_test))


def labels_at_locations(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixel of label maps (n, H, W) under the centre of each location of maps of height x width: (n, height, width).

    >>> labels_at_locations(np.arange(6).reshape(1, 1, 6), 1, 2).tolist()
    [[[1, 4]]]
    """
    rows, columns = (
        ((2 * np.arange(locations) + 1) * pixels)
        // (2 * locations)  # floor of (location + 1/2) * pixels / locations, exactly
        for locations, pixels in zip((height, width), labels.shape[1:])
    )
    return labels[:, rows[:, None], columns]


def _locations(maps: Any, labels: Any, part: str, ignore: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Features (k, d) in float64 and classes (k,) of the locations that count."""
    features, classes = as_array(maps, f"{part}_maps"), as_array(labels, f"{part}_labels")
    if features.ndim != 4 or 0 in features.shape:
        raise ValueError(f"{part}_maps: maps (n, d, h, w) were expected, got shape {features.shape}")
    as_embeddings(features.reshape(len(features), -1), f"{part}_maps", at_least=1)  # floats, and finite
    n, d, height, width = features.shape
    if classes.ndim != 3 or len(classes) != n or classes.shape[1] < height or classes.shape[2] < width:
        expected = f"one map of at least {height} x {width} pixels for each of the {n} {part}_maps"
        raise ValueError(f"{part}_labels: {expected} was expected, got shape {classes.shape}")
    if classes.dtype.kind not in "iub":
        raise TypeError(f"{part}_labels: integer classes were expected, got dtype {classes.dtype}")
    y = labels_at_locations(classes, height, width).ravel().astype(np.int64)
    x = features.transpose(0, 2, 3, 1).reshape(-1, d).astype(np.float64)
    counts = np.ones(len(y), bool) if ignore is None else y != ignore
    return x[counts], y[counts]
