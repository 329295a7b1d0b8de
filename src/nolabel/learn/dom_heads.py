"""The base of what is fine-tuned on a `DomLM`: its weights go on learning, with a small layer on top, from labelled pages."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from nolabel.learn.dom_lm import JUDGED, DomLM, page_states, page_vectors
from nolabel.learn.heads import Head
from nolabel.training import Training
from nolabel.training.batches import Rows, bucketed, within_budget
from nolabel.training.text import BUDGET

if TYPE_CHECKING:
    from nolabel.data.dom import Page

#: Steps that a head takes by default, however few the labels.
LEAST_STEPS = 300


class PageHead(Head):
    """The base of what is fine-tuned on a `DomLM`: windows, a copy of its weights, epochs in which labels are not too rare.

    A subclass has among its constructor arguments

    * ``domlm``: the language model; one that is not fitted learns from the pages of `fit` first
    * ``negatives``: windows without a label for each one with
    """

    columns: tuple[str, ...] = ("html", "label")
    recipe = {**DomLM.recipe, "epochs": 10}  # noqa: RUF012
    domlm: DomLM
    negatives: float
    domlm_: DomLM
    training: Training | None

    @property
    def language_model(self) -> DomLM:
        """The fitted language model."""
        if self.domlm._learned():
            return self.domlm
        fitted: DomLM = getattr(self, "domlm_", None) or self._stage
        return fitted

    def begin(self, html: Any, columns: dict[str, str] | None) -> list[Page]:
        """Check the arguments, forget an earlier fit, and parse the pages."""
        if not isinstance(self.domlm, DomLM):
            raise TypeError(f"domlm must be a DomLM, got {type(self.domlm).__name__}")
        if not self.negatives >= 0.0:
            raise ValueError(f"negatives must be at least 0, got {self.negatives!r}")
        self._forget()
        return self.domlm.pages(html, columns)

    def learn_language(self, pages: Sequence[Page]) -> None:
        """See to it that the language model is fitted; called once the labels are known to be right."""
        if not self.domlm._learned():
            self._stage = clone(self.domlm).fit(list(pages))

    def prepare(self, source: Any, folder: Any) -> None:
        if not self.domlm._learned():
            self.domlm_ = self._stage

    def fit_source(self, source: Any, *, run: str | os.PathLike[str] | None = None, resume: bool = False) -> Self:
        """As `Head.fit_source`.

        Where `training` says nothing of how long, it is the recipe's epochs, and for few labels `LEAST_STEPS` at least.
        """
        given = self.training
        self.training = clone(given or Training())
        if self.training.epochs is self.training.steps is self.training.minutes is None:
            rows = int(source.labelled.sum() * (1.0 + self.negatives))
            batches = rows // (self.training.batch_size or self.recipe["batch_size"])
            self.training.steps = max(LEAST_STEPS, self.recipe["epochs"] * batches)
        try:
            return super().fit_source(source, run=run, resume=resume)
        finally:
            self.training = given

    def make_net(self) -> Any:
        """The language model's network without its own head, copied."""
        learned: Any = self.language_model.net_
        net: Any = nn.Module()
        net.encoder = copy.deepcopy(learned.encoder)
        if hasattr(learned, "tree"):
            net.tree = copy.deepcopy(learned.tree)
        net.dropout = nn.Dropout(0.1)
        return net

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        """All windows with a label, and `negatives` times as many without, drawn anew for each epoch."""
        with_label, without = np.flatnonzero(source.labelled), np.flatnonzero(~source.labelled)
        wanted = min(len(without), max(round(self.negatives * len(with_label)), batch_size - len(with_label)))
        rows = np.concatenate([with_label, rng.permutation(without)[:wanted]])
        return [rows[part] for part in bucketed(source.lengths["html"][rows], min(batch_size, len(rows)), rng)]

    def open_one(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        self.require_fitted()
        return self.language_model.open_one(data, columns)

    def transform_source(self, source: Any, **encode: Any) -> np.ndarray:
        """Vectors (n, dim) of pages, as those of a `DomLM`, from the weights that went on learning."""
        return page_vectors(self, source)

    def encode_plan(self, source: Any) -> list[np.ndarray]:
        return within_budget(source.lengths["html"], BUDGET)

    def encode(self, net: nn.Module, batch: dict[str, Any]) -> Tensor:
        encoder: Any = net.encoder
        vectors: Tensor = encoder.pool(page_states(net, batch), batch["html"]["mask"])
        return vectors

    def judge(
        self, net: nn.Module, batch: dict[str, Any], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """The states of some tokens."""
        some = {name: value[::JUDGED] for name, value in batch.items() if name != "html"}
        some["html"] = {name: value[::JUDGED] for name, value in batch["html"].items()}
        states = page_states(net, some)[some["html"]["mask"]]
        return {"representation": (states[:: 2 * JUDGED], None)}


def require_as_many(pages: Sequence[Any], labels: Any, name: str = "labels") -> None:
    """Raise unless there is one label (list, dict, answer) for each page."""
    if isinstance(labels, str | bytes | Mapping) or not hasattr(labels, "__len__"):
        raise TypeError(f"{name}: expected a list with one entry a page, got {type(labels).__name__}")
    if len(labels) != len(pages):
        raise ValueError(f"{name}: expected {len(pages)}, one a page, got {len(labels)}")
