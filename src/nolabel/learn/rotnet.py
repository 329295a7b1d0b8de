"""RotNet: learn by telling how far an image was turned.

Each image of a batch is shown at 0, 90, 180 and 270 degrees (counter-clockwise, by transposing and flipping alone, so that no
interpolation gives the answer away) and a 4-way classifier names the turn:

    L = -1/(4n) sum_i sum_k log softmax(F(rot_k(x_i)))_k

To solve this a network has to find the object and know which way up it goes. Its last stage specialises on that question,
so `transform` returns an earlier one.

Gidaris, Singh & Komodakis, "Unsupervised representation learning by predicting image rotations", ICLR 2018,
arXiv:1803.07728. Flips come before the turn: after it they would change the label.
"""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nolabel.training import ImageLearner, Training
from nolabel.training.batches import Rows, Some, held_out_rows, shuffled
from nolabel.views import pad_crop, random_flip, rotate4


class RotNet(ImageLearner):
    """Learn image representations by predicting quarter turns: the cheapest sensible task for upright images.

    Use it for photographs, faces, street scenes, scans. Do not use it where up and down mean nothing (aerial images,
    microscopy, textures), nor where a border, watermark or time stamp gives the turn away.

    Parameters
    ----------
    encoder : name or ``nn.Module`` with stages; the paper's is ``nin``
    rotations : 4, or 2 for 0 and 180 degrees only
    crop_padding : pixels of padding for the random crop before the turn
    horizontal_flip : flip half of the images before the turn
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Attributes
    ----------
    held_out_accuracy_ : share of turns named rightly on images kept out of training, in [0, 1]

    Examples
    --------
    >>> from nolabel.data import load
    >>> rotnet = RotNet("conv4-x0.25", training=Training(steps=20, batch_size=64)).fit(load("digits"))
    >>> rotnet.predict_rotation(load("digits")).shape
    (1797,)
    """

    recipe = {"optimiser": "nesterov", "lr": 0.1, "weight_decay": 5e-4, "batch_size": 64, "warmup": 0.1}  # noqa: RUF012

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        rotations: int = 4,
        crop_padding: int = 4,
        horizontal_flip: bool = True,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.rotations = rotations
        self.crop_padding = crop_padding
        self.horizontal_flip = horizontal_flip
        self.image_size = image_size
        self.training = training

    def build(self, example: dict[str, Any]) -> nn.Module:
        if self.rotations not in (2, 4):
            raise ValueError(
                f"rotations must be 2 or 4 (others need interpolation, which gives the turn away), got {self.rotations}"
            )
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding must be at least 0, got {self.crop_padding}")
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        if not net.encoder.channels:
            raise ValueError("encoder must have stages (features come from one before the last), got a module without")
        net.classifier = nn.Linear(net.encoder.dim, self.rotations)
        return net

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        kept = np.setdiff1d(np.arange(len(source)), self._held_out(source))
        return [kept[rows] for rows in shuffled(len(kept), min(batch_size, len(kept)), rng)]

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images = batch["image"]
        if self.crop_padding:
            images = pad_crop(images, self.crop_padding, generator=generator)
        if self.horizontal_flip:
            images, _ = random_flip(images, generator=generator)
        return self._turned(images)

    def loss(self, net: Any, views: tuple[Tensor, Tensor]) -> Tensor:
        turned, turns = views  # (4b, c, h, w), (4b,)
        return nn.functional.cross_entropy(net.classifier(net.encoder(turned)).float(), turns)

    def encode(self, net: Any, batch: dict[str, Any], layer: str = "representation", pool: int | None = 1) -> Tensor:
        if layer == "turns":
            logits: Tensor = net.classifier(net.encoder(batch["image"].float() / 255.0))
            return logits
        stages = list(net.encoder.channels)
        if layer == "representation":  # the stage before the last: the last one specialises on turns
            layer = stages[-2 if len(stages) > 1 else -1]
        return super().encode(net, batch, layer, pool)

    def transform(
        self, X: Any, *, columns: dict[str, str] | None = None, layer: str = "representation", pool: int = 1
    ) -> np.ndarray:
        """Representations (n, dim), float32, of a stage: by default the one before the last, which knows less about turns."""
        self.require_fitted()
        return self.transform_source(self.open_one(X, columns), layer=layer, pool=pool)

    def predict_rotation(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Quarter turns (counter-clockwise, 0 to 3; 0 or 2 with two rotations) by which each image stands turned: (n,)."""
        self.require_fitted()
        return self._named_turns(self.open_one(X, columns)) * (4 // self.rotations)

    def score(self, X: Any, y: Any = None, *, columns: dict[str, str] | None = None) -> float:
        """Share of turns named rightly over all turns of every image, in [0, 1]. No labels."""
        self.require_fitted()
        return self._accuracy(self.open_one(X, columns))

    def finish(self, source: Any) -> None:
        self.held_out_accuracy_ = self._accuracy(Some(source, self._held_out(source)))
        chance = 1.0 / self.rotations
        if self.held_out_accuracy_ < chance * 1.2:
            warnings.warn(
                f"orientation carries no signal in this data: {self.held_out_accuracy_:.0%} of held-out turns named rightly, "
                f"chance is {chance:.0%}",
                stacklevel=2,
            )

    def _turned(self, images: Tensor) -> tuple[Tensor, Tensor]:
        turned, turns = rotate4(images)
        if self.rotations == 2:
            half = turns % 2 == 0
            turned, turns = turned[half], turns[half] // 2
        return turned, turns

    def _held_out(self, source: Any) -> np.ndarray:
        return held_out_rows(len(source), self.training_.random_state)

    def _named_turns(self, source: Any) -> np.ndarray:
        return self.transform_source(source, layer="turns").argmax(axis=1)

    def _accuracy(self, source: Any) -> float:
        right = [self._named_turns(_Turned(self, source, k)) == k for k in range(self.rotations)]
        return float(np.mean(right))


class _Turned:
    """A source whose images all stand turned by the same class k of `learner`."""

    def __init__(self, learner: RotNet, source: Any, k: int) -> None:
        self.learner, self.source, self.k = learner, source, k

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        images = self.source.batch(rows)["image"]
        return {"image": torch.rot90(images, self.k * 4 // self.learner.rotations, dims=(-2, -1))}
