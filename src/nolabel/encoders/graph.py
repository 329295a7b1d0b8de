"""Encoders of graphs, through PyTorch Geometric."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from nolabel.ops.graphs import require_geometric


class GCN(nn.Module):
    """Graph convolutions (Kipf and Welling, ICLR 2017, arXiv:1609.02907): dropout, ``A (h W) + b``, ReLU between; unit rows out.

    The graph is given as it is to be used: normalised, with its loops. One network serves any number of graphs.

    Parameters
    ----------
    in_dim, hidden, dim : widths of features, hidden layers and output, from 1
    layers : convolutions, from 1
    dropout : in [0, 1), before each convolution

    Examples
    --------
    >>> net = GCN(3, 8, 2)
    >>> net(torch.rand(4, 3), torch.eye(4).to_sparse_csr()).shape
    torch.Size([4, 2])
    """

    def __init__(self, in_dim: int, hidden: int, dim: int, *, layers: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        require_geometric()
        from torch_geometric.nn import GCNConv

        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        widths = [in_dim, *[hidden] * (layers - 1), dim]
        self.convolutions = nn.ModuleList(
            GCNConv(a, b, add_self_loops=False, normalize=False) for a, b in zip(widths, widths[1:])
        )
        self.dropout, self.in_dim, self.dim = dropout, in_dim, dim

    def forward(self, x: Float[Tensor, "n f"], graph: Float[Tensor, "n n"]) -> Float[Tensor, "n d"]:
        """Vectors of unit length; `graph` is a sparse tensor in compressed rows, such as `nolabel.ops.graphs.sparse_matrix`."""
        with torch.autocast(x.device.type, enabled=False):  # sparse products know no half precision
            for number, convolution in enumerate(self.convolutions):
                x = x.relu() if number else x
                x = convolution(dropout(x, self.dropout, self.training), graph)
            return normalize(x, dim=1)


class FeatureWeights(nn.Module):
    """A learner of similarity: every feature times a weight of its own, layer after layer, with unit rows out.

    The official code multiplies by a diagonal matrix, which is the same at f times the cost. Weights begin at 1, so the first
    graphs are those of the features as they come.

    Parameters
    ----------
    width : features
    layers : of weights, from 1
    activation : between layers: ``relu``, for features that are not negative, or ``tanh``

    Examples
    --------
    >>> FeatureWeights(2)(torch.tensor([[3.0, 4.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """

    def __init__(self, width: int, *, layers: int = 2, activation: str = "relu") -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        if activation not in ("relu", "tanh"):
            raise ValueError(f"activation must be 'relu' or 'tanh', got {activation!r}")
        self.weights = nn.ParameterList(nn.Parameter(torch.ones(width)) for _ in range(layers))
        self.activation = activation

    def forward(self, x: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        for number, weight in enumerate(self.weights):
            if number:
                x = x.relu() if self.activation == "relu" else x.tanh()
            x = x * weight
        return normalize(x, dim=1)


class EdgeScorer(nn.Module):
    """Logits of edges from the features of both ends, the same in both directions.

    A linear map of [u_i, u_j], u the hidden layer of a node, averaged with that of [u_j, u_i], is a number of i plus one of j:
    it costs n hidden layers and e additions.

    Parameters
    ----------
    width : features of a node
    hidden : width of the hidden layer

    Examples
    --------
    >>> EdgeScorer(3, 8)(torch.rand(4, 3), torch.tensor([[0, 1], [1, 0]])).shape
    torch.Size([2])
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.node = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x: Float[Tensor, "n f"], edges: Tensor) -> Float[Tensor, " e"]:
        part = self.node(x).float().squeeze(1)
        logits: Tensor = part[edges[0]] + part[edges[1]]
        return logits
