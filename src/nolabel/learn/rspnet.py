"""RSPNet: learn motion and appearance of videos from the speed at which their clips play.

Two clips are cut out of each video, anywhere, and each gets one random view. A random half of the batch plays the first clip
at speed 1, the other half at speed s (every s-th frame). With that as the query q, the second clip gives two keys: k+ at the
speed of q, k- at the other. Frames carry no label of a speed, so the network cannot learn one: it learns to compare. On an
encoder stand two linear heads to unit vectors, M for motion and A for appearance:

    L_M = mean relu( m - (q_M·k+_M - q_M·k-_M) / t ),
    L_A = mean CE(q_A; k+_A against Q) + mean CE(q_A; k-_A against Q),

where CE(q; k against Q) = -log( exp(q·k / t) / (exp(q·k / t) + sum_{u in Q} exp(q·u / t)) ). L_M ranks clips by whether they
play at one speed; L_A finds the video whatever its speed. Keys come from a moving average g <- m g + (1 - m) f of the encoder
and heads, moved before they are computed; Q remembers the keys k-_A of the last steps. L = L_A + L_M.

Chen, Huang, He, Long, Zeng, Wen, Tan & Gan, "RSPNet: Relative speed perception for unsupervised video representation
learning", AAAI 2021, arXiv:2011.07949. Differences: an entry of Q from the query's own video is no negative, which matters
where videos are few; an epoch draws as many clips from a video as fit into it side by side, not one; no shuffling of keys
over devices, which keep batch statistics of their own; sizes for small data.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nolabel.learn.ranking import depth_within
from nolabel.objectives.in_batch import in_batch_softmax
from nolabel.objectives.relative_speed import relative_speed_loss
from nolabel.ops.neighbours import nearest
from nolabel.training import Clock, FeatureQueue, Training, VideoLearner, ema_update, gather, target_copy
from nolabel.training.batches import Rows
from nolabel.training.video import CLIPS, ClipNet
from nolabel.views.augment import Augment
from nolabel.views.clips import clip_augment, half, speed_views

HEADS = ("appearance", "motion")
#: Number of the video that the first, random rows of the queue belong to.
NOBODY = -1


class RSPNet(VideoLearner):
    """Learn clip vectors that carry motion and appearance, from videos that nobody labelled.

    Use it to search videos or to recognise actions where what moves how matters. Videos in which nothing moves teach no
    motion: their loss L_M stays at the margin. The loss L_A is easy until the queue has forgotten its random start.

    Parameters
    ----------
    encoder : ``small3d``; ``r3d18``, ``r2plus1d18`` (the paper's), with ``-x0.25`` and the like for the width; an ``nn.Module``
    clip_frames : frames of a clip that the network sees (paper: 16)
    image_size : side of the frames in pixels (paper: 112); ``None``: 48
    speeds : the s that are compared with speed 1; one is drawn for each batch. A clip is cut out of ``max(speeds) *
        clip_frames`` recorded frames, T; at a lower s the network sees T // s of them
    dim : width of the heads (paper: 128)
    queue_size : appearance keys remembered (paper: 16,384); any number, the oldest make room
    momentum : of the moving average, in [0, 1) (paper: 0.999)
    temperature : t
    margin : m, on cosines after their division by t: 2.0 at 0.07 is a difference of 0.14
    weights : of L_A and L_M; a task of weight 0 is left out. Where motion alone decides, (0.1, 1.0) told it much better
    enqueue : which keys are remembered: ``other`` (k-, as in the authors' code) or ``both``
    augment : recipe of a view; ``None``: crops of 0.4 to 1 of the area, flip, colours by 0.4, grey in a fifth
    short : videos of fewer frames than a clip is cut out of: ``skip``, ``loop`` (they begin again) or ``error``
    training : how long and on what to train; batches are even, for they are split in halves

    Attributes
    ----------
    vectors_ : (n, width) of the indexed videos
    skipped_ : videos left out of the fit

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> videos = [rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8) for _ in range(8)]
    >>> model = RSPNet(clip_frames=4, image_size=16, queue_size=16, training=Training(steps=2, batch_size=8)).fit(videos)
    >>> model.transform(videos).shape, model.transform(videos[:3], head="motion").shape
    ((8, 64), (3, 64))
    """

    drawn = 2

    def __init__(
        self,
        encoder: str | nn.Module = "small3d",
        *,
        clip_frames: int = 8,
        image_size: int | None = None,
        speeds: Sequence[int] = (2,),
        dim: int = 64,
        queue_size: int = 512,
        momentum: float = 0.99,
        temperature: float = 0.07,
        margin: float = 2.0,
        weights: tuple[float, float] = (1.0, 1.0),
        enqueue: str = "other",
        augment: Augment | None = None,
        short: str = "skip",
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.clip_frames = clip_frames
        self.image_size = image_size
        self.speeds = speeds
        self.dim = dim
        self.queue_size = queue_size
        self.momentum = momentum
        self.temperature = temperature
        self.margin = margin
        self.weights = weights
        self.enqueue = enqueue
        self.augment = augment
        self.short = short
        self.training = training

    @property
    def window(self) -> int:
        return max(self.speeds) * self.clip_frames

    # Learning -------------------------------------------------------------------------------------------------------

    def prepare(self, source: Any, folder: Any) -> None:
        self.skipped_ = len(source.skipped)
        asked = self.training_.batch_size or 0
        if asked < 4:
            raise ValueError(f"training.batch_size must be at least 4, for its halves play at two speeds, got {asked}")
        if asked % 2:
            warnings.warn(
                f"training.batch_size={asked} changed to {asked - 1}: its halves play at two speeds", stacklevel=2
            )

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        return super().plan(source, batch_size - batch_size % 2, rng)

    def build(self, example: dict[str, Any]) -> nn.Module:
        self._check()
        net: Any = ClipNet()
        net.encoder = self.make_encoder()
        used = [name for name, weight in zip(HEADS, self.weights, strict=True) if weight]
        net.heads = nn.ModuleDict({name: nn.Linear(net.encoder.dim, self.dim) for name in used})
        net.target = nn.Module()
        net.target.encoder, net.target.heads = target_copy(net.encoder), target_copy(net.heads)
        if self.weights[0]:
            net.queue, net.numbers = FeatureQueue(self.queue_size, self.dim), FeatureQueue(self.queue_size, 1)
            net.queue.push(normalize(torch.randn(self.queue_size, self.dim), dim=1))
            net.numbers.push(torch.full((self.queue_size, 1), float(NOBODY)))
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Query and both keys, (b, 3, frames, h, w) each, and the numbers of their videos."""
        first, second = batch["video"].unbind(1)  # (b, T, 3, h, w) each
        at = int(torch.randint(len(self.speeds), (), generator=generator, device=generator.device))
        speed, frames = self.speeds[at], self.window // self.speeds[at]
        fast = half(len(first), generator=generator, device=first.device)
        query, same, other = speed_views(first, second, fast, speed, frames)
        view = self.augment or Augment(
            size=self.side, area=(0.4, 1.0), jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, grey_p=0.2
        )
        # one view of the second clip, whatever its speed: the keys differ in nothing else
        keys = clip_augment(torch.cat([same, other], dim=1), view, generator)
        return clip_augment(query, view, generator), keys[:, :, :frames], keys[:, :, frames:], batch["number"]

    def before_step(self, net: Any, clock: Clock) -> None:
        """Move the keys' network; its batch norms keep statistics of their own."""
        for part in ("encoder", "heads"):
            ema_update(getattr(net.target, part), getattr(net, part), self.momentum, buffers=False)

    def loss(self, net: Any, views: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        query, same, other, numbers = views
        q = _embedded(net, query)
        with torch.no_grad():
            s, o = _embedded(net.target, same), _embedded(net.target, other)
        for_appearance, for_motion = self.weights
        terms: dict[str, Tensor] = {}
        if for_appearance:
            past, whose = (
                net.queue.rows.clone(),
                net.numbers.rows.squeeze(1).long(),
            )  # the backward pass needs them as now
            either = [self._found(q["appearance"], k["appearance"], past, numbers, whose) for k in (s, o)]
            terms["appearance"] = for_appearance * (either[0] + either[1])
            kept = [o["appearance"], s["appearance"]][: 2 if self.enqueue == "both" else 1]
            net.queue.push(torch.cat([gather(k) for k in kept]))
            net.numbers.push(torch.cat([gather(numbers)] * len(kept)).unsqueeze(1).float())
        if for_motion:
            m = "motion"
            ranked = relative_speed_loss(q[m], s[m], o[m], margin=self.margin, temperature=self.temperature)
            terms["motion"] = for_motion * ranked
        return terms

    def _found(self, q: Tensor, key: Tensor, past: Tensor, numbers: Tensor, whose: Tensor) -> Tensor:
        """InfoNCE of queries among their keys and the queue, in which entries of a query's own video do not count."""
        beside = torch.ones(len(q), len(q), dtype=torch.bool, device=q.device)  # keys of the batch are no negatives
        ignored = torch.cat([beside, numbers[:, None] == whose[None]], dim=1)
        return in_batch_softmax(q, torch.cat([key, past]), temperature=self.temperature, ignored=ignored)

    def judge(
        self, net: Any, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """As in `VideoLearner`, and what the heads make of it: they could collapse unseen behind it."""
        seen = super().judge(net, batch, generator)
        first, second = seen["representation"]
        return seen | {name: (head(first), head(second)) for name, head in net.heads.items()}

    # Using ----------------------------------------------------------------------------------------------------------

    def encode(self, net: Any, batch: dict[str, Any], *, speed: int = 1, head: str | None = None) -> Tensor:
        """As in `VideoLearner`; with `head`, unit vectors of the head's mean output over the clips."""
        vectors = super().encode(net, batch, speed=speed)
        return vectors if head is None else normalize(net.heads[head](vectors).float(), dim=1)

    def transform(
        self,
        X: Any,
        *,
        columns: dict[str, str] | None = None,
        clips: int = CLIPS,
        head: str | None = None,
        speed: int = 1,
    ) -> np.ndarray:
        """Vectors of videos (n, width), float32: the mean over clips evenly spread over each.

        Parameters
        ----------
        X, columns : as in `fit`
        clips : how many (the paper retrieves with 10)
        head : ``None``: what lies before the heads, (n, width); ``appearance`` or ``motion``: unit vectors (n, dim)
        speed : of the clips: every so manieth frame. Videos of fewer than ``speed * clip_frames`` frames are too short

        Raises
        ------
        NotFittedError : before `fit`
        ValueError : an unknown head, a number below 1, no video that can be used
        """
        self.require_fitted()
        self._require_head(head)
        _whole("speed", speed, 1)
        source = self.open_videos(X, columns, frames=speed * self.clip_frames, clips=clips)
        return self.transform_source(source, head=head, speed=speed)

    def score_speed(self, X: Any, *, columns: dict[str, str] | None = None, clips: int = CLIPS) -> float:
        """How often two clips of a video at one speed are nearer by the motion head than at two; chance is 0.5.

        Of each video, evenly spread clips are queries at speed 1 and at the highest of `speeds`, each compared with the clip
        half of them further on (from the end on with the first) at both. A tie, as of a video in which nothing moves, counts
        half. The vectors are all the encoder's own, not its moving average's. Score videos that were not learned from, and
        long ones: clips of a video hardly longer than they are overlap, which makes it easy.
        """
        self.require_fitted()
        self._require_head("motion")
        _whole("clips", clips, 2)
        source = self.open_videos(X, columns, frames=self.window, clips=clips)
        slow, fast = (self.transform_source(_Apart(source), head="motion", speed=s) for s in (1, max(self.speeds)))
        slow, fast = (z.reshape(len(source), clips, -1) for z in (slow, fast))
        wins, apart = [], clips // 2
        for own, other in ((slow, fast), (fast, slow)):
            same = (own * np.roll(own, -apart, axis=1)).sum(axis=2)
            different = (own * np.roll(other, -apart, axis=1)).sum(axis=2)
            wins.append(np.where(same == different, 0.5, same > different))
        return float(np.mean(wins))

    def index(self, X: Any, *, columns: dict[str, str] | None = None, clips: int = CLIPS) -> Self:
        """Encode videos for `search`, in memory; `nolabel.search.Index` keeps them on disk and searches many quickly."""
        self.vectors_ = self.transform(X, columns=columns, clips=clips)
        return self

    def search(self, query: Any, k: int = 10, *, clips: int = CLIPS) -> tuple[np.ndarray, np.ndarray]:
        """Positions (q, k) of the k indexed videos nearest to each query video, best first, and their cosines (q, k).

        Parameters
        ----------
        query : one video (t, h, w, 3), or anything that `transform` takes
        k : from 1 to the number of indexed videos

        Raises
        ------
        ValueError : before `index`, k out of range
        """
        self.require_fitted()
        if not hasattr(self, "vectors_"):
            raise ValueError("nothing to search: call index(videos) first")
        k = depth_within(k, len(self.vectors_))
        scores, ids = nearest(self.transform(query, clips=clips), self.vectors_, k)
        return ids, scores

    def _require_head(self, head: str | None) -> None:
        net: Any = self.net_
        if head is not None and head not in net.heads:
            raise ValueError(f"head must be None or {' or '.join(net.heads)}, which this RSPNet has, got {head!r}")

    def _check(self) -> None:
        super()._check()
        speeds = self.speeds
        if not isinstance(speeds, (tuple, list)) or not speeds:
            raise ValueError(f"speeds must be a sequence of whole numbers such as (2,), got {speeds!r}")
        for speed in speeds:
            _whole("speeds", speed, 1)
        if max(speeds) == 1:
            raise ValueError(f"speeds must hold one above 1, or there is no relative speed to see, got {tuple(speeds)}")
        _whole("dim", self.dim, 1)
        _whole("queue_size", self.queue_size, 1)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if not self.margin >= 0:
            raise ValueError(f"margin must be at least 0, got {self.margin}")
        if len(self.weights) != 2 or not all(w >= 0 for w in self.weights) or not any(self.weights):
            raise ValueError(f"weights must be two of at least 0, one above it, got {self.weights}")
        if self.enqueue not in ("other", "both"):
            raise ValueError(f"enqueue must be 'other' or 'both', got {self.enqueue!r}")
        if self.augment is not None and self.augment.size not in (None, self.side):
            raise ValueError(f"augment.size must be None or image_size={self.side}, got {self.augment.size}")


class _Apart:
    """The clips of a source of videos as rows of their own."""

    def __init__(self, videos: Any) -> None:
        self.videos = videos

    def __len__(self) -> int:
        return len(self.videos) * int(self.videos.clips)

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        video, clip = np.divmod(rows, self.videos.clips)
        held, where = np.unique(video, return_inverse=True)
        return {"video": self.videos.batch(held)["video"][where, clip].unsqueeze(1)}


def _embedded(net: Any, clips: Tensor) -> dict[str, Tensor]:
    """Unit vectors (b, dim) of each head."""
    vectors = net.encoder(clips)
    return {name: normalize(head(vectors).float(), dim=1) for name, head in net.heads.items()}


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be whole numbers of at least {least}, got {value!r}")
