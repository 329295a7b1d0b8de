"""SimCLR: two views of an image attract each other and repel everything else in the batch.

For the 2n unit vectors z of a batch of n images, with positive pairs (i, i'), the loss of one vector is

    -log( exp(z_i·z_i' / t) / sum_{k != i} exp(z_i·z_k / t) ),

averaged over all 2n. The loss acts on the output of a projection head; `transform` returns what lies before it.

Chen, Kornblith, Norouzi & Hinton, "A simple framework for contrastive learning of visual representations", ICML 2020,
arXiv:2002.05709. The recipe here (SGD, temperature 0.1, batch 256) is for small images on few cores.

With `nested`, the loss is averaged over prefixes of an embedding, each scaled to unit length by itself (Kusupati et al.,
"Matryoshka representation learning", NeurIPS 2022, arXiv:2205.13147), and `transform` returns that embedding: it can be
cut to any of the sizes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nolabel.encoders import projection_head
from nolabel.objectives import nt_xent
from nolabel.objectives.nested import Nested, rising_sizes
from nolabel.training import ImageLearner, Training, gather
from nolabel.views import recipe
from nolabel.views.recipes import Recipe


class SimCLR(ImageLearner):
    """Learn image representations by telling two views of one image from all other images.

    Use it first: at equal steps of a short training on CIFAR-10 it learned more than `SwAV`. For batches below about 64
    see `GSimCLR`, for clusters `SwAV`.

    Parameters
    ----------
    encoder : name or ``nn.Module``; ``-signed`` leaves out the last ReLU, so that features have both signs
    temperature : of the softmax; the paper's best at ImageNet size is 0.1
    projection : hidden and output width of the projection head; the paper's is (2048, 128)
    augment : recipe of a view: a name such as ``bss``, or a callable ``(images, generator) -> images``
    nested : prefix sizes of an embedding that can be cut, rising, such as (16, 32, 64, 128). The head is then one linear
        layer to the last of them and a batch norm, `projection` plays no part, and `transform` returns the embedding
    negatives : ``all`` other views of the batch, or those of the anchor's own view alone, ``same_view``: for views of one
        style each (``augment="bss"``), whose style then cannot tell the positive from the negatives
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Examples
    --------
    >>> from nolabel.data import load
    >>> learner = SimCLR(encoder="conv4-x0.25", training=Training(steps=2, batch_size=64)).fit(load("digits"))
    >>> learner.transform(load("digits")).shape[0]
    1797
    """

    recipe = {"optimiser": "sgd", "lr": 0.12, "weight_decay": 5e-4, "batch_size": 256}  # noqa: RUF012
    # Also what a subclass has that does not offer them.
    nested: Sequence[int] | None = None
    negatives: Literal["all", "same_view"] = "all"

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5-signed",
        *,
        temperature: float = 0.1,
        projection: tuple[int, int] = (512, 128),
        nested: Sequence[int] | None = None,
        negatives: Literal["all", "same_view"] = "all",
        augment: Recipe | str | None = None,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.temperature = temperature
        self.projection = projection
        self.nested = nested
        self.negatives = negatives
        self.augment = augment
        self.image_size = image_size
        self.training = training

    def build(self, example: dict[str, Any]) -> nn.Module:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.negatives not in ("all", "same_view"):
            raise ValueError(f"negatives must be all or same_view, got {self.negatives!r}")
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        if self.nested is None:
            net.head = projection_head(net.encoder.dim, *self.projection)
        else:  # the norm keeps the coordinates that many prefixes share from outweighing the later ones
            width = rising_sizes(self.nested, "nested")[-1]
            net.head = nn.Sequential(nn.Linear(net.encoder.dim, width), nn.BatchNorm1d(width, affine=False))
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        images = batch["image"]
        view = recipe(self.augment, images.shape[-1], images.shape[1])
        return torch.cat([view(images, generator), view(images, generator)])  # (2b, c, h, w)

    def loss(self, net: Any, views: Tensor) -> Tensor:
        first, second = net.head(net.encoder(views)).chunk(2)  # (b, d) each
        objective: Callable[..., Tensor] = partial(nt_xent, temperature=self.temperature, negatives=self.negatives)
        if self.nested is not None:  # the mean over prefixes, so that a learning rate means what it does without them
            objective = Nested(objective, self.nested, [1 / len(self.nested)] * len(self.nested))
        return objective(gather(first), gather(second))

    def encode(
        self, net: nn.Module, batch: dict[str, Any], layer: str = "representation", pool: int | None = 1
    ) -> Tensor:
        """As in `ImageLearner`; with `nested`, the representation is the embedding that can be cut."""
        cut = self.nested is not None and layer == "representation"
        return super().encode(net, batch, "embedding" if cut else layer, pool)

    def judge(
        self, net: nn.Module, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """As in `ImageLearner`; with `nested`, the embedding and its shortest prefix, which could collapse unseen."""
        seen = super().judge(net, batch, generator)
        if self.nested is None:
            return seen
        embedding, second = seen.pop("embedding")
        shortest = self.nested[0]
        assert second is not None  # images are judged with a second view
        return {
            "representation": (embedding, second),
            f"first_{shortest}": (embedding[:, :shortest], second[:, :shortest]),
        }
