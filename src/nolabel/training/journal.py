"""What a run tells while it goes on: ``metrics.jsonl``, an optional logger, and a progress bar."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nolabel.data.replacing import naming
from nolabel.training.estimator import write_text

METRICS = "metrics.jsonl"
LOGGERS = ("tensorboard", "mlflow", "wandb")


class Journal:
    """Rows of numbers, kept in memory and, with a folder, appended to ``metrics.jsonl``.

    Parameters
    ----------
    folder : run folder, or None
    rows : rows of the interrupted run that this one continues; the file is cut back to them
    logger : one of `LOGGERS`, or None
    """

    def __init__(self, folder: Path | None, rows: list[dict[str, Any]], logger: str | None) -> None:
        self.rows = rows
        self.path = folder / METRICS if folder is not None else None
        if self.path is not None:
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        self.log = _logger(logger, folder)

    def write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.path is not None:
            with naming(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        self.log({k: v for k, v in row.items() if isinstance(v, int | float)}, row["step"])


def _logger(name: str | None, folder: Path | None) -> Any:
    """A function (numbers, step) -> None that hands a row to an experiment tracker."""
    if name is None:
        return lambda numbers, step: None
    if name not in LOGGERS:
        raise ValueError(f"training.logger must be one of {', '.join(LOGGERS)} or None, got {name!r}")
    try:
        if name == "tensorboard":
            writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(
                folder and str(folder / "tensorboard")
            )

            def to_tensorboard(numbers: dict[str, float], step: int) -> None:
                for key, value in numbers.items():
                    writer.add_scalar(key, value, step)
                writer.flush()

            return to_tensorboard
        tracker = importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"training.logger={name!r} needs a package: pip install 'nolabel[logging]' ({error})"
        ) from None
    if name == "mlflow":
        return lambda numbers, step: tracker.log_metrics(numbers, step=step)
    if tracker.run is None:
        tracker.init(project="nolabel", dir=folder and str(folder))
    return lambda numbers, step: tracker.log(numbers, step=step)


class Bar:
    """A progress bar on standard error: loss, rows per second, label-free score, time left."""

    def __init__(self, shown: bool | None, label: str) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("·"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not (sys.stderr.isatty() if shown is None else shown),
            refresh_per_second=4,
        )
        self.task = self.bar.add_task(label, total=1.0, figures="")

    def __enter__(self) -> "Bar":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def show(self, fraction: float, figures: str) -> None:
        self.bar.update(self.task, completed=fraction, figures=figures)
