"""`nolabel clean`: wrong labels and strangers among labelled images, ranked, and a classifier learned in spite of them."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from nolabel.cli.corpora import ADDRESS, CORPUS, ENGINE, by_shards
from nolabel.data.replacing import replacing

SUSPECTS, TABLE, REPORT, PRETRAINED = "suspects.csv", "suspects.parquet", "report.json", "pretrained"
PICTURES = {"wrong label": "wrong_labels.png", "stranger": "strangers.png"}
FIELDS = ("given", "suggested", "kind", "loss", "loss_probability", "linear_probability", "confidence")
#: Least steps of the pre-training; fewer do not hold strangers apart.
STEPS, EPOCHS = 350, 20
#: Up to so many images a batch has 32 of them, for there to be enough steps; the rate goes with it.
FEW, BATCH = 4000, 32
TILE, SHOWN = 96, 40
#: Columns by which a file of labels names an image.
NAMES = ("path", "image", "name")

#: Folder of the stage that this process works on, for the line that is printed after Ctrl-C.
last_run: Path | None = None


def command(
    source: str = typer.Argument(
        ...,
        help=f"Folder of images, a sub-folder a class; a table with a column of labels; a known set; or {CORPUS}.",
    ),
    label: str | None = typer.Option(None, "--label", help="Column of labels. Default: label, or the sub-folder."),
    labels: Path | None = typer.Option(
        None, "--labels", help="Table of labels for a folder of images: a column path, and one of labels."
    ),
    run: Path | None = typer.Option(
        None, "--run", help="Run folder of `nolabel learn` on the images: begin with its encoder, without pre-training."
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Run folder; runs/NAME-clean by default."),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as image=photo."),
    encoder: str | None = typer.Option(None, help="resnet10-x0.5, resnet18, hf:NAME, ..."),
    image_size: int | None = typer.Option(None, "--size", help="Side of the images in pixels; chosen by the data."),
    epochs: int | None = typer.Option(None, help="Passes over the labelled images."),
    pretrain_epochs: int | None = typer.Option(
        None, help=f"Passes of SimCLR before; {EPOCHS}, and at least {STEPS} steps, by default."
    ),
    show: int | None = typer.Option(
        None, help=f"Most suspicious images of each kind in the pictures; {SHOWN} by default."
    ),
    setting: list[str] = typer.Option(
        [], "--set", help="A parameter of the classifier, such as co_training=True or detectors=('loss',)."
    ),
    seed: int = typer.Option(0, "--seed", help="Seed of weights, batches and views."),
    resume: bool = typer.Option(False, help="Go on with the unfinished run in the folder."),
    engine: str = ENGINE,
    address: str | None = ADDRESS,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Find images whose label is wrong or that belong to no class, the most suspicious first; the images stay as they are.

    Of a corpus of shards the vectors are taken, or made by --run, and two linear classifiers that learn from a sample judge
    all labels; no network is trained.
    """
    from nolabel.cli.claims import claim
    from nolabel.cli.output import answer, grid
    from nolabel.cli.run import complete, open_table, read_columns
    from nolabel.training.estimator import write_text

    folder = out or Path("runs") / f"{Path(source.rstrip('/')).stem or 'data'}-clean"
    claim(folder)
    if by_shards(source, engine, address):
        others = {
            "--labels": labels, "--encoder": encoder, "--size": image_size, "--epochs": epochs, "--show": show,
            "--pretrain-epochs": pretrain_epochs, "--set": setting or None, "--resume": resume or None,
        }  # fmt: skip
        _clean_corpus(source, label, run, folder, read_columns(column), seed, engine, address, others, as_json)
        return
    show = SHOWN if show is None else show
    begun = any((place / "config.json").exists() for place in (folder, folder / PRETRAINED))
    if (folder / REPORT).exists() or (begun and not resume):
        kind = "a finished" if (folder / "config.json").exists() else "an unfinished"
        raise ValueError(f"{folder} holds {kind} run: choose another folder, delete it, or go on with --resume")
    if show < 1:
        raise ValueError(f"--show must be at least 1, got {show}")
    table = open_table(source, read_columns(column))
    named, rows = labelled_images(table, label, labels, source)
    classifier = learned(named, folder, run, encoder, image_size, epochs, pretrain_epochs, setting, seed, resume)
    page = complete(classifier, named, folder, source, " ".join(["nolabel", *sys.argv[1:]]))
    suspects = classifier.suspects()
    paths = list(table["path"]) if "path" in table.column_names else None
    columns = columns_of(suspects, rows, paths)
    write_csv(folder / SUSPECTS, columns)
    write_parquet(folder / TABLE, columns)
    pictures = {kind: draw(folder / PICTURES[kind], kind, suspects, named, show) for kind in PICTURES}
    counts = Counter(suspect.kind for suspect in suspects)
    by_class = Counter(suspect.given for suspect in suspects)
    given = Counter(classifier.given_codes_.tolist())
    classes = [
        {"label": name, "images": given[code], "suspects": by_class[name]}
        for code, name in enumerate(classifier.class_names_)
    ]
    warn_of_classes(classes)
    summary = {
        "run": str(folder),
        "images": len(classifier.rows_),
        "without label": len(table) - len(named),
        "skipped": len(named) - len(classifier.rows_),
        "suspects": len(suspects),
        **{f"{kind}s": counts[kind] for kind in PICTURES},
        "classes": classes,
        "seconds": page["seconds"],
        "table": str(folder / SUSPECTS),
        "pictures": {kind: path for kind, path in pictures.items() if path},
        "report": page["report"],
        "detections": classifier.detections_,
        "next": [
            f"suspects  {folder / SUSPECTS}",
            *(f"pictures  {path}" for path in pictures.values() if path),
            f"open      {page['report']}",
            f"search    nolabel search {folder} IMAGE",
        ],
    }
    write_text(folder / REPORT, json.dumps(summary, indent=1) + "\n")
    cells = [
        [rows[s.row] if paths is None else paths[rows[s.row]], s.given, s.suggested, s.kind, s.loss, s.confidence]
        for s in suspects[:10]
    ]
    head = ["row" if paths is None else "path", "given", "suggested", "kind", "loss", "confidence"]
    answer(
        summary,
        as_json,
        grid(
            f"{len(suspects):,} of {len(classifier.rows_):,} images are suspicious",
            ["label", "images", "suspects"],
            [[one["label"], one["images"], one["suspects"]] for one in classes],
        ),
        *([grid("The most suspicious", head, cells)] if cells else []),
        lines=summary["next"],
    )


def _clean_corpus(
    source: str,
    label: str | None,
    run: Path | None,
    folder: Path,
    columns: dict[str, str] | None,
    seed: int,
    engine: str,
    address: str | None,
    others: dict[str, Any],
    as_json: bool,
) -> None:
    from nolabel.cli.clean_corpus import cleaned
    from nolabel.cli.output import answer, grid, pairs

    if stray := [option for option, value in others.items() if value is not None]:
        raise ValueError(
            f"{stray[0]} is of a network that learns from images; a corpus is judged by vectors: leave it out"
        )
    if (folder / REPORT).exists():
        raise ValueError(f"{folder} holds a finished run: choose another folder or delete it")
    summary, suspects = cleaned(source, label or "label", run, folder, columns, seed, engine, address)
    rows = [list(row.values()) for row in suspects.slice(0, 10).to_pylist()]
    tables = [grid("The most suspicious", suspects.column_names, rows)] if rows else []
    answer(summary, as_json, pairs(None, summary), *tables)


def warn_of_classes(classes: Sequence[dict[str, Any]]) -> None:
    """Warn of classes of which most is suspicious: what is rare is learned late, and then has high losses as wrong labels do."""
    import warnings

    for each in classes:
        if 2 * each["suspects"] > each["images"]:
            warnings.warn(
                f"{each['suspects']} of {each['images']} images of {each['label']!r} are suspicious: the class may be too small "
                "to have been learned, rather than wrong; train longer (--epochs) before you believe it",
                stacklevel=2,
            )


def labelled_images(table: Any, label: str | None, labels: Path | None, source: str) -> tuple[Any, list[int]]:
    """The images that have a label, with the column `label`, and their rows in `table`."""
    import datasets

    from nolabel.assess.inputs import as_labels
    from nolabel.cli.classified import known
    from nolabel.cli.classify_images import label_column

    if "image" not in table.column_names:
        there = ", ".join(table.column_names)
        raise ValueError(f"{source} has no column 'image' among {there}; name it with --column image=NAME")
    if labels is None:
        name = label_column(table, [label] if label else [], source)
        given = known(table, name, source)
    else:
        name = label or "label"
        given = labels_of(labels, name, table, source)
    rows = [row for row, value in enumerate(given) if value is not None]
    checked = as_labels([given[row] for row in rows], len(rows), name)
    named = table if len(rows) == len(table) else table.select(rows)
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        if "label" in named.column_names:
            named = named.remove_columns(["label"])
        return named.add_column("label", checked.tolist()), rows
    finally:
        if shown:
            datasets.enable_progress_bars()


def labels_of(file: Path, name: str, table: Any, source: str) -> list[Any]:
    """The label of each image of a folder by a table that names images by their path; None where it has none."""
    import warnings

    from nolabel.cli.classified import known
    from nolabel.data import read

    if "path" not in table.column_names:
        raise ValueError(f"--labels is for a folder of images; {source} is a table: name its column with --label")
    given = read(file)
    key = next((key for key in NAMES if key in given.column_names), None)
    if key is None:
        raise ValueError(
            f"--labels: {file} needs a column {', '.join(NAMES[:-1])} or {NAMES[-1]} that names the images"
        )
    values = dict(zip(map(str, given[key]), known(given, name, str(file)), strict=True))
    paths = [str(path) for path in table["path"]]
    there = set(paths) & set(values)
    if not there:
        raise ValueError(
            f"--labels: none of the {len(values)} images of {file} is in {source}; first {next(iter(values))!r}, expected "
            f"such as {paths[0]!r}"
        )
    if lost := len(values) - len(there):
        warnings.warn(f"{lost} of {len(values)} labels of {file} are of images that are not there", stacklevel=2)
    return [values.get(path) for path in paths]


def learned(
    table: Any,
    folder: Path,
    run: Path | None,
    encoder: str | None,
    image_size: int | None,
    epochs: int | None,
    pretrain_epochs: int | None,
    setting: list[str],
    seed: int,
    resume: bool,
) -> Any:
    """The classifier in `folder`: made here, gone on with, or finished before."""
    global last_run
    from nolabel.clean import LSAClassifier
    from nolabel.cli.run import settings_of
    from nolabel.training import Training, load
    from nolabel.training.checkpoint import CHECKPOINT

    params = settings_of(LSAClassifier, "clean", setting)
    if (folder / "config.json").exists():
        return load(folder)
    require_two(table)
    if run is not None:
        stray = {"--encoder": encoder, "--size": image_size, "--pretrain-epochs": pretrain_epochs}
        if given := [option for option, value in stray.items() if value is not None]:
            raise ValueError(f"--run brings an encoder that is learned: leave {given[0]} out")
        representation = representation_at(run)
    else:
        last_run = folder / PRETRAINED
        representation = pretrained(table, last_run, encoder, image_size, pretrain_epochs, seed, resume)
    last_run = folder
    training = Training(epochs, random_state=seed)
    if len(table) <= FEW:
        share = BATCH / int(LSAClassifier.recipe["batch_size"])
        training.set_params(batch_size=min(BATCH, len(table)), lr=share * LSAClassifier.recipe["lr"])
    classifier = LSAClassifier(**{"representation": representation, "training": training} | params)
    return classifier.fit(table, run=folder, resume=resume and (folder / CHECKPOINT).exists())


def require_two(table: Any) -> None:
    """Refuse labels that cannot be judged before anything is learned."""
    from nolabel.data.labels import class_names

    counts = Counter(table["label"])
    class_names(list(counts))
    if alone := [str(name) for name, count in counts.items() if count < 2]:
        raise ValueError(
            f"each label needs at least 2 images to be judged by; there is one of {', '.join(sorted(alone)[:5])}"
        )


def representation_at(run: Path) -> Any:
    """What a run folder has learned from images."""
    from nolabel.training import ImageLearner, load

    found = load(run)
    if not isinstance(found, ImageLearner):
        raise ValueError(f"--run: {run} holds a {type(found).__name__}; expected a run that learned from images")
    return found


def pretrained(
    table: Any, folder: Path, encoder: str | None, image_size: int | None, epochs: int | None, seed: int, resume: bool
) -> Any:
    """SimCLR on the images without their labels."""
    from nolabel.learn import SimCLR
    from nolabel.training import Training, load
    from nolabel.training.checkpoint import CHECKPOINT

    if (folder / "config.json").exists():
        return load(folder)
    batch = int(SimCLR.recipe["batch_size"])
    long = EPOCHS * (len(table) // batch) >= STEPS
    budget = {"epochs": epochs or EPOCHS} if epochs or long else {"steps": STEPS}
    learner = SimCLR(encoder or "resnet10-x0.5", image_size=image_size, training=Training(**budget, random_state=seed))
    return learner.fit(table, run=folder, resume=resume and (folder / CHECKPOINT).exists())


def columns_of(suspects: Sequence[Any], rows: Sequence[int], paths: Sequence[Any] | None) -> dict[str, list[Any]]:
    """The suspects as columns; rows are those of the table that was given."""
    columns: dict[str, list[Any]] = {"row": [rows[suspect.row] for suspect in suspects]}
    if paths is not None:
        columns["path"] = [str(paths[row]) for row in columns["row"]]
    return columns | {name: [getattr(suspect, name) for suspect in suspects] for name in FIELDS}


def write_csv(path: Path, columns: dict[str, list[Any]]) -> None:
    """For a spreadsheet, the most suspicious first."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([f"{value:.4f}" if isinstance(value, float) else value for value in row])


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with replacing(path) as partial:
        parquet.write_table(pa.table(columns), partial)


def draw(path: Path, kind: str, suspects: Sequence[Any], table: Any, show: int) -> str | None:
    """The most suspicious images of a kind; None if there are none."""
    from nolabel.data import open_images
    from nolabel.report.sheets import contact_sheet

    chosen = [suspect for suspect in suspects if suspect.kind == kind]
    if not chosen:
        return None
    shown = chosen[:show]
    opened = open_images(table.select([suspect.row for suspect in shown]), size=TILE)
    pixels = opened.images(range(len(shown)))
    captions = [shortened(f"{s.given} > {s.suggested}" if kind == "wrong label" else f"{s.given}?", 15) for s in shown]
    what = "given > suggested" if kind == "wrong label" else "given"
    sheet = contact_sheet(f"{kind}s: {len(shown)} of {len(chosen):,}, {what}", pixels, captions)
    with replacing(path) as partial:
        sheet.save(partial)
    return str(path)


def shortened(text: str, most: int) -> str:
    """Cut to `most` characters.

    >>> shortened("a very long word", 8)
    'a very ~'
    """
    return text if len(text) <= most else f"{text[: most - 1]}~"
