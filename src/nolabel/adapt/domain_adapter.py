"""What adapters with labelled source images and unlabelled target images share.

    L = - mean_i log softmax(W f(x_i) + b)_{y_i}  +  trade_off * D(f(source), f(target))

with x, y the source images and their labels; a method says what D is. Batch norm sees the source and the target images of a
step apart, and the running statistics are the target's: this alone makes up for much of a change in contrast or brightness
(Li et al., "Revisiting batch normalization for practical domain adaptation", 2016, arXiv:1603.04779).
"""

import copy
import os
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nolabel.assess.inputs import as_labels
from nolabel.data import read
from nolabel.data.labels import class_names
from nolabel.data.parts import Parts
from nolabel.learn.image_classifier import ImageClassifier, labelled
from nolabel.training import Training, gather
from nolabel.training.learner import describe
from nolabel.views.recipes import Recipe


class DomainAdapter(ImageClassifier):
    """The base of adapters; a method writes `adaptation`.

    ``fit({"source": X, "target": Z})`` with X a table of the columns `image` and `label` and Z images, or
    ``fit({"source": X, "target": Z}, y)`` with the labels y (n,) of the source images. No label of the target is looked at. An
    adapter is an image classifier: what takes those takes it.

    Parameters
    ----------
    encoder : name or ``nn.Module``, trained from random weights; with a `model` it plays no part
    model : fitted `ImageClassifier` whose weights, image size and classes the training starts from; it stays as it is
    trade_off : of the adaptation term; 0 learns from the source alone
    separate_norm : whether batch norm sees the domains apart; together, as in most published code, the network that comes out
        is one for both domains
    keep_epochs : so many last epochs leave their weights in `checkpoints_`, to choose among
    augment : recipe of a view, of source and target alike; ``None`` moves the image by an eighth of its side and mirrors
        colour images
    image_size : side of the images the network sees; ``None`` chooses by the source
    training : how long and on what to train; ``batch_size`` counts the images of each domain

    Attributes
    ----------
    classes_ : (k,) labels in the order of probabilities
    checkpoints_ : weights by epoch, of the last `keep_epochs`
    """

    parts = ("source", "target")
    recipe = {"optimiser": "nesterov", "lr": 0.02, "weight_decay": 5e-4, "batch_size": 64, "epochs": 8}  # noqa: RUF012
    checkpoints_: dict[str, dict[str, Tensor]]
    representation = None  # adapters start from a whole classifier
    freeze = False

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        model: ImageClassifier | None = None,
        trade_off: float = 1.0,
        separate_norm: bool = True,
        keep_epochs: int = 0,
        augment: Recipe | str | None = None,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.model = model
        self.trade_off = trade_off
        self.separate_norm = separate_norm
        self.keep_epochs = keep_epochs
        self.augment = augment
        self.image_size = image_size
        self.training = training

    def adaptation(self, net: Any, source: Tensor, target: Tensor, logits: Tensor) -> Tensor:
        """The term that the trade-off weighs.

        Parameters
        ----------
        source, target : (b, dim) features
        logits : (b, k) of the target
        """
        raise NotImplementedError(f"{type(self).__name__} must define adaptation(net, source, target, logits)")

    def fit(self, X: Any, y: Any = None, **options: Any) -> Self:
        """As the class says; `options` are those of `Learner.fit`."""
        if y is not None:
            parts, columns = self._split(X), options.pop("columns", None)
            X = {"source": labelled(parts["source"], y, columns), "target": read(parts["target"], columns=columns)}
        return super().fit(X, **options)

    def open(self, data: Any, columns: dict[str, str] | None) -> Parts:
        """Both data sets in one shape: the model's, or what suits the source."""
        parts = self._split(data)
        source = self.open_table(parts["source"], columns, self.columns)
        alike = copy.copy(self)  # opens what follows in the shape of the source
        alike.example_ = describe({"source": source.batch(np.arange(min(2, len(source))))})
        return Parts({"source": source, "target": alike.open_table(parts["target"], columns, ("image",))})

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        if self.model is None:
            return super().open_table(data, columns, needed)
        self.model.require_fitted()
        return self.model.open_table(data, columns, needed or self.columns)

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        self._check()
        for name, part in source.parts.items():
            if len(part) < 2:
                raise ValueError(f"{name} must have at least 2 images, got {len(part)}")
        images = source.parts["source"]
        labels = as_labels(images.sources[1].batch(np.arange(len(images)))["label"], len(images), "label")
        self.class_names_ = class_names(labels)
        if self.model is not None:
            known = self.model.class_names_
            strange = [name for name in self.class_names_ if name not in known]
            missing = [name for name in known if name not in self.class_names_]
            if strange or missing:
                what = f"{strange[0]!r} is none of them" if strange else f"there is no image of {missing[0]!r}"
                raise ValueError(
                    f"source: labels of the model's classes {', '.join(map(repr, known))} were expected; {what}"
                )
        self.checkpoints_ = {}

    def build(self, example: dict[str, Any]) -> nn.Module:
        if self.model is None:
            return super().build(example["source"])
        learned: Any = self.model.net_
        net: Any = nn.Module()
        net.encoder = copy.deepcopy(learned.encoder).requires_grad_(True)
        net.classifier = copy.deepcopy(learned.classifier)
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images of source and target (2b, c, h, w), or of the source alone, and the classes of the source (b,)."""
        images = batch["source"]["image"]
        if self.trade_off:
            images = torch.cat([images, batch["target"]["image"]])
        return super().views({"image": images, "label": batch["source"]["label"]}, generator)

    def loss(self, net: Any, views: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, codes = views
        b = len(codes)
        apart = self.separate_norm and bool(self.trade_off)
        features = (_apart(net.encoder, images, b) if apart else net.encoder(images)).float()
        logits = net.classifier(features).float()
        terms = {"classification": cross_entropy(logits[:b], codes)}
        if self.trade_off:
            rows = [gather(part) for part in (features[:b], features[b:], logits[b:])]
            terms["adaptation"] = self.trade_off * self.adaptation(net, *rows)
        return terms

    def enough(self, net: nn.Module, source: Any, epoch: int) -> bool:
        """Keep the weights of this epoch; never an early end."""
        if self.keep_epochs:
            self.checkpoints_[str(epoch)] = {k: v.detach().cpu().clone() for k, v in net.state_dict().items()}
            for old in list(self.checkpoints_)[: -self.keep_epochs]:
                del self.checkpoints_[old]
        return False

    def at_epoch(self, epoch: int) -> Self:
        """This adapter with the weights it had after so many epochs, without the other ones."""
        self.require_fitted()
        if str(epoch) not in self.checkpoints_:
            there = ", ".join(self.checkpoints_) or "none: fit with keep_epochs"
            raise ValueError(f"epoch must be one of those that were kept ({there}), got {epoch}")
        other = copy.copy(self)
        other.net_ = copy.deepcopy(self.net_)
        other.net_.load_state_dict(self.checkpoints_[str(epoch)])
        other.checkpoints_ = {}
        return other

    def _check(self) -> None:
        if not (self.trade_off >= 0 and np.isfinite(self.trade_off)):
            raise ValueError(f"trade_off must be at least 0 and finite, got {self.trade_off}")
        if isinstance(self.keep_epochs, bool) or not isinstance(self.keep_epochs, int) or self.keep_epochs < 0:
            raise ValueError(f"keep_epochs must be a whole number of at least 0, got {self.keep_epochs!r}")


def _apart(encoder: nn.Module, images: Tensor, b: int) -> Tensor:
    """Features of the first b images, then of the rest, normalised apart; only the rest moves the running statistics."""
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    source = encoder(images[:b])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return torch.cat([source, encoder(images[b:])])
