"""What every system that learns from images shares: reading, the encoder, and what `transform` can return."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nolabel.training.learner import Learner
from nolabel.views import Augment, standard

#: The second view that the health report compares an image with: as mild as a different photograph of the same thing.
GENTLE = Augment(area=(0.5, 1.0), flip_p=0.0, jitter=(0.2, 0.2, 0.2, 0.0), jitter_p=1.0, grey_p=0.0)

#: Smaller images are enlarged, for an encoder halves them several times.
SMALLEST, ENLARGED = 24, 32


class ImageLearner(Learner):
    """A `Learner` for images. ``net.encoder`` is the encoder; ``net.head``, if there is one, the projection head.

    A subclass has ``encoder`` and ``image_size`` among its constructor arguments:

    * ``encoder``: a name (``resnet18``, ``resnet10``, ``conv4``, ``vit-tiny``, ``hf:...``) or any ``nn.Module``
    * ``image_size``: side of the square images the network sees; ``None`` chooses by the data
    """

    columns: tuple[str, ...] = ("image",)
    encoder: str | nn.Module
    image_size: int | None

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        needed = needed or self.columns
        if "image" not in needed:
            return super().open_table(data, columns, needed)
        from nolabel.data import ColumnSource, open_images, read
        from nolabel.data.parts import Joined

        table = read(data, columns=columns)
        size, channels = self.image_size, None
        if hasattr(self, "example_"):  # a fitted learner goes on with the shape it was trained on
            seen = self.example_["batch"]
            _, channels, size, _ = (seen[self.parts[0]]["batch"] if self.parts else seen)["image"]["shape"]
        images = open_images(table, size=size, channels=channels)
        if self.image_size is None and not hasattr(self, "example_") and images.size < SMALLEST:
            images = open_images(table, size=ENLARGED, channels=channels)
        others = tuple(name for name in needed if name != "image")
        if not others:
            return images
        return Joined(images, ColumnSource(table.select(images.rows), others))

    def make_encoder(self, example: dict[str, Any]) -> Any:
        """The encoder for images of the example's shape; a saved run makes a pre-trained one again without its files."""
        from nolabel.encoders.build import build
        from nolabel.encoders.pretrained import HuggingFace

        _, channels, height, _ = example["image"].shape
        known = getattr(self, "encoder_description_", None)
        if known is not None:
            return HuggingFace(str(self.encoder), known)
        own = copy.deepcopy(self.encoder)  # a fit leaves its arguments alone
        encoder = build(own, channels=channels, image_size=height)
        if isinstance(encoder, HuggingFace):
            self.encoder_description_ = encoder.description
        return encoder

    def encode(
        self, net: nn.Module, batch: dict[str, Any], layer: str = "representation", pool: int | None = 1
    ) -> Tensor:
        """Features of a batch of uint8 images (b, c, h, w).

        ``layer``: ``representation`` (pooled encoder output), ``embedding`` (output of the projection head), or a stage of
        the encoder, average-pooled to ``pool`` x ``pool`` and flattened; ``pool=None`` returns the map (b, c, h, w).
        """
        images = batch["image"].float() / 255.0
        images = images.contiguous(memory_format=torch.channels_last)
        encoder: Any = net.encoder
        if layer == "representation":
            return encoder(images)
        if layer == "embedding":
            if not hasattr(net, "head"):
                raise ValueError(f"{type(self).__name__} has no projection head: layer='embedding' does not exist")
            head: Any = net.head
            embedding: Tensor = head(encoder(images))
            return embedding
        if layer not in encoder.channels:
            known = ", ".join(["representation", "embedding", *encoder.channels])
            raise ValueError(f"layer must be one of {known}, got {layer!r}")
        maps = encoder.stages(images)[layer]  # (b, c, h, w)
        return maps if pool is None else torch.nn.functional.adaptive_avg_pool2d(maps, pool).flatten(1)

    def judge(
        self, net: nn.Module, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Representation and, with a projection head, embedding of the images and of one mild view of each."""
        seen = {"image": GENTLE(batch["image"], generator) * 255.0}
        layers = ["representation", *(["embedding"] if hasattr(net, "head") else [])]
        return {layer: (self.encode(net, batch, layer), self.encode(net, seen, layer)) for layer in layers}

    def pairs(
        self,
        X: Any,
        *,
        columns: dict[str, str] | None = None,
        rows: int = 2000,
        random_state: int = 0,
        view: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Representations of some images and of two random views of each, for measures that compare views.

        Parameters
        ----------
        X, columns : as in `fit`
        rows : images drawn, at most; the same ones for the same data and seed, whatever the method
        random_state : seed of the draw and of the views
        view : recipe of a view; ``None`` is `nolabel.views.standard`

        Returns
        -------
        three arrays (rows, dim), float32: of the images themselves, of one view of each, of another
        """
        self.require_fitted()
        source = self.open_one(X, columns)
        chosen = np.sort(np.random.default_rng(random_state).permutation(len(source))[:rows])
        images = source.batch(chosen)["image"]  # uint8 (rows, c, h, w)
        view = view or standard(images.shape[-1], images.shape[1])
        generator = torch.Generator().manual_seed(random_state)
        seen = [images, *(torch.round(view(images, generator) * 255.0).to(torch.uint8) for _ in range(2))]
        first, second, third = (self.transform(x.numpy()) for x in seen)
        return first, second, third

    def transform(
        self, X: Any, *, columns: dict[str, str] | None = None, layer: str = "representation", pool: int = 1
    ) -> np.ndarray:
        """Representations (n, dim), float32.

        Parameters
        ----------
        X : images, as in `fit`
        columns : as in `fit`
        layer : ``representation``, ``embedding`` (projection head) or a stage of the encoder such as ``stage3``
        pool : side of the grid a stage's map is averaged to before it is flattened
        """
        self.require_fitted()
        return self.transform_source(self.open_one(X, columns), layer=layer, pool=pool)

    def transform_maps(self, X: Any, *, columns: dict[str, str] | None = None, layer: str | None = None) -> np.ndarray:
        """Feature maps (n, channels, h, w), float32, of a stage of the encoder (default: the last)."""
        self.require_fitted()
        encoder: Any = self.net_.encoder
        if not encoder.channels:
            raise ValueError(f"the encoder of this {type(self).__name__} has no feature maps: use transform")
        return self.transform_source(self.open_one(X, columns), layer=layer or list(encoder.channels)[-1], pool=None)
