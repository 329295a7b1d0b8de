"""The interrupted run that a folder holds: whether it may be gone on with, and what it had prepared."""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nolabel.data import fingerprint
from nolabel.data.locks import exclusive
from nolabel.training.checkpoint import CHECKPOINT, extras, read_checkpoint
from nolabel.training.estimator import CONFIG, _decode, _encode
from nolabel.training.learner import Learner
from nolabel.training.place import first_rank
from nolabel.training.ranks import world
from nolabel.training.settings import Training

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unfinished:
    """A checkpoint as read: position of the run, scalar optimiser state, tensors."""

    position: dict[str, Any]
    scalars: dict[str, Any]
    tensors: dict[str, Tensor]


#: Settings of `Training` that a run may go on without: they change neither its batches nor its losses.
PASSING = ("progress", "checkpoint_seconds", "logger", "devices", "nodes", "strategy")


def identity(learner: Learner, source: Any) -> dict[str, str]:
    """What must be equal for a resume: parameters and data."""
    params = {k: v for k, v in learner.get_params(deep=False).items() if k != "training"}
    training = (learner.training or Training()).get_params()
    lasting = {k: v for k, v in training.items() if k not in PASSING}
    return {
        "class": type(learner).__name__,
        "parameters": json.dumps({**params, **lasting}, default=_described, sort_keys=True),
        "data": source.fingerprint,
    }


def _described(value: Any) -> str:
    return fingerprint(value) if isinstance(value, np.ndarray | Tensor) else repr(value)


def prepared(learner: Learner, folder: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What `prepare` and `enough` learned, in JSON; arrays go to `tensors`, estimators to folders of their own."""
    nested: dict[str, Any] = {}
    own = {k: v for k, v in vars(learner).items() if k.endswith("_") and k not in ("training_", "example_", "net_")}
    encoded = {k: _encode(v, f"learned.{k}", tensors, nested) for k, v in own.items()}
    for name, inner in nested.items():
        if not (folder / name / CONFIG).exists():
            inner.save(folder / name)
    return encoded


def restore_prepared(learner: Learner, state: Unfinished, folder: Path | None) -> None:
    """The inverse of `prepared`."""
    assert folder is not None
    tensors = {f"learned.{k}": v for k, v in extras(state.tensors, "learned").items()}
    for name, value in state.position["prepared"].items():
        setattr(learner, name, _decode(value, f"learned.{name}", tensors, folder))


def previous(folder: Path | None, learner: Learner, source: Any, resume: bool) -> Unfinished | None:
    """The interrupted run to go on with, after checking that the folder allows what is asked."""
    if folder is None:
        if resume:
            raise ValueError("resume=True needs run=..., the folder of the unfinished run")
        return None
    unfinished = (folder / CHECKPOINT).exists()
    if (folder / CONFIG).exists():
        raise ValueError(f"{folder} holds a finished run: choose another folder or delete it")
    if resume and not unfinished:
        raise ValueError(f"{folder} holds no unfinished run to resume: it has no {CHECKPOINT}")
    if unfinished and not resume:
        raise ValueError(f"{folder} holds an unfinished run: resume it, choose another folder or delete it")
    if not resume:
        return None
    state = Unfinished(*read_checkpoint(folder))
    require_same(folder, identity(learner, source), state.position["learner"])
    then_world = state.position["processes"]
    if then_world != world():
        warnings.warn(
            f"the run goes on with {world()} process{'es' if world() > 1 else ''} where it had {then_world}: batches and "
            "losses are the same, but views are drawn in other shares, so that it will not end with quite the same weights",
            stacklevel=2,
        )
    logger.info("resuming %s at step %d", folder, state.position["step"])
    return state


def require_same(folder: Path, now: dict[str, str], then: dict[str, str]) -> None:
    """Refuse to go on with another `identity` than the run was begun with."""
    different = [name for name in now if now[name] != then.get(name)]
    if different:
        raise ValueError(f"{folder} was begun with another {' and '.join(different)}: resume needs the same")


#: Run folders that the caller holds already.
_held: ContextVar[frozenset[Path]] = ContextVar("_held", default=frozenset())


@contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """One process a run folder: a second one gets BlockingIOError, who holds it already goes on.

    A folder that is made for this and stays empty is removed again.
    """
    if folder is None:
        yield
        return
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    place = folder.resolve()
    first = first_rank() and os.environ.get("SLURM_PROCID", "0") == "0"  # of SLURM's tasks the group is known later
    if not first or place in _held.get():  # the processes of one run share the folder of the first
        yield
        return
    try:
        with exclusive(place / ".lock", str(folder)):
            token = _held.set(_held.get() | {place})
            try:
                yield
            finally:
                _held.reset(token)
    finally:
        if made:
            with suppress(OSError):  # it holds something
                place.rmdir()
