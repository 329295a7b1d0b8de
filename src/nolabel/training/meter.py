"""Means of the losses between two rows of the journal."""

import math
import time
from typing import Any

import torch
from torch import Tensor

from nolabel.training.clock import Clock
from nolabel.training.ranks import mean_of


class Meter:
    """Means of the loss terms since the last row, and the rate of rows."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps = self.rows = 0
        self.since = time.monotonic()
        self.shown = ""

    def add(self, terms: dict[str, Tensor], rows: int) -> None:
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=term.device)) + term.detach().float()
        self.steps += 1
        self.rows += rows

    def flush(self, clock: Clock) -> dict[str, float]:
        own = [float(total) / self.steps for total in self.sums.values()]
        means = dict(zip(self.sums, mean_of(own), strict=True))  # of all ranks
        means["loss"] = sum(means.values()) if "loss" not in means else means["loss"]
        for name, value in means.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} became {value} at step {clock.step}: lower training.lr or raise training.warmup"
                )
        rate = self.rows / max(time.monotonic() - self.since, 1e-9)
        self.shown = f"loss {means['loss']:.3f} · {rate:,.0f} rows/s"
        self.sums, self.steps, self.rows, self.since = {}, 0, 0, time.monotonic()
        return {**means, "rows_per_second": round(rate, 1)}

    def figures(self, scores: dict[str, Any]) -> str:
        rank = f" · RankMe {scores['rankme']:.1f}" if scores else ""
        return self.shown + rank
