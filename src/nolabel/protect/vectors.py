"""What forgetting learns on embeddings: where a set of them lies, and a last layer."""

import copy
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nolabel.encoders.vector_vae import VectorVAE
from nolabel.learn.heads import Head
from nolabel.training import Training

#: Rows and steps that an autoencoder learns from, at least.
ROWS, STEPS = 64, 200


class VectorAutoencoder(Head):
    """A `VectorVAE` of the column `vector`.

    ``L = mean [ |x' - x| ** 2 + kl_weight * KL(latent | standard normal) ]`` with sums over dimensions.

    Parameters
    ----------
    latent_dim, decoder : of the `VectorVAE`
    kl_weight : of the divergence
    training : how long and on what to train

    Examples
    --------
    >>> import numpy as np
    >>> from nolabel.data import read
    >>> table = read({"vector": np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)})
    >>> VectorAutoencoder(2, training=Training(steps=2)).fit(table).transform(table).shape
    (64, 2)
    """

    columns = ("vector",)
    recipe = {"optimiser": "adam", "lr": 1e-3, "weight_decay": 0.0, "batch_size": 64, "epochs": 10, "warmup": 0.0}  # noqa: RUF012

    def __init__(
        self,
        latent_dim: int = 8,
        *,
        decoder: str = "linear",
        kl_weight: float = 0.025,
        training: Training | None = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.decoder = decoder
        self.kl_weight = kl_weight
        self.training = training

    def build(self, example: dict[str, Any]) -> nn.Module:
        if not self.kl_weight >= 0:
            raise ValueError(f"kl_weight must be at least 0, got {self.kl_weight}")
        return VectorVAE(example["vector"].shape[1], self.latent_dim, decoder=self.decoder)

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        vectors: Tensor = batch["vector"]
        return vectors

    def loss(self, net: Any, views: Tensor) -> dict[str, Tensor]:
        error, divergence = net.loss_terms(views)
        return {"error": error, "divergence": self.kl_weight * divergence}

    def fit_few(self, vectors: np.ndarray, settings: Training) -> Self:
        """`fit` on vectors (n, dim) for the epochs of `settings`, but at least 200 steps of 64 rows; few rows come again."""
        rows = max(len(vectors), ROWS)
        steps = max((settings.epochs or 1) * (rows // ROWS), STEPS)
        self.training = settings.set_params(epochs=None, steps=steps, batch_size=ROWS)
        return self.fit({"vector": vectors[np.arange(rows) % len(vectors)].astype(np.float32)})

    def encode(self, net: Any, batch: dict[str, Any]) -> Tensor:
        """Means of the latents (b, latent_dim)."""
        mean: Tensor = net.encode(batch["vector"])[0]
        return mean


class LastLayer(Head):
    """Train a last layer on, on the embeddings `vector` and the class numbers `code`, by cross-entropy.

    Parameters
    ----------
    layer : embeddings (n, d) to logits (n, k); stays as it is: ``net_`` is a copy
    training : how long and on what to train
    """

    columns = ("vector", "code")
    recipe = {"optimiser": "adam", "lr": 1e-3, "weight_decay": 0.0, "batch_size": 64, "epochs": 5, "warmup": 0.0}  # noqa: RUF012

    def __init__(self, layer: nn.Module, *, training: Training | None = None) -> None:
        self.layer = layer
        self.training = training

    def build(self, example: dict[str, Any]) -> nn.Module:
        return copy.deepcopy(self.layer).requires_grad_(True)

    def loss(self, net: Any, views: dict[str, Tensor]) -> Tensor:
        return cross_entropy(net(views["vector"]).float(), views["code"])

    def encode(self, net: Any, batch: dict[str, Any]) -> Tensor:
        """Logits (b, k)."""
        logits: Tensor = net(batch["vector"])
        return logits
