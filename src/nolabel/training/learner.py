"""The base of every system that learns by gradients. It holds the contract; the loop is in `loop`."""

import os
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nolabel.training.batches import Rows, epoch_plan
from nolabel.training.clock import Clock
from nolabel.training.estimator import Estimator
from nolabel.training.optimisers import optimiser
from nolabel.training.settings import Training

#: Rows of a batch that is only encoded.
ENCODED = 256


class Learner(Estimator):
    """An estimator trained by gradients. A system writes only what its paper is about.

    Write ``build``, ``views`` and ``loss``; override the rest where the method asks for it. A batch is a dict from column to
    tensor (or list of texts, or object), ``{"part": {...}}`` when `parts` names several data sets.

    Attributes
    ----------
    net_ : trained network
    training_ : settings after the recipe filled the gaps
    history_ : rows of ``metrics.jsonl``: losses and label-free scores over the steps
    health_ : label-free scores of the trained representation, as a dict with ``verdict`` and ``reasons``
    """

    columns: tuple[str, ...] = ()
    #: Columns that `transform` needs, where these are fewer than `columns`.
    transform_columns: tuple[str, ...] = ()
    #: Names of the data sets that `fit` takes as a dict; empty for one data set.
    parts: tuple[str, ...] = ()
    #: What the method's own recipe says about `Training`.
    recipe: dict[str, Any] = {}  # noqa: RUF012 (read-only; a class constant)
    #: Whether `fit` takes optimisation steps; controls do not.
    trains: bool = True

    training: Training | None
    net_: nn.Module
    training_: Training
    history_: list[dict[str, Any]]
    health_: dict[str, Any]
    example_: dict[str, Any]

    # What a system writes -------------------------------------------------------------------------------------------

    def build(self, example: dict[str, Any]) -> nn.Module:
        """The network, once an example batch shows the shape of the data. Everything random happens under the seed."""
        raise NotImplementedError(f"{type(self).__name__} must define build(example)")

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> Any:
        """What the networks see, made on the device from a batch as the source holds it."""
        return batch

    def loss(self, net: nn.Module, views: Any) -> Tensor | dict[str, Tensor]:
        """A scalar, or named terms that are summed and logged."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(net, views)")

    # What a system may override -------------------------------------------------------------------------------------

    def open(self, data: Any, columns: dict[str, str] | None) -> Any:
        """The source of batches for anything `fit` takes."""
        from nolabel.data.parts import Parts

        if self.parts:
            return Parts({name: self.open_table(part, columns) for name, part in self._split(data).items()})
        return self.open_one(data, columns, self.columns)

    def open_one(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        """The source of one data set, as `transform` takes it: a table, or a graph that is seen whole."""
        from nolabel.data import fingerprint
        from nolabel.data.parts import Whole

        if hasattr(data, "edge_index"):
            return Whole(data, self.columns[0], fingerprint=fingerprint(_tensors_of(data)))
        return self.open_table(data, columns, needed or self.transform_columns)

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        """The source of one table: here the columns `needed` (all of `self.columns` if none are named) as they are."""
        from nolabel.data import ColumnSource, read

        return ColumnSource(read(data, columns=columns), needed or self.columns)

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        """A stage before the network is built; what it learns goes into attributes that end in ``_``."""

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        """The row numbers of every batch of one epoch."""
        return epoch_plan(source, batch_size, rng)

    def encode_plan(self, source: Any) -> list[np.ndarray]:
        """The row numbers of every batch of `transform`, each row once, in any order."""
        return [np.arange(i, min(i + ENCODED, len(source))) for i in range(0, len(source), ENCODED)]

    def optimisers(self, net: nn.Module, settings: Training) -> dict[str, Optimizer]:
        """Optimisers by name; the schedule scales the rate of each."""
        assert settings.optimiser is not None
        assert settings.lr is not None
        assert settings.weight_decay is not None
        return {"main": optimiser(settings.optimiser, net, settings.lr, settings.weight_decay)}

    def before_step(self, net: nn.Module, clock: Clock) -> None:
        """Called before the losses of a step; must depend on the clock and the network alone."""

    def step(self, run: Any, views: Any) -> dict[str, Tensor]:
        """One optimisation step: here, descend the sum of the loss terms with the one optimiser.

        ``run.loss(views, "name")`` calls the method ``name(net, views)`` of this learner through the wrapped network;
        ``run.descend(terms, "optimiser")`` steps one optimiser.
        """
        terms = run.loss(views)
        del views  # large, and of no use to the backward pass
        run.descend(terms, "main")
        return terms

    def after_step(self, net: nn.Module, clock: Clock) -> None:
        """Called after the optimiser: moving averages, projections back onto a sphere."""

    def enough(self, net: nn.Module, source: Any, epoch: int) -> bool:
        """Asked after each epoch: True ends the training early."""
        return False

    def finish(self, source: Any) -> None:
        """Called once the network is trained, before it is saved; what it learns goes into attributes that end in ``_``."""

    def encode(self, net: nn.Module, batch: dict[str, Any]) -> Tensor:
        """What `transform` returns for a batch: (b, dim)."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(net, batch)")

    def judge(
        self, net: nn.Module, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """What the health report looks at: by layer, its output for a batch and for a second view of it if there is one.

        The first layer is what `transform` returns; the others (such as the projection head, on which the loss acts) can
        collapse unseen behind it. The batch is one that `encode` takes; with several `parts`, of the first of them.
        """
        return {"representation": (self.encode(net, batch), None)}

    # What everybody uses --------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        columns: dict[str, str] | None = None,
        run: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Self:
        """Learn from data that nobody labelled.

        Parameters
        ----------
        X : folder, file, array, list of images, DataFrame or ``datasets.Dataset``; a dict of these if `parts` says so
        y : ignored; there for scikit-learn's sake
        columns : ``{"image": "photo"}`` if a needed column has another name
        run : run folder for checkpoints and ``metrics.jsonl``; nothing is written without it
        resume : go on with the unfinished run in `run`; it must have the same data and parameters

        Raises
        ------
        ValueError : a parameter, a column or the data does not fit; the message says what came and what was expected
        FileNotFoundError : no such path
        """
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)  # of an earlier fit
        self._forget()
        return self.fit_source(self.open(X, columns), run=run, resume=resume)

    def fit_source(self, source: Any, *, run: str | os.PathLike[str] | None = None, resume: bool = False) -> Self:
        """`fit` on an opened source."""
        from nolabel.training.loop import train

        train(self, source, run, resume=resume)
        return self

    def transform(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """Representations (n, dim), float32. Unreadable rows are left out with one warning that counts them."""
        self.require_fitted()
        return self.transform_source(self.open_one(X, columns))

    def fit_transform(self, X: Any, y: Any = None, **fit: Any) -> np.ndarray:
        """`fit`, then `transform` of the same data."""
        return self.fit(X, y, **fit).transform(X, columns=fit.get("columns"))

    def transform_source(self, source: Any, **encode: Any) -> np.ndarray:
        """`transform` of an opened source; `encode` is handed on to `encode`."""
        from nolabel.training.encoding import encode_all

        return encode_all(self, source, **encode)

    def set_params(self, **params: Any) -> Self:
        """As in scikit-learn; ``training__epochs=5`` also works where no `Training` was given."""
        if self.training is None and any(name.startswith("training__") for name in params):
            self.training = Training()
        super().set_params(**params)
        return self

    # How a learner is saved -----------------------------------------------------------------------------------------

    def _learned(self) -> dict[str, Any]:
        learned = super()._learned()
        return learned if learned.pop("net_", None) is not None else {}

    def _tensors(self) -> dict[str, Tensor]:
        return {f"net.{k}": v for k, v in self.net_.state_dict().items()}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        with torch.random.fork_rng():
            self.net_ = self.build(example_batch(self.example_))
        try:
            self.net_.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items()})
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"the saved weights do not fit this {type(self).__name__}: {reason}") from None
        self.net_.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.net_.eval()

    def _forget(self) -> None:
        """Start afresh: what an earlier `fit` learned must not shape the next one."""
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)

    def _split(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict) or set(data) != set(self.parts):
            came = sorted(data) if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"X must be a dict with the data sets {', '.join(self.parts)}, got {came}")
        return {name: data[name] for name in self.parts}


def _tensors_of(graph: Any) -> dict[str, Tensor]:
    """The tensors that an object holds, by name."""
    fields = graph.to_dict() if hasattr(graph, "to_dict") else vars(graph)
    return {name: value for name, value in fields.items() if isinstance(value, Tensor)}


def describe(batch: Any) -> Any:
    """The shape of an example batch in JSON, from which `example_batch` makes an empty one."""
    if isinstance(batch, Tensor):
        return {"shape": list(batch.shape), "dtype": str(batch.dtype).removeprefix("torch.")}
    if isinstance(batch, dict):
        return {"batch": {key: describe(value) for key, value in batch.items()}}
    if isinstance(batch, list):
        return {"texts": [str(value) for value in batch]}
    if hasattr(batch, "to"):
        return {"object": {k: describe(v) for k, v in _tensors_of(batch).items()}}
    raise TypeError(f"a batch may hold tensors, texts, dicts and objects of tensors, got {type(batch).__name__}")


def example_batch(description: Any) -> Any:
    """An empty batch of the described shape."""
    if "shape" in description:
        return torch.zeros(description["shape"], dtype=getattr(torch, description["dtype"]))
    if "texts" in description:
        return list(description["texts"])
    if "object" in description:
        return SimpleNamespace(**{k: example_batch(v) for k, v in description["object"].items()})
    return {key: example_batch(value) for key, value in description["batch"].items()}
