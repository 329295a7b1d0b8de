"""BECLR: views agree with each other and with their neighbours in a clustered memory.

A student (encoder, projector g, predictor h) sees masked views, a teacher (moving average of encoder and projector) whole
ones. With unit vectors p of the student's predictions, t of the teacher's projections and z of the student's projections,

    L = 1/2 [ -mean p1·t2 - mean p2·t1 ]  +  w log mean_i mean_{j not i's image} exp(z_i·z_j / tau).

Batches are enhanced by a memory of earlier embeddings (DyCE) in clusters that share new rows evenly: from some point of
the run on, the k nearest rows in a view's cluster join it. Two images of one kind thereby become positives, which suits
few-shot classification of new classes (see `OpTAClassifier`).

Poulakakis-Daktylidis & Jamali-Rad, "BECLR: batch enhanced contrastive few-shot learning", ICLR 2024, arXiv:2402.02444.
Differences: the neighbours of t2 are further targets of the live p1 (``enhance="teacher"``). In the released code
(``enhance="official"``) the rows that join carry no gradient on either side of the first term, which they therefore only
scale by 1 / (1 + k). Rows go to the nearest clusters, as the paper says; the released code's sign sends them to the farthest.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nolabel.encoders import projection_head
from nolabel.training import Clock, ImageLearner, Training, ema_update, gather, momentum_schedule, target_copy
from nolabel.training.clustered_memory import ClusteredMemory
from nolabel.views import Augment, recipe
from nolabel.views.flip import random_flip
from nolabel.views.mask import mask_blocks
from nolabel.views.rand_augment import RandAugment
from nolabel.views.recipes import SMALL, Recipe, blur_bounds

ENHANCE = ("teacher", "official", None)


class Views:
    """The paper's views of photographs: crop, flips both ways, jitter, grey, blur (not up to 32 pixels), RandAugment."""

    def __init__(self, size: int) -> None:
        blur = 0.0 if size <= SMALL else 0.5
        self.augment = Augment(
            size, area=(0.2, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), blur_p=blur, blur_sigma=blur_bounds(size)
        )
        self.further = RandAugment()

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        seen = self.further(self.augment(images, generator), generator)
        return random_flip(seen.mT, generator=generator)[0].mT  # top to bottom


def negatives_term(z: Tensor, others: Tensor, temperature: float) -> Tensor:
    """``log mean_i mean_j exp(z_i·z_j / temperature)`` over the pairs that `others` (n, n) allows; rows z (n, d) of unit length.

    >>> round(float(negatives_term(torch.eye(2), ~torch.eye(2, dtype=torch.bool), 1.0)), 4)
    0.0
    """
    with torch.autocast(z.device.type, enabled=False):
        similarity = (z @ z.T / temperature).masked_fill(~others, -torch.inf)
    allowed = others.sum(dim=1)
    kept = allowed > 0  # a row without negatives has no say
    means = similarity[kept].logsumexp(dim=1) - allowed[kept].log()
    return means.logsumexp(dim=0) - kept.sum().log()


def positives_term(predictions: Tensor, targets: Tensor) -> Tensor:
    """Minus the mean cosine of unit predictions (b, d) to each of their unit targets (b, k, d).

    >>> positives_term(torch.eye(2), torch.eye(2)[:, None]).item()
    -1.0
    """
    return -(predictions[:, None] * targets).sum(dim=2).mean()


class BECLR(ImageLearner):
    """Learn image representations for few-shot classification: neighbours in a clustered memory join each batch.

    Use it before `OpTAClassifier`, with enough steps to fill the memory several times. For general use see `SimCLR`.

    Parameters
    ----------
    encoder : name or ``nn.Module``
    clusters : number of clusters in the memory; the paper's is 200
    memory_scale : rows of the memory for each cluster; the paper's is 40
    neighbours : rows k that join each view; the paper's is 5
    enhance : ``teacher`` (neighbours are further targets of the live prediction), ``official`` (as in the released code), or
        ``None`` (no memory)
    memory_start : share of the run after which neighbours join; the memory is clustered anew as often. The paper's is 0.15
    negative_weight : weight of the term that pushes images apart
    temperature : of that term
    mask_ratio : mean share of the student's view that is hidden, give or take 0.1; 0 for none
    momentum : of the teacher at the start; it rises to 1
    projection : hidden and output width of the projector; the paper's is (512, 512)
    augment : recipe of a view, or its name; ``None`` is the paper's for colour images and `centred` for grey ones
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Examples
    --------
    >>> from nolabel.data import load
    >>> digits = load("digits").select(range(200))
    >>> learner = BECLR("conv4-x0.25", clusters=4, training=Training(steps=4, batch_size=32)).fit(digits)
    >>> learner.transform(digits).shape
    (200, 16)
    """

    recipe = {"optimiser": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "batch_size": 128}  # noqa: RUF012

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        clusters: int = 50,
        memory_scale: int = 20,
        neighbours: int = 3,
        enhance: str | None = "teacher",
        memory_start: float = 0.25,
        negative_weight: float = 0.1,
        temperature: float = 2.0,
        mask_ratio: float = 0.15,
        momentum: float = 0.99,
        projection: tuple[int, int] = (256, 128),
        augment: Recipe | str | None = None,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.clusters = clusters
        self.memory_scale = memory_scale
        self.neighbours = neighbours
        self.enhance = enhance
        self.memory_start = memory_start
        self.negative_weight = negative_weight
        self.temperature = temperature
        self.mask_ratio = mask_ratio
        self.momentum = momentum
        self.projection = projection
        self.augment = augment
        self.image_size = image_size
        self.training = training

    def prepare(self, source: Any, folder: Any) -> None:
        self._check()
        rows, batch = self.clusters * self.memory_scale, 2 * (self.training_.batch_size or 1)
        if self.enhance is not None and rows < batch:
            raise ValueError(
                f"the memory must hold a batch of {batch} views, got {rows} rows (clusters x memory_scale = "
                f"{self.clusters} x {self.memory_scale}): raise memory_scale or lower training.batch_size"
            )

    def build(self, example: dict[str, Any]) -> nn.Module:
        hidden, dim = self.projection
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        net.head = nn.Sequential(*projection_head(net.encoder.dim, hidden, dim, layers=3), nn.BatchNorm1d(dim))
        net.predictor = projection_head(dim, max(dim // 4, 1), dim)
        net.teacher = target_copy(nn.Sequential(net.encoder, net.head))
        kept = {"teacher": ("teacher",), "official": ("teacher", "prediction", "projection")}.get(
            self.enhance or "", ()
        )
        length = self.clusters * self.memory_scale
        net.memories = nn.ModuleDict({name: ClusteredMemory(length, dim, self.clusters) for name in kept})
        net.register_buffer("period", torch.zeros((), dtype=torch.int64))  # of the run, in which it was last clustered
        net.enhanced = False
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        images = batch["image"]
        side, channels = images.shape[-1], images.shape[1]
        view: Recipe
        if self.augment is None and channels == 3:
            view = Views(side)
        else:
            view = recipe(self.augment or "centred", side, channels)
        whole = torch.cat([view(images, generator), view(images, generator)])  # (2b, c, h, w)
        masked = whole
        if self.mask_ratio:  # the paper's blocks are 16 of 84 pixels
            spread = min(0.1, self.mask_ratio)
            masked = mask_blocks(whole, max(side * 16 // 84, 1), self.mask_ratio, spread, generator=generator)
        return masked, whole, batch["row"]

    def before_step(self, net: Any, clock: Clock) -> None:
        memories = list(net.memories.values())
        period = 1 + int(clock.fraction / self.memory_start)
        if memories and memories[0].full and net.period < period:  # all of them fill at the same step
            for memory in memories:
                memory.cluster(seed=clock.step)
            net.period.fill_(period)
        net.enhanced = bool(memories) and bool(net.period) and clock.fraction >= self.memory_start

    def loss(self, net: Any, views: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        masked, whole, rows = views
        projections = net.head(net.encoder(masked))
        predictions = net.predictor(projections)
        with torch.no_grad():
            targets = net.teacher(whole)
        z, p, t = (_unit_pair(embedding) for embedding in (projections, predictions, targets))  # pairs of (b, d)
        ids = gather(rows)
        embeddings = {"teacher": t, "prediction": p, "projection": z}
        found = self._neighbours(net, embeddings, ids)
        for name, memory in net.memories.items():
            memory.push(torch.cat(embeddings[name]).detach(), torch.cat([ids, ids]))
        if found is None:
            return self._terms(z, p, (t[0][:, None], t[1][:, None]), ids[:, None] == ids)
        if self.enhance == "teacher":
            return self._terms(z, p, *self._further_targets(net.memories["teacher"], found["teacher"], t, ids))
        return self._official_terms(net.memories, found, embeddings)

    def _terms(self, z: Any, p: Any, targets: Any, kin: Tensor) -> dict[str, Tensor]:
        """Targets (b, k, d) of each view; kin (b, b) says which images of the batch are not pushed apart."""
        positives = (positives_term(p[0], targets[1]) + positives_term(p[1], targets[0])) / 2
        apart = negatives_term(torch.cat(z), ~kin.repeat(2, 2), self.temperature)
        return {"positives": positives, "negatives": self.negative_weight * apart}

    def _neighbours(self, net: Any, embeddings: dict[str, Any], ids: Tensor) -> dict[str, tuple[Tensor, Tensor]] | None:
        """Slots (b, k) of each view's neighbours in every memory, once the memories are in use."""
        if not net.enhanced:
            return None
        own = ids if self.enhance == "teacher" else None
        return {
            name: tuple(memory.nearest(view.detach(), self.neighbours, own) for view in embeddings[name])
            for name, memory in net.memories.items()
        }

    def _further_targets(self, memory: ClusteredMemory, found: Any, t: Any, ids: Tensor) -> tuple[Any, Tensor]:
        """The teacher's views with their neighbours, and which images of the batch are among an image's neighbours."""
        targets = tuple(
            torch.cat([view[:, None], memory.store[slots]], dim=1) for view, slots in zip(t, found, strict=True)
        )
        near = memory.ids[torch.cat(found, dim=1)]  # (b, 2k) images
        return targets, (ids[:, None] == ids) | (near[:, :, None] == ids).any(dim=1)

    def _official_terms(self, memories: Any, found: Any, embeddings: dict[str, Any]) -> dict[str, Tensor]:
        """The batch with detached rows of each memory appended: (b (1 + k), d) of each view."""
        z, p, t = (
            tuple(
                torch.cat([view, memories[name].store[slots.T.flatten()]])
                for view, slots in zip(embeddings[name], found[name], strict=True)
            )
            for name in ("projection", "prediction", "teacher")
        )
        return self._terms(
            z, p, (t[0][:, None], t[1][:, None]), torch.eye(len(z[0]), dtype=torch.bool, device=z[0].device)
        )

    def after_step(self, net: Any, clock: Clock) -> None:
        momentum = momentum_schedule(clock.fraction, self.momentum)
        ema_update(
            net.teacher, nn.Sequential(net.encoder, net.head), momentum, buffers=False
        )  # it has statistics of its own

    def finish(self, source: Any) -> None:
        net: Any = self.net_
        if net.memories and not net.period:
            warnings.warn(
                f"the memory of {self.clusters * self.memory_scale} rows was not filled by the run, so no neighbours joined: "
                "train longer or lower clusters or memory_scale",
                stacklevel=2,
            )

    def _check(self) -> None:
        for name in ("clusters", "memory_scale", "neighbours"):
            value, least = getattr(self, name), 2 if name == "clusters" else 1
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.enhance not in ENHANCE:
            raise ValueError(f"enhance must be 'teacher', 'official' or None, got {self.enhance!r}")
        if self.neighbours >= self.clusters * self.memory_scale:
            raise ValueError(
                f"neighbours must be fewer than the rows of the memory (clusters x memory_scale = "
                f"{self.clusters * self.memory_scale}), got {self.neighbours}"
            )
        if not 0 < self.memory_start < 1:
            raise ValueError(f"memory_start is a share of the run and must lie in (0, 1), got {self.memory_start}")
        if not self.temperature > 0 or not self.negative_weight >= 0:
            raise ValueError(
                f"temperature must be above 0 and negative_weight at least 0, got {self.temperature} and {self.negative_weight}"
            )
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio must lie in [0, 1), got {self.mask_ratio}")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {self.momentum}")


def _unit_pair(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Both views' halves, of unit length, from all ranks."""
    first, second = normalize(embeddings.float(), dim=1).chunk(2)
    return gather(first), gather(second)
