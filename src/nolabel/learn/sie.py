"""SIE: one vector whose first half says what a thing is and whose second half says how it is posed.

Two views x, y of one object are known to differ by a transformation z (a rotation, a shift of colour). The representation
is split; each half has an expander. The invariant halves have to agree; the equivariant half of x, moved by a predictor,
has to land on that of y. The predictor is a hypernetwork, a linear map from z to a matrix, without bias:

    y' = W(z) x_equi,  W(z) = sum_a z_a M_a

W has nothing but z, so it cannot become the identity for every z, which would let the equivariant half ignore the pose.
Variances V and covariances C (as in VICReg) keep every dimension alive; C runs over both halves side by side, so that one
does not repeat the other:

    L = l_s (|x_inv - y_inv|^2 + rho |y' - y_equi|^2) + l_v (V(x)/2 + V(y)/2 + V(y')/2) + l_c (C(x) + C(y))

Garrido, Najman & LeCun, "Self-supervised learning of split invariant equivariant representations", ICML 2023,
arXiv:2302.10283. Difference: quaternions are given the sign with w >= 0, for q and -q are one rotation but W(-q) = -W(q).
Their deeper variants, a perceptron that makes W and a made network of several layers, are ``deep_hypernetwork``.
"""

import warnings
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from nolabel.data.poses import checked_poses, checked_transformations, pair_table, require_variety
from nolabel.encoders import projection_head
from nolabel.objectives import covariance_loss, invariance_loss, variance_loss
from nolabel.ops.pairs import pair_rows
from nolabel.ops.quaternions import canonical_quaternion, relative_pose
from nolabel.training import ImageLearner, Training, gather
from nolabel.training.batches import Rows

PARTS = ("all", "inv", "equi")


def expander(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Two hidden layers with batch norm and a last layer without bias."""
    head = projection_head(in_dim, hidden_dim, out_dim, layers=3)
    head[-1] = nn.Linear(hidden_dim, out_dim, bias=False)
    return head


class SplitHead(nn.Module):
    """An expander for each half of a representation: (n, inv + equi) to (n, 2 out_dim)."""

    def __init__(self, split: tuple[int, int], hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.split = split
        self.inv, self.equi = (expander(width, hidden_dim, out_dim) for width in split)

    def forward(self, representation: Tensor) -> Tensor:
        inv, equi = representation.split(self.split, dim=1)
        return torch.cat([self.inv(inv), self.equi(equi)], dim=1)


class Hypernetwork(nn.Module):
    """A matrix made from z, times x: ``W(z) x`` with ``W(z) = sum_a z_a M_a``, linear in z and without bias."""

    def __init__(self, dim: int, transformation: int) -> None:
        super().__init__()
        self.matrices = nn.Parameter(torch.empty(transformation, dim, dim))  # M_a, rows are outputs
        bound = (
            3 / dim
        ) ** 0.5  # for z of unit length, W(z) x is as large as x: less starves the variance term at first
        nn.init.uniform_(self.matrices, -bound, bound)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        moved = torch.einsum("aoi,ni->nao", self.matrices, x)  # every M_a x
        return (z[:, :, None] * moved).sum(dim=1)


class DeepHypernetwork(nn.Module):
    """A perceptron made from z by another, applied to x: ReLU between the layers of both, without bias.

    Parameters
    ----------
    dim : width of x and of the result
    transformation : width of z
    maker : hidden widths of the network that makes the weights; none makes them linear in z
    made : hidden widths of the network it makes; none makes one matrix
    """

    def __init__(self, dim: int, transformation: int, maker: tuple[int, ...], made: tuple[int, ...]) -> None:
        super().__init__()
        steps = [nn.Linear(i, o, bias=False) for i, o in pairwise((transformation, *maker))]
        self.maker = nn.ModuleList(steps)
        code = (transformation, *maker)[-1]
        widths = (dim, *made, dim)
        self.matrices = nn.ParameterList(torch.empty(code, o, i) for i, o in pairwise(widths))
        for step in steps:  # lengths are kept, as in `Hypernetwork`
            nn.init.kaiming_normal_(step.weight, mode="fan_out", nonlinearity="relu")
        for number, matrices in enumerate(self.matrices):
            gain = 6 if number < len(made) else 3
            nn.init.uniform_(matrices, -((gain / widths[number + 1]) ** 0.5), (gain / widths[number + 1]) ** 0.5)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        for layer in self.maker:
            z = layer(z).relu()  # (n, code)
        for number, matrices in enumerate(self.matrices):
            if number:
                x = x.relu()
            x = (z[:, :, None] * torch.einsum("aoi,ni->nao", matrices, x)).sum(dim=1)
        return x


class ConcatenationPredictor(nn.Module):
    """A perceptron on (x, z), which can learn to pass z by: the ablation."""

    def __init__(self, dim: int, transformation: int) -> None:
        super().__init__()
        self.layers = projection_head(dim + transformation, dim, dim)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        moved: Tensor = self.layers(torch.cat([x, z], dim=1))
        return moved


PREDICTORS = ("hypernetwork", "deep_hypernetwork", "mlp")


class SIE(ImageLearner):
    """Learn what an object is and how it is posed, in two halves of one vector, from views whose poses are known.

    Use it with turntables, robots, simulators, rotated scans: wherever the poses are known and should stay readable. Use an
    invariant method such as SimCLR where they are unknown or should be forgotten. No class label is needed; `object` says
    only which views show the same thing.

    Parameters
    ----------
    encoder : name or ``nn.Module``; the paper's is ``resnet18``
    equi_fraction : share of the representation's width that is equivariant
    group : how `pose` is written: ``so3`` (unit quaternion x, y, z, w), ``so2`` (angle in radians) or ``vector``; further
        numbers in a row, such as the hue of the light, count by their difference
    predictor : ``hypernetwork``; ``deep_hypernetwork``, for transformations that no matrix linear in them can follow, without
        the guarantee that the pose cannot be ignored; or ``mlp`` on the concatenation (the ablation, which may ignore it)
    maker_widths : hidden widths of the network by which a deep hypernetwork makes weights; none: linear. The authors' code
        has two of the width of a transformation
    made_widths : hidden widths of the network that a deep hypernetwork makes; none: one matrix
    projection : hidden and output width of each half's expander; the paper's is (1024, 1024)
    invariance : weight of the agreement of the halves
    equivariance : weight of the prediction, as a share of `invariance`
    variance, covariance : weights of these terms
    predictor_variance : whether predictions too have to vary
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train; ``batch_size`` counts pairs

    Attributes
    ----------
    split_ : widths of the invariant and of the equivariant half of the representation

    Notes
    -----
    `fit` takes a table with one row a view: ``image``, ``object``, ``pose``. Views of an object are paired afresh each epoch.
    It also takes ready-made pairs, ``fit((X1, X2), Z)``, see `nolabel.data.poses.pair_table`; `make_pose_views` and
    `rotated_images` there make tables for trials.

    Examples
    --------
    >>> from nolabel.data import load
    >>> from nolabel.data.poses import rotated_images
    >>> views = rotated_images(load("digits").select(range(50)), views=4)
    >>> sie = SIE("conv4", group="so2", training=Training(steps=2, batch_size=32)).fit(views)
    >>> sie.split_, sie.transform(views, part="equi").shape
    ((32, 32), (200, 32))
    """

    columns = ("image", "object", "pose")
    transform_columns = ("image",)
    recipe = {"optimiser": "adam", "lr": 1e-3, "weight_decay": 1e-6, "batch_size": 256, "warmup": 0.0}  # noqa: RUF012

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        equi_fraction: float = 0.5,
        group: str = "so3",
        predictor: str = "hypernetwork",
        maker_widths: tuple[int, ...] = (32, 32),
        made_widths: tuple[int, ...] = (),
        projection: tuple[int, int] = (128, 128),
        invariance: float = 10.0,
        equivariance: float = 0.45,
        variance: float = 10.0,
        covariance: float = 1.0,
        predictor_variance: bool = True,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.equi_fraction = equi_fraction
        self.group = group
        self.predictor = predictor
        self.maker_widths = maker_widths
        self.made_widths = made_widths
        self.projection = projection
        self.invariance = invariance
        self.equivariance = equivariance
        self.variance = variance
        self.covariance = covariance
        self.predictor_variance = predictor_variance
        self.image_size = image_size
        self.training = training

    def fit(self, X: Any, y: Any = None, **options: Any) -> Self:
        """As `Learner.fit`, from a table of views, or from pairs of images (X1, X2) and the transformation of each, `y`."""
        if not isinstance(X, tuple):
            return super().fit(X, y, **options)
        if len(X) != 2:
            raise ValueError(f"X must be a table of views or a pair of arrays (X1, X2), got {len(X)} of them")
        if y is None:
            raise ValueError("y must hold the transformation of each pair (X1, X2), got None")
        return super().fit(pair_table(*X, y, self.group), **options)

    def prepare(self, source: Any, folder: Any) -> None:
        self._check()
        objects, poses = self.read_poses(source)
        _, first, number = np.unique(objects, return_index=True, return_inverse=True)
        others = np.setdiff1d(np.arange(len(objects)), first)  # every view but the first of its object
        pairs = len(pair_rows(objects, np.random.default_rng(0)))
        if pairs < 2:
            raise ValueError(
                f"object: at least 2 pairs of rows with the same object are needed, got {pairs} in {len(source)} rows"
            )
        alone = len(first) - len(np.unique(number[others]))
        if alone:
            warnings.warn(f"{alone} of {len(first)} objects have one view only and are not learned from", stacklevel=2)
        asked = self.training.batch_size if self.training is not None else None
        devices = self.training_.devices * self.training_.nodes
        if asked is not None and (asked > pairs or asked % devices):
            expected = f"pairs: at most the {pairs} of the data and a multiple of the {devices} devices"
            raise ValueError(f"training.batch_size counts {expected}, got {asked}")
        before, after = (torch.from_numpy(poses[rows]) for rows in (first[number[others]], others))
        require_variety(relative_pose(before, after, self.group).numpy())

    def read_poses(self, source: Any) -> tuple[np.ndarray, np.ndarray]:
        """Object (n,) and checked pose (n, p) of every row of an opened source, without its images."""
        batch = source.sources[-1].batch(np.arange(len(source)))
        return np.asarray(batch["object"]), checked_poses(batch["pose"], self.group)

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        pairs = pair_rows(np.asarray(source.sources[-1].batch(np.arange(len(source)))["object"]), rng)
        size = self._pairs_a_batch(len(pairs))
        devices = self.training_.devices * self.training_.nodes
        batches = [pairs[start : start + size] for start in range(0, len(pairs) - size + 1, size)]
        # each device works on a contiguous piece of the batch: within it, first all first views, then all second ones
        return [np.concatenate([part.T.ravel() for part in np.split(batch, devices)]) for batch in batches]

    def build(self, example: dict[str, Any]) -> nn.Module:
        self._check()
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        equi = round(net.encoder.dim * self.equi_fraction)
        if not 0 < equi < net.encoder.dim:
            raise ValueError(f"equi_fraction={self.equi_fraction} leaves one half of {net.encoder.dim} numbers empty")
        self.split_ = (net.encoder.dim - equi, equi)
        hidden, out = self.projection
        net.head = SplitHead(self.split_, hidden, out)
        net.predictor = self._make_predictor(out, self._transformation_width(example["pose"]))
        return net

    def _make_predictor(self, dim: int, transformation: int) -> nn.Module:
        if self.predictor == "deep_hypernetwork":
            return DeepHypernetwork(dim, transformation, tuple(self.maker_widths), tuple(self.made_widths))
        return (Hypernetwork if self.predictor == "hypernetwork" else ConcatenationPredictor)(dim, transformation)

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images = batch["image"].float() / 255.0
        first, second = _matrix(batch["pose"]).chunk(2)
        return images.contiguous(memory_format=torch.channels_last), relative_pose(first, second, self.group)

    def loss(self, net: Any, views: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, z = views  # (2b, c, h, w), (b, g)
        x, y = net.head(net.encoder(images)).float().chunk(2)  # (b, 2d) each
        x, y, z = gather(x), gather(y), gather(z)
        (x_inv, x_equi), (y_inv, y_equi) = x.chunk(2, dim=1), y.chunk(2, dim=1)  # (n, d) each
        predicted = net.predictor(x_equi, z).float()
        terms = {
            "invariance": self.invariance * invariance_loss(x_inv, y_inv),
            "equivariance": self.equivariance * self.invariance * invariance_loss(predicted, y_equi),
            "variance": self.variance * (variance_loss(x) + variance_loss(y)) / 2,
            "covariance": self.covariance * (covariance_loss(x) + covariance_loss(y)),
        }
        if self.predictor_variance:
            terms["predictor_variance"] = self.variance * variance_loss(predicted) / 2
        return terms

    def transform(
        self,
        X: Any,
        *,
        columns: dict[str, str] | None = None,
        part: str = "all",
        layer: str = "representation",
        pool: int = 1,
    ) -> np.ndarray:
        """Representations (n, dim), float32, or one half of them.

        Parameters
        ----------
        X : images, as an array, folder or table; poses are not needed
        columns : as in `fit`
        part : ``all``, ``inv`` (what it is) or ``equi`` (how it is posed)
        layer : ``representation``, ``embedding`` (both expanders) or a stage of the encoder, which has no halves
        pool : side of the grid a stage's map is averaged to before it is flattened
        """
        self.require_fitted()
        if part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
        if part != "all" and layer not in ("representation", "embedding"):
            raise ValueError(f"part must be all for layer={layer!r}, which is not split, got {part!r}")
        z = super().transform(X, columns=columns, layer=layer, pool=pool)
        return z if part == "all" else np.split(z, [self._border(layer)], axis=1)[PARTS.index(part) - 1]

    @torch.no_grad()
    def predict_equi(self, E: Any, Z: Any) -> np.ndarray:
        """Where the predictor moves equivariant embeddings.

        Parameters
        ----------
        E : (n, d), from ``transform(X, part="equi", layer="embedding")``
        Z : transformations (n, g), as `nolabel.ops.quaternions.relative_pose` gives them

        Returns
        -------
        float32 (n, d), to compare with the equivariant embeddings of the views they lead to
        """
        self.require_fitted()
        z = torch.from_numpy(checked_transformations(Z, self.group))
        if self.group == "so3":
            z = torch.cat([canonical_quaternion(z[:, :4]), z[:, 4:]], dim=1)
        e = np.asarray(E, np.float32)
        net: Any = self.net_
        width = self._transformation_width(torch.zeros(self.example_["batch"]["pose"]["shape"]))
        if e.shape != (len(z), self.projection[1]) or z.shape[1] != width:
            expected = f"(n, {self.projection[1]}) and (n, {width})"
            raise ValueError(f"E and Z must have shapes {expected}, got {e.shape} and {tuple(z.shape)}")
        device = next(net.predictor.parameters()).device
        moved: Tensor = net.predictor(torch.from_numpy(e).to(device), z.float().to(device))
        return moved.cpu().numpy()

    def _transformation_width(self, pose: Tensor) -> int:
        pose = _matrix(pose)
        return relative_pose(pose, pose, self.group).shape[1]

    def _border(self, layer: str) -> int:
        return self.projection[1] if layer == "embedding" else self.split_[0]

    def _pairs_a_batch(self, pairs: int) -> int:
        """Pairs a step, the same number on each device.

        Objects with an odd number of views leave fewer pairs than a default chosen by the number of rows expects.
        """
        devices = self.training_.devices * self.training_.nodes
        return min(self.training_.batch_size or 2, pairs) // devices * devices

    def _check(self) -> None:
        if not 0 < self.equi_fraction < 1:
            raise ValueError(f"equi_fraction must lie between 0 and 1, got {self.equi_fraction}")
        if self.predictor not in PREDICTORS:
            raise ValueError(f"predictor must be one of {', '.join(PREDICTORS)}, got {self.predictor!r}")
        for name in ("maker_widths", "made_widths"):
            widths = getattr(self, name)
            if not isinstance(widths, tuple | list) or not all(isinstance(w, int) and w > 0 for w in widths):
                raise ValueError(f"{name} must be a tuple of whole numbers of at least 1, got {widths!r}")
        weights = self.invariance, self.equivariance, self.variance, self.covariance
        if min(weights) < 0:
            names = "invariance, equivariance, variance and covariance"
            raise ValueError(f"{names} must be 0 or above, got {', '.join(map(str, weights))}")
        size = self.training_.batch_size if hasattr(self, "training_") else None
        if size is not None and size < 2:
            raise ValueError(f"training.batch_size must be at least 2 pairs (variance needs two), got {size}")


def _matrix(pose: Tensor) -> Tensor:
    """Poses as (n, p), also where each is one number."""
    return (pose[:, None] if pose.ndim == 1 else pose).float()
