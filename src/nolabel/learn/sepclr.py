"""SepCLR: separate what two collections of images share from what only one of them has.

A target collection (diseased, defective, with accessory) and a background one (healthy, clean, without) are encoded by two
networks. The COMMON part c of an image may vary in both collections; the SALIENT part s varies in the target alone and is
one point, 0, for every background image. With two views 1 and 2, unit vectors c, vectors s of any length, s~ the salient
vectors of a batch with those of background rows replaced by 0, and k the Gaussian kernel of `objectives.separation`:

    common        align(c1, c2) + uniform(c1) + uniform(c2)                        all images
    salient       align(s1, s2) + uniform(s~1) + uniform(s~2)                      target images, also away from 0
    null          (align(s1, 0) + align(s2, 0)) / 2                                background images
    independence  mean_v mean_i log mean_j k(c_i, c_j) k(s~_i, s~_j)               all images

The last is minus the joint entropy of (c, s): with H(c) and H(s) held up by the uniform terms, raising it lowers what c and
s tell of one another. The losses act on projection heads; `transform` returns the representations below them.

Louiset, Duchesnay, Grigis & Gori, "Separating common from salient patterns with contrastive representation learning",
ICLR 2024, arXiv:2402.11928. Differences: smaller batches and networks; the pull of the independence term on the salient
network has a weight of its own, for beside a salient weight of 1,000 the paper's 10 is next to nothing there.
"""

import copy
import math
import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from nolabel.encoders import projection_head
from nolabel.objectives.alignment_uniformity import alignment, uniformity
from nolabel.objectives.separation import euclidean_alignment, euclidean_uniformity, kernel_joint_entropy
from nolabel.training import ImageLearner, Training, gather
from nolabel.training.batches import Rows, epoch_plan
from nolabel.training.image import GENTLE
from nolabel.views import recipe, standard
from nolabel.views.recipes import Recipe

Part = Literal["both", "common", "salient"]
PARTS = {"both": ("common", "salient"), "common": ("common",), "salient": ("salient",)}
LOOKED_AT = 256  # images of a collection, for its brightness and the lengths of its salient vectors
#: Salient vectors this many kernel widths long have grown without bound: their lengths say no more what differs.
LONGEST = 100.0


class SepCLR(ImageLearner):
    """Split image representations into what two collections share and what only the target collection has.

    Use it where normal images are plentiful and the interest is in what the others have beyond them: lesions, defects,
    accessories. It needs to know which collection an image is from, and no other label. Collections must be taken alike:
    whatever differs between them otherwise, such as brightness, becomes salient.

    ``fit({"background": X, "target": Y})``, or ``fit(X, flags)`` with 0 for background and 1 for target. A batch holds
    equally many images of each.

    A subclass that knows attributes of the target can name their column in `columns` (both collections then have it, the
    background with any values; ``transform_columns = ("image",)`` spares later data) and override `salient_loss`, which is
    handed it: the paper's supervised variant gives each attribute a coordinate of the embedding, with
    `objectives.separation.supervised_alignment` and a uniformity of its own.

    Parameters
    ----------
    encoder : name or ``nn.Module``; each part has a network of this kind
    common_dim, salient_dim : widths of the parts; 32 and 32 in the paper
    salient_weight, null_weight : of their terms relative to the common one; keep them equal
    independence_weight : of the independence term as far as it moves the common network; 0 lets it keep what is salient
    independence_weight_salient : the same for the salient network; ``None`` is `independence_weight`. Near `salient_weight`
        it also takes what is common out of the salient part
    temperature : of the Gaussian kernels
    projection : hidden and output width of both projection heads
    augment : recipe of a view: a name or a callable ``(images, generator) -> images``; ``None`` is `views.standard` with
        crops of at least 20 % of the image
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train; ``batch_size`` counts the images of each collection. The gradient is clipped at
        5,000, which suits weights of about 1,000; scale ``clip`` along with them

    Attributes
    ----------
    salient_length_ : mean length of the salient embeddings of ``target`` and of ``background`` images; the second is small
        where the null term has done its work

    Examples
    --------
    >>> from nolabel.data import load
    >>> zeros, others = load("digits", label=0), load("digits", label=1)
    >>> learner = SepCLR("conv4-x0.25", training=Training(steps=2, batch_size=16))
    >>> learner.fit({"background": zeros, "target": others}).transform(others, part="salient").shape
    (182, 16)
    """

    parts = ("target", "background")  # the health report looks at the first: there both parts vary
    # Salient vectors have no fixed length, so one bad batch can blow them up. The bound suits a salient weight of 1,000: the
    # gradient is above it in the first twenty steps or so and at less than half of it afterwards.
    recipe = {"optimiser": "adam", "lr": 1e-3, "weight_decay": 0.0, "batch_size": 128, "clip": 5000.0}  # noqa: RUF012

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        common_dim: int = 32,
        salient_dim: int = 16,
        salient_weight: float = 1000.0,
        null_weight: float = 1000.0,
        independence_weight: float = 10.0,
        independence_weight_salient: float | None = None,
        temperature: float = 0.5,
        projection: tuple[int, int] = (128, 32),
        augment: Recipe | str | None = None,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.common_dim = common_dim
        self.salient_dim = salient_dim
        self.salient_weight = salient_weight
        self.null_weight = null_weight
        self.independence_weight = independence_weight
        self.independence_weight_salient = independence_weight_salient
        self.temperature = temperature
        self.projection = projection
        self.augment = augment
        self.image_size = image_size
        self.training = training

    def fit(self, X: Any, y: Any = None, **options: Any) -> Self:
        """As `Learner.fit`, from ``{"background": X, "target": Y}``, or from all images and a flag 0 or 1 for each, `y`."""
        return super().fit(X if y is None else by_flag(X, y), **options)

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        sizes = {name: len(part) for name, part in source.parts.items()}
        fewest = min(sizes, key=lambda name: sizes[name])
        asked = self.training.batch_size if self.training is not None else None
        if sizes[fewest] < 2:
            raise ValueError(f"{fewest} must have at least 2 images, got {sizes[fewest]}")
        if asked is not None and asked < 2:
            raise ValueError(f"training.batch_size must be at least 2 images of each collection, got {asked}")
        if asked is not None and asked > sizes[fewest]:
            raise ValueError(
                f"training.batch_size={asked} is above the {sizes[fewest]} images of {fewest}: lower it to that or less"
            )
        shapes = {name: tuple(part.batch(np.zeros(1, int))["image"].shape[1:]) for name, part in source.parts.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(
                f"background and target must have images of one shape, got {shapes['background']} and {shapes['target']}: "
                "set image_size, and bring both to colour or grey"
            )
        light = {name: float(looked_at(part).mean()) for name, part in source.parts.items()}
        if abs(light["target"] - light["background"]) > 0.2 * max(light.values()):
            warnings.warn(
                f"background and target differ in brightness (means {light['background']:.3f} and {light['target']:.3f}): "
                "the salient part may hold little else",
                stacklevel=2,
            )

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        fewest = min(len(part) for part in source.parts.values())
        return epoch_plan(source, min(batch_size, fewest), rng)  # no image twice in a batch: it would repel itself

    def build(self, example: dict[str, Any]) -> nn.Module:
        self._check()
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example["target"])  # of the common part
        net.salient_encoder = copy.deepcopy(net.encoder)
        for name, width in (("common", self.common_dim), ("salient", self.salient_dim)):
            setattr(net, name, nn.Linear(net.encoder.dim, width))
            setattr(net, f"{name}_head", projection_head(width, *self.projection))
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
        """Both views of target and background (4b, c, h, w), and the target's other columns."""
        target = batch["target"]
        images = torch.cat([target["image"], batch["background"]["image"]])  # (2b, c, h, w)
        side, channels = images.shape[-1], images.shape[1]
        usual = standard(side, channels)
        own = replace(usual, area=(max(usual.area[0], 0.2), 1.0))
        view = own if self.augment is None else recipe(self.augment, side, channels)
        return torch.cat([view(images, generator), view(images, generator)]), others(target)

    def loss(self, net: Any, views: tuple[Tensor, dict[str, Any]]) -> dict[str, Tensor]:
        images, columns = views
        embedded = {name: self.embed(net, images, name, head=True) for name in ("common", "salient")}
        c, s = ([gather(z) for z in part.float().chunk(4)] for part in embedded.values())  # target, background, twice
        common = [nn.functional.normalize(torch.cat(c[v : v + 2]), dim=1) for v in (0, 2)]  # (2b, d) each view
        salient = [torch.cat([s[v], torch.zeros_like(s[v + 1])]) for v in (0, 2)]  # background at the null vector
        sharpness = 1 / (2 * self.temperature)
        terms = {
            "common": sharpness * alignment(*common) + total(uniformity(z, t=sharpness) for z in common),
            "salient": self.salient_weight * self.salient_loss(s[0], s[2], len(s[1]), columns),
            "null": self.null_weight * total(self._align(z, torch.zeros_like(z)) for z in (s[1], s[3])) / 2,
        }
        weights = self.independence_weight, self._salient_independence()
        if any(weights):  # one function, its pull on either network weighed on its own
            terms["independence"] = -0.5 * total(
                weights[0] * kernel_joint_entropy(z, other.detach(), temperature=self.temperature)
                + weights[1] * kernel_joint_entropy(z.detach(), other, temperature=self.temperature)
                for z, other in zip(common, salient, strict=True)
            )
        return terms

    def salient_loss(self, first: Tensor, second: Tensor, background: int, columns: dict[str, Any]) -> Tensor:
        """The term of the salient part, from its embeddings (b, d) of two views of the target images.

        Parameters
        ----------
        first, second : (b, d), not normalised
        background : rows of the background, which lie at 0 and repel the target's
        columns : the target's columns other than the image, if a subclass names any
        """
        null = first.new_zeros(background, first.shape[1])
        spread = (euclidean_uniformity(torch.cat([z, null]), temperature=self.temperature) for z in (first, second))
        return self._align(first, second) + total(spread)

    def embed(self, net: Any, images: Tensor, part: str, *, head: bool) -> Tensor:
        """One part of float images: its representation, or with `head` what the losses see."""
        encoder = net.encoder if part == "common" else net.salient_encoder
        z: Tensor = getattr(net, part)(encoder(images))
        return getattr(net, f"{part}_head")(z) if head else z

    def finish(self, source: Any) -> None:
        """Measure the salient vectors: nothing but the pull on pairs keeps them from growing."""
        net: Any = self.net_
        device = next(net.parameters()).device
        self.salient_length_ = {}
        for name in self.parts:
            images = looked_at(source.parts[name]).to(device).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                salient = self.embed(net, images, "salient", head=True).float()
            self.salient_length_[name] = float(salient.norm(dim=1).mean())
        width = math.sqrt(self.temperature)
        if self.salient_length_["target"] > LONGEST * width:
            warnings.warn(
                f"salient vectors of the target have grown to a length of {self.salient_length_['target']:.3g} (the kernel is "
                f"{width:.2g} wide): lower training.lr or training.clip",
                stacklevel=2,
            )

    def encode(
        self,
        net: Any,
        batch: dict[str, Any],
        layer: str = "representation",
        pool: int | None = 1,
        part: Part = "both",
    ) -> Tensor:
        """Features of a batch of uint8 images; a stage is that of the common network unless `part` is ``salient``."""
        if layer not in ("representation", "embedding"):
            one: Any = SimpleNamespace(encoder=net.salient_encoder if part == "salient" else net.encoder)
            return super().encode(one, batch, layer, pool)
        images = (batch["image"].float() / 255.0).contiguous(memory_format=torch.channels_last)
        return torch.cat([self.embed(net, images, name, head=layer == "embedding") for name in PARTS[part]], dim=1)

    def judge(
        self, net: nn.Module, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Both parts together, and the common embedding, of target images and of one mild view of each."""
        seen = {"image": GENTLE(batch["image"], generator) * 255.0}
        layers: dict[str, tuple[str, Part]] = {
            "representation": ("representation", "both"),
            "common_embedding": ("embedding", "common"),
        }
        return {
            name: (self.encode(net, batch, layer, part=part), self.encode(net, seen, layer, part=part))
            for name, (layer, part) in layers.items()
        }

    def transform(
        self,
        X: Any,
        *,
        columns: dict[str, str] | None = None,
        layer: str = "representation",
        pool: int = 1,
        part: Part = "both",
    ) -> np.ndarray:
        """Representations (n, common_dim + salient_dim), float32, or one `part` of them.

        Parameters
        ----------
        X : images of either collection, or of both together
        columns : as in `fit`
        layer : ``representation``, ``embedding`` (projection heads: cleaner, less detailed) or a stage such as ``stage3``
        pool : side of the grid a stage's map is averaged to
        part : ``both`` (common first), ``common`` or ``salient``
        """
        if part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
        self.require_fitted()
        return self.transform_source(self.open_one(X, columns), layer=layer, pool=pool, part=part)

    def salience_score(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """How much of what only the target has each image shows: (n,), the length of its salient embedding.

        Background images are trained to 0, so it serves as a score of anomaly.
        """
        salient = self.transform(X, columns=columns, layer="embedding", part="salient")
        return np.linalg.norm(salient, axis=1)

    def _split(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict) and len(set(data) & set(self.parts)) == 1:
            missing = next(name for name in self.parts if name not in data)
            raise ValueError(f"X must have both background (0) and target (1) images, got no {missing}")
        return super()._split(data)

    def _align(self, first: Tensor, second: Tensor) -> Tensor:
        return euclidean_alignment(first, second, temperature=self.temperature)

    def _salient_independence(self) -> float:
        own = self.independence_weight_salient
        return self.independence_weight if own is None else own

    def _check(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        for name in ("common_dim", "salient_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("salient_weight", "null_weight", "independence_weight", "independence_weight_salient"):
            weight = getattr(self, name)
            if weight is not None and not (weight >= 0 and math.isfinite(weight)):
                raise ValueError(f"{name} must be at least 0, got {weight}")


def by_flag(X: Any, flags: Any) -> dict[str, Any]:
    """One table for each collection: background where the flag is 0, target where it is 1."""
    from nolabel.data import read

    table, flags = read(X), np.asarray(flags)
    if flags.shape != (len(table),):
        raise ValueError(f"y must be one flag an image, shape ({len(table)},), got shape {flags.shape}")
    known = flags.dtype.kind in "biuf" and bool(np.isin(flags, (0, 1)).all())
    if not known:
        raise ValueError(f"y must be 0 (background) or 1 (target), got {', '.join(map(str, np.unique(flags)[:5]))}")
    rows = {"background": np.flatnonzero(flags == 0), "target": np.flatnonzero(flags == 1)}
    return {name: table.select(found) for name, found in rows.items() if len(found)}


def total(terms: Iterable[Tensor]) -> Tensor:
    """Their sum."""
    return torch.stack(list(terms)).sum()


def looked_at(part: Any) -> Tensor:
    """Some images of a source, spread evenly: float (n, c, h, w) in [0, 1]."""
    rows = np.unique(np.linspace(0, len(part) - 1, LOOKED_AT).astype(int))
    images: Tensor = part.batch(rows)["image"].float() / 255.0
    return images


def others(batch: dict[str, Any]) -> dict[str, Any]:
    """The columns of a batch beside the image and its row number."""
    return {name: values for name, values in batch.items() if name not in ("image", "row")}
