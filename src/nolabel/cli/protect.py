"""`nolabel protect`: take data back out of a learned model."""

import sys
from pathlib import Path

import typer

#: Folder of the unfinished forgetting that this process works on, for the line that is printed after Ctrl-C.
last_run: Path | None = None

group = typer.Typer(
    help="Take data back out of a learned model.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@group.callback()
def verbs() -> None:
    """Take data back out of a learned model."""


@group.command()
def forget(
    run: Path = typer.Argument(..., help="Run folder of `nolabel learn` or `nolabel classify` of images."),
    ids: Path = typer.Option(
        ..., "--ids", help="File of what is to be forgotten: a path or a row number of the run a line."
    ),
    data: str | None = typer.Option(
        None,
        "--data",
        help="The images the run learned from, the forgotten ones among them; by default where they came from.",
    ),
    unseen: str | None = typer.Option(
        None,
        "--unseen",
        help="Images like these that the run never learned from, to attack it with. Default: those it held out.",
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Folder of the new run; RUN-forgotten by default."),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as image=photo."),
    epochs: int | None = typer.Option(None, help="Passes over the images to forget."),
    setting: list[str] = typer.Option([], "--set", help="A parameter of the method, such as latent_dim=16."),
    seed: int = typer.Option(0, help="Seed of batches, autoencoders and attacks."),
    resume: bool = typer.Option(False, help="Go on with the unfinished forgetting in the folder."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Make a new run without some images: a model that forgot them, an index that never held them, and a report of it.

    RUN stays as it is; delete it once you are content with the new one.
    """
    global last_run
    from nolabel.cli import forgotten
    from nolabel.cli.output import answer, pairs
    from nolabel.cli.run import read_columns
    from nolabel.cli.run_images import Wanted

    folder = out or run.with_name(f"{run.resolve().name}-forgotten")
    last_run = folder / forgotten.UNFINISHED
    wanted = Wanted(
        run, ids, data, unseen, folder, read_columns(column), epochs, setting, seed, resume,
        " ".join(["nolabel", *sys.argv[1:]]),
    )  # fmt: skip
    told = forgotten.forget(wanted)
    evidence = told["evidence"]
    shown = {
        "run": told["run"],
        "forgotten": told["forgotten"],
        "kept": told["kept"],
        "drift of the forgotten": evidence["forget"]["drift"],
        "drift of the kept": evidence["retain"]["drift"],
    }
    if "agreement" in evidence["retain"]:
        shown["kept, called as before"] = evidence["retain"]["agreement"]
    for when, attacks in evidence.get("membership", {}).items():
        if attacks["forgotten or unseen"] is not None:
            shown[f"attack {when}, 0.5 is chance"] = attacks["forgotten or unseen"]["accuracy"]
    lines = ["", *told["notes"], *(f"still there: {place}" for place in told["still there"]), *told["next"]]
    answer(told, as_json, pairs(None, shown), lines=lines)
