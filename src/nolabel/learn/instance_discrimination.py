"""Instance discrimination: every image is a class of its own, told apart by a memory of all of them.

A bank keeps one unit vector v_j for each training image. The unit vector z_i of a random view of image i is attracted to
v_i and repelled from the vectors of other images:

    L_i = -log( exp(z_i·v_i / t) / (exp(z_i·v_i / t) + sum_{j != i} exp(z_i·v_j / t)) ),

after which v_i moves towards z_i: v_i <- unit(m v_i + (1 - m) z_i). How high the temperature t is decides how many
neighbours share the push. The hard form keeps only the nearest negatives, so that t may be high, or absent altogether as
in the simple loss -z_i·v_i + mean_j z_i·v_j. Negatives from a bank stand still while an image is moved: with the hard
losses, negatives out of the batch itself let everything shrink to a point.

Wu, Xiong, Yu & Lin, "Unsupervised feature learning via non-parametric instance discrimination", CVPR 2018,
arXiv:1805.01978; Wang & Liu, "Understanding the behaviour of contrastive loss", CVPR 2021, arXiv:2012.09740. Differences:
the full softmax instead of its noise-contrastive estimate; images of the present batch are no negatives of one another;
a head of two layers; AdamW, whose steps do not depend on the scale 1 / t of the gradient.
"""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nolabel.assess.contrastive import COLLAPSED, neighbour_tolerance
from nolabel.encoders import projection_head
from nolabel.objectives.contrastive import info_nce, simple_contrastive
from nolabel.training import ImageLearner, Training, gather
from nolabel.views import recipe
from nolabel.views.fourier import ONE_STYLE, has_one_style
from nolabel.views.recipes import Recipe

WATCHED = 1000  # rows of the bank, at most


class InstanceDiscrimination(ImageLearner):
    """Learn image representations by telling each image from a memory of all others, one view an image.

    Use it where batches must be small: the negatives do not come from the batch. A step costs half of SimCLR's; many
    epochs are needed, since an image meets its own memory once in each. The bank holds `projection[1]` floats an image.

    Parameters
    ----------
    encoder : name or ``nn.Module``
    objective : ``info_nce``, or ``simple``, which has no temperature
    temperature : of the softmax; the paper's best of 0.07, 0.3, 0.7 and 1
    hard_fraction : share of the negatives that count, the nearest, in (0, 1]; ``None``: all. The paper keeps 4,095, 0.08 of
        CIFAR's 50,000; ``simple`` is good only with it
    momentum : share of its old value that a row of the bank keeps, in [0, 1)
    projection : hidden and output width of the projection head
    augment : recipe of a view: a name such as ``simclr``, or a callable ``(images, generator) -> images``
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Attributes
    ----------
    images_ : number of training images, the rows of the bank ``net_.bank``
    neighbour_tolerance_ : mean cosine of the bank's rows to their nearest half; above 0.95 they have collapsed

    Examples
    --------
    >>> from nolabel.data import load
    >>> learner = InstanceDiscrimination("conv4-x0.25", training=Training(steps=2, batch_size=64)).fit(load("digits"))
    >>> learner.net_.bank.shape
    torch.Size([1797, 64])
    """

    recipe = {"optimiser": "adamw", "lr": 2e-3, "weight_decay": 1e-4, "batch_size": 128}  # noqa: RUF012

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        objective: str = "info_nce",
        temperature: float = 0.3,
        hard_fraction: float | None = None,
        momentum: float = 0.5,
        projection: tuple[int, int] = (256, 64),
        augment: Recipe | str | None = None,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.objective = objective
        self.temperature = temperature
        self.hard_fraction = hard_fraction
        self.momentum = momentum
        self.projection = projection
        self.augment = augment
        self.image_size = image_size
        self.training = training

    def prepare(self, source: Any, folder: Any) -> None:
        batch = self.training_.batch_size or 1
        if batch >= len(source):
            raise ValueError(
                f"training.batch_size={batch} leaves no image outside the batch as a negative: lower it below {len(source)}"
            )
        self.images_ = len(source)

    def build(self, example: dict[str, Any]) -> nn.Module:
        self._check()
        if "row" not in example:
            raise ValueError(f"batches must have row numbers under 'row' for the bank, got {', '.join(example)}")
        _, channels, side, _ = example["image"].shape
        if has_one_style(recipe(self.augment, side, channels)):
            warnings.warn(ONE_STYLE.format(method="InstanceDiscrimination"), stacklevel=2)
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        net.head = projection_head(net.encoder.dim, *self.projection)
        net.register_buffer("bank", normalize(torch.randn(self.images_, self.projection[1]), dim=1))
        net.warned = False
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images = batch["image"]
        return recipe(self.augment, images.shape[-1], images.shape[1])(images, generator), batch["row"]

    def loss(self, net: Any, views: tuple[Tensor, Tensor]) -> Tensor:
        images, rows = views
        z = normalize(net.head(net.encoder(images)).float(), dim=1)  # (b, d)
        if not torch.isfinite(z).all():
            raise FloatingPointError("the embeddings are not finite: lower training.lr or raise temperature")
        of_all = gather(rows)  # over ranks
        others = torch.ones(len(net.bank), dtype=torch.bool, device=z.device).index_fill_(0, of_all, False)
        own, negatives = net.bank[rows], net.bank[others]  # copies: (b, d), (n - b, d)
        with torch.no_grad():
            net.bank[of_all] = normalize(gather(z.detach()).lerp(net.bank[of_all], self.momentum), dim=1)
        if self.objective == "simple":
            return simple_contrastive(z, own, negatives=negatives, hard_fraction=self.hard_fraction)
        return info_nce(z, own, negatives=negatives, temperature=self.temperature, hard_fraction=self.hard_fraction)

    def enough(self, net: Any, source: Any, epoch: int) -> bool:
        """Never ends the training; warns of a collapse."""
        self._watch(net)
        return False

    def finish(self, source: Any) -> None:
        self.neighbour_tolerance_ = self._watch(self.net_)

    def _watch(self, net: Any) -> float:
        """Mean cosine of rows of the bank to their nearest half; the first time it is that of a collapse, say so."""
        rows = np.linspace(0, self.images_ - 1, min(self.images_, WATCHED)).astype(int)
        found = neighbour_tolerance(net.bank[torch.from_numpy(rows)], len(rows) // 2)
        if found > COLLAPSED and not net.warned:
            net.warned = True
            warnings.warn(
                f"the embeddings are collapsing: mean cosine {found:.3f} to their nearest half; lower temperature or raise "
                "hard_fraction",
                stacklevel=2,
            )
        return found

    def _check(self) -> None:
        if self.objective not in ("info_nce", "simple"):
            raise ValueError(f"objective must be 'info_nce' or 'simple', got {self.objective!r}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.hard_fraction is not None and not 0 < self.hard_fraction <= 1:
            raise ValueError(f"hard_fraction must lie in (0, 1], got {self.hard_fraction}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
