"""A plain segmenter of images: a class for every pixel, learned from images with masks; what is adapted to other sites.

    L = - mean over pixels p that count of log softmax(W f(x)_p + b)_{y_p}

with f a compact U-Net. The network is that of Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image
segmentation", MICCAI 2015, arXiv:1505.04597, narrower, with batch norm and without weights on the borders of cells.
"""

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nolabel.data.labels import class_codes, class_names
from nolabel.learn.heads import Head
from nolabel.training import ImageLearner, Training
from nolabel.views.segmentation import masked_views

#: Pixels of all images that are encoded at once.
PIXELS_AT_ONCE = 2**19
#: The code of pixels that do not count.
LEFT_OUT = -1


class ImageSegmenter(Head, ImageLearner):
    """Name the class of every pixel after learning from images with masks.

    Use it to get a segmenter that other commands adapt to another scanner, camera or time of day. ``fit(table)`` takes the
    columns `image` and `mask`, a mask being an image of class numbers as large as its image; ``fit(X, y)`` images and masks
    (n, h, w). All images are brought to one shape, which the network sees; `predict` answers in that shape.

    Parameters
    ----------
    widths : channels of the levels of the U-Net, the finest first
    ignore : class number of pixels that are neither learned nor scored, such as void
    flip : mirror images left to right at random; False where left and right differ in meaning, as in the body
    image_size : (height, width), or the longer side in pixels; ``None`` keeps a shape that all images share if its longer side
        is at most 128, else the median shape brought to 128
    training : how long and on what to train

    Attributes
    ----------
    classes_ : (k,) class numbers in the order of probabilities

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).integers(0, 100, (24, 16, 20), dtype=np.uint8)
    >>> masks = np.zeros((24, 16, 20), np.uint8)
    >>> images[:, 4:12, 5:15], masks[:, 4:12, 5:15] = 220, 7
    >>> model = ImageSegmenter((4, 8), training=Training(steps=60, batch_size=8, random_state=0)).fit(images, masks)
    >>> model.classes_.tolist(), model.predict(images).shape, model.score(images, masks) > 0.9
    ([0, 7], (24, 16, 20), True)
    """

    columns = ("image", "mask")
    transform_columns = ("image",)
    recipe = {  # noqa: RUF012 (read-only; a class constant)
        "optimiser": "adam", "lr": 2e-3, "weight_decay": 0.0, "batch_size": 8, "epochs": 10, "warmup": 0.05,
    }  # fmt: skip
    class_names_: list[int]

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64, 96),
        *,
        ignore: int | None = None,
        flip: bool = True,
        image_size: int | tuple[int, int] | None = None,
        training: Training | None = None,
    ) -> None:
        self.widths = widths
        self.ignore = ignore
        self.flip = flip
        self.image_size = image_size
        self.training = training

    @property
    def classes_(self) -> np.ndarray:
        self.require_fitted()
        return np.asarray(self.class_names_)

    def fit(self, X: Any, y: Any = None, **options: Any) -> Self:
        """Learn from a table with the columns `image` and `mask`, or from images and their masks y (n, h, w)."""
        return super().fit(X if y is None else with_masks(X, y, options.pop("columns", None)), **options)

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        from nolabel.data import read
        from nolabel.data.masks import open_masked

        size: Any = self.image_size
        channels = None
        if hasattr(self, "example_"):  # a fitted learner goes on with the shape it was trained on
            _, channels, *size = self.example_["batch"]["image"]["shape"]
        mask = "mask" if "mask" in (needed or self.columns) else None
        return open_masked(read(data, columns=columns), mask=mask, size=size, channels=channels)

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        values = [value for value in source.values if value != self.ignore]
        if len(values) < 2:
            raise ValueError(
                f"mask: at least 2 classes were expected, got {values} (ignore={self.ignore}, numbers in masks {source.values})"
            )
        self.class_names_ = class_names(values)

    def build(self, example: dict[str, Any]) -> nn.Module:
        from nolabel.encoders.unet import UNet

        net: Any = nn.Module()
        net.encoder = UNet(self.widths, channels=example["image"].shape[1])
        net.classifier = nn.Conv2d(net.encoder.dim, len(self.class_names_), 1)
        return net

    def codes(self, masks: Tensor) -> Tensor:
        """Positions of class numbers in `classes_`; `LEFT_OUT` where a pixel does not count."""
        codes = class_codes(masks, self.class_names_)
        return codes if self.ignore is None else codes.masked_fill(masks == self.ignore, LEFT_OUT)

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        codes = self.codes(batch["mask"])
        return masked_views(batch["image"], codes, flip=self.flip, generator=generator)

    def loss(self, net: Any, views: tuple[Tensor, Tensor]) -> Tensor | dict[str, Tensor]:
        images, codes = views  # (b, c, h, w), (b, h, w)
        logits = self.logits(net, images)
        counted = (codes != LEFT_OUT).sum().clamp(min=1)  # a batch of nothing but void teaches nothing
        return cross_entropy(logits, codes, ignore_index=LEFT_OUT, reduction="sum") / counted

    def logits(self, net: Any, images: Tensor) -> Tensor:
        """Scores of classes (b, k, h, w), float32, of images in [0, 1]."""
        images = images.contiguous(memory_format=torch.channels_last)
        scores: Tensor = net.classifier(net.encoder.stages(images)[net.encoder.finest])
        return scores.float()

    def encode(self, net: Any, batch: dict[str, Any], layer: str = "representation", pool: int | None = 1) -> Tensor:
        """As in `ImageLearner`; ``logits`` are the scores of classes (b, k, h, w), ``codes`` the best one's (b, h, w)."""
        if layer not in ("logits", "codes"):
            return super().encode(net, batch, layer, pool)
        logits = self.logits(net, batch["image"].float() / 255.0)
        return logits if layer == "logits" else logits.argmax(dim=1)

    def encode_plan(self, source: Any) -> list[np.ndarray]:
        height, width = source.shape if hasattr(source, "shape") else self.example_["batch"]["image"]["shape"][2:]
        rows = max(1, PIXELS_AT_ONCE // (height * width))
        return [np.arange(i, min(i + rows, len(source))) for i in range(0, len(source), rows)]

    def predict_proba(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Class probabilities (n, k, h, w) of images."""
        logits = torch.from_numpy(self.transform(X, columns=columns, layer="logits"))
        probabilities: np.ndarray = logits.softmax(dim=1).numpy()
        return probabilities

    def predict(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """The most probable class number (n, h, w) of the pixels of images."""
        return self.classes_[self.transform(X, columns=columns, layer="codes").astype(np.int64)]

    def judged(self, X: Any, y: Any = None, *, columns: dict[str, str] | None = None) -> Any:
        """`nolabel.assess.segmentation.SegmentationScores` against the column `mask`, or against masks y (n, h, w)."""
        from nolabel.assess.segmentation import confusion_of, scores_of_confusion

        self.require_fitted()
        table = (X, columns) if y is None else (with_masks(X, y, columns), None)
        source = self.open_table(*table, ("image", "mask"))
        found = self.classes_[self.transform_source(source, layer="codes").astype(np.int64)]
        names = sorted({*self.class_names_, *source.values} - {self.ignore})
        confusion = sum(
            confusion_of(source.batch(rows)["mask"], found[rows], names, ignore=self.ignore)
            for rows in self.encode_plan(source)
        )
        return scores_of_confusion(np.asarray(confusion), names)

    def score(self, X: Any, y: Any = None, *, columns: dict[str, str] | None = None) -> float:
        """Mean intersection over union with the column `mask`, or with masks y (n, h, w)."""
        found: float = self.judged(X, y, columns=columns).mean_iou
        return found


def with_masks(X: Any, y: Any, columns: dict[str, str] | None = None) -> Any:
    """A table of images with their masks (n, h, w) as the column `mask`."""
    from nolabel.data import read

    table = read(X, columns=columns)
    masks = y.detach().cpu().numpy() if hasattr(y, "detach") else y
    masks = list(masks) if isinstance(masks, Sequence) else np.asarray(masks)
    if len(masks) != len(table):
        raise ValueError(f"y: one mask for each of the {len(table)} images was expected, got {len(masks)}")
    if isinstance(masks, np.ndarray) and (masks.ndim != 3 or masks.dtype.kind not in "iub"):
        raise ValueError(f"y: masks (n, h, w) of whole numbers were expected, got {masks.dtype} of shape {masks.shape}")
    given = read({"mask": masks})
    others = table.remove_columns("mask") if "mask" in table.column_names else table
    return others.add_column("mask", given.data.column("mask").combine_chunks(), feature=given.features["mask"])
