"""`nolabel classify`: labels of URLs, learned from many without a label and a few with one."""

import csv
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

PREDICTIONS, PICTURE, REPORT = "predictions.csv", "confusion.png", "report.json"


def command(
    source: str = typer.Argument(
        ..., help="Table (csv, parquet, jsonl) with a column of URLs, or the name of a known set."
    ),
    method: str = typer.Option("urlbert", "--method", "-m", help="What to learn with; there is urlbert."),
    label: list[str] = typer.Option(
        [], "--label", help="Column of labels, empty where none is known; several for several tasks. Default: label."
    ),
    run: Path | None = typer.Option(None, "--run", help="Run folder of `nolabel learn`: begin with its encoder."),
    model: Path | None = typer.Option(None, "--model", help="Run folder of an earlier `nolabel classify`: only label."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Run folder; runs/NAME-labels by default."),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as url=link."),
    encoder: str | None = typer.Option(None, help="bert-3x128, hf:NAME, ..."),
    epochs: int | None = typer.Option(None, help="Passes over all URLs, without labels."),
    label_epochs: int | None = typer.Option(None, help="Passes over the labelled URLs."),
    held_out: float = typer.Option(0.2, help="Share of the labelled URLs, by registered domains, to test on."),
    freeze: bool = typer.Option(False, help="Do not let the labels change the encoder."),
    setting: list[str] = typer.Option([], "--set", help="A parameter of the method, such as max_length=48."),
    seed: int = typer.Option(0, "--seed", help="Seed of weights, batches and the domains held out."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Label URLs: learn from all, then from those with a label; tested on registered domains that were kept out."""
    from nolabel.cli.catalogue import classifiers
    from nolabel.cli.output import answer
    from nolabel.cli.run import open_table, read_columns
    from nolabel.data.urls import require_urls
    from nolabel.training.estimator import write_text

    classes = classifiers(method)
    folder = out or Path("runs") / f"{Path(source.rstrip('/')).stem or 'data'}-labels"
    if (folder / "config.json").exists() or (folder / REPORT).exists():
        raise ValueError(f"{folder} holds a finished run: choose another folder or delete it")
    if not 0.0 < held_out < 1.0:
        raise ValueError(f"--held-out must be a share in (0, 1), got {held_out}")
    table = open_table(source, read_columns(column))
    if "url" not in table.column_names:
        there = ", ".join(table.column_names)
        raise ValueError(f"{source} has no column 'url' among {there}; name it with --column url=NAME")
    named = [row for row, url in enumerate(table["url"]) if url is not None and str(url).strip()]
    if named and len(named) < len(table):
        warnings.warn(f"{len(table) - len(named)} of {len(table)} rows have no URL and were left out", stacklevel=1)
        table = table.select(named)
    urls = require_urls(table["url"])
    if model is not None:
        given = [name for name, value in (("--run", run), ("--encoder", encoder), ("--epochs", epochs)) if value]
        if given:
            raise ValueError(
                f"{given[0]} is for learning, --model for labelling with what was learned: give one of them"
            )
        result = _labelled(model, classes, urls, {name: known(table, name, source) for name in label})
    else:
        tasks = {name: known(table, name, source) for name in label or ["label"]}
        learner = _encoder(classes[0], method, run, setting, encoder, epochs, seed)
        result = _learned(learner, classes, urls, tasks, held_out, freeze, label_epochs, seed)
    folder.mkdir(parents=True, exist_ok=True)
    picture = draw(folder / PICTURE, result.scores)
    write_predictions(folder / PREDICTIONS, urls, result)
    if model is None:
        result.classifier.save(folder)
    summary = _summary(folder, method, urls, result, picture)
    write_text(folder / REPORT, json.dumps(summary, indent=1) + "\n")
    answer(summary, as_json, *_tables(result.scores), lines=summary["next"])


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


def _encoder(
    cls: Any, method: str, run: Path | None, setting: list[str], encoder: str | None, epochs: int | None, seed: int
) -> Any:
    """The encoder of a run, or one that is still to be fitted."""
    from nolabel.cli.run import learner_of
    from nolabel.training import Training, load

    if run is None:
        return learner_of(method, setting, encoder, None, Training(epochs, random_state=seed))
    if setting or encoder or epochs:
        raise ValueError("--run brings an encoder that is learned: leave --set, --encoder and --epochs out")
    loaded = load(run)
    if not isinstance(loaded, cls):
        raise ValueError(f"--run: {run} holds a {type(loaded).__name__}; expected a run of --method {method}")
    return loaded


def _learned(
    learner: Any,
    classes: Sequence[Any],
    urls: list[str],
    tasks: dict[str, list[Any]],
    held_out: float,
    freeze: bool,
    epochs: int | None,
    seed: int,
) -> Result:
    """Learn from all URLs, then from the labelled ones outside of the domains held out; test on these."""
    import numpy as np

    from nolabel.data.urls import split_by_domain
    from nolabel.learn.url_labels import character_baseline, classes_of
    from nolabel.training import Training

    for name, values in tasks.items():
        classes_of([value for value in values if value is not None], name)
    flat = [
        (row, (name, value)) for name, values in tasks.items() for row, value in enumerate(values) if value is not None
    ]
    rows = np.array([row for row, _ in flat])
    learned, held = split_by_domain(
        [urls[row] for row in rows], held_out, [about for _, about in flat], random_state=seed
    )
    inside, test = frozenset(rows[learned].tolist()), frozenset(rows[held].tolist())
    learn = {name: [row for row in sorted(inside) if values[row] is not None] for name, values in tasks.items()}
    if not learner._learned():
        learner.fit(urls)
    _, single, several = classes
    made = (single if len(tasks) == 1 else several)(
        learner, freeze=freeze, training=Training(epochs, random_state=seed)
    )
    parts = {name: ([urls[row] for row in mine], [tasks[name][row] for row in mine]) for name, mine in learn.items()}
    classifier = made.fit(*parts[next(iter(tasks))]) if len(tasks) == 1 else made.fit(parts)
    told, scores = {}, {}
    for name, values in tasks.items():
        names, found = _probabilities(classifier, urls, name)
        told[name] = _task(values, names, found)
        rows = np.array([row for row in sorted(test) if values[row] is not None], np.int64)
        if not len(rows):
            raise ValueError(f"{name}: no labelled URL is on a domain held out; raise --held-out")
        truth = [values[row] for row in rows]
        baseline = character_baseline().fit(*parts[name]).predict_proba([urls[row] for row in rows])
        scores[name] = {
            type(classifier).__name__: scores_of(truth, names, found[rows]),
            "character n-grams": scores_of(truth, names, baseline),
        }
    return Result(classifier, told, test, scores)


def _labelled(model: Path, classes: Sequence[Any], urls: list[str], given: dict[str, list[Any]]) -> Result:
    """Label with a model from before; where there are labels, it is tested on them."""
    import numpy as np

    from nolabel.training import load

    classifier: Any = load(model)
    expected: Any = tuple(classes[1:])
    if not isinstance(classifier, expected):
        raise ValueError(f"--model: {model} holds a {type(classifier).__name__}; expected a run of `nolabel classify`")
    single = isinstance(classifier, classes[1])
    there = [*given] if single and given else ["label"] if single else list(classifier.class_names_)
    unknown = [name for name in given if name not in there[: 1 if single else None]]
    if unknown:
        raise ValueError(f"--label {unknown[0]}: {model} was learned for {', '.join(there)}")
    told, scores = {}, {}
    for name in there:
        values = given.get(name, [None] * len(urls))
        names, found = _probabilities(classifier, urls, name)
        told[name] = _task(values, names, found)
        rows = np.array([row for row, value in enumerate(values) if value is not None], np.int64)
        if len(rows):
            strange = sorted({str(values[row]) for row in rows if values[row] not in names})
            if strange:
                raise ValueError(f"--label {name}: {strange[0]!r} is none of the labels {', '.join(map(str, names))}")
            scores[name] = {type(classifier).__name__: scores_of([values[row] for row in rows], names, found[rows])}
    return Result(classifier, told, frozenset(), scores)


def _probabilities(classifier: Any, urls: list[str], name: str) -> tuple[list[Any], Any]:
    """The labels of a task, and the probability of each for all URLs."""
    task = name if name in classifier.class_names_ else next(iter(classifier.class_names_))
    return classifier.class_names_[task], classifier.probabilities(urls, task)


def _task(given: Sequence[Any], names: list[Any], probabilities: Any) -> Task:
    best = probabilities.argmax(axis=1)
    return Task(given, [names[i] for i in best], probabilities.max(axis=1).tolist())


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
        "urls": len(true),
        "accuracy": float(accuracy_score(true, told)),
        "macro F1": float(each[2][occurs].mean()),
        "AUC": float(roc_auc_score(true, probabilities[:, 1])) if len(names) == 2 and occurs.all() else None,
    }
    found["labels"] = [
        {"label": name, "precision": p, "recall": r, "F1": f, "urls": int(n)}
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
    partial = path.with_name(f".{path.stem}.partial.png")
    figure.savefig(partial, dpi=120)
    os.replace(partial, path)
    return str(path)


def write_predictions(path: Path, urls: Sequence[str], result: Result) -> None:
    """A row a URL: given and told label and its probability, by task, and whether its domain was held out."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            parts = [part for name in result.tasks for part in (name, f"{name} told", f"{name} probability")]
            writer.writerow(["row", "url", *parts, "held out"])
            for row, url in enumerate(urls):
                cells: list[Any] = []
                for task in result.tasks.values():
                    given = "" if task.given[row] is None else task.given[row]
                    cells += [given, task.told[row], f"{task.probability[row]:.4f}"]
                writer.writerow([row, url, *cells, "yes" if row in result.held else "no"])
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _summary(folder: Path, method: str, urls: list[str], result: Result, picture: str | None) -> dict[str, Any]:
    encoder = result.classifier.language_model
    return {
        "run": str(folder),
        "method": method,
        "urls": len(urls),
        "cut URLs of the encoder's fit": encoder.truncated_,
        "labelled": {name: sum(value is not None for value in task.given) for name, task in result.tasks.items()},
        "held out": len(result.held),
        "scores": result.scores,
        "predictions": str(folder / PREDICTIONS),
        "picture": picture,
        "next": [
            *([f"picture      {picture}"] if picture else []),
            *(["picture      left out: it needs matplotlib"] if result.scores and not picture else []),
            f"predictions  {folder / PREDICTIONS}",
            *([f"label        nolabel classify NEW.csv --model {folder}"] if result.held else []),
        ],
    }


def _tables(scores: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Of each task the scores beside the baseline's, and those of each label."""
    from nolabel.cli.output import grid

    found = []
    for name, tested in scores.items():
        keys = ["urls", "accuracy", "macro F1", "AUC"]
        rows = [[who, *(score[key] for key in keys)] for who, score in tested.items()]
        found.append(grid(f"{name}: tested on other domains" if len(tested) > 1 else name, ["", *keys], rows))
        each = ["label", "precision", "recall", "F1", "urls"]
        labels = next(iter(tested.values()))["labels"]
        found.append(grid(f"{name}: each label", each, [[one[key] for key in each] for one in labels]))
    return found
