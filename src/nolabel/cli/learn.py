"""`nolabel learn`: from raw data to a run folder."""

import json
import sys
from pathlib import Path
from typing import Any

import typer

#: Folder of the run that this process works on, for the line that is printed after Ctrl-C.
last_run: Path | None = None


def command(
    source: str = typer.Argument(
        ..., help="Folder, file (parquet, csv, npy, ...) or name of a known set such as digits."
    ),
    method: str | None = typer.Option(
        None, "--method", "-m", help="A system of `nolabel methods`, or auto; by default what suits the data."
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Run folder; runs/NAME by default."),
    encoder: str | None = typer.Option(None, help="resnet18, vit-tiny, bert-mini, hf:NAME, ..."),
    epochs: int | None = typer.Option(None, help="Passes over the data."),
    minutes: float | None = typer.Option(None, help="Wall time to train, instead of epochs."),
    batch_size: int | None = typer.Option(None, help="Rows a step."),
    lr: float | None = typer.Option(None, help="Peak learning rate."),
    image_size: int | None = typer.Option(None, "--size", help="Side of the images in pixels; chosen by the data."),
    views: str | None = typer.Option(
        None, help="Recipe of the views: standard, simclr, swav, centred, bss or fourier."
    ),
    nested: str | None = typer.Option(None, help="Matryoshka sizes of the embedding, such as 8,16,32,64,128."),
    setting: list[str] = typer.Option([], "--set", help="A parameter of the method, such as temperature=0.1."),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as image=photo."),
    seed: int = typer.Option(0, help="Seed of weights, batches and views."),
    precision: str = typer.Option("auto", help="auto, 32-true, bf16-mixed or 16-mixed."),
    devices: int = typer.Option(1, help="Devices of each machine to train on, a process each."),
    nodes: int = typer.Option(1, help="Machines to train on."),
    strategy: str = typer.Option("auto", help="fsdp: each process holds a part of the weights, not all of them."),
    logger: str | None = typer.Option(None, help="tensorboard, mlflow or wandb, beside metrics.jsonl."),
    resume: bool = typer.Option(False, help="Go on with the unfinished run in the folder."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Learn a representation of unlabelled data and leave a run folder: encoder, scores, searchable index, report."""
    global last_run
    from nolabel.cli.claims import claim
    from nolabel.cli.output import answer, pairs
    from nolabel.cli.run import (
        REPORT,
        candidates,
        complete,
        cut_off,
        in_parts,
        learner_of,
        open_table,
        read_columns,
        require_columns,
        usual_method,
    )
    from nolabel.training import Training, first_rank

    last_run = folder = out or Path("runs") / (Path(source.rstrip("/")).stem or "data")
    columns = read_columns(column)
    training = Training(
        epochs, batch_size=batch_size, lr=lr, minutes=minutes, random_state=seed, precision=precision, devices=devices,
        nodes=nodes, strategy=strategy, logger=logger,
    )  # fmt: skip
    table = open_table(source, columns)
    method = method or usual_method(table)
    if method == "auto" and (views is not None or nested is not None):
        raise ValueError("--views and --nested belong to one method: leave them out with --method auto")
    settings = [*setting, *_shorthands(method, setting, views, nested)] if method != "auto" else []
    learner = learner_of("simclr" if method == "auto" else method, settings, encoder, image_size, training)
    require_columns(type(learner), method, table, source)
    claim(folder)
    trained, finished = ((folder / name).exists() for name in ("config.json", REPORT))
    if finished or (trained and not resume):
        rest = (
            "choose another folder or delete it"
            if finished
            else "go on with --resume, choose another folder or delete it"
        )
        raise ValueError(
            f"{folder} holds {'a finished run' if finished else 'a run without its index and report'}: {rest}"
        )
    if trained:
        learner = cut_off(learner if method != "auto" else None, table, folder)
    elif method == "auto":
        learner = _chosen(candidates(encoder, image_size, training), table, folder)
    else:
        learner.fit(in_parts(learner, table), run=folder, resume=resume)
    if not first_rank():
        return  # what follows is for one process
    collapsed = learner.health_["verdict"] == "collapsed"
    summary = complete(learner, table, folder, source, " ".join(["nolabel", *map(_quoted, sys.argv[1:])]))
    if not collapsed:
        answer(
            summary,
            as_json,
            pairs(None, {k: v for k, v in summary.items() if k != "next"}),
            lines=["", *summary["next"]],
        )
        return
    reasons = "; ".join(learner.health_["reasons"])
    raise ValueError(f"the representation collapsed ({reasons}); the last healthy weights and a report are in {folder}")


def _shorthands(method: str, setting: list[str], views: str | None, nested: str | None) -> list[str]:
    """``--views`` and ``--nested`` as words of ``--set``; views of one style each bring the negatives that go with them."""
    from nolabel.cli.catalogue import arguments_of
    from nolabel.cli.catalogue import method as class_of

    if nested is not None and not all(size.strip().isdigit() for size in nested.split(",")):
        raise ValueError(f"--nested: expected sizes such as 8,16,32,64,128, got {nested!r}")
    words = ([f"augment={views}"] if views else []) + ([f"nested=({nested},)"] if nested else [])
    chosen = any(word.partition("=")[0] == "negatives" for word in setting)
    if views == "bss" and not chosen and "negatives" in arguments_of(class_of(method)):
        words.append("negatives=same_view")
    return words


def _chosen(options: dict[str, Any], table: Any, folder: Path) -> Any:
    """The winner of a selection without labels, saved in the run folder with what was tried."""
    from nolabel.assess import select
    from nolabel.training import first_rank
    from nolabel.training.estimator import write_text
    from nolabel.training.journal import METRICS

    writes = first_rank()
    found = select(options, table, progress=lambda line: print(line, file=sys.stderr, flush=True) if writes else None)
    if not writes:
        return found.best
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "selection.json", json.dumps(found.to_dict(), indent=1) + "\n")
    write_text(folder / METRICS, "".join(json.dumps(row) + "\n" for row in found.best.history_))
    found.best.save(folder)
    return found.best


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)
