"""A convolutional denoising autoencoder: see a noisy image, give back the clean one.

Three times (convolution 3x3, batch norm, ReLU, halve the side) down to a bottleneck map, and the mirror image of it up. The
loss is the mean squared error to the clean image.

Vincent, Larochelle, Bengio & Manzagol, "Extracting and composing robust features with denoising autoencoders", ICML 2008;
its place before a contrastive method is that of G-SimCLR (Chakraborty et al., 2020, arXiv:2009.12007).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nolabel.training import ImageLearner, Training
from nolabel.training.batches import Rows, held_out_rows, shuffled


class BottleneckEncoder(nn.Module):
    """Images (n, c, h, w) to maps (n, 128, h/8, w/8); called, to their average (n, 128)."""

    dim = 128

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 128)
        self.channels = {f"stage{i}": width for i, width in enumerate(widths[1:], start=1)}
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True), nn.MaxPool2d(2)
            )
            for a, b in zip(widths, widths[1:], strict=False)
        )

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        maps = {}
        for name, block in zip(self.channels, self.blocks, strict=True):
            images = block(images)
            maps[name] = images
        return maps

    def forward(self, images: Tensor) -> Tensor:
        return self.stages(images)["stage3"].mean(dim=(2, 3))


def decoder(channels: int) -> nn.Sequential:
    """The mirror image of `BottleneckEncoder`, ending in pixel values in (0, 1)."""
    layers: list[nn.Module] = []
    for a, b in ((128, 128), (128, 64), (64, 32)):
        layers += [
            nn.Upsample(scale_factor=2),
            nn.Conv2d(a, b, 3, padding=1, bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(32, channels, 3, padding=1), nn.Sigmoid())


class DenoisingAutoencoder(ImageLearner):
    """Learn image features by taking noise away. Training ends early when held-out images stop improving.

    Use it as a cheap source of pseudo-classes or as a baseline. Parameters
    follow G-SimCLR's first stage.

    Parameters
    ----------
    noise_std : standard deviation of the Gaussian noise, pixels in [0, 1]
    pooling : ``flatten`` returns the whole bottleneck map, ``average`` its mean over positions (shape is lost)
    patience : epochs without a better held-out error before training ends
    image_size : side of the images, rounded up to a multiple of 8 by padding; ``None`` chooses by the data
    training : how long and on what to train

    Attributes
    ----------
    held_out_errors_ : (epochs,) mean squared error on images kept out of training

    Examples
    --------
    >>> from nolabel.data import load
    >>> DenoisingAutoencoder(training=Training(steps=2)).fit_transform(load("digits").select(range(200))).shape
    (200, 2048)
    """

    recipe = {"optimiser": "adam", "lr": 1e-3, "weight_decay": 0.0, "batch_size": 64, "epochs": 100, "warmup": 0.0}  # noqa: RUF012

    def __init__(
        self,
        *,
        noise_std: float = 0.01,
        pooling: str = "flatten",
        patience: int = 2,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.noise_std = noise_std
        self.pooling = pooling
        self.patience = patience
        self.image_size = image_size
        self.training = training

    def build(self, example: dict[str, Any]) -> nn.Module:
        if self.pooling not in ("flatten", "average"):
            raise ValueError(f"pooling must be flatten or average, got {self.pooling!r}")
        if self.noise_std < 0:
            raise ValueError(f"noise_std must be at least 0, got {self.noise_std}")
        channels = example["image"].shape[1]
        net: Any = nn.Module()
        net.encoder = BottleneckEncoder(channels)
        net.decoder = decoder(channels)
        return net

    def prepare(self, source: Any, folder: Any) -> None:
        self.held_out_errors_ = np.empty(0)

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        kept = np.setdiff1d(np.arange(len(source)), self._held_out(source))
        return [kept[rows] for rows in shuffled(len(kept), min(batch_size, len(kept)), rng)]

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        clean = _padded(batch["image"])
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        return (clean + self.noise_std * noise).contiguous(memory_format=torch.channels_last), clean

    def loss(self, net: Any, views: tuple[Tensor, Tensor]) -> Tensor:
        noisy, clean = views
        return nn.functional.mse_loss(net.decoder(net.encoder.stages(noisy)["stage3"]).float(), clean)

    @torch.no_grad()
    def enough(self, net: Any, source: Any, epoch: int) -> bool:
        """True once the held-out error has not improved for `patience` epochs."""
        net.eval()
        clean = _padded(source.batch(self._held_out(source))["image"]).to(next(net.parameters()).device)
        self.held_out_errors_ = np.append(self.held_out_errors_, float(self.loss(net, (clean, clean))))
        net.train()
        return len(self.held_out_errors_) - 1 - int(np.argmin(self.held_out_errors_)) >= self.patience

    def encode(self, net: Any, batch: dict[str, Any], layer: str = "representation", pool: int | None = None) -> Tensor:
        if layer != "representation":
            return super().encode(net, batch, layer, pool)
        maps = net.encoder.stages(_padded(batch["image"]))["stage3"]
        return maps.flatten(1) if self.pooling == "flatten" else maps.mean(dim=(2, 3))

    def _held_out(self, source: Any) -> np.ndarray:
        return held_out_rows(len(source), self.training_.random_state)


def _padded(images: Tensor) -> Tensor:
    """uint8 images as float in [0, 1], their sides padded with their edge to multiples of 8."""
    images = images.float() / 255.0
    height, width = images.shape[-2:]
    return nn.functional.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate")
