"""Choose among adapted classifiers without target labels: method, trade-off and epoch by the Transfer Score.

`rank_checkpoints` scores fitted models, `choose` trains candidates and scores what they were after each of their last epochs.
All are scored on the same target images with the same draws. A model whose features are all equal has collapsed: it has no
score and comes last.

Yang, Qian, Xu, Wang & Xie, ICLR 2024, arXiv:2305.18712.
"""

import copy
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.adapt.domain_adapter import DomainAdapter
from nolabel.assess.adaptation import CRITERIA, Outputs
from nolabel.assess.transfer import FEWEST_ROWS, TransferScore, transfer_score
from nolabel.data.labels import class_codes
from nolabel.learn.image_classifier import ImageClassifier
from nolabel.training import Training, load
from nolabel.training.batches import Some
from nolabel.training.checkpoint import CHECKPOINT
from nolabel.training.estimator import CONFIG

#: Target images that are looked at, at most.
ROWS = 5000
#: Criteria beside the Transfer Score and its parts.
OTHERS = ("negative_entropy", "soft_neighbourhood_density", "batch_nuclear_norm")


@dataclass(frozen=True)
class Checkpoint:
    """A candidate after one of its epochs, and how it was scored; `epoch` is None for a model that was not trained here.

    Attributes
    ----------
    score : Transfer Score and its parts; None for a collapsed model
    smoothed : what is ranked: mean of the totals of this epoch and of those before it within the window; -inf for a collapsed
        model, NaN where epochs of the window are missing
    others : further criteria, for comparison
    """

    name: str
    epoch: int | None
    score: TransferScore | None
    smoothed: float
    others: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        parts = TransferScore(*[math.nan] * 4) if self.score is None else self.score
        ranked = {"ranked_by": self.smoothed, "transfer_score": parts.total}
        return {"candidate": self.name, "epoch": self.epoch} | ranked | {
            k: v for k, v in parts.to_dict().items() if k != "total"
        } | self.others  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """What `choose` found: the fitted winner, which it is, and all checkpoints, best first."""

    best: ImageClassifier
    name: str
    epoch: int | None
    ranking: list[Checkpoint]


def outputs_of(model: Any, target: Any, validation: Any = None) -> Outputs:
    """What a fitted classifier makes of opened target images and, if given, of source images with labels."""
    source = {}
    if validation is not None:
        codes = class_codes(validation.batch(np.arange(len(validation)))["label"], model.class_names_)
        logits = model.transform_source(validation, layer="logits")
        source = {"source_logits": logits, "source_codes": codes.numpy()}
    features, logits = (model.transform_source(target, layer=layer) for layer in ("representation", "logits"))
    return Outputs(features, logits, model.head_weight, **source)


def transfer_scorer(model: Any, X: Any, y: Any = None) -> float:
    """Transfer Score of a fitted classifier on unlabelled images X, for scikit-learn's ``scoring=``; y is not looked at."""
    score = _scored(outputs_of(model, model.open_one(X, None)))[0]
    return -math.inf if score is None else score.total


def rank_checkpoints(
    models: Mapping[str, Any],
    X: Any,
    *,
    columns: dict[str, str] | None = None,
    validation: Any = None,
    rows: int = ROWS,
    random_state: int = 0,
) -> list[Checkpoint]:
    """Score fitted classifiers on unlabelled target images, best first.

    Parameters
    ----------
    models : fitted image classifiers of the same classes and feature width by name
    X, columns : target images, as in `fit`
    validation : labelled source images kept out of training, for the accuracy there; no part of the score
    rows : target images looked at, at most; the same ones for all
    random_state : seed of these and of the score's draws

    Raises
    ------
    ValueError
        No models, models of other classes or widths, fewer than 40 target images.
    """
    if not models:
        raise ValueError("models is empty: expected at least one fitted classifier by name")
    judge = _Judge(X, columns, validation, rows, random_state)
    return _sorted([judge(name, None, model) for name, model in models.items()])


def choose(
    candidates: Mapping[str, Any],
    source: Any,
    target: Any,
    *,
    columns: dict[str, str] | None = None,
    validation: Any = None,
    epochs: int = 5,
    window: int = 1,
    rows: int = ROWS,
    random_state: int = 0,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Choice:
    """Train candidates and keep the one, after the epoch, that scores best on the target without a label of it.

    Parameters
    ----------
    candidates : adapters by name, which are trained; a classifier that is fitted already is scored as it is
    source : labelled images, with the columns `image` and `label`
    target : images nobody labelled
    columns, validation, rows, random_state : as in `rank_checkpoints`
    epochs : so many last epochs of a candidate are scored
    window : epochs over which the score is averaged, the present one and those before it. Above 1 a score that has stopped
        rising is preferred to one that leaps; the first ``window - 1`` of the scored epochs cannot be chosen.
    folder : where each candidate's run is kept, in a sub-folder of its name, so that `resume` can go on
    resume : go on with what `folder` holds
    progress : called with the name of a candidate before it is trained

    Raises
    ------
    ValueError
        No candidates, a window above epochs, candidates that cannot be compared, or none that neither diverged nor
        collapsed.

    Warns
    -----
    UserWarning
        A candidate whose training diverged; it is left out.
    """
    if not candidates:
        raise ValueError("candidates is empty: expected at least one classifier by name")
    if epochs < 1 or not 1 <= window <= epochs:
        raise ValueError(f"epochs and window must be at least 1, window not above epochs, got {epochs} and {window}")
    judge = _Judge(target, columns, validation, rows, random_state)
    ranking: list[Checkpoint] = []
    best: tuple[float, Any, str, int | None] = (-math.inf, None, "", None)
    for name, candidate in candidates.items():
        if progress is not None:
            progress(name)
        place = Path(folder) / name if folder is not None else None
        try:
            fitted = _trained(candidate, {"source": source, "target": target}, columns, epochs, place, resume)
        except FloatingPointError as error:
            warnings.warn(f"{name} was left out, its training diverged: {error}", stacklevel=2)
            continue
        models = dict(_checkpoints(fitted))
        scored = _smoothed([judge(name, epoch, model) for epoch, model in models.items()], window)
        ranking += scored
        for one in scored:
            if one.smoothed > best[0]:
                best = one.smoothed, models[one.epoch], name, one.epoch
    if best[1] is None:
        raise ValueError(
            "every candidate diverged or collapsed to equal features of all target images: lower the trade-offs or training.lr"
        )
    return Choice(*best[1:], _sorted(ranking))


class _Judge:
    """Scores models on one sample of the target and refuses what does not compare."""

    def __init__(self, X: Any, columns: Any, validation: Any, rows: int, random_state: int) -> None:
        if rows < FEWEST_ROWS:
            raise ValueError(f"rows must be at least {FEWEST_ROWS}, got {rows}")
        self.X, self.columns, self.validation, self.rows, self.random_state = X, columns, validation, rows, random_state
        self.opened: dict[Any, tuple[Any, Any]] = {}
        self.first: tuple[str, list[Any], int] | None = None

    def __call__(self, name: str, epoch: int | None, model: Any) -> Checkpoint:
        outputs = outputs_of(model, *self._open(model))
        own = name, list(model.class_names_), outputs.features.shape[1]
        self.first = self.first or own
        if self.first[1:] != own[1:]:
            what = "classes" if self.first[1] != own[1] else "width of features"
            raise ValueError(
                f"{what}: {name} has others than {self.first[0]}; the Transfer Score does not compare them"
            )
        score, others = _scored(outputs, self.random_state)
        return Checkpoint(name, epoch, score, -math.inf if score is None else score.total, others)

    def _open(self, model: Any) -> tuple[Any, Any]:
        """Target and validation images in the shape that the model takes; decoded once for each shape."""
        _, channels, height, _ = _shape(model)
        if (channels, height) not in self.opened:
            target = model.open_one(self.X, self.columns)
            if len(target) < FEWEST_ROWS:
                raise ValueError(
                    f"target: at least {FEWEST_ROWS} images were expected, for the Transfer Score, got {len(target)}"
                )
            if len(target) > self.rows:
                drawn = np.random.default_rng(self.random_state).permutation(len(target))[: self.rows]
                target = Some(target, np.sort(drawn))
            held = self.validation
            held = None if held is None else model.open_table(held, self.columns, ("image", "label"))
            self.opened[channels, height] = target, held
        return self.opened[channels, height]


def _shape(model: Any) -> list[int]:
    """Shape of the batches of images that a fitted classifier takes."""
    seen = model.example_["batch"]
    shape: list[int] = (seen[model.parts[0]]["batch"] if model.parts else seen)["image"]["shape"]
    return shape


def _scored(outputs: Outputs, random_state: int = 0) -> tuple[TransferScore | None, dict[str, float]]:
    """Score and other criteria; no score where all features are equal."""
    others = {name: CRITERIA[name](outputs) for name in OTHERS}
    if outputs.source_codes is not None:
        others["source_accuracy"] = CRITERIA["source_accuracy"](outputs)
    if not np.ptp(outputs.features, axis=0).any():
        return None, others
    weight = outputs.head_weight
    return transfer_score(outputs.features, outputs.logits, head_weight=weight, random_state=random_state), others


def _trained(candidate: Any, data: Any, columns: Any, epochs: int, place: Path | None, resume: bool) -> Any:
    """A copy of an adapter, fitted; a fitted classifier as it is."""
    if not isinstance(candidate, DomainAdapter) or candidate._learned():
        candidate.require_fitted()
        return candidate
    own = copy.copy(candidate)
    own.keep_epochs = epochs
    source = own.open(data, columns)
    if place is not None and resume and (place / CONFIG).exists():
        before = load(place)
        if _settings(before) != _settings(own) or before.fingerprint_ != source.fingerprint:
            raise ValueError(f"{place} was learned with other settings or data: resume needs the same")
        return before
    unfinished = place is not None and (place / CHECKPOINT).exists()
    return own.fit_source(source, run=place, resume=resume and unfinished)


def _settings(adapter: DomainAdapter) -> dict[str, Any]:
    """What decides how an adapter trains, beside its data and the model it starts from."""
    params = adapter.get_params(deep=False)
    del params["model"]
    training = (adapter.training or Training()).get_params()
    return params | {"training": {k: v for k, v in training.items() if k not in ("progress", "stop_on_collapse")}}


def _checkpoints(fitted: Any) -> Iterator[tuple[int | None, Any]]:
    kept = getattr(fitted, "checkpoints_", {})
    if not kept:
        yield None, fitted
    for epoch in kept:
        yield int(epoch), fitted.at_epoch(int(epoch))


def _smoothed(scored: list[Checkpoint], window: int) -> list[Checkpoint]:
    """With trailing means over `window` epochs, or over as many as there are."""
    totals, window = [one.smoothed for one in scored], min(window, len(scored))
    means = [math.nan if i + 1 < window else sum(totals[i + 1 - window : i + 1]) / window for i in range(len(totals))]
    return [replace(one, smoothed=mean) for one, mean in zip(scored, means, strict=True)]


def _sorted(scored: list[Checkpoint]) -> list[Checkpoint]:
    """Best first, what cannot be chosen last."""
    return sorted(scored, key=lambda one: -math.inf if math.isnan(one.smoothed) else one.smoothed, reverse=True)
