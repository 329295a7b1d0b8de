"""`nolabel adapt`: a learned model made to fit images of another site, which nobody labelled."""

import csv
import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from nolabel.cli.classified import PREDICTIONS
from nolabel.data.replacing import replacing

CANDIDATES, PICTURE, REPORT, RUNS = "candidates.csv", "candidates.png", "report.json", "candidates"
METHODS = ("coral", "mmd", "dann", "entropy")
TRADE_OFFS = (0.1, 1.0, 10.0)
AS_IT_IS = "as it is"
TITLE = "Each candidate at its best; no label of the site was used: score = clusters + information - bias"

#: Folder of the run that this process works on, for the line that is printed after Ctrl-C.
last_run: Path | None = None


def command(
    run: Path = typer.Argument(..., help="Run folder of an image classifier or of a segmenter."),
    site: str = typer.Argument(..., help="Images of the new site, without labels: folder, table or known set."),
    source: str | None = typer.Option(
        None,
        "--source",
        help="Labelled images like those the model learned from; without them its statistics are adapted.",
    ),
    method: list[str] = typer.Option([], "--method", "-m", help="Of coral, mmd, dann, entropy; all by default."),
    trade_off: list[float] = typer.Option([], "--trade-off", help="Weights to try; 0.1, 1 and 10 by default."),
    source_label: str | None = typer.Option(
        None, "--source-label", help="Column of labels of the source; by default label, or the sub-folder."
    ),
    label: str | None = typer.Option(
        None,
        "--label",
        help="Column of labels of the new site, if there are any: told at the end, never looked at before.",
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Run folder; runs/NAME-adapted by default."),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as image=photo."),
    epochs: int | None = typer.Option(None, help="Passes over the longer of the two data sets; 8 by default."),
    last: int = typer.Option(5, help="So many last epochs are candidates."),
    window: int = typer.Option(1, help="Epochs over which a score is averaged before it is compared."),
    batch_size: int | None = typer.Option(None, help="Images of each domain a step."),
    lr: float | None = typer.Option(None, help="Peak learning rate."),
    held_out: float = typer.Option(0.1, help="Share of the source kept out, for the accuracy there."),
    seed: int = typer.Option(0, "--seed", help="Seed of what is held out, of batches and scores."),
    resume: bool = typer.Option(False, help="Go on with the unfinished run in the folder."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Adapt a model to images of another site, several ways, and keep the one that a label-free score prefers."""
    global last_run
    from nolabel.cli.claims import claim
    from nolabel.cli.run import open_table, read_columns
    from nolabel.learn import ImageClassifier
    from nolabel.training import load

    last_run = folder = out or Path("runs") / f"{Path(site.rstrip('/')).stem or 'data'}-adapted"
    claim(folder)
    if (folder / REPORT).exists():
        raise ValueError(f"{folder} holds a finished run: choose another folder or delete it")
    methods, trade_offs = _asked(method, trade_off)
    model = load(run)
    columns = read_columns(column)
    table = open_table(site, columns)
    if "image" not in table.column_names:
        raise ValueError(
            f"{site} has no column 'image' among {', '.join(table.column_names)}; name it with --column image=NAME"
        )
    if source is None:
        if method or trade_off or source_label:
            raise ValueError(
                "--method, --trade-off and --source-label are for adaptation with --source: it is not given"
            )
        from nolabel.cli.adapt_segmenter import adapt_segmenter

        about = {"run": run, "site": site, "label": label}
        adapt_segmenter(
            model, table, folder, **about, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, as_json=as_json
        )
        return
    if not isinstance(model, ImageClassifier):
        raise ValueError(
            f"{run} holds a {type(model).__name__}; with --source an image classifier is adapted, as `nolabel classify` "
            "learns them; for a segmenter leave --source out"
        )
    from nolabel.adapt.choosing import choose

    if not resume and (folder / RUNS).exists():
        raise ValueError(f"{folder} holds an unfinished run: go on with --resume, choose another folder or delete it")
    given = _truth(table, label, site, model)
    learned, held = _source(open_table(source, columns), source_label, source, model, held_out, seed)
    epochs = 8 if epochs is None else epochs
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "random_state": seed}
    candidates = _candidates(model, methods, trade_offs, settings)

    def told(name: str) -> None:
        global last_run
        last_run = folder / RUNS / name
        print(f"{list(candidates).index(name) + 1} of {len(candidates)}: {name}", file=sys.stderr, flush=True)

    found = choose(
        candidates, learned, table, validation=held, epochs=min(last, epochs), window=window, random_state=seed,
        folder=folder / RUNS, resume=resume, progress=told,
    )  # fmt: skip
    last_run = folder
    _finish(
        found, model, table, given, label or "label", folder, {"run": str(run), "site": site, "source": source}, as_json
    )


def _asked(method: Sequence[str], trade_off: Sequence[float]) -> tuple[list[str], list[float]]:
    strange = [name for name in method if name not in METHODS]
    if strange:
        raise ValueError(f"--method must be one of {', '.join(METHODS)}, got {strange[0]!r}")
    if any(not 0 < value < float("inf") for value in trade_off):
        raise ValueError(f"--trade-off must be above 0, got {', '.join(f'{value:g}' for value in trade_off)}")
    return list(dict.fromkeys(method or METHODS)), list(dict.fromkeys(trade_off or TRADE_OFFS))


def _candidates(
    model: Any, methods: Sequence[str], trade_offs: Sequence[float], settings: dict[str, Any]
) -> dict[str, Any]:
    """The model as it is, and adapters that start from it, by name."""
    from nolabel.adapt import CORAL, DANN, MMD, EntropyMinimisation
    from nolabel.training import Training

    classes = {"coral": CORAL, "mmd": MMD, "dann": DANN, "entropy": EntropyMinimisation}
    made = {AS_IT_IS: model}
    for name in methods:
        for value in trade_offs:
            made[f"{name} {value:g}"] = classes[name](model=model, trade_off=value, training=Training(**settings))
    return made


def _classes(values: Sequence[Any], names: Sequence[Any], where: str) -> list[Any]:
    """Labels as the model's classes, whether a table holds them as numbers or as text; None where there is none."""
    known = {str(name): name for name in names}
    strange = sorted({str(value) for value in values if value is not None} - set(known))
    if strange:
        raise ValueError(f"{where}: {strange[0]!r} is none of the model's classes {', '.join(known)}")
    return [None if value is None else known[str(value)] for value in values]


def _truth(table: Any, label: str | None, site: str, model: Any) -> list[Any]:
    from nolabel.cli.classified import known

    if label is None:
        return [None] * len(table)
    return _classes(known(table, label, site), model.class_names_, f"--label {label}")


def _source(table: Any, label: str | None, source: str, model: Any, held_out: float, seed: int) -> tuple[Any, Any]:
    """The labelled images of the source to learn from, and those kept out of it."""
    import numpy as np

    from nolabel.cli.classified import known
    from nolabel.cli.classify_images import label_column, split

    if not 0.0 < held_out < 1.0:
        raise ValueError(f"--held-out must be a share in (0, 1), got {held_out}")
    if "image" not in table.column_names:
        raise ValueError(
            f"{source} has no column 'image' among {', '.join(table.column_names)}; name it with --column image=NAME"
        )
    name = label_column(table, [label] if label else [], source)
    values = _classes(known(table, name, source), model.class_names_, f"--source {source}, column {name}")
    rows = np.array([row for row, value in enumerate(values) if value is not None])
    labels = np.array([values[row] for row in rows])
    missing = [str(one) for one in model.class_names_ if one not in set(labels.tolist())]
    if missing:
        raise ValueError(f"--source {source}: there is no image of {missing[0]!r}, which the model knows")
    named = (table.remove_columns("label") if "label" in table.column_names else table).add_column("label", values)
    train, held = split(labels, held_out, seed)
    return named.select(rows[train]), named.select(rows[held])


def _finish(
    found: Any, model: Any, table: Any, given: list[Any], name: str, folder: Path, about: dict[str, str], as_json: bool
) -> None:
    """Write what was found, and tell it."""
    from nolabel.cli.classified import Done, write_predictions
    from nolabel.cli.classify_images import labelled
    from nolabel.cli.output import answer, grid
    from nolabel.cli.run import complete
    from nolabel.training.estimator import write_text

    result, rows = labelled(table, name, given, found.best, None)
    accuracy = {}
    if result.scores:
        before = labelled(table, name, given, model, None)[0].scores[name]
        accuracy = {AS_IT_IS: _accuracy(before), "chosen": _accuracy(result.scores[name])}
    folder.mkdir(parents=True, exist_ok=True)
    best = found.best.save(folder)
    complete(found.best, table, best, about["site"], " ".join(["nolabel", *sys.argv[1:]]))
    paths = table["path"] if "path" in table.column_names else None
    items = [f"row {row}" if paths is None else str(paths[row]) for row in rows]
    write_predictions(folder / PREDICTIONS, Done(result, "image" if paths is None else "path", rows, items, {}))
    ranking = [_row(one, found) for one in found.ranking]
    write_candidates(folder / CANDIDATES, ranking)
    picture = draw(folder / PICTURE, ranking)
    kept = f"{found.name}, epoch {found.epoch}" if found.epoch is not None else f"the model {AS_IT_IS}"
    lines = [
        f"kept         {kept}",
        *(f"accuracy     {value:.4f} {who} (from --label, not used to choose)" for who, value in accuracy.items()),
        f"candidates   {folder / CANDIDATES}",
        f"picture      {picture or 'left out: it needs matplotlib'}",
        f"predictions  {folder / PREDICTIONS}",
        f"label        nolabel classify NEW --model {folder}",
    ]
    summary = {
        **about, "out": str(folder), "images": len(rows), "skipped": len(table) - len(rows),
        "chosen": {"candidate": found.name, "epoch": found.epoch, "transfer_score": ranking[0]["transfer_score"]},
        "accuracy": accuracy or None, "candidates": ranking, "picture": picture,
        "predictions": str(folder / PREDICTIONS), "next": lines,
    }  # fmt: skip
    write_text(folder / REPORT, json.dumps(summary, indent=1) + "\n")
    shutil.rmtree(folder / RUNS, ignore_errors=True)  # of all candidates; the one that was kept is in the folder itself
    answer(summary, as_json, grid(TITLE, *_table(ranking)), lines=lines)


def _row(one: Any, found: Any) -> dict[str, Any]:
    """A checkpoint as plain values, None where it has no score, and whether it was kept."""
    values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in one.to_dict().items()}
    return values | {"chosen": (one.name, one.epoch) == (found.name, found.epoch)}


def _accuracy(scores: Any) -> float:
    value: float = next(iter(scores.values()))["accuracy"]
    return value


def _table(ranking: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Each candidate after its best epoch, best first, the kept one marked."""
    shown = {
        "transfer_score": "score",
        "hopkins": "clusters",
        "mutual_information": "information",
        "uniformity": "bias",
    }
    shown["source_accuracy"] = "on source"
    best: dict[str, dict[str, Any]] = {}
    for row in ranking:
        best.setdefault(row["candidate"], row)
    rows = [
        ["kept" if row["chosen"] else "", row["candidate"], "–" if row["epoch"] is None else str(row["epoch"])]
        + [row[key] for key in shown]
        for row in best.values()
    ]
    return ["", "candidate", "epoch", *shown.values()], rows


def write_candidates(path: Path, ranking: Sequence[dict[str, Any]]) -> None:
    """A line a candidate and epoch, best first; empty cells where there is no score."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(ranking[0])
        for row in ranking:
            writer.writerow([_cell(value) for value in row.values()])


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6f}"
    return "" if value is None else value


def draw(path: Path, ranking: Sequence[dict[str, Any]]) -> str | None:
    """Score over epochs, a colour a method and a dash a trade-off, the kept one marked; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(7.2, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    names = sorted({row["candidate"] for row in ranking if row["epoch"] is not None}, key=_by_method)
    kinds = list(dict.fromkeys(name.split()[0] for name in names))
    for name in names:
        rows = sorted((row for row in ranking if row["candidate"] == name), key=lambda row: row["epoch"])
        weights = [other for other in names if other.split()[0] == name.split()[0]]
        axes.plot(
            [row["epoch"] for row in rows],
            [float("nan") if row["transfer_score"] is None else row["transfer_score"] for row in rows],
            color=f"C{kinds.index(name.split()[0])}",
            linestyle=(":", "--", "-")[weights.index(name) % 3],
            marker="o",
            markersize=3,
            label=name,
        )
    for row in ranking:
        if row["epoch"] is None and row["transfer_score"] is not None:
            axes.axhline(row["transfer_score"], color="0.4", linewidth=1, label=f"the model {row['candidate']}")
        if row["chosen"] and row["epoch"] is not None:
            axes.plot(row["epoch"], row["transfer_score"], "*", color="black", markersize=12, label="kept", zorder=3)
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="epoch", ylabel="Transfer Score, without labels")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    with replacing(path) as partial:
        figure.savefig(partial)
    return str(path)


def _by_method(name: str) -> tuple[int, float]:
    kind, value = name.split()
    return METHODS.index(kind), float(value)
