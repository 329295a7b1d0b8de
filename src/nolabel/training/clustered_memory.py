"""A first-in first-out memory of embeddings that knows clusters among its rows."""

import warnings

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nolabel.ops.sinkhorn import sinkhorn


class ClusteredMemory(nn.Module):
    """Remember the last rows, keep them in clusters, and find a query's nearest rows inside its cluster (BECLR's DyCE).

    Once full it can be clustered by k-means. From then on new rows are shared out evenly among the clusters (Sinkhorn on
    their cosine to the prototypes), and each prototype is the mean of its rows. Everything is a buffer: saved with the
    network, restored by an exact resume. Rows are unit vectors without gradient; ``ids`` says whose they are.

    Poulakakis-Daktylidis & Jamali-Rad, ICLR 2024, arXiv:2402.02444.

    Parameters
    ----------
    length : rows remembered
    dim : width of a row
    clusters : at most `length`
    epsilon, iterations : of the shared assignment, as in `nolabel.ops.sinkhorn`

    >>> memory = ClusteredMemory(4, dim=2, clusters=2)
    >>> memory.push(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), ids=torch.arange(4))
    >>> memory.cluster(seed=0)
    >>> memory.nearest(torch.tensor([[0.9, 0.0]]), k=1).tolist()
    [[0]]
    """

    store: Tensor
    ids: Tensor
    labels: Tensor
    prototypes: Tensor
    pushed: Tensor
    clustered: Tensor

    def __init__(self, length: int, dim: int, clusters: int, *, epsilon: float = 0.05, iterations: int = 10) -> None:
        super().__init__()
        if length < 1 or dim < 1:
            raise ValueError(f"length and dim must be at least 1, got length={length}, dim={dim}")
        if not 2 <= clusters <= length:
            raise ValueError(f"clusters must be from 2 to the {length} rows of the memory, got {clusters}")
        self.epsilon, self.iterations = epsilon, iterations
        self.register_buffer("store", torch.zeros(length, dim))
        self.register_buffer("ids", torch.full((length,), -1))
        self.register_buffer("labels", torch.zeros(length, dtype=torch.int64))
        self.register_buffer("prototypes", torch.zeros(clusters, dim))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("clustered", torch.zeros((), dtype=torch.bool))

    @property
    def full(self) -> bool:
        return int(self.pushed) >= len(self.store)

    @torch.no_grad()
    def cluster(self, seed: int) -> None:
        """Cluster all rows anew by k-means: every label and every prototype changes at once.

        Raises
        ------
        ValueError : the memory is not full
        """
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        if not self.full:
            raise ValueError(f"only a full memory can be clustered, got {int(self.pushed)} of {len(self.store)} rows")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # fewer different rows than clusters: a collapse, named elsewhere
            found = KMeans(len(self.prototypes), n_init=1, random_state=seed).fit(self.store.cpu().numpy())
        self.labels.copy_(torch.from_numpy(found.labels_))
        self.prototypes.copy_(torch.from_numpy(found.cluster_centers_))
        self.clustered.fill_(True)

    @torch.no_grad()
    def push(self, rows: Tensor, ids: Tensor) -> None:
        """Write rows (n, dim) of the items `ids` (n,) over the oldest; once clustered, assign them and move the prototypes."""
        if rows.ndim != 2 or rows.shape[1] != self.store.shape[1] or ids.shape != rows.shape[:1]:
            raise ValueError(
                f"rows must be (n, {self.store.shape[1]}) and ids (n,), got {tuple(rows.shape)} and {tuple(ids.shape)}"
            )
        length = len(self.store)
        if len(rows) > length:
            raise ValueError(f"rows must be at most the {length} that the memory holds, got {len(rows)}")
        rows = normalize(rows.float(), dim=1)
        slots = (int(self.pushed) + torch.arange(len(rows), device=rows.device)) % length
        self.store[slots] = rows
        self.ids[slots] = ids
        self.pushed += len(rows)
        if self.clustered:
            scores = self._cosines(rows, normalize(self.prototypes, dim=1))  # (n, clusters)
            self.labels[slots] = sinkhorn(scores, epsilon=self.epsilon, iterations=self.iterations).argmax(dim=1)
            self._centre()

    @staticmethod
    def _cosines(rows: Tensor, others: Tensor) -> Tensor:
        """Products of unit rows in float32, also inside a training step in bfloat16."""
        with torch.autocast(rows.device.type, enabled=False):
            return rows @ others.T

    def _centre(self) -> None:
        """Each prototype becomes the mean of its rows; one without rows stays where it was."""
        sums = torch.zeros_like(self.prototypes).index_add_(0, self.labels, self.store)
        counts = torch.bincount(self.labels, minlength=len(sums))[:, None]
        self.prototypes.copy_(torch.where(counts > 0, sums / counts.clamp(min=1), self.prototypes))

    @torch.no_grad()
    def nearest(self, queries: Tensor, k: int, ids: Tensor | None = None) -> Tensor:
        """Slots of the k most similar rows (cosine) in each query's cluster, best first: (q, k).

        The cluster is that of the nearest prototype; where it holds no more than k rows, the whole memory is searched. With
        `ids` (q,), rows of the same item are left out.
        """
        if not self.clustered:
            raise ValueError("the memory must be clustered before neighbours are asked for: call cluster(seed)")
        if not 1 <= k < len(self.store):
            raise ValueError(f"k must be from 1 to {len(self.store) - 1}, got {k}")
        queries = normalize(queries.float(), dim=1)
        own = self._cosines(queries, normalize(self.prototypes, dim=1)).argmax(dim=1)  # (q,)
        similarity = self._cosines(queries, self.store)  # (q, length)
        if ids is not None:
            similarity = similarity.masked_fill(ids[:, None] == self.ids, -2.0)
        inside = (own[:, None] == self.labels) & (similarity > -2.0)
        small = inside.sum(dim=1, keepdim=True) <= k
        return similarity.masked_fill(~(inside | small), -3.0).topk(k, dim=1).indices
