"""`nolabel demo`: the whole path on data that is always there, handwritten digits or the docstrings of Python itself."""

from pathlib import Path
from typing import Any

import typer

EPOCHS, TEXT_EPOCHS = 12, 8
QUESTION = "sort a list without changing it"


def command(
    what: str = typer.Argument(
        "digits", help="digits (scikit-learn's), or docs (the docstrings of the standard library)."
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Run folder; runs/digits or runs/docs by default."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Learn digits or docstrings without labels, judge and search them, and leave a report to look at: about a minute."""
    from nolabel.cli.claims import claim

    if what not in ("digits", "docs"):
        raise ValueError(f"expected digits or docs, got {what!r}")
    folder = out or _free(Path("runs") / what)
    claim(folder)
    (_digits if what == "digits" else _docs)(folder, as_json)


def _docs(folder: Path, as_json: bool) -> None:
    """Learn to search what Python says of itself, and ask it something."""
    from nolabel.cli.output import answer
    from nolabel.cli.run import complete
    from nolabel.cli.search import found_lines
    from nolabel.data import load
    from nolabel.learn import Contriever
    from nolabel.search import Index
    from nolabel.search.queries import asked_by
    from nolabel.training import Training, identity

    table = load("docstrings")
    learner = Contriever(training=Training(TEXT_EPOCHS)).fit(table, run=folder)
    summary = complete(learner, table, folder, "docstrings", "nolabel demo docs")
    index = Index.open(folder, encoder=identity(folder))
    found = {m: index.search(asked_by(learner, QUESTION, m), 3, mode=m) for m in ("dense", "bm25", "hybrid")}
    summary |= {"question": QUESTION, "answers": {m: [hit["name"] for hit in hits] for m, hits in found.items()}}
    lines = [
        "",
        f"{summary['texts']:,} docstrings, no query to learn from, {summary['seconds']:.0f} s of training: "
        f"{summary['verdict']}, RankMe {summary['RankMe']:.0f} of {summary['width']}.",
        "",
        f"Asked: {QUESTION}",
    ]
    for name, hits in found.items():
        lines += [f"  {name}", *(f"  {line}" for line in found_lines(hits))]
    lines += ["", "Look at it:", *summary["next"][:1], f"search  nolabel search {folder} 'read a file line by line'"]
    answer(summary, as_json, lines=lines)


def _digits(folder: Path, as_json: bool) -> None:
    from nolabel.cli.output import answer, grid
    from nolabel.cli.run import complete
    from nolabel.data import load
    from nolabel.learn import RawPixels, SimCLR, Untrained
    from nolabel.search import Index
    from nolabel.training import Training, identity

    table = load("digits")
    images, labels = table.select_columns(["image"]), table["label"]
    learner = SimCLR(temperature=0.5, training=Training(EPOCHS, batch_size=128)).fit(images, run=folder)
    summary = complete(learner, images, folder, "digits", "nolabel demo")
    index = Index.open(folder, encoder=identity(folder))
    contenders = {
        "raw pixels": RawPixels().fit(images),
        "untrained encoder": Untrained().fit(images),
        "learned": learner,
    }
    rows = {name: _audit(model.transform(images), labels) for name, model in contenders.items()}
    hits = index.search(learner.transform(images.select([0]))[0], 6)
    summary |= {"audit": rows, "neighbours of image 0": hits.ids.tolist()}
    measures = list(next(iter(rows.values())))
    audit = [[name, *(f"{100 * row[m]:.1f}" for m in measures)] for name, row in rows.items()]
    answer(
        summary,
        as_json,
        grid("Hidden labels, used for this table alone (per cent)", ["", *measures], audit),
        lines=[
            "",
            f"{summary['images']} digits, no labels, {summary['seconds']:.0f} s of training: {summary['verdict']}, "
            f"RankMe {summary['RankMe']:.0f} of {summary['width']}.",
            f"Nearest to image 0, a {labels[0]}: images {', '.join(map(str, hits.ids[1:]))}, "
            f"showing {', '.join(str(labels[int(i)]) for i in hits.ids[1:])}.",
            "",
            "Look at it:",
            *summary["next"][:1],
            f"search  nolabel search {folder} id:7 --picture found.png",
            "yours   nolabel learn PHOTOS/",
        ],
    )


def _audit(z: Any, labels: Any) -> dict[str, float]:
    """What few labels can do with the vectors, and whether plain k-means finds the digits."""
    import numpy as np
    from sklearn.cluster import KMeans

    from nolabel.assess import clustering_accuracy, linear_probe

    y = np.asarray(labels)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    clusters = KMeans(10, n_init=3, random_state=0).fit_predict(unit)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:900], order[900:]
    few = [linear_probe(z[train], y[train], z[test], y[test], per_class=1, random_state=s) for s in range(5)]
    return {"1 label a digit": float(np.mean(few)), "k-means finds": clustering_accuracy(y, clusters)}


def _free(folder: Path) -> Path:
    """The folder, or the first of NAME-2, NAME-3, ... that does not exist."""
    number, wanted = 2, folder
    while wanted.exists():
        wanted, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return wanted
