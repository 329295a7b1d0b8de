"""G-SimCLR: SimCLR on batches in which no two images belong to one pseudo-class.

With small batches a good part of SimCLR's "everything else" is of the image's own kind. So: (1) a denoising autoencoder is
trained on the images; (2) k-means on its features gives as many pseudo-classes as a batch has images; (3) every batch draws
one image from each of distinct pseudo-classes; (4) SimCLR is trained on these batches.

Chakraborty, Gosthipaty & Paul, "G-SimCLR: self-supervised contrastive learning with guided projection via pseudo labelling",
ICDM workshops 2020, arXiv:2009.12007. Differences, each measured or argued: pseudo-classes come from the flattened
bottleneck rather than its average (which loses the shape); batches are drawn anew every epoch; the autoencoder stops by
held-out training images, not by the test set.
"""

import os
import warnings
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from nolabel.learn.autoencoder import DenoisingAutoencoder
from nolabel.learn.simclr import SimCLR
from nolabel.training import GuidedBatchSampler, Learner, Training
from nolabel.training.batches import Rows
from nolabel.views.recipes import Recipe


class GSimCLR(SimCLR):
    """SimCLR for small batches: images that look alike never meet as negatives.

    Use it with batches below about 64 on data whose autoencoder clusters follow the classes (centred objects, digits).
    Where clusters follow colour rather than kind the gain can be negative: try other `features`.

    Parameters
    ----------
    encoder, temperature, projection, augment, image_size, training : as in `SimCLR`
    clusters : number K of pseudo-classes, at least the batch size; ``None`` is the batch size, as in the paper. Twice the
        batch keeps nearly all images in every epoch at about 60 % of the effect
    tail : what happens to images left over when fewer than `batch_size` pseudo-classes have members: ``drop``,
        ``repeat`` or ``oversample`` (see `GuidedBatchSampler`)
    features : where pseudo-classes come from: ``None`` (a `DenoisingAutoencoder`), an array (n, d), another learner, a
        scikit-learn estimator with ``fit_transform`` for the pixels, or a callable from the opened source to (n, d)

    Attributes
    ----------
    pseudo_labels_ : (n,) pseudo-class of every image
    coverage_ : share of the images seen in an epoch

    Examples
    --------
    >>> from nolabel.data import load
    >>> fast = Training(steps=2, batch_size=16)
    >>> learner = GSimCLR("conv4", features=DenoisingAutoencoder(training=fast), training=fast)
    >>> learner = learner.fit(load("digits").select(range(300)))
    >>> len(set(learner.pseudo_labels_.tolist()))
    16
    """

    recipe = {"optimiser": "sgd", "lr": 0.05, "weight_decay": 1e-4, "batch_size": 64}  # noqa: RUF012

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        temperature: float = 0.1,
        projection: tuple[int, int] = (128, 64),
        clusters: int | None = None,
        tail: str = "drop",
        features: Any = None,
        augment: Recipe | str | None = None,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.temperature = temperature
        self.projection = projection
        self.clusters = clusters
        self.tail = tail
        self.features = features
        self.augment = augment
        self.image_size = image_size
        self.training = training

    def fit(self, X: Any, y: Any = None, **options: Any) -> Self:
        """As `SimCLR.fit`; labels are ignored with a warning, since pseudo-classes take their place."""
        if y is not None:
            warnings.warn("y is ignored: GSimCLR makes its own pseudo-classes", stacklevel=2)
        return super().fit(X, **options)

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        seed, batch = self.training_.random_state, self.training_.batch_size or 64
        clusters = self.clusters or batch
        if clusters < batch and self.tail != "repeat":
            raise ValueError(
                f"need at least as many clusters as samples per batch (got K={clusters}, B={batch}), or set tail='repeat'"
            )
        if len(source) < 2 * batch:
            raise ValueError(f"need at least two batches of images (2 x {batch}), got {len(source)}")
        features = self._features(source).reshape(len(source), -1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # too few different images: said below
            found = KMeans(clusters, n_init=1, random_state=seed).fit_predict(features).astype(np.int64)
        if (different := len(np.unique(found))) < clusters:
            raise ValueError(f"k-means found {different} clusters, not {clusters}: too few of the images differ")
        self.pseudo_labels_ = found

    def finish(self, source: Any) -> None:
        self.coverage_ = self._sampler(self.training_.batch_size or 64).audit()["coverage"]

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        return list(self._sampler(batch_size).epoch(rng))

    def _sampler(self, batch_size: int) -> GuidedBatchSampler:
        return GuidedBatchSampler(self.pseudo_labels_, batch_size, tail=self.tail)

    def _features(self, source: Any) -> np.ndarray:
        given = self.features
        if given is None:
            settings = Training(random_state=self.training_.random_state, progress=self.training_.progress)
            given = DenoisingAutoencoder(training=settings)
        if isinstance(given, Learner):
            stage = clone(given)
            return stage.fit_source(source).transform_source(source)
        if hasattr(given, "fit_transform"):
            pixels = source.batch(np.arange(len(source)))["image"].flatten(1).numpy() / 255.0
            given = clone(given).fit_transform(pixels.astype(np.float32))
        features = np.asarray(given(source) if callable(given) else given, dtype=np.float32)
        if len(features) != len(source) or features.ndim < 2:
            raise ValueError(
                f"features must be ({len(source)}, d), a row for every readable image, got {features.shape}"
            )
        return features
