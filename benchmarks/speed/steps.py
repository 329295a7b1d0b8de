"""This library's side of the training benchmark: learners with the peers' networks and views, whose steps a stopwatch follows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from nolabel.encoders import build, projection_head
from nolabel.learn import PixPro, SimCLR, SwAV
from nolabel.training import Clock, ImageLearner, Training, ema_update, momentum_schedule, target_copy
from nolabel.views import byol

LEAST_STEPS = 2  # of a timed slot


@dataclass(frozen=True)
class Case:
    """A method with an encoder's stem, the side of the images, the batch, and who else runs it."""

    method: str
    stem: str
    peers: tuple[str, ...]
    batch: int = 256
    side: int = 32


class Stopwatch:
    """Cuts a running fit into slots: some steps to warm up, then steps that count, then the others' turn."""

    def __init__(self, warm: float, seconds: float, turn: Callable[[dict[str, float]], None]) -> None:
        self.warm, self.seconds, self.turn = warm, seconds, turn
        self.restart()

    def restart(self) -> None:
        """Drop the present slot."""
        self.resumed: float | None = None  # the end of the step before the warm-up
        self.started: float | None = None
        self.steps, self.views = 0, 0.0

    def tick(self) -> None:
        """A step has ended."""
        now = time.perf_counter()
        if self.resumed is None:
            self.resumed = now
        elif self.started is None:
            if now - self.resumed >= self.warm:
                self.started, self.steps, self.views = now, 0, 0.0
        else:
            self.steps += 1
            if self.steps >= LEAST_STEPS and now - self.started >= self.seconds:
                self.turn({"steps": self.steps, "seconds": now - self.started, "views": self.views})
                self.restart()


class Timed:
    """A learner whose steps a stopwatch follows."""

    stopwatch: Stopwatch

    def views(self, batch: Any, generator: torch.Generator) -> Any:
        begun = time.perf_counter()
        views = super().views(batch, generator)  # type: ignore[misc]
        self.stopwatch.views += time.perf_counter() - begun
        return views

    def after_step(self, net: Any, clock: Any) -> None:
        super().after_step(net, clock)  # type: ignore[misc]
        self.stopwatch.tick()

    def enough(self, net: Any, source: Any, epoch: int) -> bool:
        self.stopwatch.restart()  # the health of the network is judged now, and that is no step
        return bool(super().enough(net, source, epoch))  # type: ignore[misc]


class BYOL(ImageLearner):
    """BYOL (Grill et al., 2020) out of the library's blocks, as a researcher would write it in her own file."""

    def __init__(self, encoder: nn.Module, image_size: int | None = None, training: Training | None = None) -> None:
        self.encoder = encoder
        self.image_size = image_size
        self.training = training

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        net.head, net.predictor = projection_head(net.encoder.dim, 1024, 256), projection_head(256, 1024, 256)
        net.target = nn.ModuleDict({"encoder": target_copy(net.encoder), "head": target_copy(net.head)})
        return net

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        return torch.cat([view(batch["image"], generator) for view in byol(batch["image"].shape[-1])])  # (2b, c, h, w)

    def before_step(self, net: Any, clock: Clock) -> None:
        for name, part in net.target.items():
            ema_update(part, getattr(net, name), momentum_schedule(clock.fraction), buffers=False)

    def loss(self, net: Any, views: Tensor) -> Tensor:
        predictions = net.predictor(net.head(net.encoder(views)))  # (2b, d)
        with torch.no_grad():
            targets = net.target["head"](net.target["encoder"](views))
        return -cosine_similarity(predictions, targets.roll(len(targets) // 2, 0)).mean()


class TimedSimCLR(Timed, SimCLR):
    pass


class TimedSwAV(Timed, SwAV):
    pass


class TimedBYOL(Timed, BYOL):
    pass


class TimedPixPro(Timed, PixPro):
    pass


def learner_of(case: Case, batch_size: int) -> Any:
    """A learner with the peer's heads, crops and kind of optimiser."""
    encoder = build("resnet18", channels=3, image_size=case.side, stem=case.stem)
    settings: dict[str, Any] = {"batch_size": batch_size, "steps": 10**6, "progress": False, "stop_on_collapse": False}
    sgd = Training(optimiser="sgd", lr=0.06, weight_decay=5e-4, **settings)
    if case.method == "simclr":
        return TimedSimCLR(encoder, temperature=0.5, projection=(512, 128), training=sgd)
    if case.method == "byol":
        return TimedBYOL(encoder, training=sgd)
    if case.method == "pixpro":
        lars = Training(optimiser="lars", lr=batch_size / 256, weight_decay=1e-5, **settings)
        return TimedPixPro(encoder, projection=(4096, 256), image_size=case.side, training=lars)
    adam = Training(optimiser="adam", lr=0.001, weight_decay=0.0, **settings)
    crops = ((2, case.side, (0.14, 1.0)), (6, case.side // 2, (0.05, 0.14)))
    return TimedSwAV(
        encoder, prototypes=512, crops=crops, projection=(512, 128), freeze_prototypes_epochs=0.0, training=adam
    )
