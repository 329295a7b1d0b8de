"""Networks that tell which domain an input comes from, and stop where they begin to know single rows by heart.

What is wanted is not accuracy but right probabilities: the epoch is that with the lowest loss on rows kept out.
"""

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nolabel.cluster.calibration import balancing_weights
from nolabel.data import ColumnSource, read
from nolabel.data.parts import Joined
from nolabel.learn.heads import Head
from nolabel.learn.image_classifier import ImageClassifier
from nolabel.training import ImageLearner, Training
from nolabel.training.batches import Some, to_device

RECIPE = {"optimiser": "adam", "lr": 1e-3, "weight_decay": 1e-4, "batch_size": 64, "epochs": 15, "warmup": 0.0}
ENCODED = 512
HIDDEN = 256


class Stopped:
    """Mixed into a learner: the weights of the epoch with the lowest held-out loss, and an end once it does not fall.

    Attributes
    ----------
    validation_ : held-out cross-entropy after each epoch
    """

    training: Training | None
    patience: int
    balanced: bool
    validation_: list[float]
    best_: dict[str, Tensor]

    def fit_domains(
        self,
        source: Any,
        codes: np.ndarray,
        held: np.ndarray,
        *,
        run: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Any:
        """Learn the codes (n,) from 0 of a source's rows without those `held` out, which choose the epoch."""
        learner: Any = self
        learner._forget()
        joined = Joined(source, ColumnSource(read({"label": codes}), ("label",)))
        weights = balancing_weights(codes)
        self._names = list(range(len(weights)))
        self._weights = torch.from_numpy(weights if self.balanced else np.ones(len(weights))).float()
        self._held = Some(joined, held)
        try:
            kept = Some(joined, np.setdiff1d(np.arange(len(codes)), held))
            return learner.fit_source(kept, run=run, resume=resume)
        finally:
            del self._held

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        learner: Any = self
        learner.class_names_ = self._names
        self.validation_, self.best_ = [], {}

    @torch.no_grad()
    def enough(self, net: nn.Module, source: Any, epoch: int) -> bool:
        learner: Any = self
        net.eval()
        device = next(net.parameters()).device
        total, weight = 0.0, 0.0
        for start in range(0, len(self._held), ENCODED):
            rows = np.arange(start, min(start + ENCODED, len(self._held)))
            batch = to_device(self._held.batch(rows), device)
            logits = learner.encode(net, batch, layer="logits").float()
            own = self._weights.to(device)
            total += float(cross_entropy(logits, batch["label"], weight=own, reduction="sum"))
            weight += float(own[batch["label"]].sum())
        self.validation_.append(total / weight)
        best = int(np.argmin(self.validation_))
        if best == len(self.validation_) - 1:
            self.best_ = {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}
        return len(self.validation_) - 1 - best >= self.patience

    def finish(self, source: Any) -> None:
        learner: Any = self
        if not self.validation_:  # ended within the first epoch
            self.enough(learner.net_, source, 0)
        learner.net_.load_state_dict(self.best_)
        del self.best_


class ImageDomains(Stopped, ImageClassifier):
    """Tell the domain of images.

    Parameters
    ----------
    encoder, representation, image_size, training : as in `ImageClassifier`
    dropout : share of the features that is left out in training, before the last layer
    patience : epochs without a lower held-out loss after which training ends
    balanced : weigh rows so that all domains count alike
    """

    recipe = RECIPE

    def __init__(
        self,
        encoder: str | nn.Module = "conv4",
        *,
        representation: ImageLearner | None = None,
        dropout: float = 0.3,
        patience: int = 5,
        balanced: bool = False,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.representation = representation
        self.dropout = dropout
        self.patience = patience
        self.balanced = balanced
        self.image_size = image_size
        self.training = training

    freeze = False
    augment = None

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = super().build(example)
        net.dropout = nn.Dropout(self.dropout)
        return net

    def loss(self, net: Any, views: tuple[Tensor, Tensor]) -> Tensor:
        images, codes = views  # (b, c, h, w), (b,)
        logits = net.classifier(net.dropout(net.encoder(images))).float()
        return cross_entropy(logits, codes, weight=self._weights.to(codes.device))


class VectorDomains(Stopped, Head):
    """Tell the domain of vectors by three layers.

    Parameters
    ----------
    dropout, patience, balanced, training : as in `ImageDomains`
    standardise : shift and scale columns to mean 0 and variance 1
    """

    columns = ("vector",)
    recipe = RECIPE
    class_names_: list[int]

    def __init__(
        self,
        *,
        dropout: float = 0.3,
        patience: int = 5,
        balanced: bool = False,
        standardise: bool = True,
        training: Training | None = None,
    ) -> None:
        self.dropout = dropout
        self.patience = patience
        self.balanced = balanced
        self.standardise = standardise
        self.training = training

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        super().prepare(source, folder)
        width = source.batch(np.arange(1))["vector"].shape[1]
        self.mean_, self.scale_ = np.zeros(width, np.float32), np.ones(width, np.float32)
        if self.standardise:
            vectors = source.batch(np.arange(len(source)))["vector"].numpy().astype(np.float64)
            spread = vectors.std(axis=0)
            self.mean_ = vectors.mean(axis=0).astype(np.float32)
            self.scale_ = np.where(spread > 0, spread, 1).astype(np.float32)

    def build(self, example: dict[str, Any]) -> nn.Module:
        width, domains = example["vector"].shape[1], len(self.class_names_)
        layers: list[nn.Module] = []
        for before, after in ((width, HIDDEN), (HIDDEN, HIDDEN)):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True), nn.Dropout(self.dropout)]
        net: Any = nn.Module()
        net.layers, net.classifier = nn.Sequential(*layers), nn.Linear(HIDDEN, domains)
        net.register_buffer("mean", torch.from_numpy(self.mean_))
        net.register_buffer("scale", torch.from_numpy(self.scale_))
        return net

    def encode(self, net: Any, batch: dict[str, Any], layer: str = "representation") -> Tensor:
        """States of the last hidden layer (b, 256); with ``layer="logits"`` the outputs (b, domains)."""
        states: Tensor = net.layers((batch["vector"].float() - net.mean) / net.scale)
        return net.classifier(states) if layer == "logits" else states

    def loss(self, net: Any, views: dict[str, Any]) -> Tensor:
        logits = self.encode(net, views, layer="logits").float()
        return cross_entropy(logits, views["label"], weight=self._weights.to(logits.device))
