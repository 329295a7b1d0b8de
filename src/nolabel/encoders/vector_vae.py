"""A small variational autoencoder of vectors: a model of where a set of embeddings lies.

    dim -> 128 -> 32 -> (mean, log variance) of the latent -> 32 -> 128 -> dim

Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, arXiv:1312.6114; the widths are those of label-agnostic
forgetting (Shen et al., ICLR 2024, arXiv:2404.00506).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nolabel.encoders.feature_tower import perceptron

DECODERS = ("linear", "sigmoid")
WIDTHS = (128, 32)


def divergence(mean: Float[Tensor, "n l"], log_variance: Float[Tensor, "n l"]) -> Float[Tensor, " n"]:
    """Kullback-Leibler divergence, in nats, of normal distributions without correlations from the standard normal one.

    >>> divergence(torch.zeros(1, 3), torch.zeros(1, 3)).tolist(), divergence(torch.ones(1, 3), torch.zeros(1, 3)).tolist()
    ([0.0], [1.5])
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


class VectorVAE(nn.Module):
    """Vectors (n, dim) to their reconstructions (n, dim).

    In training mode the latent is drawn at random, in evaluation it is the mean unless `sample` asks for a draw.

    Parameters
    ----------
    dim : width of the vectors, which are standardised for the linear decoder and in [0, 1] for the sigmoid
    latent_dim : width of the latent
    decoder : what the last layer ends in, ``linear`` or ``sigmoid``

    Examples
    --------
    >>> vae = VectorVAE(64, 8).eval()
    >>> vae(torch.rand(3, 64)).shape, vae.errors(torch.rand(3, 64)).shape
    (torch.Size([3, 64]), torch.Size([3]))
    """

    def __init__(self, dim: int, latent_dim: int = 8, *, decoder: str = "linear") -> None:
        super().__init__()
        if decoder not in DECODERS:
            raise ValueError(f"decoder must be one of {', '.join(DECODERS)}, got {decoder!r}")
        if min(dim, latent_dim) < 1:
            raise ValueError(f"dim and latent_dim must be at least 1, got {dim} and {latent_dim}")
        self.encoder = nn.Sequential(perceptron([dim, *WIDTHS]), nn.ReLU())
        self.latent = nn.Linear(WIDTHS[-1], 2 * latent_dim)
        self.decoder = perceptron([latent_dim, *reversed(WIDTHS), dim])
        self.last = nn.Sigmoid() if decoder == "sigmoid" else nn.Identity()

    def encode(self, vectors: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n l"], Float[Tensor, "n l"]]:
        """Mean and log variance of the latent."""
        mean, log_variance = self.latent(self.encoder(vectors)).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, latent: Float[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        vectors: Tensor = self.last(self.decoder(latent))
        return vectors

    def forward(self, vectors: Float[Tensor, "n d"], *, sample: bool | None = None) -> Float[Tensor, "n d"]:
        mean, log_variance = self.encode(vectors)
        return self.decode(self._latent(mean, log_variance, sample))

    def errors(self, vectors: Float[Tensor, "n d"], *, sample: bool | None = None) -> Float[Tensor, " n"]:
        """Squared distance of each vector to its reconstruction, summed over dimensions."""
        return (self(vectors, sample=sample) - vectors).square().sum(dim=1)

    def loss_terms(self, vectors: Float[Tensor, "n d"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Means over the rows of the squared error (of a drawn latent while training) and of the divergence."""
        mean, log_variance = self.encode(vectors)
        found = self.decode(self._latent(mean, log_variance, None))
        return (found - vectors).square().sum(dim=1).mean(), divergence(mean, log_variance).mean()

    def _latent(self, mean: Tensor, log_variance: Tensor, sample: bool | None) -> Tensor:
        drawn = self.training if sample is None else sample
        return mean + torch.randn_like(mean) * (log_variance / 2).exp() if drawn else mean
