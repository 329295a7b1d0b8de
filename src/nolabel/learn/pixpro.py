"""PixPro: two views of an image agree at every spot they share.

An image is cropped twice, and each crop remembers its rectangle. Locations of the two feature maps whose centres lie nearer
together than 0.7 cell diagonals are positive pairs. The online network sees one view, and sums each location of its projected
map x over all locations that look alike (pixel propagation, with a transformation T):

    y_i = sum_j max(cos(x_i, x_j), 0)^2 T(x_j) / |T(x_j)|,

a target network, which follows the online one by a moving average, sees the other view and gives x'. Both ways:

    L = -2 mean_images mean_positive pairs cos(y_i, x'_j),    between 4 and -4.

There are no negatives: the moving average, batch norm and the missing gradient of the target keep it from collapse, and a loss
near -4 on small data is an alarm. ``objective="contrast"`` is the paper's PixContrast: no propagation, InfoNCE between
locations of the two views of an image. The optional instance loss compares pooled outputs of heads of its own.

Xie, Lin, Zhang, Cao, Lin & Hu, "Propagate yourself: exploring pixel-level consistency for unsupervised visual
representation learning", CVPR 2021, arXiv:2011.10043. Differences: rectangles are exact edges over the image's side (the
released code divides pixel numbers by side - 1, which is off by up to half a pixel); AdamW and narrow heads.
"""

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity, normalize

from nolabel.encoders.encoder import pooled
from nolabel.encoders.maps import map_head
from nolabel.objectives.pixels import pixel_consistency, pixel_contrast, pixel_positives, propagate
from nolabel.training import Clock, ImageLearner, Training, ema_update, momentum_schedule, target_copy
from nolabel.views import Augment, View, byol, centred, recipe
from nolabel.views.fourier import ONE_STYLE, has_one_style

#: Up to this side crops cover at least a fifth of the image; above, the paper's 8 %.
SMALL = 96
#: A spread of the projections below this is collapse.
ALARM = 0.2

#: Two views, each as images (b, c, h, w) and rectangles (b, 4)
Pair = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


def rectangles(view: View, height: int, width: int) -> Tensor:
    """Where views lie in images of height x width pixels, as x0, y0, x1, y1 in [0, 1]; x0 > x1 where mirrored: (n, 4)."""
    top, left, bottom, right = (view.box / view.box.new_tensor((height, width, height, width))).unbind(1)
    start, end = torch.where(view.flipped, right, left), torch.where(view.flipped, left, right)
    return torch.stack((start, top, end, bottom), dim=1)


def last_map(encoder: Any, images: Tensor) -> Tensor:
    """The encoder's last feature map: (n, d, h, w)."""
    *_, maps = encoder.stages(images).values()
    if maps.shape[2] * maps.shape[3] == 1:
        raise ValueError(
            f"feature map is 1x1: a pixel-level task needs a spatial map (got encoder output {tuple(maps.shape)} "
            f"for images of {images.shape[2]}x{images.shape[3]}); reduce stride, as -map6 does, or enlarge images"
        )
    return maps


class PixPro(ImageLearner):
    """Learn feature maps for dense tasks: segmentation, detection, keypoints, retrieval of regions.

    Use it where `transform_maps` is wanted; `transform` gives the mean of the last map. For one label an image an
    instance method such as `SimCLR` learns faster. It needs an encoder whose last map is not too small: 6x6 or more.

    Parameters
    ----------
    encoder : name or ``nn.Module`` with stages
    objective : ``propagation`` (PixPro) or ``contrast`` (PixContrast)
    sharpness : exponent of the similarities in the propagation
    transform_layers : 1x1 convolutions of the propagation's transformation; 0 for none
    distance_threshold : largest distance of a positive pair, in diagonals of a cell
    ema_momentum : of the target network at the start; rises to 1. Below 500 steps 0.97 or 0.98 suit better
    instance_weight : of the instance loss; 0 leaves it out, the paper's best is 1
    temperature : of the contrast
    projection : hidden and output width of the projection head; the paper's is (4096, 256)
    augment : recipe of both views, or its name; it must not rotate. ``None``: BYOL's two unlike views, and for grey images
        crops of upright, centred objects
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Attributes
    ----------
    history_ : rows also hold ``spread``, the standard deviation of the unit projections times the root of their width (0 is
        collapse), and ``unpaired``, the share of images without a positive pair

    Examples
    --------
    >>> from nolabel.data import load
    >>> images = load("digits").select(range(64))
    >>> learner = PixPro("resnet8-x0.25-map6", training=Training(steps=2, batch_size=16)).fit(images)
    >>> learner.transform_maps(images).shape
    (64, 64, 8, 8)
    """

    recipe = {"optimiser": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "batch_size": 128}  # noqa: RUF012

    def __init__(
        self,
        encoder: str | nn.Module = "resnet8-x0.5-map6",
        *,
        objective: str = "propagation",
        sharpness: float = 2.0,
        transform_layers: int = 1,
        distance_threshold: float = 0.7,
        ema_momentum: float = 0.99,
        instance_weight: float = 0.0,
        temperature: float = 0.3,
        projection: tuple[int, int] = (256, 64),
        augment: Augment | str | None = None,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.objective = objective
        self.sharpness = sharpness
        self.transform_layers = transform_layers
        self.distance_threshold = distance_threshold
        self.ema_momentum = ema_momentum
        self.instance_weight = instance_weight
        self.temperature = temperature
        self.projection = projection
        self.augment = augment
        self.image_size = image_size
        self.training = training

    def build(self, example: dict[str, Any]) -> nn.Module:
        _, channels, side, _ = example["image"].shape
        self._check()
        if has_one_style(self.two_recipes(side, channels)[0]):
            warnings.warn(ONE_STYLE.format(method="PixPro"), stacklevel=2)
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        if not net.encoder.channels:
            raise ValueError("encoder must have feature maps (stages), got a module without")
        width, (hidden, out) = list(net.encoder.channels.values())[-1], self.projection
        followed = {"encoder": net.encoder, "head": map_head(width, hidden, out)}
        net.head = followed["head"]
        if self.objective == "propagation":
            net.transformation = (
                map_head(out, out, out, layers=self.transform_layers) if self.transform_layers else None
            )
        if self.instance_weight:
            net.instance_head = followed["instance_head"] = map_head(width, hidden, out)
            net.instance_predictor = map_head(out, hidden, out)
        net.target = nn.ModuleDict({name: target_copy(part) for name, part in followed.items()})
        net.warned = set()
        return net

    def two_recipes(self, side: int, channels: int) -> tuple[Augment, Augment]:
        """The recipes of the two views of images of this shape."""
        if self.augment is None and channels == 3:
            first, second = byol(side)
            area = (0.2, 1.0) if side <= SMALL else first.area
            return replace(first, area=area), replace(second, area=area)
        view = replace(centred(side), degrees=0.0) if self.augment is None else recipe(self.augment, side, channels)
        if not isinstance(view, Augment):
            raise TypeError(f"augment must be an Augment or the name of one, got {type(view).__name__}")
        if view.degrees:
            raise ValueError(f"augment must not rotate: a turned view is no rectangle, got degrees={view.degrees}")
        sizes = view.size if isinstance(view.size, tuple) else (view.size or side,)
        if max(sizes) > side:
            raise ValueError(f"augment: views must not be larger than the image, got size={view.size} for side {side}")
        return view, view

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> Pair:
        images = batch["image"]
        height, width = images.shape[2:]
        first, second = (view.with_geometry(images, generator) for view in self.two_recipes(width, images.shape[1]))
        return (first.image, rectangles(first, height, width)), (second.image, rectangles(second, height, width))

    def before_step(self, net: Any, clock: Clock) -> None:
        momentum = momentum_schedule(clock.fraction, start=self.ema_momentum)
        for name, part in net.target.items():
            ema_update(part, getattr(net, name), momentum, buffers=False)  # its batch norm has statistics of its own

    def loss(self, net: Any, views: Pair) -> Tensor | dict[str, Tensor]:
        (first, first_boxes), (second, second_boxes) = views
        maps = [last_map(net.encoder, images) for images in (first, second)]
        queries = [net.head(each) for each in maps]  # (b, d, h, w) each
        with torch.no_grad():
            target_maps = [last_map(net.target["encoder"], images) for images in (first, second)]
            keys = [net.target["head"](each) for each in target_maps]
        self._watch(net, queries[0], first_boxes, second_boxes)
        pixel = self._one_way(net, queries[0], keys[1], first_boxes, second_boxes)
        pixel = pixel + self._one_way(net, queries[1], keys[0], second_boxes, first_boxes)
        if not self.instance_weight:
            return pixel
        return {"pixel": pixel, "instance": self.instance_weight * self._instance_loss(net, maps, target_maps)}

    def _one_way(self, net: Any, queries: Tensor, keys: Tensor, boxes: Tensor, other_boxes: Tensor) -> Tensor:
        """The pixel loss of one view against the target's map of the other."""
        threshold = self.distance_threshold
        if self.objective == "contrast":  # half: the two ways are averaged
            loss = pixel_contrast(queries, keys, boxes, other_boxes, threshold=threshold, temperature=self.temperature)
            return loss / 2
        propagated = propagate(queries, sharpness=self.sharpness, transform=net.transformation)
        return pixel_consistency(propagated, keys, boxes, other_boxes, threshold=threshold)

    def _instance_loss(self, net: Any, maps: list[Tensor], target_maps: list[Tensor]) -> Tensor:
        """Minus twice the cosine between the pooled prediction of each view and the pooled target of the other."""
        predictions = [pooled(net.instance_predictor(net.instance_head(each))) for each in maps]  # (b, d) each
        with torch.no_grad():
            targets = [pooled(net.target["instance_head"](each)) for each in target_maps]
        cosines = [cosine_similarity(p, t).mean() for p, t in zip(predictions, reversed(targets), strict=True)]
        return -2 * torch.stack(cosines).sum()

    @torch.no_grad()
    def _watch(self, net: Any, queries: Tensor, boxes: Tensor, other_boxes: Tensor) -> None:
        """Note how far the projections vary and how many images have no positive pair."""
        size = (queries.shape[2], queries.shape[3])
        deviation = normalize(queries.float(), dim=1).std(dim=(0, 2, 3))  # (d,)
        net.spread = deviation.mean() * len(deviation) ** 0.5
        positive = pixel_positives(boxes, other_boxes, size, size, threshold=self.distance_threshold)
        net.unpaired = 1 - positive.flatten(1).any(1).float().mean()

    def step(self, run: Any, views: Any) -> dict[str, Tensor]:
        terms = super().step(run, views)
        total = torch.stack(list(terms.values())).sum()
        return {"loss": total, **terms, "spread": run.net.spread, "unpaired": run.net.unpaired}

    def after_step(self, net: Any, clock: Clock) -> None:
        spread, unpaired = torch.stack((net.spread, net.unpaired)).tolist()
        if spread < ALARM and "spread" not in net.warned:
            net.warned.add("spread")
            warnings.warn(
                f"the projections collapse: spread {spread:.3f} at step {clock.step}, below {ALARM}: lower training.lr, "
                "use adamw, or raise ema_momentum",
                stacklevel=2,
            )
        if unpaired > 0.5 and "unpaired" not in net.warned:
            net.warned.add("unpaired")
            warnings.warn(
                f"{unpaired:.0%} of the images of a batch have no positive pair at step {clock.step}: enlarge the crops "
                "or distance_threshold",
                stacklevel=2,
            )

    def encode(self, net: Any, batch: dict[str, Any], layer: str = "representation", pool: int | None = 1) -> Tensor:
        if layer != "embedding":
            return super().encode(net, batch, layer, pool)
        images = (batch["image"].float() / 255.0).contiguous(memory_format=torch.channels_last)
        maps: Tensor = net.head(last_map(net.encoder, images)).float()
        return maps if pool is None else adaptive_avg_pool2d(maps, pool).flatten(1)

    def _check(self) -> None:
        if self.objective not in ("propagation", "contrast"):
            raise ValueError(f"objective must be propagation or contrast, got {self.objective!r}")
        for name in ("distance_threshold", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("sharpness", "transform_layers", "instance_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.ema_momentum <= 1:
            raise ValueError(f"ema_momentum must lie in [0, 1], got {self.ema_momentum}")
