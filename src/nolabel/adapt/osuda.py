"""OSUDA: adapt a trained network with batch norm to another site, from images without labels and without its training data.

Means and variances of batch norm belong to a site and move; scales and shifts are shared and stay near:

    1. step k normalises by (1 - e_k) of the batch's and e_k of the source's statistics, e_k = e_0 exp(-k / d)
    2. channel c of layer l is the more transferable, the nearer its statistics at both sites are:
       a ~ 1 / (1 + |mean_s / sqrt(var_s) - mean_t / sqrt(var_t)|), scaled to a mean of 1
    3. L = mean over channels (1 + a) (|scale_s - scale| + |shift_s - shift|)  +  w_k mean over pixels entropy(p),
       with w_k falling in a line to 0

Liu, Xing, Yang, El Fakhri & Woo, "Adapting off-the-shelf source segmenter for target medical image segmentation", MICCAI 2021,
arXiv:2106.12497. Differences: a mean over channels where the paper sums, so that w does not hang on the size of the network (a
weight of 10 beside a sum is one of 10 / channels beside a mean); the source fades over ten steps, not one; only scales and
shifts are trained unless told otherwise. Convolutions hear the entropy alone, and under Adam at full strength however small its
weight: rare classes go first.
"""

import copy
import math
import os
import warnings
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from nolabel.adapt.source_free import Adaptation, Inputs, affine_distance
from nolabel.encoders.batch_norm import batch_norms, blend, blended, estimated, replace_statistics, statistics
from nolabel.learn.heads import Head
from nolabel.learn.image_classifier import ImageClassifier
from nolabel.learn.image_segmenter import ImageSegmenter
from nolabel.objectives.entropy import mean_entropy
from nolabel.training import Training
from nolabel.training.clock import Clock
from nolabel.training.loop import without_training

TRAINABLE = ("bn", "all", "none")
#: Steps where nothing else is said.
STEPS = 200
#: A class that keeps less than this part of the share it had is named.
COLLAPSED = 0.01
#: Terms further apart than this factor do not balance.
APART = 100.0
#: Rows that are only looked at go through the network so many at a time.
ROWS_AT_ONCE = 64


class SourceFreeAdapter(Head):
    """Adapt a trained segmenter or classifier with batch norm to images of another site, without labels, without its source.

    Use it where a model fails on another scanner, camera or light and its training data may not leave the place they are in.
    Statistics alone (``trainable="none"``, AdaBN) bring most of what there is to win; it is the arm to beat. Do not use it
    where the classes themselves differ, or where their shares differ much: statistics would move with the shares.

    `fit` takes images without labels as the model does: for an estimator of this library a folder, table or array, for a bare
    network numbers (n, c, ...) exactly as its `forward` takes them.

    Parameters
    ----------
    model : fitted `ImageSegmenter` or `ImageClassifier`, or any ``nn.Module`` with batch norm whose outputs are logits
        (n, k, h, w) or (n, k); one logit (k = 1) is that of the second of two classes. It stays as it is
    source_share : of the source's statistics at the first step, in [0, 1]
    decay_steps : steps in which that share falls to 1 / e of it; ``math.inf`` keeps it, also in the result
    entropy_weight : of the entropy at the first step, beside a mean over channels
    trainable : ``bn``, scales and shifts of batch norm; ``all`` weights, which wants ``Training(optimiser="sgd")``, for Adam
        makes rare classes vanish at any weight; ``none``, statistics alone
    weigh_channels : hold the more transferable channels the faster
    recompute_statistics : take the target's statistics in a last pass over all images; else those of a moving average
    training : how long and on what to train; 200 steps unless it says otherwise

    Attributes
    ----------
    model_ : the adapted model, of the kind of `model`: what takes the one takes the other
    transferability_ : by layer, (c,) numbers above 0 with mean 1 over all channels
    shares_before_, shares_ : (k,) of the pixels (or rows) of the target that the model called each class, before and after
    class_shares_ : the same over batches, as it went: dicts of ``step`` and ``shares``

    Raises
    ------
    ValueError
        The network has no batch norm or one that remembers nothing, refuses the inputs, or answers in another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from nolabel.data import load
    >>> digits = load("digits")
    >>> model = ImageClassifier("conv4-growing-x0.25", training=Training(epochs=6, batch_size=64)).fit(digits)
    >>> pale = np.stack([120 + np.asarray(image) // 4 for image in digits["image"]]).astype(np.uint8)
    >>> adapter = SourceFreeAdapter(model, training=Training(steps=10)).fit(pale)
    >>> bool(model.score(pale, digits["label"]) < 0.5 < 0.8 < adapter.score(pale, digits["label"]))
    True
    """

    columns = ("image",)
    recipe = {"optimiser": "adam", "lr": 1e-3, "weight_decay": 0.0, "batch_size": 16, "warmup": 0.0}  # noqa: RUF012
    net_: Any
    class_shares_: list[dict[str, Any]]
    shares_: np.ndarray
    shares_before_: np.ndarray
    transferability_: dict[str, np.ndarray]

    def __init__(
        self,
        model: Any = None,
        *,
        source_share: float = 1.0,
        decay_steps: float = 10.0,
        entropy_weight: float = 0.01,
        trainable: str = "bn",
        weigh_channels: bool = True,
        recompute_statistics: bool = True,
        training: Training | None = None,
    ) -> None:
        self.model = model
        self.source_share = source_share
        self.decay_steps = decay_steps
        self.entropy_weight = entropy_weight
        self.trainable = trainable
        self.weigh_channels = weigh_channels
        self.recompute_statistics = recompute_statistics
        self.training = training

    # Reading ----------------------------------------------------------------------------------------------------------

    def open(self, data: Any, columns: dict[str, str] | None) -> Any:
        self._check()
        return self.open_table(data, columns)

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        if self._estimator:
            self.model.require_fitted()
            return self.model.open_table(data, columns, ("image",))
        return Inputs(data)

    @property
    def _estimator(self) -> bool:
        return isinstance(self.model, ImageClassifier | ImageSegmenter)

    def fit_source(self, source: Any, *, run: str | os.PathLike[str] | None = None, resume: bool = False) -> Self:
        if self.trainable == "none":
            without_training(self, source, run, resume=resume)
            return self
        given = self.training
        settings: Training = clone(given or Training())
        if settings.epochs is None and settings.minutes is None:
            settings.steps = settings.steps or STEPS
        self.training = settings
        try:
            return super().fit_source(source, run=run, resume=resume)
        finally:
            self.training = given

    # Training ---------------------------------------------------------------------------------------------------------

    def build(self, example: dict[str, Any]) -> nn.Module:
        module = self.model.net_ if self._estimator else self.model
        layers = batch_norms(module)
        bare = [name for name, layer in layers.items() if layer.weight is None]
        if len(bare) == len(layers) and self.trainable == "bn":
            raise ValueError("trainable='bn': no batch norm of the model has a scale and a shift; use 'none' or 'all'")
        if bare and self.trainable == "all":
            warnings.warn(
                f"{len(bare)} of {len(layers)} batch norm layers have no scale and shift (affine=False): nothing holds them",
                stacklevel=2,
            )
        trial = Adaptation(module, "none", 2).to(next(iter(layers.values())).running_mean.device)
        with torch.no_grad():
            classes = self.logits(trial, example["image"].to(trial.device)).shape[1]
        net = Adaptation(module, self.trainable, classes)
        self.class_shares_ = getattr(self, "class_shares_", [])
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        images: Tensor = batch["image"]
        return images

    def share(self, step: float) -> float:
        """Of the source's statistics, at a step; `math.inf` for what stays in the result."""
        if math.isinf(self.decay_steps):
            return self.source_share
        return self.source_share * math.exp(-step / self.decay_steps)

    def before_step(self, net: Any, clock: Clock) -> None:
        net.share = self.share(clock.step)
        net.entropy_weight = self.entropy_weight * (1 - clock.fraction)

    def loss(self, net: Any, views: Tensor) -> dict[str, Tensor]:
        with blended(net.layers, net.share, net.source) as seen:
            logits = self.logits(net, views)
        net.note(seen, logits.detach().argmax(dim=1))
        terms = {"entropy": net.entropy_weight * mean_entropy(logits.softmax(dim=1).movedim(1, -1))}
        if net.source_affine:
            weights = net.transferability if self.weigh_channels else None
            terms["high_order"] = affine_distance(net.layers, net.source_affine, weights)
        return terms

    def after_step(self, net: Any, clock: Clock) -> None:
        if clock.step % max(1, clock.total_steps // 20) == 0:
            self.class_shares_.append({"step": clock.step, "shares": net.shares()})

    def finish(self, source: Any) -> None:
        net = self.net_
        if self.recompute_statistics:
            size = self.training_.batch_size or ROWS_AT_ONCE
            self.recompute(net, source, lambda step: self.share(math.inf), size, self.training_.random_state)
        else:
            kept, share = statistics(net.layers), self.share(math.inf)
            replace_statistics(net.layers, {name: blend(share, net.source[name], kept[name]) for name in kept})
        self.transferability_ = {name: values.cpu().numpy() for name, values in net.transferability.items()}
        before = Adaptation(self.model.net_ if self._estimator else self.model, "none", len(net.told)).to(net.device)
        self.shares_before_, self.shares_ = self._shares(before, source), self._shares(net, source)
        net.model.requires_grad_(True)
        self._warn()

    def recompute(
        self, net: Any, source: Any, shares: Callable[[int], float], batch_size: int, random_state: int
    ) -> None:
        """The target's statistics by one pass over all rows, mixed: rows in order of class would skew those of deep layers."""
        order = np.random.default_rng([random_state % 2**32, 11]).permutation(len(source))
        parts = np.array_split(order, max(1, len(order) // batch_size))  # none smaller than asked
        batches = (source.batch(rows)["image"].to(net.device) for rows in parts)
        found = estimated(lambda images: self.logits(net, images), net.layers, batches, shares, net.source)
        replace_statistics(net.layers, found)

    @torch.no_grad()
    def _shares(self, net: Any, source: Any) -> np.ndarray:
        """Shares (k,) of classes among all pixels (or rows) of a source."""
        counts = torch.zeros_like(net.told)
        for rows in self.encode_plan(source):
            codes = self.logits(net, source.batch(rows)["image"].to(net.device)).argmax(dim=1)
            counts += torch.bincount(codes.flatten(), minlength=len(counts))
        shares: np.ndarray = (counts.double() / counts.sum()).cpu().numpy()
        return shares

    def _warn(self) -> None:
        """Say which classes went, and where one term of the loss drowned the other."""
        gone = np.flatnonzero(self.shares_ < COLLAPSED * self.shares_before_)
        if len(gone):
            told = ", ".join(
                f"{self.classes_[code]} ({self.shares_before_[code]:.2%} to {self.shares_[code]:.2%})" for code in gone
            )
            warnings.warn(
                f"after adaptation the model hardly says any more: {told}; where that is not the truth of the new site, use "
                "trainable='none'",
                stacklevel=2,
            )
        rows = [row for row in self.history_ if "entropy" in row and "high_order" in row]
        terms = (
            {name: float(np.mean([row[name] for row in rows])) for name in ("entropy", "high_order")} if rows else {}
        )
        if terms and min(terms.values()) > 0 and max(terms.values()) > APART * min(terms.values()):
            small, large = sorted(terms, key=terms.__getitem__)
            warnings.warn(
                f"{large} was {terms[large] / terms[small]:.0f} times {small} on average: change entropy_weight",
                stacklevel=2,
            )

    # Answers ----------------------------------------------------------------------------------------------------------

    def logits(self, net: Any, inputs: Tensor) -> Tensor:
        """What the network says of a batch: (b, k) or (b, k, h, w), float32; k is 2 where it has one output."""
        try:
            if self._estimator:
                found = self.model.encode(net.model, {"image": inputs}, layer="logits")
            else:
                found = net.model(inputs)
        except (RuntimeError, TypeError, IndexError) as error:
            raise ValueError(
                f"X: the model refuses inputs of shape {tuple(inputs.shape)}: {' '.join(str(error).split())[:300]}"
            ) from error
        if not isinstance(found, Tensor) or found.ndim not in (2, 4, 5) or len(found) != len(inputs):
            came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"model: logits (n, k), (n, k, h, w) or, of volumes, (n, k, d, h, w) of {len(inputs)} inputs were expected, "
                f"got {came}"
            )
        found = found.float()
        return torch.cat([torch.zeros_like(found), found], dim=1) if found.shape[1] == 1 else found

    def encode(self, net: Any, batch: dict[str, Any], layer: str = "representation") -> Tensor:
        """``representation``: logits (b, k), averaged over pixels; ``logits``; ``codes``: the place of the largest."""
        logits = self.logits(net, batch["image"])
        if layer == "representation":
            return logits.flatten(2).mean(dim=2) if logits.ndim > 2 else logits
        return logits if layer == "logits" else logits.argmax(dim=1)

    def encode_plan(self, source: Any) -> list[np.ndarray]:
        if self._estimator:
            return self.model.encode_plan(source)
        return [np.arange(i, min(i + ROWS_AT_ONCE, len(source))) for i in range(0, len(source), ROWS_AT_ONCE)]

    @property
    def model_(self) -> Any:
        self.require_fitted()
        return self.like_model(self.net_)

    def like_model(self, net: Any) -> Any:
        """An adapted network in the form of the model it was copied from."""
        if not self._estimator:
            return net.model
        adapted = copy.copy(self.model)
        adapted.net_ = net.model
        for name in ("history_", "health_", "seconds_", "fingerprint_", "training_"):
            if hasattr(self, name):
                setattr(adapted, name, getattr(self, name))
        return adapted

    @property
    def classes_(self) -> np.ndarray:
        """(k,) in the order of probabilities: the model's, or 0 to k - 1."""
        self.require_fitted()
        return self.model.classes_ if self._estimator else np.arange(len(self.net_.told))

    def predict_proba(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Class probabilities (n, k, h, w), or (n, k) of a classifier."""
        self.require_fitted()
        logits = torch.from_numpy(self.transform_source(self.open_one(X, columns), layer="logits"))
        probabilities: np.ndarray = logits.softmax(dim=1).numpy()
        return probabilities

    def predict(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """The most probable class (n, h, w), or (n,) of a classifier."""
        self.require_fitted()
        return self.classes_[self.transform_source(self.open_one(X, columns), layer="codes").astype(np.int64)]

    def score(self, X: Any, y: Any = None, *, columns: dict[str, str] | None = None) -> float:
        """Mean Dice of masks y (n, h, w); of a classifier accuracy on labels y (n,). They serve to judge, never to adapt."""
        from nolabel.assess.segmentation import segmentation_scores

        self.require_fitted()
        if isinstance(self.model, ImageSegmenter):
            return float(self.model_.judged(X, y, columns=columns).mean_dice)
        if y is None:
            raise ValueError("y: labels were expected to score against, got None")
        truth, found = np.asarray(y), self.predict(X, columns=columns)
        if truth.shape != found.shape:
            raise ValueError(f"y: shape {found.shape} was expected, as predicted, got {truth.shape}")
        if found.ndim == 1:
            return float(np.mean(truth == found))
        return segmentation_scores(*(masks.reshape(-1, *masks.shape[-2:]) for masks in (truth, found))).mean_dice

    def _check(self) -> None:
        if not self._estimator and not isinstance(self.model, nn.Module):
            raise TypeError(
                "model must be a fitted ImageSegmenter or ImageClassifier, or an nn.Module with batch norm, got "
                f"{type(self.model).__name__}"
            )
        if self.trainable not in TRAINABLE:
            raise ValueError(f"trainable must be one of {', '.join(TRAINABLE)}, got {self.trainable!r}")
        if self.trainable == "none" and not self.recompute_statistics:
            raise ValueError("trainable='none' adapts statistics alone: it needs recompute_statistics=True")
        if not 0 <= self.source_share <= 1:
            raise ValueError(f"source_share must lie in [0, 1], got {self.source_share}")
        if not self.decay_steps > 0:
            raise ValueError(f"decay_steps must be above 0, got {self.decay_steps}")
        if not (self.entropy_weight >= 0 and math.isfinite(self.entropy_weight)):
            raise ValueError(f"entropy_weight must be at least 0 and finite, got {self.entropy_weight}")
