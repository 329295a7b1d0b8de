"""`nolabel cluster`: documents sorted into topics that keywords describe; any data from several domains into its classes."""

from collections.abc import Sequence
from pathlib import Path

import typer

#: Options of one of the two uses alone, by the names of their parameters.
OF_TOPICS = ("keywords", "vector_size", "min_count", "sample", "min_docs", "threshold")
OF_DOMAINS = ("classes", "run", "setting", "label", "resume")
#: Of these and both, the ones that say how to learn.
OF_LEARNING = ("classes", "run", "setting", "encoder", "epochs", "resume")

#: Folder of the network that this process trains, for the line that is printed after Ctrl-C.
last_run: Path | None = None


def command(
    context: typer.Context,
    source: str = typer.Argument(
        ...,
        help="Folder or file of texts or pages, a table, or the name of a known set; with --domains also of images.",
    ),
    keywords: Path | None = typer.Option(
        None, "--keywords", "-k", help="Topics in a .yaml or .json file: label: [word, word, ...]."
    ),
    model: Path | None = typer.Option(
        None,
        "--model",
        help="Run folder of an earlier `nolabel cluster`: sort new documents by its topics, or new rows.",
    ),
    domains: str | None = typer.Option(
        None,
        "--domains",
        help="Column of where a row comes from, such as folder: cluster by classes whose share differs between these.",
    ),
    classes: int | None = typer.Option(None, "--classes", help="With --domains: how many classes there are."),
    run: Path | None = typer.Option(
        None, "--run", help="With --domains: run folder of `nolabel learn`, whose vectors tell the domains."
    ),
    setting: list[str] = typer.Option(
        [], "--set", help="With --domains: a parameter of LatentLabelShift, such as solver=nmf or n_cells=60."
    ),
    label: str | None = typer.Option(
        None, "--label", help="With --domains: column of true classes, told at the end, never looked at before."
    ),
    out: Path | None = typer.Option(
        None, "--out", "-o", help="Run folder; runs/NAME-topics or runs/NAME-clusters by default."
    ),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as text=body."),
    encoder: str | None = typer.Option(
        None,
        "--encoder",
        help="Sentence encoder such as st:all-MiniLM-L6-v2, instead of vectors learned from the documents; with --domains "
        "the network for images, such as conv4 or resnet18.",
    ),
    epochs: int = typer.Option(15, help="Passes over the data."),
    vector_size: int = typer.Option(100, help="Width of the vectors."),
    min_count: int = typer.Option(3, help="How often a word has to occur."),
    sample: float = typer.Option(1e-4, help="Frequency from which words are left out at random; 0 for few documents."),
    min_docs: int = typer.Option(50, help="Fewest documents that make a topic's vector."),
    threshold: float | None = typer.Option(None, help="Least similarity; a document below it gets no topic."),
    top: int = typer.Option(20, help="Best documents of a topic, or images of a cluster, to show."),
    seed: int = typer.Option(0, help="Seed of what is drawn at random."),
    resume: bool = typer.Option(False, help="With --domains: go on with the unfinished run in the folder."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Sort documents into topics that keywords describe, or (--domains) rows of several sources into classes; no labels.

    Leaves a table, the best documents or images, pages or pictures, the model.
    """
    global last_run
    from nolabel.cli import cluster_domains, cluster_topics
    from nolabel.cli.claims import claim
    from nolabel.cli.clustered import Wanted
    from nolabel.cli.run import read_columns

    if top < 1:
        raise ValueError(f"--top must be at least 1, got {top}")
    name, columns = Path(source.rstrip("/")).stem or "data", read_columns(column)
    if domains is not None or (model is not None and keywords is None and cluster_domains.made(model)):
        _refuse(context, OF_TOPICS, "for topics of keywords, not for --domains")
        if model is not None:
            _refuse(context, OF_LEARNING, "not for --model, which has learned")
        folder = out or Path("runs") / f"{name}-clusters"
        claim(folder)
        last_run = folder / cluster_domains.TELLING
        wanted = Wanted(
            source, folder, domains, classes, model, run, columns, encoder, epochs, setting, label, top, seed, resume
        )
        cluster_domains.clustered(wanted, as_json)
        return
    _refuse(context, OF_DOMAINS, "for --domains COLUMN, which is not given")
    folder = out or Path("runs") / f"{name}-topics"
    claim(folder)
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} holds a finished run: choose another folder or delete it")
    settings = {"epochs": epochs, "vector_size": vector_size, "min_count": min_count, "sample": sample}
    learner = cluster_topics.learner_of(keywords, model, encoder, min_docs, settings | {"random_state": seed})
    cluster_topics.clustered(source, columns, learner, folder, threshold, top, as_json)


def _refuse(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Refuse options that were given and have no meaning here."""
    called = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP"):
            raise ValueError(f"{called[name]} is {why}")
