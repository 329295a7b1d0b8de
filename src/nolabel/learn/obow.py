"""OBoW: tell from a crop which visual words occur in the whole image.

A teacher, the moving average of the student, sees the whole image. Its feature map is described by K words (`words` of the
objectives: soft codes, the largest over the map, divided by their sum), which gives a target q over the words. The student
sees crops and patches. From its vector f of a crop it predicts the bag of words of the whole image:

    logits = weight_scale * f G(W)^T        L = sum over kinds of crops, mean over crops and levels, of KL(q || softmax(logits))

The vocabulary W is a queue of recent teacher features: every step each image gives one location (averaged with its
neighbours) and the oldest words leave. Because the words move, so must the classifier: G, a small network, makes one unit
weight vector out of each word, from the same words as the targets.

Gidaris, Bursuc, Puy, Komodakis, Cord & Pérez, "OBoW: online bag-of-visual-words generation for self-supervised learning",
CVPR 2021, arXiv:2012.11552. Difference: any number of words; where the batch does not divide it the queue wraps around.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize

from nolabel.encoders import projection_head
from nolabel.objectives.words import bag_of_words, location_perplexity, nearest_distance, perplexity, word_prediction
from nolabel.training import (
    Clock,
    FeatureQueue,
    ImageLearner,
    Training,
    ema_update,
    gather,
    momentum_schedule,
    target_copy,
)
from nolabel.views import Augment, MultiCrop, random_flip, recipe
from nolabel.views.multi_crop import Spec, as_spec
from nolabel.views.patches import GridPatches
from nolabel.views.recipes import SMALL, blur_bounds
from nolabel.views.sampling import uniform

#: What of a map becomes a word, and the least side of the map it needs.
QUEUED = {"local_average": 5, "location": 3, "global_average": 3}

#: How fast the running scale of the distances follows, and where it begins.
FOLLOW, FIRST_SCALE, LEAST_SCALE = 0.01, 0.5, 1e-8

#: Steps between two looks at the targets, and when they have collapsed: bags that hold more than a share of all words while
#: a single location is spread over as large a part of its bag (few words are all in every image, but not in every place);
#: or bags of hardly more than one word, 1.5 of 512, whose entropy is below this share of the largest.
LOOK_EVERY, ALL_WORDS, EVERYWHERE, ONE_WORD = 20, 0.8, 0.5, 0.065


def without_border(maps: Tensor) -> Tensor:
    """A map without its outermost locations, which see padding: (b, c, h, w) to (b, c, h - 2, w - 2)."""
    return maps[:, :, 1:-1, 1:-1].float()


def new_words(maps: Tensor, places: Tensor, kind: str) -> Tensor:
    """One feature of each image for the vocabulary: (b, c) from maps (b, c, h, w) and numbers (b,) in [0, 1).

    The number says which location; ``local_average`` has smoothed the map over 3 x 3 locations first, ``global_average``
    takes the mean of them all.
    """
    if kind == "global_average":
        return maps.mean(dim=(2, 3))
    if kind == "local_average":
        maps = avg_pool2d(maps, 3, stride=1)
    flat = maps.flatten(2)  # (b, c, locations)
    index = (places * flat.shape[2]).long().clamp(max=flat.shape[2] - 1)
    return flat[torch.arange(len(flat), device=flat.device), :, index]


class OBoW(ImageLearner):
    """Learn image representations that hold the context of a crop: from a part, name what the whole image contains.

    Use it for scenes and photographs of several objects, and where a visual vocabulary or a bag-of-words descriptor is
    wanted too (`bow`). Not for images smaller than about 28 pixels: the teacher's map must have 5 x 5 locations.

    Parameters
    ----------
    encoder : name or ``nn.Module`` with stages; its last map should be fine
    words : number K of words at each level; 512 to 2048 for small data, the paper's is 8192. Where they are no more than the
        locations of a map, nearly every image holds nearly every word and there is little to predict
    levels : stages of the encoder whose maps give words; ``None`` is the last. Two, such as ``("stage2", "stage3")``, are
        the paper's full version
    inverse_temperature : of the codes, 10 (ResNet-18) or 15 (ResNet-50) in the paper; ``None`` for the nearest word alone
    weight_scale : length of the generated weight vectors, 5 (ResNet-18) or 8 (ResNet-50) in the paper
    momentum : of the teacher at the start; it rises to 1. About 0.97 for runs below 500 steps
    pool : ``max`` over locations, or ``average``
    queued : what becomes a word: ``local_average`` (3 x 3 locations), ``location`` (one) or ``global_average``
    augment : recipe of the student's views, or its name, such as ``swav``; sides and areas are those of `crops`
    crops : (number, side, (least, largest area)) of each kind of crop, large ones first; ``None`` chooses by image size
    patches : number (at most 9) and side of the patches from a grid, 0 for none; ``None`` chooses by image size
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Attributes
    ----------
    vocabulary_ : by level, the words (K, channels)
    perplexity_ : by level, over how many words the last targets were spread: ``image`` by image, ``batch`` over a batch

    Examples
    --------
    >>> from nolabel.data import load
    >>> obow = OBoW("resnet8-x0.125-map6", words=64, training=Training(steps=2, batch_size=32)).fit(load("digits"))
    >>> obow.bow(load("digits")).shape
    (1797, 64)
    """

    recipe = {"optimiser": "sgd", "lr": 0.05, "weight_decay": 5e-4, "batch_size": 128, "warmup": 0.1}  # noqa: RUF012

    def __init__(
        self,
        encoder: str | nn.Module = "resnet8-x0.5-map6",
        *,
        words: int = 512,
        levels: Sequence[str] | None = None,
        inverse_temperature: float | None = 10.0,
        weight_scale: float = 5.0,
        momentum: float = 0.99,
        pool: str = "max",
        queued: str = "local_average",
        augment: Augment | str | None = None,
        crops: Sequence[tuple[int, int, tuple[float, float]]] | None = None,
        patches: tuple[int, int] | None = None,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.words = words
        self.levels = levels
        self.inverse_temperature = inverse_temperature
        self.weight_scale = weight_scale
        self.momentum = momentum
        self.pool = pool
        self.queued = queued
        self.augment = augment
        self.crops = crops
        self.patches = patches
        self.image_size = image_size
        self.training = training

    def crop_spec(self, side: int) -> Spec:
        """The crops used for images of this side."""
        return ((2, side * 3 // 4, (0.08, 0.6)),) if self.crops is None else as_spec(self.crops)

    def patch_spec(self, side: int) -> tuple[int, int]:
        """Number and side of the patches used for images of this side."""
        return (3, side // 2) if self.patches is None else (self.patches[0], self.patches[1])

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        self._check(example["image"].shape[-1])
        widths = [net.encoder.channels[level] for level in self._levels(net)]
        self._check_maps(net, example)
        net.teacher = target_copy(net.encoder)
        dim = net.encoder.dim
        net.generators = nn.ModuleList(projection_head(width, 2 * dim, dim) for width in widths)
        net.vocabularies = nn.ModuleList(FeatureQueue(self.words, width) for width in widths)
        for queue, width in zip(net.vocabularies, widths, strict=True):
            queue.push(torch.randn(self.words, width).clamp(min=0))  # as sparse as features behind a ReLU
        net.register_buffer("scales", torch.full((len(widths),), FIRST_SCALE))
        net.register_buffer("perplexities", torch.zeros(len(widths), 2))  # of an image's target, of a batch's mean
        net.register_buffer("spread", torch.zeros(len(widths)), persistent=False)  # of a location, when last looked at
        net.step, net.warned = 0, False
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
        images = batch["image"]
        side, channels = images.shape[-1], images.shape[1]
        augment, spec = self._recipe(side, channels), self.crop_spec(side)
        whole, _ = random_flip(images, augment.flip_p, generator=generator)
        cut = iter(MultiCrop(spec, augment)(images, generator))
        kinds = {f"crops_{size}": [next(cut) for _ in range(number)] for number, size, _ in spec}
        number, size = self.patch_spec(side)
        if number:
            kinds[f"patches_{size}"] = GridPatches(number, size, augment=augment)(images, generator)
        levels = 1 if self.levels is None else len(self.levels)
        places = uniform(levels * len(images), (0.0, 1.0), generator=generator, device=images.device).view(levels, -1)
        return {"whole": whole.contiguous(memory_format=torch.channels_last), "kinds": kinds, "places": places}

    def before_step(self, net: Any, clock: Clock) -> None:
        # The student's forward pass changes none of its parameters, so this equals an update between its pass and the
        # teacher's. The teacher keeps batch statistics of its own.
        ema_update(net.teacher, net.encoder, momentum_schedule(clock.fraction, self.momentum), buffers=False)
        net.step = clock.step

    def loss(self, net: Any, views: dict[str, Any]) -> dict[str, Tensor]:
        vectors = {}
        for kind, crops in views["kinds"].items():
            f = net.encoder(torch.cat(crops)).float()  # (crops * b, dim)
            if not torch.isfinite(f).all():
                raise FloatingPointError(f"non-finite features at step {net.step}: lower training.lr")
            vectors[kind] = f.view(len(crops), -1, f.shape[1])
        with torch.no_grad():
            stages = net.teacher.stages(views["whole"])
        maps = [without_border(stages[level]) for level in self._levels(net)]
        with torch.autocast(views["whole"].device.type, enabled=False):
            # both from the words as they are before the present features join them
            weights = [self.word_weights(net, i) for i in range(len(maps))]  # (K, dim) each
            targets = [self._target(net, i, maps[i]) for i in range(len(maps))]  # (b, K) each
            for queue, inner, places in zip(net.vocabularies, maps, views["places"], strict=True):
                queue.push(gather(new_words(inner, places, self.queued)))
            return {
                kind: torch.stack(
                    [word_prediction(self.weight_scale * f @ w.T, q) for w, q in zip(weights, targets, strict=True)]
                ).mean()
                for kind, f in vectors.items()
            }

    def word_weights(self, net: Any, level: int) -> Tensor:
        """The classifier of a level, made from its words: (K, dim), rows of length 1."""
        words: Tensor = normalize(net.vocabularies[level].store)
        return normalize(net.generators[level](words))

    @torch.no_grad()
    def _target(self, net: Any, level: int, inner: Tensor) -> Tensor:
        """Bags of words of a level's map; the scale follows the map first."""
        words, scale = net.vocabularies[level].store, net.scales[level]
        scale.lerp_(gather(nearest_distance(inner, words)[None]).mean(), FOLLOW).clamp_(min=LEAST_SCALE)
        target = self._bags(net, level, inner)
        mean = gather(target.mean(dim=0, keepdim=True)).mean(dim=0)
        net.perplexities[level] = torch.stack([perplexity(target).mean(), perplexity(mean)])
        if (net.step + 1) % LOOK_EVERY == 0:
            net.spread[level] = location_perplexity(inner, words, scale, inverse_temperature=self.inverse_temperature)
        return target

    def _bags(self, net: Any, level: int, inner: Tensor) -> Tensor:
        return bag_of_words(
            inner,
            net.vocabularies[level].store,
            net.scales[level],
            inverse_temperature=self.inverse_temperature,
            pool=self.pool,
        )

    def after_step(self, net: Any, clock: Clock) -> None:
        """Warn once if the targets say nothing; the loss does not tell, it falls in a collapse and rises in health."""
        if net.warned or clock.step % LOOK_EVERY or int(net.vocabularies[0].pushed) < 3 * self.words:
            return  # the random words of the beginning have not been replaced twice
        one_word = self.words**ONE_WORD
        for (level, (image, batch)), place in zip(self._perplexities(net).items(), net.spread.tolist(), strict=True):
            everywhere = place - 1 > EVERYWHERE * (image - 1)
            signs = {
                "every image holds nearly all words alike": image > ALL_WORDS * self.words and everywhere,
                "every image holds a single word": image < one_word,
                "all images hold the same word": batch < one_word,
            }
            found = [sign for sign, seen in signs.items() if seen]
            if found and not net.warned:
                net.warned = True
                warnings.warn(
                    f"the targets of {level} look collapsed at step {clock.step}: {' and '.join(found)} (perplexity {image:.1f} "
                    f"of an image, {batch:.1f} of a batch, {self.words} words): lower training.lr or change inverse_temperature",
                    stacklevel=2,
                )

    def encode(
        self,
        net: Any,
        batch: dict[str, Any],
        layer: str = "representation",
        pool: int | None = 1,
        bow_of: str | None = None,
    ) -> Tensor:
        if bow_of is None:
            return super().encode(net, batch, layer, pool)
        images = (batch["image"].float() / 255.0).contiguous(memory_format=torch.channels_last)
        return self._bags(net, self._levels(net).index(bow_of), without_border(net.teacher.stages(images)[bow_of]))

    def bow(self, X: Any, level: str | None = None, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Bags of words of whole images, as the teacher gives them: (n, K) float32, rows sum to 1.

        `level` is one of `levels`; ``None`` the last of them.
        """
        self.require_fitted()
        known = self._levels(self.net_)
        if level is not None and level not in known:
            raise ValueError(f"level must be one of {', '.join(known)}, got {level!r}")
        return self.transform_source(self.open_one(X, columns), bow_of=level or known[-1])

    @property
    def vocabulary_(self) -> dict[str, np.ndarray]:
        self.require_fitted()
        net: Any = self.net_
        return {
            level: queue.store.cpu().numpy().copy()  # not the network's own memory
            for level, queue in zip(self._levels(net), net.vocabularies, strict=True)
        }

    @property
    def perplexity_(self) -> dict[str, dict[str, float]]:
        self.require_fitted()
        return {
            level: {"image": image, "batch": batch} for level, (image, batch) in self._perplexities(self.net_).items()
        }

    def _perplexities(self, net: Any) -> dict[str, list[float]]:
        return dict(zip(self._levels(net), net.perplexities.tolist(), strict=True))

    def _levels(self, net: Any) -> tuple[str, ...]:
        """The stages that give words, checked."""
        known = list(net.encoder.channels)
        if not known:
            raise ValueError("encoder must have stages (their maps give the words), got a module without")
        if self.levels is None:
            return (known[-1],)
        levels = tuple(self.levels)
        if (
            isinstance(self.levels, str)
            or not levels
            or len(set(levels)) < len(levels)
            or not set(levels) <= set(known)
        ):
            raise ValueError(f"levels must name different ones of {', '.join(known)}, got {self.levels!r}")
        return levels

    def _recipe(self, side: int, channels: int) -> Augment:
        """What the student's views are made with; for grey images (digits, scans) no mirroring."""
        largest = max(size for _, size, _ in self.crop_spec(side))
        if self.augment is None and channels == 3:
            return Augment(blur_p=0.0 if largest <= SMALL else 0.5, blur_sigma=blur_bounds(largest))
        augment = recipe(self.augment, largest, channels)
        if not isinstance(augment, Augment):
            raise TypeError(f"augment must be an Augment or the name of one, got {type(augment).__name__}")
        return augment

    def _check(self, side: int) -> None:
        if isinstance(self.words, bool) or not isinstance(self.words, int) or self.words < 2:
            raise ValueError(f"words must be a whole number of at least 2, got {self.words!r}")
        if self.inverse_temperature is not None and not self.inverse_temperature > 0:
            raise ValueError(f"inverse_temperature must be above 0 or None, got {self.inverse_temperature}")
        if not self.weight_scale > 0:
            raise ValueError(f"weight_scale must be above 0, got {self.weight_scale}")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {self.momentum}")
        if self.pool not in ("max", "average"):
            raise ValueError(f"pool must be max or average, got {self.pool!r}")
        if self.queued not in QUEUED:
            raise ValueError(f"queued must be one of {', '.join(QUEUED)}, got {self.queued!r}")
        sizes = [size for _, size, _ in self.crop_spec(side)]
        if not sizes or len(set(sizes)) < len(sizes):
            raise ValueError(f"crops must hold kinds of different sides, got sides {sizes}")
        if max(sizes) > side:
            raise ValueError(f"crops must not be larger than the image: got {max(sizes)} for side {side}")
        number, size = self.patch_spec(side)
        if number and size > side:
            raise ValueError(f"patches must not be larger than the image: got {size} for side {side}")

    def _check_maps(self, net: Any, example: dict[str, Any]) -> None:
        with torch.no_grad():
            stages = net.encoder.eval().stages(example["image"].float() / 255.0)
        net.encoder.train()
        least = QUEUED[self.queued]
        for level in self._levels(net):
            height, width = stages[level].shape[2:]
            if min(height, width) < least:
                what = self.queued.replace("_", " ").replace("average", "averaging")
                raise ValueError(
                    f"feature map {height}x{width} of {level} is too small for {what}: it must be at least {least}x{least} "
                    "(choose an encoder with a finer map, such as resnet8-x0.5-map6, or an earlier level)"
                )
