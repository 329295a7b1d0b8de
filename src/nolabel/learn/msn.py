"""MSN: a masked view is assigned to the same prototypes as a whole view of its image.

Unit vectors z of views are compared with prototypes. Of the online network's masked views, and of small crops, which see even
less, come predictions p = softmax(z·q / t); of whole views, seen by a target network that follows by a moving average, come
assignments p+ at a lower temperature, evened out by Sinkhorn and without gradient. Over targets i and the other views v

    L = mean_i mean_{v != i} -sum_k p+_ik log p_vk  +  w (ln K - H(mean p)),

whose second term has all prototypes used. There are no negatives and no pixels are predicted.

Assran, Caron, Misra, Bojanowski, Bordes, Vincent, Joulin, Rabbat & Ballas, "Masked siamese networks for label-efficient
learning", ECCV 2022, arXiv:2204.07141. Differences: blocks of pixels are blackened, which any encoder takes, instead of tokens
left out of a transformer; both large views are targets of each other, so that every forward pass sees both; `transform` uses
the online encoder.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nolabel.encoders import Prototypes, projection_head
from nolabel.objectives.assignments import assignment_agreement
from nolabel.training import Clock, ImageLearner, Training, ema_update, gather, momentum_schedule, target_copy
from nolabel.views import Augment, MultiCrop, recipe
from nolabel.views.mask import mask_blocks
from nolabel.views.multi_crop import Spec, as_spec, two_scales

#: Blocks of the mask along a side: as many as a small transformer has patches (of 4 pixels in images of 32).
BLOCKS = 8


class MSN(ImageLearner):
    """Learn image representations from masked views, without negatives, by agreement on prototypes.

    Use it where few labels follow, and for images of several looks with ``augment="bss"``: each forward pass then sees two
    of them. At few steps `SimCLR` learns faster. Where the loss sticks at ln K, lower `prototypes` and `momentum` or raise
    ``training.lr``.

    Parameters
    ----------
    encoder : name or ``nn.Module``
    prototypes : number K of prototypes, at most the batch; the paper's is 1024
    temperature : of the predictions
    target_temperature : of the assignments
    sinkhorn_iterations : rounds that even the assignments out; 0 for none
    entropy_weight : w, of the term that has all prototypes used
    mask_ratio : share of a large view that is hidden from the online network; the paper's is 0.15 for small encoders
    momentum : of the target network at the start; it rises to 1. The paper's is 0.996; a few hundred steps need 0.95
    augment : recipe of the views, or its name, such as ``bss``; sides and areas are those of `crops`
    crops : (number, side, (least, largest area)) of each kind of crop, large ones first; ``None`` chooses by image size.
        Large ones (the first kind) are targets and, masked, predictions; small ones are predictions alone
    projection : hidden and output width of the projection head; the paper's is (2048, 256)
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Attributes
    ----------
    history_ : rows also hold ``agreement`` and ``unevenness``, the two terms

    Examples
    --------
    >>> from nolabel.data import load
    >>> digits = load("digits").select(range(200))
    >>> learner = MSN("conv4-x0.25", prototypes=20, training=Training(steps=2, batch_size=32)).fit(digits)
    >>> learner.transform(digits).shape
    (200, 16)
    """

    recipe = {"optimiser": "adamw", "lr": 2e-3, "weight_decay": 1e-4, "batch_size": 256}  # noqa: RUF012

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        prototypes: int = 100,
        temperature: float = 0.1,
        target_temperature: float = 0.025,
        sinkhorn_iterations: int = 3,
        entropy_weight: float = 1.0,
        mask_ratio: float = 0.15,
        momentum: float = 0.99,
        augment: Augment | str | None = None,
        crops: Sequence[tuple[int, int, tuple[float, float]]] | None = None,
        projection: tuple[int, int] = (512, 128),
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.prototypes = prototypes
        self.temperature = temperature
        self.target_temperature = target_temperature
        self.sinkhorn_iterations = sinkhorn_iterations
        self.entropy_weight = entropy_weight
        self.mask_ratio = mask_ratio
        self.momentum = momentum
        self.augment = augment
        self.crops = crops
        self.projection = projection
        self.image_size = image_size
        self.training = training

    def crop_spec(self, side: int) -> Spec:
        """The crops used for images of this side."""
        return two_scales(side) if self.crops is None else as_spec(self.crops)

    def prepare(self, source: Any, folder: Any) -> None:
        batch = self.training_.batch_size or 1
        if self.sinkhorn_iterations and batch < self.prototypes:
            warnings.warn(
                f"assignments cannot use every prototype: the batch is {batch}, prototypes {self.prototypes}; lower "
                "prototypes or raise training.batch_size",
                stacklevel=2,
            )

    def build(self, example: dict[str, Any]) -> nn.Module:
        self._check(example["image"].shape[-1])
        hidden, dim = self.projection
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        net.head = projection_head(net.encoder.dim, hidden, dim, layers=3)
        net.prototypes = Prototypes(dim, self.prototypes)
        net.target = target_copy(nn.Sequential(net.encoder, net.head))
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
        """What the online network sees, and the whole large views for the target network."""
        images = batch["image"]
        side, channels = images.shape[-1], images.shape[1]
        augment = recipe(self.augment or ("swav" if channels == 3 else "centred"), side, channels)
        if not isinstance(augment, Augment):
            raise TypeError(f"augment must be an Augment or the name of one, got {type(augment).__name__}")
        spec = self.crop_spec(side)
        whole = MultiCrop(spec, augment)(images, generator)
        large, patch = spec[0][0], max(spec[0][1] // BLOCKS, 1)
        masked = [mask_blocks(view, patch, self.mask_ratio, 0.0, generator=generator) for view in whole[:large]]
        return [*masked, *whole[large:]], whole[:large]

    def before_step(self, net: Any, clock: Clock) -> None:
        net.prototypes.normalise_()

    def loss(self, net: Any, views: tuple[list[Tensor], list[Tensor]]) -> dict[str, Tensor]:
        seen, whole = views
        projections: list[Tensor] = []
        for size in dict.fromkeys(view.shape[-1] for view in seen):  # one forward pass for all views of a size
            crops = [view for view in seen if view.shape[-1] == size]
            projections += net.head(net.encoder(torch.cat(crops))).chunk(len(crops))
        with torch.no_grad():
            targets = net.target(torch.cat(whole)).chunk(len(whole))
        anchors, assigned = (
            [net.prototypes(gather(normalize(z.float(), dim=1))) for z in embeddings]  # (b, K) each
            for embeddings in (projections, targets)
        )
        if not torch.isfinite(anchors[0]).all():
            raise FloatingPointError("non-finite prototype scores: lower training.lr or raise temperature")
        agreement, unevenness = assignment_agreement(
            anchors,
            assigned,
            temperature=self.temperature,
            target_temperature=self.target_temperature,
            iterations=self.sinkhorn_iterations,
        )
        return {"agreement": agreement, "unevenness": self.entropy_weight * unevenness}

    def after_step(self, net: Any, clock: Clock) -> None:
        momentum = momentum_schedule(clock.fraction, self.momentum)
        online = nn.Sequential(net.encoder, net.head)
        ema_update(net.target, online, momentum, buffers=False)  # its batch norm has statistics of its own

    def _check(self, side: int) -> None:
        spec = self.crop_spec(side)
        if self.prototypes < 2:
            raise ValueError(f"prototypes must be at least 2, got {self.prototypes}")
        for name in ("temperature", "target_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.target_temperature > self.temperature:
            raise ValueError(
                f"target_temperature must not be above temperature={self.temperature}, got {self.target_temperature}: "
                "assignments less certain than the predictions lead to a collapse"
            )
        for name in ("sinkhorn_iterations", "entropy_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio must lie in [0, 1), got {self.mask_ratio}")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {self.momentum}")
        if spec[0][0] < 2:
            raise ValueError(
                f"crops must begin with at least 2 large crops (each is the other's target), got {spec[0][0]}"
            )
        if max(size for _, size, _ in spec) > side:
            raise ValueError(
                f"crops must not be larger than the image: got {max(s for _, s, _ in spec)} for side {side}"
            )
