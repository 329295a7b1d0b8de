"""A layer that tells vectors by their similarity to anchors, for networks trained on such similarities."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from nolabel.ops.relative import Similarity, relative


class RelativeProjection(nn.Module):
    """Similarities of a batch to anchors that the same encoder has just encoded; gradients flow to both.

    Training end to end encodes the anchors anew in every step; with a frozen encoder once is enough. At inference encode
    them in eval mode, or batch norm makes them depend on one another.

    Parameters
    ----------
    similarity, bin_width, subspaces, norm : as in `nolabel.ops.relative.relative`

    References
    ----------
    Moschella et al., ICLR 2023, arXiv:2209.15430.

    >>> import torch
    >>> RelativeProjection()(torch.eye(3), torch.eye(3)[:2]).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        *,
        similarity: Similarity = "cosine",
        bin_width: float | None = None,
        subspaces: int = 1,
        norm: Literal["l2", "layer"] | None = "layer",
    ) -> None:
        super().__init__()
        self.similarity: Similarity = similarity
        self.bin_width, self.subspaces = bin_width, subspaces
        self.norm: Literal["l2", "layer"] | None = norm

    def forward(self, z: Float[Tensor, "n d"], anchors: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return relative(
            z, anchors, similarity=self.similarity, bin_width=self.bin_width, subspaces=self.subspaces, norm=self.norm
        )
