"""A plain classifier of images: what is explained, adapted, cleaned and made to forget.

    L = - mean_i log softmax(W f(x_i) + b)_{y_i}

with f an encoder, from random weights or from a learned representation. No paper of its own: the common practice that the
systems which work on classifiers start from and compare with.
"""

import copy
import os
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nolabel.assess.inputs import as_labels
from nolabel.data.labels import class_codes, class_names
from nolabel.learn.heads import Head
from nolabel.training import ImageLearner, Training
from nolabel.views import pad_crop, random_flip, recipe
from nolabel.views.recipes import Recipe


class ImageClassifier(ClassifierMixin, Head, ImageLearner):
    """Classify images after learning from labelled ones.

    Use it to get a network that other commands explain, adapt or make forget. With few labels beside many images without,
    give it a `representation` learned on all of them.

    Parameters
    ----------
    encoder : name or ``nn.Module``; with a `representation` it plays no part
    representation : fitted `ImageLearner` whose encoder the training starts from; it stays as it is
    freeze : learn the last layer alone
    augment : recipe of a view; ``None`` moves the image by an eighth of its side and mirrors colour images
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Attributes
    ----------
    classes_ : (k,) labels in the order of probabilities

    Examples
    --------
    >>> from nolabel.data import load
    >>> digits = load("digits")
    >>> model = ImageClassifier("conv4-x0.5", training=Training(epochs=6, batch_size=64, random_state=0)).fit(digits)
    >>> model.score(digits, digits["label"]) > 0.9, model.head_weight.shape
    (True, (10, 32))
    """

    columns = ("image", "label")
    transform_columns = ("image",)
    recipe = {"optimiser": "nesterov", "lr": 0.03, "weight_decay": 5e-4, "batch_size": 64, "epochs": 30}  # noqa: RUF012
    class_names_: list[Any]

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        representation: ImageLearner | None = None,
        freeze: bool = False,
        augment: Recipe | str | None = None,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.representation = representation
        self.freeze = freeze
        self.augment = augment
        self.image_size = image_size
        self.training = training

    @property
    def classes_(self) -> np.ndarray:
        self.require_fitted()
        return np.asarray(self.class_names_)

    @property
    def head_weight(self) -> np.ndarray:
        """Weights of the last layer, (k, dim)."""
        self.require_fitted()
        net: Any = self.net_
        weight: np.ndarray = net.classifier.weight.detach().cpu().numpy()
        return weight

    def fit(self, X: Any, y: Any = None, **options: Any) -> Self:
        """Learn from a table with the columns `image` and `label`, or from images and their labels y (n,)."""
        return super().fit(X if y is None else labelled(X, y, options.pop("columns", None)), **options)

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        if self.representation is not None and not hasattr(self, "example_"):
            self.representation.require_fitted()
            shape = self.representation.example_["batch"]["image"]["shape"]
            if self.image_size not in (None, shape[2]):
                raise ValueError(f"image_size is {self.image_size}, the representation learned on {shape[2]}")
            resized = copy.copy(self)
            resized.representation, resized.image_size = None, shape[2]
            return resized.open_table(data, columns, needed)
        return super().open_table(data, columns, needed)

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        labels = source.sources[1].batch(np.arange(len(source)))["label"]
        self.class_names_ = class_names(as_labels(labels, len(source), "label"))

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = nn.Module()
        if self.representation is None:
            net.encoder = self.make_encoder(example)
        else:
            learned: Any = self.representation.net_
            net.encoder = copy.deepcopy(learned.encoder)
        net.encoder.requires_grad_(not self.freeze)
        net.classifier = nn.Linear(net.encoder.dim, len(self.class_names_))
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images = batch["image"]
        if self.augment is None:
            seen = pad_crop(images, images.shape[-1] // 8, generator=generator)
            seen = random_flip(seen, generator=generator)[0] if images.shape[1] == 3 else seen
        else:
            seen = recipe(self.augment, images.shape[-1], images.shape[1])(images, generator)
        return seen, class_codes(batch["label"], self.class_names_).to(images.device)

    def loss(self, net: Any, views: tuple[Tensor, Tensor]) -> Tensor | dict[str, Tensor]:
        images, codes = views  # (b, c, h, w), (b,)
        if self.freeze:
            net.encoder.eval()
        return cross_entropy(net.classifier(net.encoder(images)).float(), codes)

    def encode(self, net: Any, batch: dict[str, Any], layer: str = "representation", pool: int | None = 1) -> Tensor:
        """As in `ImageLearner`; ``logits`` is the output of the last layer, (b, k)."""
        found = super().encode(net, batch, "representation" if layer == "logits" else layer, pool)
        return net.classifier(found) if layer == "logits" else found

    def predict_proba(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Class probabilities (n, k) of images."""
        logits = torch.from_numpy(self.transform(X, columns=columns, layer="logits"))
        probabilities: np.ndarray = logits.softmax(dim=1).numpy()
        return probabilities

    def predict(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """The most probable class (n,) of images."""
        return self.classes_[self.predict_proba(X, columns=columns).argmax(axis=1)]


def labelled(X: Any, y: Any, columns: dict[str, str] | None = None) -> Any:
    """A table of images with their labels (n,) as the column `label`."""
    from nolabel.data import read

    table = read(X, columns=columns)
    labels = as_labels(y, len(table), "y")
    if "label" in table.column_names:
        table = table.remove_columns("label")
    return table.add_column("label", labels.tolist())
