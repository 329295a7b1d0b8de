"""`nolabel classify`: labels of images or URLs, learned from those that have one; or of images, told by names alone."""

import json
from pathlib import Path

import typer

from nolabel.cli.classified import PICTURE, PREDICTIONS, REPORT, Wanted, draw, tables, write_predictions

#: Folder of the run that this process works on, for the line that is printed after Ctrl-C.
last_run: Path | None = None


def command(
    source: str = typer.Argument(
        ..., help="Folder of images, a sub-folder a class; a table with a column of URLs or images; a known set."
    ),
    method: str | None = typer.Option(
        None, "--method", "-m", help="What to learn with: image or urlbert; by default what suits the data."
    ),
    label: list[str] = typer.Option(
        [],
        "--label",
        help="Column of labels, empty where none is known; of URLs several for several tasks. Default: label, or the sub-folder.",
    ),
    names: str | None = typer.Option(
        None,
        "--names",
        help="Label images by names alone, 'cat,dog,red car' or a file of one a line, with a --run that learned from texts too.",
    ),
    template: list[str] = typer.Option(
        [], "--template", help="With --names: a text for each name, such as 'a picture of {}'; several are averaged."
    ),
    run: Path | None = typer.Option(None, "--run", help="Run folder of `nolabel learn`: begin with its encoder."),
    model: Path | None = typer.Option(None, "--model", help="Run folder of an earlier `nolabel classify`: only label."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Run folder; runs/NAME-labels by default."),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as url=link."),
    encoder: str | None = typer.Option(None, help="resnet18, bert-3x128, hf:NAME, ..."),
    epochs: int | None = typer.Option(None, help="Passes over the images, or over all URLs without labels."),
    label_epochs: int | None = typer.Option(None, help="Passes over the labelled URLs."),
    held_out: float = typer.Option(
        0.2, help="Share of the labelled rows to test on; of URLs whole registered domains."
    ),
    freeze: bool = typer.Option(False, help="Do not let the labels change the encoder."),
    setting: list[str] = typer.Option([], "--set", help="A parameter of the method, such as max_length=48."),
    seed: int = typer.Option(0, "--seed", help="Seed of weights, batches and the rows held out."),
    resume: bool = typer.Option(False, help="Go on with the unfinished run of images in the folder."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Learn labels from rows that have one, test on some that were kept out, and label every row; or label by --names."""
    global last_run
    if names is not None or template:
        from nolabel.cli import zero_shot
        from nolabel.cli.run import read_columns

        zero_shot.refuse(
            names,
            {"--method": method, "--model": model, "--encoder": encoder, "--epochs": epochs, "--set": setting,
             "--label-epochs": label_epochs, "--freeze": freeze, "--resume": resume, "--held-out": held_out != 0.2,
             "--seed": seed},
        )  # fmt: skip
        zero_shot.classify(source, run, names or "", template, label, out, read_columns(column), as_json)
        return
    from nolabel.cli import classify_images, classify_urls
    from nolabel.cli.claims import claim
    from nolabel.cli.output import answer
    from nolabel.cli.run import open_table, read_columns
    from nolabel.training.estimator import write_text

    last_run = folder = out or Path("runs") / f"{Path(source.rstrip('/')).stem or 'data'}-labels"
    claim(folder)
    if (folder / REPORT).exists() or ((folder / "config.json").exists() and not resume):
        raise ValueError(f"{folder} holds a finished run: choose another folder or delete it")
    if not 0.0 < held_out < 1.0:
        raise ValueError(f"--held-out must be a share in (0, 1), got {held_out}")
    if method not in (None, "image", "urlbert"):
        raise ValueError(f"--method must be image or urlbert, got {method!r}")
    learning = [
        name
        for name, value in (("--run", run), ("--encoder", encoder), ("--epochs", epochs), ("--set", setting))
        if value
    ]
    if model is not None and learning:
        raise ValueError(
            f"{learning[0]} is for learning, --model for labelling with what was learned: give one of them"
        )
    table = open_table(source, read_columns(column))
    pictures = method == "image" or (
        method is None and "image" in table.column_names and "url" not in table.column_names
    )
    wanted = Wanted(
        source, label, run, model, folder, encoder, epochs, label_epochs, held_out, freeze, setting, seed, resume
    )
    classify = classify_images.classify if pictures else classify_urls.classify
    done = classify(table, wanted)
    picture = draw(folder / PICTURE, done.result.scores)
    write_predictions(folder / PREDICTIONS, done)
    summary = {
        "run": str(folder),
        "method": "image" if pictures else "urlbert",
        **done.counts,
        "labelled": {name: sum(value is not None for value in task.given) for name, task in done.result.tasks.items()},
        "held out": len(done.result.held),
        "scores": done.result.scores,
        "predictions": str(folder / PREDICTIONS),
        "picture": picture,
        "next": [
            *([f"picture      {picture}"] if picture else []),
            *(["picture      left out: it needs matplotlib"] if done.result.scores and not picture else []),
            f"predictions  {folder / PREDICTIONS}",
            *([f"open         {done.report}"] if done.report else []),
            *([f"label        nolabel classify NEW --model {folder}"] if model is None else []),
        ],
    }
    write_text(folder / REPORT, json.dumps(summary, indent=1) + "\n")
    answer(summary, as_json, *tables(done.result.scores), lines=summary["next"])
