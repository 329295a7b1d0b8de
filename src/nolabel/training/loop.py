"""The one loop of everything that learns by gradients, on Lightning Fabric.

Reading top to bottom: the objective as a module (so that data-parallel wrappers see one forward), the handle that a
system's `step` is given, and a run from its set-up to its end.
"""

import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nolabel.data.parts import Parts, Whole
from nolabel.training.batches import Rows, prefetched, share_of_rank, to_device
from nolabel.training.checkpoint import CHECKPOINT, extras, restore, save_checkpoint
from nolabel.training.clock import Clock
from nolabel.training.devices import launched
from nolabel.training.estimator import versions
from nolabel.training.interrupts import held_back
from nolabel.training.journal import Bar, Journal
from nolabel.training.learner import Learner, describe
from nolabel.training.lost import watched
from nolabel.training.memory import freed_memory_kept
from nolabel.training.meter import Meter
from nolabel.training.monitor import Monitor
from nolabel.training.place import first_rank
from nolabel.training.ranks import any_of, of_first, together, world
from nolabel.training.schedule import cosine_with_warmup
from nolabel.training.settings import Training
from nolabel.training.sharding import assemble, assembled
from nolabel.training.synchronised import synchronised
from nolabel.training.unfinished import Unfinished, identity, locked, prepared, previous, restore_prepared


class CollapseWarning(UserWarning):
    """A run was stopped because its representation collapsed."""


class Objective(nn.Module):
    """A learner's losses as one module: what Fabric wraps for precision and data parallelism."""

    def __init__(self, learner: Learner, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._learner = learner

    def forward(self, views: Any, name: str) -> Any:
        return getattr(self._learner, name)(self.net, views)


class Run:
    """What a system's `step` is handed: losses through the wrapped network, and descent.

    Attributes
    ----------
    net : the network itself
    clock : position of the run
    optimisers : by name
    """

    def __init__(
        self,
        fabric: Fabric,
        objective: Any,
        net: nn.Module,
        optimisers: dict[str, Any],
        clock: Clock,
        clip: float = 0.0,
    ) -> None:
        self.fabric, self.objective, self.net, self.optimisers, self.clock = fabric, objective, net, optimisers, clock
        self.clip = clip

    def loss(self, views: Any, name: str = "loss") -> dict[str, Tensor]:
        """The terms that the learner's method `name` returns for `views`."""
        terms = self.objective(views, name)
        return terms if isinstance(terms, dict) else {name: terms}

    def descend(self, terms: dict[str, Tensor], optimiser: str) -> None:
        """One step of one optimiser down the sum of `terms`."""
        chosen = self.optimisers[optimiser]
        chosen.zero_grad(set_to_none=True)
        self.fabric.backward(torch.stack([term.float() for term in terms.values()]).sum())
        if self.clip:
            # a gradient that is not finite is the business of the loss, which is checked and named
            self.fabric.clip_gradients(self.objective, chosen, max_norm=self.clip, error_if_nonfinite=False)
        chosen.step()


class Fit:
    """One training run of a learner: set up, gone round, finished.

    A step depends on the seed and its number alone, so that a run which goes on from a checkpoint repeats the unbroken one.
    """

    def __init__(
        self,
        learner: Learner,
        source: Any,
        settings: Training,
        fabric: Fabric,
        folder: Path | None,
        before: Unfinished | None,
    ) -> None:
        self.learner, self.source, self.settings, self.fabric, self.folder = learner, source, settings, fabric, folder
        self.seed = settings.random_state
        torch.manual_seed(self.seed)
        if before is None:
            learner._forget()
        learner.training_ = settings
        if before is None:
            learner.prepare(source, folder)
        else:
            restore_prepared(learner, before, folder)
        self._build(before)
        self._begin(before)

    def _build(self, before: Unfinished | None) -> None:
        """Network and optimisers, on the device."""
        example = self.source.batch(_first_rows(self.source))
        self.learner.example_ = describe(example)
        torch.manual_seed(self.seed)
        self.net = self.learner.build(example)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.plain = Objective(self.learner, self.net)
        self.objective = self.fabric.setup_module(self.plain, _reapply_compile=False)
        self.optimisers = self.learner.optimisers(self.net, self.settings)  # of the weights as `setup_module` left them
        self.peaks = {name: [group["lr"] for group in opt.param_groups] for name, opt in self.optimisers.items()}
        if before is not None:
            restore(self.net, self.optimisers, before.scalars, before.tensors)
        self.wrapped = {name: self.fabric.setup_optimizers(opt) for name, opt in self.optimisers.items()}

    def _begin(self, before: Unfinished | None) -> None:
        """Position, journal and monitor: at the start, or where the run before was cut off."""
        plan = self._plan(epoch=0)
        if not plan:
            raise ValueError(
                f"no batch of {self.settings.batch_size} rows can be formed from {len(self.source)} rows: "
                "lower training.batch_size"
            )
        for batch in plan:
            self._share(batch)  # or say now that it cannot be shared
        endless = sys.maxsize if self.settings.minutes else 0  # a budget of minutes alone ends the run
        total = self.settings.steps or endless or (self.settings.epochs or 1) * len(plan)
        self.clock = Clock(steps_per_epoch=len(plan), total_steps=total)
        self.epoch, self.index, spent = 0, 0, 0.0
        rows: list[dict[str, Any]] = []
        if before is not None:
            rows = before.position["rows"]
            self.clock.step, spent = before.position["step"], before.position["seconds"]
            self.epoch, self.index = before.position["epoch"], before.position["index"]
        writes = first_rank()
        self.journal = Journal(self.folder if writes else None, rows, self.settings.logger if writes else None)
        looks = before.position["monitor"] if before is not None else None
        self.monitor = Monitor(self.learner, self.net, self.source, self.fabric, self.seed, looks)
        if before is not None:
            self.monitor.healthy = extras(before.tensors, "healthy") or None
            self.monitor.looks_collapsed = before.position["looks_collapsed"]
        self.run = Run(self.fabric, self.objective, self.net, self.wrapped, self.clock, self.settings.clip or 0.0)
        self.meter = Meter()
        self.generator = torch.Generator(self.fabric.device)
        self.whole_step = True  # whether the network is that of a finished step
        self.saved = time.monotonic()
        self.begun = self.saved - spent

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    @property
    def over(self) -> bool:
        return self.clock.step >= self.clock.total_steps or self.clock.fraction >= 1.0

    def go(self) -> None:
        """Train to the end of the budget, or until the representation has collapsed."""
        shown = self.settings.progress if first_rank() else False
        with Bar(shown, type(self.learner).__name__) as self.bar, held_back() as release, synchronised(self.net):
            if self.clock.step == 0:
                self.look()
            try:
                stopped = self._rounds(release)
            except KeyboardInterrupt:
                if self.whole_step:
                    self.checkpoint()
                raise
            self.clock.fraction = 1.0
            if not stopped:
                self.look()
            if self.monitor.collapsed and self.settings.stop_on_collapse:
                self.monitor.restore_healthy()
                reasons = f"the representation collapsed by step {self.clock.step}: {self.monitor.reasons}"
                warnings.warn(reasons, CollapseWarning, stacklevel=5)
            assemble(self.net)

    def _rounds(self, release: Callable[[], None]) -> bool:
        """Epoch after epoch; True if a collapse ended them."""
        stopped = False
        while not stopped and not self.over:
            plan = self._plan(self.epoch)
            self.objective.train()
            for batch in prefetched(self.source, map(self._share, plan[self.index :])):
                self.clock.fraction = self._fraction()
                if self.clock.fraction >= 1.0:
                    break
                self._step(batch, plan[self.index])
                release()
                if self._due():
                    self.checkpoint()
                if self.clock.step >= self.clock.total_steps:
                    break
            if self.index >= len(plan):
                self.epoch, self.index = self.epoch + 1, 0
                over = self.over
                with assembled(self.plain):
                    enough = any_of(self.learner.enough(self.net, self.source, self.epoch))
                if enough:
                    break
                if self.monitor.due(self.epoch) and not over:
                    stopped = self.look()
        release()
        return stopped

    def _share(self, rows: Rows) -> Rows:
        """What this rank works on; a graph is seen whole by each."""
        return rows if isinstance(self.source, Whole) else share_of_rank(rows, self.fabric.global_rank, world())

    def _step(self, batch: Any, rows: Rows) -> None:
        """One optimisation step, its randomness drawn from the seed and its number."""
        clock, learner = self.clock, self.learner
        self._set_rates()
        seed = _mix(self.seed, clock.step, self.fabric.global_rank)
        torch.manual_seed(seed)
        self.generator.manual_seed(seed)
        batch = to_device(batch, self.fabric.device)
        self.whole_step = False
        learner.before_step(self.net, clock)
        terms = learner.step(self.run, self._views(batch))  # nameless here, so that `step` can let go of them
        clock.step, self.index = clock.step + 1, self.index + 1
        learner.after_step(self.net, clock)
        self.whole_step = True
        self.meter.add(terms, _count(rows))
        if clock.step % max(1, min(clock.total_steps // 200, 50)) == 0 or clock.step == clock.total_steps:
            self.log()

    @torch.no_grad()
    def _views(self, batch: Any) -> Any:
        return self.learner.views(batch, self.generator)

    def log(self) -> None:
        """Means of the losses since the last row."""
        rate = next(iter(self.optimisers.values())).param_groups[0]["lr"]
        self._write({"lr": rate, **self.meter.flush(self.clock)})

    def look(self) -> bool:
        """Judge the representation; True if it has been found collapsed twice in a row."""
        if self.meter.steps:
            self.log()
        with assembled(self.plain):
            self._write(self.monitor.look())
        return self.monitor.looks_collapsed > 1 and self.settings.stop_on_collapse

    def _write(self, row: dict[str, Any]) -> None:
        self.journal.write({"step": self.clock.step, "epoch": self.epoch, "seconds": round(self.seconds, 3), **row})
        self.bar.show(self.clock.fraction, self.meter.figures(self.monitor.row))

    @property
    def sharded(self) -> bool:
        return self.settings.strategy == "fsdp" and world() > 1

    def _due(self) -> bool:
        """Whether it is time for a checkpoint; weights in shards are gathered for it by all ranks at once."""
        late = time.monotonic() - self.saved > self.settings.checkpoint_seconds
        return any_of(late) if self.sharded else late

    def checkpoint(self) -> None:
        """Write where the run stands into its folder, if it has one."""
        if self.folder is not None and (first_rank() or self.sharded):
            extra = {f"healthy.{k}": v for k, v in (self.monitor.healthy or {}).items()}
            position = {
                "step": self.clock.step,
                "epoch": self.epoch,
                "index": self.index,
                "seconds": self.seconds,
                "rows": self.journal.rows,
                "monitor": self.monitor.state(),
                "looks_collapsed": self.monitor.looks_collapsed,
                "learner": identity(self.learner, self.source),
                "processes": world(),
                "versions": versions(),
                "prepared": prepared(self.learner, self.folder, extra) if first_rank() else {},
            }
            save_checkpoint(self.folder if first_rank() else None, self.net, self.optimisers, position, extra)
        self.saved = time.monotonic()

    def _plan(self, epoch: int) -> list[Rows]:
        assert self.settings.batch_size is not None
        rng = np.random.default_rng([self.seed % 2**32, epoch])
        return self.learner.plan(self.source, self.settings.batch_size, rng)

    def _fraction(self) -> float:
        minutes = self.settings.minutes
        if minutes:  # by one clock, for the rates follow it
            return float(of_first(lambda: self.seconds / (60.0 * minutes)))
        return self.clock.step / self.clock.total_steps

    def _set_rates(self) -> None:
        factor = cosine_with_warmup(self.clock.fraction, self.settings.warmup or 0.0)
        for name, optimiser in self.optimisers.items():
            for group, peak in zip(optimiser.param_groups, self.peaks[name], strict=True):
                group["lr"] = peak * factor


def train(learner: Learner, source: Any, run: str | os.PathLike[str] | None, *, resume: bool) -> None:
    """Fit `learner` on `source`; see `Learner.fit` for what it raises."""
    settings = (learner.training or Training()).resolve(_fit_batch(learner, source))
    folder = Path(run) if run is not None else None
    if folder is not None:
        learner.require_savable()
    fabric = launched(settings)
    fit: Fit | None = None
    position, advice = (lambda: fit.clock.step if fit else 0), (lambda: _advice(folder))
    with together(fabric.world_size), watched(position, advice), locked(folder):
        before = previous(folder, learner, source, resume)
        kept = freed_memory_kept(_batch_bytes(source, settings))
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), kept:
            fit = Fit(learner, source, settings, fabric, folder, before)
            fit.go()
            _finish(learner, fit.net, source, fit.monitor, fit.journal, fit.seconds)
        if folder is not None and first_rank():
            learner.save(folder)
            (folder / CHECKPOINT).unlink(missing_ok=True)


def _advice(folder: Path | None) -> str:
    """What to do about a run that lost one of its processes."""
    if folder is None:
        return "nothing was saved, for the run has no folder"
    if not (folder / CHECKPOINT).exists():
        return f"it had not written a checkpoint into {folder} yet: begin it anew"
    return f"go on with the run in {folder}: resume=True, or --resume"


def _finish(learner: Learner, net: nn.Module, source: Any, monitor: Monitor, journal: Journal, seconds: float) -> None:
    """Set what a fitted learner has."""
    learner.net_ = net.eval()
    learner.history_ = journal.rows
    learner.health_ = monitor.final()
    learner.seconds_ = seconds
    learner.fingerprint_ = source.fingerprint
    learner.finish(source)


def without_training(learner: Learner, source: Any, run: str | os.PathLike[str] | None, *, resume: bool) -> None:
    """Fit a control: build its network, judge it, take no step."""
    settings = (learner.training or Training()).resolve(_fit_batch(learner, source))
    folder = Path(run) if run is not None else None
    with together(1), locked(folder), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        begun = time.monotonic()
        if previous(folder, learner, source, resume) is not None:
            raise ValueError(f"{folder} holds a run of a method that trains: {type(learner).__name__} does not")
        fabric = launched(settings, single=True)
        learner._forget()
        learner.training_ = settings
        example = source.batch(_first_rows(source))
        learner.example_ = describe(example)
        torch.manual_seed(settings.random_state)
        net = learner.build(example).to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        monitor = Monitor(learner, net, source, fabric, settings.random_state, None)
        writes = first_rank()
        journal = Journal(folder if writes else None, [], settings.logger if writes else None)
        journal.write({"step": 0, "epoch": 0, "seconds": 0.0, **monitor.look()})
        _finish(learner, net, source, monitor, journal, time.monotonic() - begun)
        if folder is not None and writes:
            learner.save(folder)


def _fit_batch(learner: Learner, source: Any) -> dict[str, Any]:
    """The recipe, with its batch fitted to small data; a batch the user asked for is not changed but checked."""
    recipe = dict(learner.recipe)
    if isinstance(source, Whole):
        return recipe
    n = len(source)
    if n < 2:
        raise ValueError(f"cannot learn from {n} row{'' if n == 1 else 's'}: need at least 2")
    asked = learner.training.batch_size if learner.training is not None else None
    if asked is not None and asked > n:
        raise ValueError(f"training.batch_size={asked} is above the {n} rows of the data: lower it to {n} or less")
    wanted = recipe.get("batch_size", 256)
    if asked is None and wanted > n // 2:
        recipe["batch_size"] = max(2, 2 ** int(math.log2(max(n // 2, 2))))
    return recipe


def _first_rows(source: Any) -> Any:
    if isinstance(source, Parts):
        return {name: np.arange(min(2, len(part))) for name, part in source.parts.items()}
    return np.arange(min(2, len(source)))


def _batch_bytes(source: Any, settings: Training) -> int:
    """How large a batch is as the source holds it."""
    if isinstance(source, Whole):
        return 0
    rows = _first_rows(source)
    assert settings.batch_size is not None
    return _bytes(source.batch(rows)) * settings.batch_size // max(1, _count(rows))


def _bytes(batch: Any) -> int:
    if isinstance(batch, dict):
        return sum(map(_bytes, batch.values()))
    return int(getattr(batch, "nbytes", 0))


def _count(rows: Rows) -> int:
    return len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)


def _mix(*numbers: int) -> int:
    """One seed out of several numbers."""
    return int(np.random.SeedSequence([n % 2**32 for n in numbers]).generate_state(1, np.uint64)[0] >> np.uint64(1))
