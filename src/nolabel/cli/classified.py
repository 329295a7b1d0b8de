"""What `nolabel classify` finds out, whatever it labels: scores beside a baseline's, predictions, the picture."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nolabel.data.replacing import replacing

PREDICTIONS, PICTURE, REPORT = "predictions.csv", "confusion.png", "report.json"


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    source: str
    label: list[str]
    run: Path | None
    model: Path | None
    folder: Path
    encoder: str | None
    epochs: int | None
    label_epochs: int | None
    held_out: float
    freeze: bool
    setting: list[str]
    seed: int
    resume: bool


@dataclass(frozen=True)
class Task:
    """One column of labels: given and told labels of all rows, the probability of the latter."""

    given: Sequence[Any]
    told: Sequence[Any]
    probability: Sequence[float]


@dataclass(frozen=True)
class Result:
    """What was learned and found out.

    Attributes
    ----------
    tasks : by column
    held : rows that were tested on; empty where a model from before is used
    scores : by column, then by what was tested: the scores of `scores_of`
    """

    classifier: Any
    tasks: Mapping[str, Task]
    held: frozenset[int]
    scores: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Done:
    """Everything that `nolabel classify` tells and writes.

    Attributes
    ----------
    called : what an item is: url, path or image
    rows, items : the rows of the table that were labelled, and what they are called
    counts : what else is worth telling
    report : page of the run, if there is one
    """

    result: Result
    called: str
    rows: Sequence[int]
    items: Sequence[str]
    counts: Mapping[str, Any]
    report: str | None = None


def known(table: Any, name: str, source: str) -> list[Any]:
    """The labels of a column, None where there is none."""
    if name not in table.column_names:
        there = ", ".join(column for column in table.column_names if column != "url")
        raise ValueError(
            f"{source} has no column {name!r} to learn from among {there or 'none'}; name it with --label NAME"
        )
    values = list(table[name])
    blank = [value is None or value != value or (isinstance(value, str) and not value.strip()) for value in values]
    if all(blank):
        raise ValueError(f"{source}: the column {name!r} has no labels")
    return [None if empty else value for value, empty in zip(values, blank)]


def scores_of(truth: Sequence[Any], names: Sequence[Any], probabilities: Any) -> dict[str, Any]:
    """Accuracy, macro F1 over the labels that occur, precision, recall and F1 of each; AUC of the second of two labels."""
    import numpy as np
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

    code = {name: number for number, name in enumerate(names)}
    true, told = np.array([code[value] for value in truth]), probabilities.argmax(axis=1)
    numbers = list(range(len(names)))
    each = np.array(precision_recall_fscore_support(true, told, labels=numbers, zero_division=0.0))
    occurs = each[3] > 0
    found: dict[str, Any] = {
        "rows": len(true),
        "accuracy": float(accuracy_score(true, told)),
        "macro F1": float(each[2][occurs].mean()),
        "AUC": float(roc_auc_score(true, probabilities[:, 1])) if len(names) == 2 and occurs.all() else None,
    }
    found["labels"] = [
        {"label": name, "precision": p, "recall": r, "F1": f, "rows": int(n)}
        for name, (p, r, f, n) in zip(names, each.T.tolist())
    ]
    return found | {"confusion": confusion_matrix(true, told, labels=numbers).tolist()}


def draw(path: Path, scores: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Confusion of true and told labels, a panel a task; None without scores or without matplotlib."""
    if not scores:
        return None
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    side = max(len(next(iter(found.values()))["labels"]) for found in scores.values())
    figure = Figure(figsize=(len(scores) * (2.2 + 0.4 * side), 1.8 + 0.4 * side), layout="constrained")
    for panel, (name, found) in zip(figure.subplots(1, len(scores), squeeze=False)[0], scores.items()):
        first = next(iter(found.values()))
        shares = [[n / max(1, sum(row)) for n in row] for row in first["confusion"]]
        panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        labels = [str(one["label"]) for one in first["labels"]]
        panel.set_xticks(range(len(labels)), labels, rotation=90 if len(labels) > 4 else 0)
        panel.set_yticks(range(len(labels)), labels)
        panel.set(xlabel="told", ylabel="true", title=name)
        if len(labels) <= 12:
            for y, row in enumerate(first["confusion"]):
                for x, n in enumerate(row):
                    panel.text(
                        x, y, f"{n:,}", ha="center", va="center", color="white" if shares[y][x] > 0.5 else "black"
                    )
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120)
    return str(path)


def write_predictions(path: Path, done: Done) -> None:
    """A line a row: given and told label and its probability, by task, and whether it was held out."""
    result = done.result
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        parts = [part for name in result.tasks for part in (name, f"{name} told", f"{name} probability")]
        writer.writerow(["row", done.called, *parts, "held out"])
        for at, (row, item) in enumerate(zip(done.rows, done.items, strict=True)):
            cells: list[Any] = []
            for task in result.tasks.values():
                given = "" if task.given[at] is None else task.given[at]
                cells += [given, task.told[at], f"{task.probability[at]:.4f}"]
            writer.writerow([row, item, *cells, "yes" if row in result.held else "no"])


def tables(scores: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Of each task the scores beside the baseline's, and those of each label."""
    from nolabel.cli.output import grid

    found = []
    for name, tested in scores.items():
        keys = ["rows", "accuracy", "macro F1", "AUC"]
        rows = [[who, *(score[key] for key in keys)] for who, score in tested.items()]
        found.append(grid(f"{name}: tested on what was held out" if len(tested) > 1 else name, ["", *keys], rows))
        each = ["label", "precision", "recall", "F1", "rows"]
        labels = next(iter(tested.values()))["labels"]
        found.append(grid(f"{name}: each label", each, [[one[key] for key in each] for one in labels]))
    return found
