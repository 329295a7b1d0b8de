"""SwAV: predict the cluster assignment of one view from another.

Unit vectors z of several crops are scored against prototypes C: s = z C^T. For each of the two large crops, codes q spread
the batch evenly over the prototypes (Sinkhorn, no gradient). Every other crop v has to predict them:

    L = 1/2 sum_i 1/(V-1) sum_{v != i} -mean_b sum_k q_bk^(i) log softmax(s_b^(v) / t)_k

Small crops are cheap and never produce codes. A queue of earlier features helps Sinkhorn where the batch is small: they
are scored again with the present prototypes. Prototypes are unit vectors and stand still during the first epoch.

Caron, Misra, Mairal, Goyal, Bojanowski & Joulin, "Unsupervised learning of visual features by contrasting cluster
assignments", NeurIPS 2020, arXiv:2006.09882. Differences: AdamW instead of LARC by default (``optimiser="lars"`` is there); the
paper's rates are for LARC alone.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nolabel.encoders import Prototypes, projection_head
from nolabel.objectives import swapped_prediction
from nolabel.training import Clock, FeatureQueue, ImageLearner, Training, gather
from nolabel.views import Augment, MultiCrop, recipe
from nolabel.views.multi_crop import Spec, as_spec, two_scales


class SwAV(ImageLearner):
    """Learn image representations and clusters at once, with small batches and no pairwise comparison.

    Use it when clusters are wanted too (`predict`) or when batches are small. `transform` returns encoder features.

    Parameters
    ----------
    encoder : name or ``nn.Module``
    prototypes : number K of prototypes; about ten times the expected classes, at most batch + queue
    temperature : of the prediction softmax
    epsilon : of the codes; lower is sharper (0.03 helps where the loss sticks at ln K)
    sinkhorn_iterations : rounds of Sinkhorn
    augment : recipe of the views, or its name, such as ``bss``; sides and areas are those of `crops`
    crops : (number, side, (least, largest area)) of each kind of crop, large ones first; ``None`` chooses by image size
    queue_length : features remembered for each large crop, rounded down to whole batches; 0 for none
    queue_start : share of the run after which the queue is used, once it is full
    freeze_prototypes_epochs : epochs in which the prototypes stand still
    hard : round codes to one prototype each
    projection : hidden and output width of the projection head; the paper's is (2048, 128)
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Attributes
    ----------
    prototypes_ : (K, d) unit vectors

    Examples
    --------
    >>> from nolabel.data import load
    >>> swav = SwAV("conv4-x0.25", prototypes=20, training=Training(steps=2, batch_size=64)).fit(load("digits"))
    >>> swav.predict(load("digits")).shape
    (1797,)
    """

    recipe = {"optimiser": "adamw", "lr": 2e-3, "weight_decay": 1e-4, "batch_size": 256}  # noqa: RUF012

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        prototypes: int = 100,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        sinkhorn_iterations: int = 3,
        augment: Augment | str | None = None,
        crops: Sequence[tuple[int, int, tuple[float, float]]] | None = None,
        queue_length: int = 0,
        queue_start: float = 0.15,
        freeze_prototypes_epochs: float = 1.0,
        hard: bool = False,
        projection: tuple[int, int] = (512, 128),
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.prototypes = prototypes
        self.temperature = temperature
        self.epsilon = epsilon
        self.sinkhorn_iterations = sinkhorn_iterations
        self.augment = augment
        self.crops = crops
        self.queue_length = queue_length
        self.queue_start = queue_start
        self.freeze_prototypes_epochs = freeze_prototypes_epochs
        self.hard = hard
        self.projection = projection
        self.image_size = image_size
        self.training = training

    def crop_spec(self, side: int) -> Spec:
        """The crops used for images of this side."""
        return two_scales(side) if self.crops is None else as_spec(self.crops)

    def prepare(self, source: Any, folder: Any) -> None:
        if self.queue_length < 0:
            raise ValueError(f"queue_length must be at least 0, got {self.queue_length}")
        batch, rows = self.training_.batch_size or 1, self._queue_rows()
        if rows != self.queue_length:
            warnings.warn(
                f"queue_length={self.queue_length} rounded down to {rows}, whole batches of {batch}", stacklevel=2
            )
        if batch + rows < self.prototypes:
            warnings.warn(
                f"codes cannot use every prototype: batch + queue is {batch + rows}, prototypes {self.prototypes}; "
                "expect unstable training: lower prototypes or add a queue",
                stacklevel=2,
            )

    def build(self, example: dict[str, Any]) -> nn.Module:
        self._check(example["image"].shape[-1])
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        net.head = projection_head(net.encoder.dim, *self.projection)
        net.prototypes = Prototypes(self.projection[1], self.prototypes)
        if self._queue_rows():
            net.queues = nn.ModuleList(FeatureQueue(self._queue_rows(), self.projection[1]) for _ in range(2))
        net.queue_open, net.step = False, 0
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> list[Tensor]:
        images = batch["image"]
        side, channels = images.shape[-1], images.shape[1]
        augment = recipe(self.augment or ("swav" if channels == 3 else "centred"), side, channels)
        if not isinstance(augment, Augment):
            raise TypeError(f"augment must be an Augment or the name of one, got {type(augment).__name__}")
        return MultiCrop(self.crop_spec(side), augment)(images, generator)

    def before_step(self, net: Any, clock: Clock) -> None:
        net.prototypes.normalise_()
        frozen = clock.step < self.freeze_prototypes_epochs * clock.steps_per_epoch
        net.prototypes.requires_grad_(not frozen)
        net.queue_open = clock.fraction >= self.queue_start
        net.step = clock.step

    def loss(self, net: Any, views: list[Tensor]) -> Tensor:
        embeddings: list[Tensor] = []
        for size in dict.fromkeys(view.shape[-1] for view in views):  # one forward pass for all crops of a size
            crops = [view for view in views if view.shape[-1] == size]
            embeddings += net.head(net.encoder(torch.cat(crops))).float().chunk(len(crops))
        embeddings = [gather(nn.functional.normalize(z, dim=1)) for z in embeddings]  # (b, d) each
        scores = [net.prototypes(z) for z in embeddings]  # (b, K) each
        if not torch.isfinite(scores[0]).all():
            raise FloatingPointError(
                f"non-finite prototype scores at step {net.step}: lower training.lr or raise epsilon"
            )
        return swapped_prediction(
            scores,
            temperature=self.temperature,
            epsilon=self.epsilon,
            iterations=self.sinkhorn_iterations,
            queue_scores=self._queued(net, embeddings),
            hard=self.hard,
        )

    @torch.no_grad()
    def _queued(self, net: Any, embeddings: list[Tensor]) -> list[Tensor] | None:
        """Scores of remembered features with the present prototypes; then remember the present ones."""
        if not self._queue_rows():
            return None
        ready = net.queue_open and all(queue.full for queue in net.queues)
        queued = [net.prototypes(queue.rows) for queue in net.queues] if ready else None
        for queue, z in zip(net.queues, embeddings, strict=False):
            queue.push(z)
        return queued

    def predict(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """The cluster (prototype number) of every image: (n,) int64."""
        return self.predict_proba(X, columns=columns).argmax(axis=1)

    def predict_proba(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Softmax of the prototype scores: (n, K), rows sum to 1."""
        embeddings = torch.from_numpy(self.transform(X, columns=columns, layer="embedding"))
        scores = nn.functional.normalize(embeddings, dim=1) @ torch.from_numpy(self.prototypes_).T
        return (scores / self.temperature).softmax(dim=1).numpy()

    @property
    def prototypes_(self) -> np.ndarray:
        self.require_fitted()
        net: Any = self.net_
        return nn.functional.normalize(net.prototypes.weight.detach().float().cpu(), dim=1).numpy()

    def _queue_rows(self) -> int:
        batch = self.training_.batch_size or 1
        return self.queue_length // batch * batch

    def _check(self, side: int) -> None:
        spec = self.crop_spec(side)
        if self.prototypes < 2:
            raise ValueError(f"prototypes must be at least 2, got {self.prototypes}")
        if self.epsilon <= 0 or self.temperature <= 0:
            raise ValueError(f"epsilon and temperature must be above 0, got {self.epsilon} and {self.temperature}")
        if spec[0][0] < 2:
            raise ValueError(f"crops must begin with at least 2 large crops (they produce the codes), got {spec[0][0]}")
        if max(size for _, size, _ in spec) > side:
            raise ValueError(
                f"crops must not be larger than the image: got {max(s for _, s, _ in spec)} for side {side}"
            )
