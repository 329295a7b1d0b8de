"""LSA: a classifier learned from noisy labels, two ways of finding them taking turns.

Images were collected by search words: some have the label of another class, some belong to no class at all (strangers).
The network (encoder f, classifier h, linear projector c) starts from features learned without labels. After each epoch one
detector says which labels are wrong: in turn linear separation in an early stage of f, which sees strangers, and the
small-loss test, which keeps simple images that the former takes for strangers (see `detection`). In the next epoch a noisy
image i has the corrected label and the confidence

    g_i = p_i^2 / sum p_i^2,  p_i = softmax h(weak view),       w_i in [0, 1] from how well h agrees with g_i afterwards,

is seen in a strong view, and every image is blended with another one j by a share s (mixup):

    L = s [ CE_w(g_i) + C(i) ] + (1 - s) [ CE_w(g_j) + C(j) ],

CE_w the cross-entropy averaged with the weights w, 1 for right labels, and C(i) a contrastive term between the projections
of the blended image and of other views of the batch, whose positives are all images of the class of g_i.

The confidence also tells two kinds of noise apart. The network comes to know a wrongly labelled image by those of its true
class: it is certain and stays so under another view, w is high. Of a stranger it has no class to be certain of, w is low.

Albert, Valmadre, Arazo, Krishna, O'Connor & McGuinness, "An accurate detection is not all you need to combat label noise in
web-noisy datasets", ECCV 2024, arXiv:2407.05528; confidence and weights from their PLS, WACV 2023, arXiv:2210.04578.
Differences: the linear detector learns from samples that the small-loss test flags at 0.5, not 0.95 (see
`detect_noise`); corrected labels come from the network in evaluation mode; the two networks of PLS-LSA+ take their steps
together on the same batches, each with views of its own.
"""

import copy
import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

from nolabel.clean.detection import (
    correction_confidence,
    linear_separation,
    require_thresholds,
    trusted_flags,
    warn_of_share,
)
from nolabel.clean.suspects import Suspect, suspects_among
from nolabel.data.labels import class_codes
from nolabel.learn.image_classifier import ImageClassifier
from nolabel.objectives.corrected_labels import blended_cross_entropy, sharpened, unbalance
from nolabel.objectives.label_aware import label_contrast
from nolabel.ops.mixtures import upper_component
from nolabel.training import ImageLearner, Training, gather
from nolabel.views import RandAugment, recipe
from nolabel.views.mixing import Mixed, mixup
from nolabel.views.recipes import SMALL

DETECTORS = ("linear", "loss")
PROJECTION = 128
#: Epochs after which the losses of a network with random weights say something.
SETTLED = 5


class Views(NamedTuple):
    """What the networks see of a batch."""

    weak: Tensor  # (b, c, h, w)
    codes: Tensor  # (b,) the labels as given
    rows: Tensor  # (b,) of the source
    noisy: Tensor  # (b,)
    confidence: Tensor  # (b,)
    mixed: list[Mixed]  # of each network
    contrast: list[Tensor]  # (b, c, h, w) of each network


class LSAClassifier(ImageClassifier):
    """Classify images after learning from labels of which many are wrong, and say which.

    Use it for images that were collected by search words or labelled in haste. With few wrong labels and no strangers,
    ``detectors=("loss",)`` is enough. A linear detector that learned from few images, or on features of a short
    pre-training, calls a third of the right labels noisy; its turns then cost accuracy. Images of a class much smaller than the
    others are learned late, and until then are taken for noise.

    Parameters
    ----------
    encoder : name or ``nn.Module``; with a `representation` it plays no part
    representation : fitted `ImageLearner`, such as `SimCLR` on the same images without labels, whose encoder the training
        starts from; it stays as it is
    detectors : which detector has its turn after which epoch: ``linear``, ``loss`` (which alone is PLS), or both
    warmup : epochs before the first detection; at least one in any case. From random weights 5 or more
    loss_threshold, target_threshold, linear_threshold : as in `detect_noise`
    feature_layer : stage of the encoder where strangers are looked for; ``None``: the second, or the output of an encoder
        without stages. The last one is overwritten by the labels
    sharpening : power of the corrected labels
    contrastive_temperature : of the contrastive term
    mixup_alpha : how evenly images are blended; 0 does not blend
    class_balance : also pull the mean prediction of a batch to even use of the classes: where these are of like size
    co_training : two networks correct each other (PLS-LSA+): only what both call noisy is; twice the time
    trusted : (n,) flags of a person, 1 wrong, 0 right, -1 not checked: what the linear detector learns from
    augment : recipe of the weak view, as in `ImageClassifier`
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Attributes
    ----------
    classes_ : (k,) labels in the order of probabilities
    clean_mask_ : (n,) whether a label is held to be right by the last of `detectors`, after the last epoch
    losses_ : (n,) cross-entropies of the labels as given, at the end
    noise_scores_ : (n, 2) probability of noise by the linear detector and by the small-loss detector, at the end
    pseudo_labels_ : (n, k) corrected labels, distributions
    pseudo_confidence_ : (n,) confidence in them; 1 where the label is held to be right
    rows_ : (n,) rows of the table that was learned from: all but those that could not be read
    detections_ : a dict for each detection: epoch, detector, share of noisy labels, share that the linear one learned from

    Examples
    --------
    >>> from nolabel.data import load
    >>> from nolabel.learn import SimCLR
    >>> digits = load("digits").select(range(320))
    >>> y = np.array(digits["label"])
    >>> y[:64] = (y[:64] + 1) % 10
    >>> learned = SimCLR("conv4-x0.5", image_size=16, training=Training(steps=30, batch_size=64)).fit(digits)
    >>> settings = Training(10, batch_size=16, lr=0.02)
    >>> model = LSAClassifier(representation=learned, detectors=("loss",), warmup=3, training=settings).fit(digits, y)
    >>> sum(suspect.row < 64 for suspect in model.suspects()[:20]) > 12
    True
    """

    recipe = {"optimiser": "sgd", "lr": 0.05, "weight_decay": 5e-4, "batch_size": 128, "epochs": 20}  # noqa: RUF012
    freeze = False  # offered by the plain classifier alone
    clean_mask_: np.ndarray
    losses_: np.ndarray
    noise_scores_: np.ndarray
    pseudo_confidence_: np.ndarray
    rows_: np.ndarray
    given_codes_: np.ndarray
    weak_probabilities_: np.ndarray
    detections_: list[dict[str, Any]]

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        representation: ImageLearner | None = None,
        detectors: Sequence[str] = DETECTORS,
        warmup: int = 0,
        loss_threshold: float = 0.95,
        target_threshold: float = 0.5,
        linear_threshold: float = 0.5,
        feature_layer: str | None = None,
        sharpening: float = 2.0,
        contrastive_temperature: float = 0.2,
        mixup_alpha: float = 1.0,
        class_balance: bool = False,
        co_training: bool = False,
        trusted: Any = None,
        augment: Any = None,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.representation = representation
        self.detectors = detectors
        self.warmup = warmup
        self.loss_threshold = loss_threshold
        self.target_threshold = target_threshold
        self.linear_threshold = linear_threshold
        self.feature_layer = feature_layer
        self.sharpening = sharpening
        self.contrastive_temperature = contrastive_temperature
        self.mixup_alpha = mixup_alpha
        self.class_balance = class_balance
        self.co_training = co_training
        self.trusted = trusted
        self.augment = augment
        self.image_size = image_size
        self.training = training

    @property
    def pseudo_labels_(self) -> np.ndarray:
        self.require_fitted()
        corrected: np.ndarray = sharpened(
            torch.from_numpy(self.weak_probabilities_).mean(dim=0), self.sharpening
        ).numpy()
        return corrected

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        super().prepare(source, folder)
        self._check()
        n, k = len(source), len(self.class_names_)
        self.rows_ = np.asarray(source.sources[0].rows)
        self.given_codes_ = class_codes(
            source.sources[1].batch(np.arange(n))["label"], self.class_names_
        ).numpy()  # (n,) a copy: corrections never reach the data
        if len(alone := np.flatnonzero(np.bincount(self.given_codes_, minlength=k) < 2)):
            names = ", ".join(repr(self.class_names_[code]) for code in alone[:5])
            raise ValueError(f"label: each class needs at least 2 images to be judged by, there is one of {names}")
        if self.trusted is not None:
            rows = int(self.rows_.max()) + 1  # of the table, but for those at its end that could not be read
            trusted_flags(self.trusted, max(rows, len(self.trusted)))
        by_name = isinstance(self.encoder, str) and not self.encoder.startswith(("hf:", "timm:"))
        if self.representation is None and by_name and self.warmup < SETTLED:
            warnings.warn(
                f"warmup={self.warmup} from random weights: the first losses tell little; give a representation, such as SimCLR "
                f"on the same images, or warmup={SETTLED} or more",
                stacklevel=2,
            )
        self.clean_mask_ = np.ones(n, dtype=bool)
        self.pseudo_confidence_ = np.ones(n, dtype=np.float32)
        self.noise_scores_ = np.zeros((n, 2), dtype=np.float32)
        # until a row has been seen, all classes are alike for it
        self.weak_probabilities_ = np.full((1 + self.co_training, n, k), 1 / k, dtype=np.float32)
        self.detections_ = []

    def _check(self) -> None:
        if isinstance(self.detectors, str) or not self.detectors or not set(self.detectors) <= set(DETECTORS):
            raise ValueError(f"detectors must be some of {', '.join(DETECTORS)} in order, got {self.detectors!r}")
        require_thresholds(
            loss_threshold=self.loss_threshold,
            target_threshold=self.target_threshold,
            linear_threshold=self.linear_threshold,
        )
        if isinstance(self.warmup, bool) or not isinstance(self.warmup, int) or self.warmup < 0:
            raise ValueError(f"warmup must be a whole number of epochs, at least 0, got {self.warmup!r}")
        for name, value in (("sharpening", self.sharpening), ("contrastive_temperature", self.contrastive_temperature)):
            if not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        if not self.mixup_alpha >= 0:
            raise ValueError(f"mixup_alpha must be at least 0, got {self.mixup_alpha}")

    def build(self, example: dict[str, Any]) -> nn.Module:
        net = self._member(example)
        if self.co_training:
            net.second = self._member(example)
        return net

    def _member(self, example: dict[str, Any]) -> Any:
        """One network with a head of its own."""
        net: Any = super().build(example)
        stages = net.encoder.channels
        if self.feature_layer is not None and self.feature_layer not in stages:
            there = ", ".join(stages) or "none"
            raise ValueError(f"feature_layer must be a stage of the encoder ({there}), got {self.feature_layer!r}")
        net.head = nn.Linear(net.encoder.dim, PROJECTION)
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> Views:  # type: ignore[override]
        images = batch["image"]
        _, channels, side, _ = images.shape
        weak, codes = super().views(batch, generator)
        rows = batch["row"].cpu().numpy()
        noisy = torch.from_numpy(~self.clean_mask_[rows]).to(images.device)
        strong = RandAugment(operations=1, magnitude=6.0 if side <= SMALL else 4.0)
        seen = weak.clone()
        if noisy.any():
            seen[noisy] = strong(weak[noisy], generator)
        networks = range(1 + self.co_training)
        return Views(
            weak,
            codes,
            batch["row"],
            noisy,
            torch.from_numpy(self.pseudo_confidence_[rows]).to(images.device),
            [mixup(seen, alpha=self.mixup_alpha, generator=generator) for _ in networks],
            [recipe(None, side, channels)(images, generator) for _ in networks],
        )

    def loss(self, net: Any, views: Views) -> dict[str, Tensor]:  # type: ignore[override]
        k = len(self.class_names_)
        with torch.no_grad():
            net.eval()  # the guess of an image does not depend on the batch
            p = torch.stack([each.classifier(each.encoder(views.weak)).float().softmax(dim=1) for each in members(net)])
            net.train()
            for own, guess in zip(self.weak_probabilities_, p):
                own[gather(views.rows).cpu().numpy()] = gather(guess).cpu().numpy()
            given = one_hot(views.codes, k).float()  # (b, k)
            targets = torch.where(views.noisy.unsqueeze(1), sharpened(p.mean(dim=0), self.sharpening), given)
        classes = targets.argmax(dim=1)
        terms: dict[str, Tensor] = {}

        def add(name: str, term: Tensor) -> None:
            terms[name] = terms[name] + term if name in terms else term

        for each, mixed, contrast in zip(members(net), views.mixed, views.contrast, strict=True):
            features = each.encoder(torch.cat([mixed.images, contrast]))
            logits = each.classifier(features[: len(classes)]).float()
            add("classification", blended_cross_entropy(logits, targets, views.confidence, mixed.partner, mixed.share))
            anchors, others = each.head(features).chunk(2)  # (b, 128) each
            there, of_there = gather(others), gather(classes)
            for share, own in ((mixed.share, classes), (1 - mixed.share, classes[mixed.partner])):
                term = label_contrast(anchors, there, own, of_there, temperature=self.contrastive_temperature)
                add("contrast", share * term)
            if self.class_balance:
                add("balance", unbalance(logits))
        return terms

    def enough(self, net: nn.Module, source: Any, epoch: int) -> bool:
        """Never ends the training; one detector has its turn."""
        if epoch >= max(1, self.warmup):
            self._detect(net, source, epoch, (self.detectors[epoch % len(self.detectors)],))
        return False

    def finish(self, source: Any) -> None:
        """Both detectors on the trained network; the last one named has the last word."""
        last = self.detectors[-1]
        self._detect(self.net_, source, -1, (*(name for name in DETECTORS if name != last), last))

    def _detect(self, net: nn.Module, source: Any, epoch: int, detectors: Sequence[str]) -> None:
        """Set mask, scores and confidence by what each network makes of the un-augmented images."""
        features, log_p = self._looked_at(net, source)  # (networks, n, d), (networks, n, k)
        losses = -log_p[:, np.arange(len(self.given_codes_)), self.given_codes_]  # (networks, n)
        high = np.stack([upper_component(each) for each in losses])
        self.losses_, self.noise_scores_[:, 1] = losses.mean(axis=0), high.mean(axis=0)
        for detector in detectors:
            row: dict[str, Any] = {"epoch": epoch, "detector": detector}
            if detector == "loss":
                noisy = high > self.loss_threshold
            else:
                if self.trusted is None:
                    flags = (high > self.target_threshold).astype(int)
                    row["learned from"] = round(float(flags.mean()), 4)
                    if not any("learned from" in before for before in self.detections_):
                        warn_of_share(flags)
                else:
                    flags = np.repeat(np.asarray(self.trusted).astype(int)[self.rows_][None], len(high), axis=0)
                found = [linear_separation(z, f, self.linear_threshold) for z, f in zip(features, flags)]
                if any(each is None for each in found):
                    continue  # nothing to separate: what was found before stays
                self.noise_scores_[:, 0] = np.mean([each.probability for each in found if each is not None], axis=0)
                noisy = np.stack([each.noisy for each in found if each is not None])
            joint = np.asarray(noisy.all(axis=0))
            self.clean_mask_ = ~joint
            self.detections_.append({**row, "noisy": round(float(joint.mean()), 4)})
        self.pseudo_confidence_ = self._confidence(log_p)

    def _confidence(self, log_p: np.ndarray) -> np.ndarray:
        """How well each network agrees with the corrected labels, of two networks with those of the other one; their mean."""
        noisy = ~self.clean_mask_
        each = []
        for own, guess in zip(log_p, self.weak_probabilities_[::-1]):
            target = sharpened(torch.from_numpy(guess), self.sharpening).numpy()
            each.append(correction_confidence(-(target * own).sum(axis=1), noisy))
        return np.mean(each, axis=0).astype(np.float32)

    def _looked_at(self, net: nn.Module, source: Any) -> tuple[np.ndarray, np.ndarray]:
        """Features of the early stage (networks, n, d) and log-probabilities (networks, n, k) of all images as they are."""
        seer = copy.copy(self)
        seer.net_ = copy.deepcopy(net)  # which is put into evaluation mode and on one device
        k, networks = len(self.class_names_), 1 + self.co_training
        found = seer.transform_source(source, layer="detection").reshape(len(source), networks, -1).swapaxes(0, 1)
        return found[..., :-k], log_softmax(torch.from_numpy(found[..., -k:].copy()), dim=-1).numpy()

    def encode(self, net: Any, batch: dict[str, Any], layer: str = "representation", pool: int | None = 1) -> Tensor:
        """As in `ImageClassifier`; the ``logits`` of two networks are the logarithms of their mean probabilities."""
        if layer == "logits":
            parts = [ImageClassifier.encode(self, each, batch, "logits") for each in members(net)]
            return parts[0] if len(parts) == 1 else torch.stack([p.float().softmax(1) for p in parts]).mean(0).log()
        if layer != "detection":
            return super().encode(net, batch, layer, pool)
        stages = list(net.encoder.channels)
        early = self.feature_layer or (stages[min(1, len(stages) - 1)] if stages else "representation")
        outputs = []
        for each in members(net):
            outputs += [ImageClassifier.encode(self, each, batch, name) for name in (early, "logits")]
        return torch.cat([part.float() for part in outputs], dim=1)

    def suspects(self) -> list[Suspect]:
        """Samples whose label is probably wrong, those of the highest loss first; see `suspects_among`."""
        self.require_fitted()
        return suspects_among(
            self.class_names_,
            rows=self.rows_,
            given=self.given_codes_,
            suggested=self.pseudo_labels_.argmax(axis=1),
            noisy=~self.clean_mask_,
            losses=self.losses_,
            noise_scores=self.noise_scores_,
            confidence=self.pseudo_confidence_,
        )


def members(net: Any) -> list[Any]:
    """The one network, or the two that correct each other."""
    return [net, net.second] if hasattr(net, "second") else [net]
