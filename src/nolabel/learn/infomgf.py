"""InfoMGF: one graph out of several noisy ones, and vectors of its nodes, without labels.

Nodes have features X (n, f) and V kinds of edges. With A_v the v-th graph with loops, symmetrically normalised, features are
smoothed, X_v = rows of A_v^r X at unit length. A learner of each graph weighs features, h = ReLU(X_v * w1) * w2, and joins every
node to the k nearest by cosine (see `nolabel.ops.graphs`): the refined graph A_v^s. One more learner sees [X_1 .. X_V, X] and
makes the fused graph A^f. One graph convolutional network, always fed X, encodes them all,

    Z_v = GCN(X, A_v^s),    Z = GCN(X, A^f),    Z'_v = GCN(X, A'_v),

where A'_v is an augmented A_v. With p small projections and I(a, b) = -InfoNCE over nodes, cosines over a temperature, both ways,

    L = - mean_{i<j} I(p_i Z_i, p_j Z_j)        shared: what the graphs have in common
        - mean_v     I(p_v Z_v, p'_v Z'_v)      unique: what is in this graph alone
        - mean_v     I(p''_v Z, p_v Z_v)        fusion: the fused graph keeps both

``augment="random"`` drops half of the edges of A_v. ``"generative"`` learns which: a gate on every edge (a relaxed Bernoulli
variable of its two nodes) is trained in turn with the rest by ``weight * bound(Z'_v, Z_v) + (1 - cos(decoded Z'_v, X_v))``:
forget what Z_v knows anyway, keep what X_v needs. What comes out is A^f and the rows of Z without any dropout.

Shen, Wang & Kang, "Beyond redundancy: information-aware unsupervised multiplex graph structure learning", NeurIPS 2024,
arXiv:2409.17386. Differences: X is centred, for what all nodes have in common only hides what tells them apart, and its rows
have unit length, so that the scale of the features does not matter; similarities are found a block of rows at a time and have
their gradient through the kept ones alone, so no (n, n) matrix is stored at any size; a cosine brings the rate down; the gates
have the temperature and the noise that their authors name (their call passes others, for which set ``gate_temperature=0.5,
gate_bias=0.5``). Graphs without features, where others take the identity, get the leading eigenvectors of the mean of their
layers, see `nolabel.ops.graphs.spectral_features`: as near to the identity as so many columns come, at a fraction of the cost.
"""

import os
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.optim import Optimizer

from nolabel.assess.clusters import ClusterScores, cluster_scores
from nolabel.data.multiplex import layers_of, plain_features, seen_by_learners
from nolabel.encoders.graph import GCN, EdgeScorer, FeatureWeights
from nolabel.encoders.heads import projection_head
from nolabel.objectives.contrastive import info_nce
from nolabel.objectives.information import information_bound, scaled_cosine_error
from nolabel.ops.graphs import (
    concrete_gate,
    nearest_nodes,
    neighbour_graph,
    normalised,
    sparse_matrix,
    without_some,
)
from nolabel.training import Learner, Training
from nolabel.training.optimisers import optimiser

AUGMENTATIONS = ("random", "generative")
#: Share of edges that the random augmentation drops (the paper's).
DROPPED = 0.5
#: Nodes that are judged, and numbers of clusters that are tried.
JUDGED, MOST_CLUSTERS = 5000, 12


class InfoMGF(Learner):
    """Learn one refined graph and node vectors from features and several kinds of edges.

    Use it where nodes have features and two kinds of edges or more, each of them noisy, and the groups are unknown: papers by
    author and subject, users by actions. With one clean graph a plain encoder does as well. It learns of the nodes it is
    given: `transform` takes a whole graph with the same features and kinds of edges, such as the old one extended by new
    nodes. A step compares all nodes with one another: at 10,000 nodes with 500 features that is a second on a GPU and half a
    minute on one CPU core, unless `renew` makes it rarer.

    Parameters
    ----------
    n_neighbors : edges a node is given, k (paper: 15; 10 for DBLP)
    hops : r, how often features are smoothed (paper: 2; 3 for MAG)
    centre : take the mean of every feature off first (paper: False)
    hidden, dim, projection : widths of the network, of the vectors and of the projections
    layers : of the network and of the learners (paper: 2; 3 for MAG)
    activation : of the learners, ``relu`` or ``tanh``
    dropout : before each layer of the network
    edge_dropout : of refined graphs while training
    augment : ``random`` or ``generative``
    temperature : of the contrast
    contrast_batch : nodes contrasted at a time, from 2; None: all, whose cost grows with their square (paper, MAG: 2,560)
    renew : steps between two searches for neighbours; their weights are new in every step. Above 1 it is faster and a little
        behind (paper: 1)
    generator_weight : of the bound, with ``augment="generative"`` (paper: 0.01 for ACM, 1 for DBLP and Yelp)
    generator_lr : its learning rate
    gate_temperature, gate_bias : of the gates
    n_clusters : of `labels_`; None takes the number from 2 to 12 with the best silhouette
    training : how long and on what to train; a step is an epoch, and sees the whole graph

    Attributes
    ----------
    embedding_ : (n, dim) float32, rows of unit length
    graph_ : fused graph, a scipy csr_array (n, n), symmetric, not negative, with loops
    view_graphs_ : refined graphs by kind of edges
    layers_ : kinds of edges
    labels_ : (n,) k-means clusters of `embedding_`
    history_ : losses by term (shared, unique, fusion; bound and error of the generator)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(40) % 2
    >>> near = [(rng.random((40, 40)) < np.where(y[:, None] == y, 0.4, 0.05)).astype(int) for _ in range(2)]
    >>> graph = rng.random((40, 8)), [np.maximum(a, a.T) for a in near]
    >>> model = InfoMGF(n_neighbors=5, hidden=8, dim=4, projection=4, n_clusters=2, training=Training(epochs=5)).fit(graph)
    >>> model.embedding_.shape, model.graph_.shape, sorted(model.view_graphs_)
    ((40, 4), (40, 40), ['layer0', 'layer1'])
    """

    columns = ("graph",)
    recipe = {"optimiser": "adam", "lr": 0.01, "weight_decay": 0.0, "epochs": 100, "warmup": 0.0}  # noqa: RUF012

    def __init__(
        self,
        n_neighbors: int = 15,
        *,
        hops: int = 2,
        centre: bool = True,
        hidden: int = 128,
        dim: int = 64,
        projection: int = 64,
        layers: int = 2,
        activation: str = "relu",
        dropout: float = 0.5,
        edge_dropout: float = 0.5,
        augment: str = "random",
        temperature: float = 0.2,
        contrast_batch: int | None = None,
        renew: int = 1,
        generator_weight: float = 0.01,
        generator_lr: float = 1e-3,
        gate_temperature: float = 1.0,
        gate_bias: float = 1e-4,
        n_clusters: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.hops = hops
        self.centre = centre
        self.hidden = hidden
        self.dim = dim
        self.projection = projection
        self.layers = layers
        self.activation = activation
        self.dropout = dropout
        self.edge_dropout = edge_dropout
        self.augment = augment
        self.temperature = temperature
        self.contrast_batch = contrast_batch
        self.renew = renew
        self.generator_weight = generator_weight
        self.generator_lr = generator_lr
        self.gate_temperature = gate_temperature
        self.gate_bias = gate_bias
        self.n_clusters = n_clusters
        self.training = training

    # What comes in ----------------------------------------------------------------------------------------------------

    def open_one(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        """The graph as tensors: smoothed features beside the plain ones, and the normalised edges of all layers."""
        from nolabel.data.graphs import read_graph
        from nolabel.data.multiplex import multiplex_source

        self._check()
        graph = read_graph(getattr(data, "graph", data))  # of a table of nodes, its graph
        n = graph["node"].num_nodes
        if self.n_neighbors >= n:
            raise ValueError(f"n_neighbors must be below the {n} nodes of the graph, got {self.n_neighbors}")
        if (self.n_clusters or 0) > n:
            raise ValueError(f"n_clusters must be at most the {n} nodes of the graph, got {self.n_clusters}")
        known = {"names": getattr(self, "layers_", None), "mean": getattr(self, "mean_", None)}
        return multiplex_source(graph, self.hops, centre=self.centre, **known)

    def _check(self) -> None:
        whole = {"n_neighbors": 1, "hops": 1, "hidden": 1, "dim": 2, "projection": 1, "layers": 1, "renew": 1}
        whole |= {name: 2 for name in ("contrast_batch", "n_clusters") if getattr(self, name) is not None}
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.augment not in AUGMENTATIONS:
            raise ValueError(f"augment must be one of {', '.join(AUGMENTATIONS)}, got {self.augment!r}")
        for name in ("dropout", "edge_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("temperature", "generator_lr", "gate_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0.0 <= self.gate_bias <= 0.5:
            raise ValueError(f"gate_bias must lie in [0, 0.5], got {self.gate_bias}")
        if not self.generator_weight >= 0:
            raise ValueError(f"generator_weight must be at least 0, got {self.generator_weight}")

    # Learning ---------------------------------------------------------------------------------------------------------

    def build(self, example: dict[str, Any]) -> nn.Module:
        (n, wide), views = example["graph"].features.shape, len(example["graph"].sizes)
        width = wide // (views + 1)
        main: Any = nn.Module()
        widths = [*[width] * views, wide]
        main.learners = nn.ModuleList(
            FeatureWeights(size, layers=self.layers, activation=self.activation) for size in widths
        )
        main.gcn = GCN(width, self.hidden, self.dim, layers=self.layers, dropout=self.dropout)
        for name in ("shared", "unique", "fused"):
            heads = (projection_head(self.dim, self.projection, self.projection, norm=False) for _ in range(views))
            setattr(main, name, nn.ModuleList(heads))
        net: Any = nn.Module()
        net.main = main
        if self.augment == "generative":
            net.generator = nn.Module()
            net.generator.scorers = nn.ModuleList(EdgeScorer(width, self.hidden) for _ in range(views))
            decoders = (projection_head(self.dim, self.hidden, width, norm=False) for _ in range(views))
            net.generator.decoders = nn.ModuleList(decoders)
        found = torch.zeros(views + 1, n, self.n_neighbors + 1, dtype=torch.int32)
        net.register_buffer("neighbours", found)  # of the last search: a resumed run goes on with them
        return net

    def optimisers(self, net: Any, settings: Training) -> dict[str, Optimizer]:
        """One for learners, network and projections, one for the generator."""
        assert settings.optimiser is not None
        assert settings.lr is not None
        assert settings.weight_decay is not None
        made = {"main": optimiser(settings.optimiser, net.main, settings.lr, settings.weight_decay)}
        if self.augment == "generative":
            made["generator"] = optimiser("adam", net.generator, self.generator_lr, settings.weight_decay)
        return made

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> SimpleNamespace:
        """The graph, what is drawn for its augmentation, and the parts in which nodes are contrasted."""
        graph = batch["graph"]
        n, device = len(graph.features), graph.features.device
        parts = min(-(-n // (self.contrast_batch or n)), n // 2)  # nobody is contrasted with nobody
        order = torch.randperm(n, generator=generator, device=device)
        # No dict: where precision is mixed its tensors would be rounded, and sparse products know no half precision.
        views = SimpleNamespace(graph=graph, parts=order.tensor_split(parts))
        if self.augment == "random":
            views.augmented = [without_some(edges, weights, DROPPED, generator) for edges, weights in layers_of(graph)]
        else:
            views.noise = [torch.rand(len(w), generator=generator, device=device) for _, w in layers_of(graph)]
        return views

    def step(self, run: Any, views: SimpleNamespace) -> dict[str, Tensor]:
        """Search for neighbours, then learn; the generator in turn with the rest."""
        if run.clock.step % self.renew == 0:
            self._search(run.net, views.graph)
        terms = run.loss(views)
        run.descend(terms, "main")
        if self.augment == "generative":
            generator = run.loss(views, "generator_loss")
            run.descend(generator, "generator")
            terms = terms | generator
        return terms

    @torch.no_grad()
    def _search(self, net: Any, graph: Any) -> None:
        for number, (learner, seen) in enumerate(zip(net.main.learners, seen_by_learners(graph))):
            net.neighbours[number] = nearest_nodes(learner(seen), self.n_neighbors)

    def loss(self, net: Any, views: SimpleNamespace) -> dict[str, Tensor]:
        """The three terms over refined, fused and augmented graphs."""
        main, graph, parts = net.main, views.graph, views.parts
        x, n, count = plain_features(graph), len(graph.features), len(graph.sizes)
        refined = [self._refined(net, number, seen) for number, seen in enumerate(seen_by_learners(graph))]
        *z, fused = [main.gcn(x, matrix) for matrix in refined]  # (n, dim) each
        with torch.no_grad():
            augmented = self._augmented(net, views)
        other = [main.gcn(x, sparse_matrix(*pair, n)) for pair in augmented]
        s = [head(vectors) for head, vectors in zip(main.shared, z)]
        u = [head(vectors) for head, vectors in zip(main.unique, other)]
        f = [head(fused) for head in main.fused]
        pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
        return {
            "shared": _mean([self._contrast(s[i], s[j], parts) for i, j in pairs]),
            "unique": _mean([self._contrast(a, b, parts) for a, b in zip(s, u)]),
            "fusion": _mean([self._contrast(a, b, parts) for a, b in zip(f, s)]),
        }

    def generator_loss(self, net: Any, views: SimpleNamespace) -> dict[str, Tensor]:
        """What an augmented graph still tells of the refined one, and how badly the features can be told from it."""
        graph = views.graph
        x, n, seen = plain_features(graph), len(graph.features), seen_by_learners(graph)[:-1]
        with torch.no_grad():
            z = [net.main.gcn(x, self._refined(net, number, own)) for number, own in enumerate(seen)]
        other = [net.main.gcn(x, sparse_matrix(*pair, n)) for pair in self._augmented(net, views)]
        bounds = [information_bound(a, b, temperature=self.temperature) for a, b in zip(other, z)]
        decoded = [decoder(vectors) for decoder, vectors in zip(net.generator.decoders, other)]
        errors = [scaled_cosine_error(a.float(), b) for a, b in zip(decoded, seen)]
        return {"bound": self.generator_weight * torch.stack(bounds).sum(), "error": torch.stack(errors).sum()}

    def _refined(self, net: Any, number: int, seen: Tensor) -> Tensor:
        """A refined graph in training: of the neighbours last found, some of its edges dropped."""
        n = len(seen)
        edges, weights = neighbour_graph(net.main.learners[number](seen), net.neighbours[number].long())
        return sparse_matrix(edges, dropout(weights, self.edge_dropout), n)

    def _augmented(self, net: Any, views: SimpleNamespace) -> list[tuple[Tensor, Tensor]]:
        """Edges and weights of each A'_v."""
        if self.augment == "random":
            drawn: list[tuple[Tensor, Tensor]] = views.augmented
            return drawn
        graph, made = views.graph, []
        x, n = plain_features(graph), len(graph.features)
        for scorer, (edges, _), noise in zip(net.generator.scorers, layers_of(graph), views.noise):
            gate = concrete_gate(scorer(x, edges), noise, temperature=self.gate_temperature, bias=self.gate_bias)
            gate = torch.where(edges[0] == edges[1], torch.ones_like(gate), gate)
            made.append((edges, normalised(edges, (gate + gate[_mirrored(edges, n)]) / 2, n)))
        return made

    def _contrast(self, a: Tensor, b: Tensor, parts: list[Tensor]) -> Tensor:
        """Symmetric InfoNCE within each part, weighted by its size."""
        sums = [
            info_nce(a[rows], b[rows], temperature=self.temperature, symmetric=True) * (len(rows) / len(a))
            for rows in parts
        ]
        return torch.stack(sums).sum()

    # What comes out ---------------------------------------------------------------------------------------------------

    def encode(self, net: Any, batch: dict[str, Any]) -> Tensor:
        """Vectors of all nodes on the fused graph."""
        graph = batch["graph"]
        edges, weights = self._found(net, graph, len(graph.sizes))
        vectors: Tensor = net.main.gcn(plain_features(graph), sparse_matrix(edges, weights, len(graph.features)))
        return vectors

    def judge(
        self, net: nn.Module, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        vectors = self.encode(net, batch)
        return {"representation": (vectors[:: -(-len(vectors) // JUDGED)], None)}

    def _found(self, net: Any, graph: Any, number: int) -> tuple[Tensor, Tensor]:
        """A refined graph, or the fused one, as it is after training."""
        vectors = net.main.learners[number](seen_by_learners(graph)[number])
        return neighbour_graph(vectors, nearest_nodes(vectors, self.n_neighbors))

    def finish(self, source: Any) -> None:
        """Keep the graphs, the vectors and their clusters."""
        from nolabel.training.batches import to_device

        self.layers_, self.mean_ = list(source.item.names), source.item.mean
        graph = to_device(source.item, next(self.net_.parameters()).device)
        with torch.no_grad():
            found = [self._found(self.net_, graph, number) for number in range(len(self.layers_) + 1)]
        self.structures_ = [
            {"edges": edges[:, weights > 0].int().cpu().numpy(), "weights": weights[weights > 0].cpu().numpy()}
            for edges, weights in found
        ]
        self.embedding_ = self.transform_source(source)
        self.labels_ = self._clusters()

    def _clusters(self) -> np.ndarray:
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score

        seed, z = self.training_.random_state % 2**32, self.embedding_
        different = len(np.unique(z, axis=0))
        wanted = self.n_clusters
        if wanted is not None and wanted > different:
            warnings.warn(
                f"n_clusters={wanted}: there are only {different} different vectors, so many clusters", stacklevel=2
            )
            wanted = different
        tried = range(2, min(MOST_CLUSTERS, different - 1) + 1) if wanted is None else [wanted]
        found = [KMeans(count, n_init=10, random_state=seed).fit_predict(z) for count in tried]
        if len(found) < 2:
            return found[0] if found else np.zeros(len(z), np.int32)
        sample = min(len(z), 2000)
        return max(found, key=lambda labels: silhouette_score(z, labels, sample_size=sample, random_state=seed))

    @property
    def graph_(self) -> sp.csr_array:
        """The fused graph (n, n)."""
        self.require_fitted()
        return self._matrix(-1)

    @property
    def view_graphs_(self) -> dict[str, sp.csr_array]:
        """The refined graph (n, n) of each kind of edges."""
        self.require_fitted()
        return {name: self._matrix(number) for number, name in enumerate(self.layers_)}

    def _matrix(self, number: int) -> sp.csr_array:
        kept, n = self.structures_[number], len(self.embedding_)
        return sp.csr_array((kept["weights"], tuple(kept["edges"])), shape=(n, n))

    def transform(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Vectors (n, dim) of all nodes of a whole graph: that of `fit`, or one extended by new nodes and all their edges.

        Raises
        ------
        ValueError : for features alone: a node's place is told by its edges; or for other features or kinds of edges
        """
        from nolabel.data.graphs import is_graph

        self.require_fitted()
        if not (isinstance(X, tuple | str | os.PathLike) or is_graph(X)):
            raise ValueError(
                "InfoMGF places nodes by their edges and cannot place new ones alone: give the whole extended graph, as "
                f"(X, graphs) or whatever fit takes, got {type(X).__name__}"
            )
        source = self.open_one(X, columns)
        if not source.item.told and source.fingerprint != self.fingerprint_:
            raise ValueError("a graph without features has no coordinates that another graph shares: fit it instead")
        return self.transform_source(source)

    def fit_predict(self, X: Any, y: Any = None, **fit: Any) -> np.ndarray:
        """`fit`, then the clusters (n,) of its nodes."""
        return self.fit(X, y, **fit).labels_

    def fit_transform(self, X: Any, y: Any = None, **fit: Any) -> np.ndarray:
        """`fit`, then the vectors (n, dim) of its nodes."""
        return self.fit(X, y, **fit).embedding_

    def score(self, y: Any, *, repeats: int = 10) -> ClusterScores:
        """How well k-means on `embedding_` finds labels: NMI, ARI and accuracy, means over `repeats` seeds of k-means.

        There are as many clusters as different labels. Labels serve to judge alone.
        """
        from sklearn.cluster import KMeans

        self.require_fitted()
        if len(y) != len(self.embedding_):
            raise ValueError(f"y must have the {len(self.embedding_)} nodes of the fit, got {len(y)}")
        count = len(np.unique(np.asarray(y)))
        runs = [KMeans(count, n_init=1, random_state=seed).fit_predict(self.embedding_) for seed in range(repeats)]
        scores = [cluster_scores(y, labels) for labels in runs]
        return ClusterScores(*(float(np.mean([getattr(s, k) for s in scores])) for k in ("accuracy", "nmi", "ari")))


def _mirrored(edges: Tensor, nodes: int) -> Tensor:
    """For each edge of a symmetric graph the place of the edge back."""
    return (edges[1] * nodes + edges[0]).argsort()


def _mean(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).mean()
