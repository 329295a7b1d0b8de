"""Where a token stands in a tree, as vectors to be added to those of the words."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class TreeEmbedding(nn.Module):
    """The sum of a learned vector for each of several ids: of a node, its parent, its place among siblings, depth, tag.

    Ids beyond a table are clipped to its last row. Row 0 is for tokens of no node.

    Deng, Shiralkar, Lockard, Huang & Sun, "DOM-LM", 2022, arXiv:2201.10608.

    Parameters
    ----------
    dim : width of the vectors
    rows : of each table

    Examples
    --------
    >>> TreeEmbedding(8, rows=(4, 4))(torch.tensor([[[1, 0], [99, 1]]])).shape
    torch.Size([1, 2, 8])
    """

    def __init__(self, dim: int, rows: Sequence[int] = (2048, 2048, 128, 128, 128)) -> None:
        super().__init__()
        self.rows = tuple(rows)
        self.tables = nn.ModuleList(nn.Embedding(number, dim) for number in rows)
        for weight in self.tables.parameters():
            nn.init.normal_(weight, std=0.02)  # as the words' own

    def forward(self, ids: Int64[Tensor, "b l k"]) -> Float[Tensor, "b l d"]:
        clipped = [ids[..., number].clamp(max=rows - 1) for number, rows in enumerate(self.rows)]
        return torch.stack([table(part) for table, part in zip(self.tables, clipped)]).sum(dim=0)


def node_vectors(states: Float[Tensor, "b l d"], nodes: Int64[Tensor, "b l"]) -> Float[Tensor, "b k d"]:
    """The mean state of each node's tokens, in float32; `nodes` holds the node of each token, -1 for none.

    >>> node_vectors(torch.tensor([[[9.0], [1.0], [3.0], [5.0]]]), torch.tensor([[-1, 0, 0, 1]])).tolist()
    [[[2.0], [5.0]]]
    """
    number = max(int(nodes.max()) + 1, 1)
    member = nn.functional.one_hot(nodes + 1, number + 1)[..., 1:].to(torch.float32)  # (b, l, k)
    return torch.einsum("blk,bld->bkd", member, states.float()) / member.sum(dim=1).clamp_min(1.0).unsqueeze(-1)
