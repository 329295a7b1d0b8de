"""The label-free health of a run: judged at its start, while it goes on and at its end."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nolabel.assess.health import HealthReport, health
from nolabel.data.parts import Parts, Whole
from nolabel.training.batches import to_device
from nolabel.training.learner import Learner
from nolabel.training.ranks import of_first
from nolabel.training.sharding import load_whole

#: Rows judged while training and at the end.
DURING, AT_END = 1024, 5000
SEVERITY = ("healthy", "collapsing", "collapsed")


class Monitor:
    """Judge what the network makes of a fixed sample of rows, remember the last healthy weights.

    Every layer that `Learner.judge` names is judged; the verdict is that of the worst, the figures are the representation's.
    Judging costs two forward passes of 1,024 rows; it is due so rarely that it stays a few per cent of the training.
    """

    def __init__(
        self, learner: Learner, net: nn.Module, source: Any, fabric: Fabric, seed: int, state: dict[str, Any] | None
    ) -> None:
        self.learner, self.net, self.source, self.fabric, self.seed = learner, net, source, fabric, seed
        n = len(source)
        self.order = np.random.default_rng([seed % 2**32, 7]).permutation(n)
        self.every = max(1, -(-10 * min(n, DURING) // n))
        self.baselines = {layer: HealthReport(**report) for layer, report in (state or {}).items()}
        self.report: HealthReport | None = None
        self.row: dict[str, Any] = {}
        self.looks_collapsed = 0  # in a row
        self.healthy: dict[str, Tensor] | None = None

    def state(self) -> dict[str, Any]:
        return {layer: report.to_dict() for layer, report in self.baselines.items()}

    def due(self, epoch: int) -> bool:
        return epoch % self.every == 0

    def look(self) -> dict[str, Any]:
        """Judge now; the row for the journal."""
        self.report, self.row = self._judge(DURING)
        self.looks_collapsed = self.looks_collapsed + 1 if self.report.verdict == "collapsed" else 0
        if self.report.verdict == "healthy":
            self.healthy = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        return self.row

    @property
    def collapsed(self) -> bool:
        return self.report is not None and self.report.verdict == "collapsed"

    @property
    def reasons(self) -> str:
        return "; ".join(self.report.reasons) if self.report is not None else ""

    def restore_healthy(self) -> None:
        """Put back the weights of the last healthy look, if there was one."""
        if self.healthy is not None:
            load_whole(self.net, self.healthy)

    def final(self) -> dict[str, Any]:
        """The health of the finished network on a larger sample; a stopped run keeps its verdict."""
        stopped = self.report if self.collapsed else None
        report, row = self._judge(AT_END)
        whole = {**row, **report.to_dict()}
        if stopped is not None:
            whole |= {"verdict": stopped.verdict, "reasons": list(stopped.reasons)}
        return whole

    def _judge(self, limit: int) -> tuple[HealthReport, dict[str, Any]]:
        """By the first rank, for all: rounding may differ between machines, and a verdict must not."""
        judged: tuple[HealthReport, dict[str, Any]] = of_first(lambda: self._judged_here(limit))
        return judged

    @torch.no_grad()
    def _judged_here(self, limit: int) -> tuple[HealthReport, dict[str, Any]]:
        was_training = self.net.training
        self.net.eval()
        outputs: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        generator = torch.Generator(self.fabric.device).manual_seed(self.seed % 2**32)
        rows = np.sort(self.order[:limit])
        with self.fabric.autocast():
            for start in range(0, len(rows), 256):
                batch = to_device(self.source.batch(self._rows(rows[start : start + 256])), self.fabric.device)
                if self.learner.parts:
                    batch = batch[self.learner.parts[0]]
                for layer, (z, other) in self.learner.judge(self.net, batch, generator).items():
                    first, second = outputs.setdefault(layer, ([], []))
                    first.append(z.float().cpu())
                    second += [other.float().cpu()] if other is not None else []
        self.net.train(was_training)
        return self._verdict({layer: (torch.cat(z), torch.cat(o) if o else None) for layer, (z, o) in outputs.items()})

    def _verdict(self, outputs: dict[str, tuple[Tensor, Tensor | None]]) -> tuple[HealthReport, dict[str, Any]]:
        """The report of the first layer with the verdict of the worst, and the numbers of all for the journal."""
        if not self.baselines:  # an untrained network often sends all images one way: only what becomes worse counts
            self.baselines = {layer: health(z, o) for layer, (z, o) in outputs.items()}
        reports = {layer: health(z, o, baseline=self.baselines[layer]) for layer, (z, o) in outputs.items()}
        first = next(iter(reports))
        worst = max(reports, key=lambda layer: SEVERITY.index(reports[layer].verdict))
        reasons = reports[worst].reasons if worst == first else [f"{worst}: {r}" for r in reports[worst].reasons]
        report = replace(reports[first], verdict=reports[worst].verdict, reasons=reasons)
        row = {k: v for k, v in report.to_dict().items() if k not in ("reasons", "n", "width") and v is not None}
        row |= {f"{layer}_rankme": r.rankme for layer, r in reports.items() if layer != first}
        return report, row

    def _rows(self, rows: np.ndarray) -> Any:
        if isinstance(self.source, Parts):
            return {name: rows % len(part) for name, part in self.source.parts.items()}
        return np.zeros(1, dtype=np.int64) if isinstance(self.source, Whole) else rows
