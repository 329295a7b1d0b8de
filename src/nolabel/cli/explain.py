"""`nolabel explain`: what a trained network looks at in images, as recurring concepts."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import typer

PAGE, SUMMARY = "concepts.html", "summary.json"


def command(
    run: Path = typer.Argument(..., help="Run folder of `nolabel classify` or `nolabel learn` of images."),
    source: str = typer.Argument(..., help="Folder or file of images, a table, or the name of a known set."),
    class_: list[str] = typer.Option(
        [], "--class", "-c", help="Class to explain, may be repeated; by default those predicted most often."
    ),
    method: str = typer.Option("nmf", "--method", "-m", help="Dictionary: nmf, kmeans, pca, svd or sparse."),
    concepts: int = typer.Option(10, "--concepts", "-k", help="Concepts of a class."),
    layer: str | None = typer.Option(
        None, "--layer", help="Where the network is cut, such as stage3; its last map by default."
    ),
    importance: str = typer.Option(
        "gradient_input", help="How concepts are weighed: gradient_input, occlusion, sobol, ..."
    ),
    clusters: int | None = typer.Option(None, help="Strategies to look for; by default as many as there seem to be."),
    label: str | None = typer.Option(None, "--label", help="Column of true classes, for the reliability of concepts."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Folder to write; RUN-concepts by default."),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as image=photo."),
    seed: int = typer.Option(0, help="Seed of the dictionaries and of what is held out."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what a network looks at: the concepts of each class, how much they count, images decided by the same ones.

    Images are taken by what the network says they are. A run without classes is explained by clusters of its vectors.
    """
    from nolabel.cli import explained
    from nolabel.cli.claims import claim
    from nolabel.cli.output import answer, grid
    from nolabel.cli.run import open_table, read_columns
    from nolabel.explain.attribution import ATTRIBUTIONS
    from nolabel.explain.dictionaries import METHODS
    from nolabel.training.estimator import write_text

    for option, value, known in (("--method", method, METHODS), ("--importance", importance, tuple(ATTRIBUTIONS))):
        if value not in known:
            raise ValueError(f"{option} must be one of {', '.join(known)}, got {value!r}")
    folder = out or run.with_name(f"{run.resolve().name}-concepts")
    claim(folder)
    if (folder / PAGE).exists():
        raise ValueError(f"{folder} holds a finished explanation: choose another folder or delete it")
    wanted = explained.Wanted(class_, method, concepts, layer, importance, clusters, label, seed)
    learner = explained.learner_at(run)
    table = open_table(source, read_columns(column))
    if "image" not in table.column_names:
        there = ", ".join(table.column_names)
        raise ValueError(f"{source} has no column 'image' among {there}; name the images with --column image=NAME")
    found, about = explained.explain(learner, table, source, wanted)
    folder.mkdir(parents=True, exist_ok=True)
    explained.write_tables(folder, found, about)
    left_out = explained.write_pictures(folder, found)
    summary = summary_of(run, source, folder, learner, wanted, found, about)
    write_page(folder / PAGE, source, learner, wanted, found, about, summary)
    write_text(folder / SUMMARY, json.dumps(summary, indent=1) + "\n")
    kind = about.network.kind
    rows = [
        [one["name"], concept["concept"], concept["importance"], concept["prevalence"], concept["reliability"]]
        for one in summary["explained"]
        for concept in one["concepts"]
    ]
    shown = grid(None, [kind, "concept", "importance", "prevalence", "reliability"], rows)
    answer(summary, as_json, shown, lines=["", *summary["notes"], *left_out, *summary["next"]])


def summary_of(
    run: Path, source: str, folder: Path, learner: Any, wanted: Any, found: list[Any], about: Any
) -> dict[str, Any]:
    """What was found, in plain types."""
    from nolabel.cli.explained import IMAGES, IMPORTANCES, MEASURES, MOST

    split, kind = about.network.split, about.network.kind
    told = [
        {
            "name": one.name,
            "images": int(about.counts[number]),
            "strategies": len(one.graph.concepts),
            "concepts": [
                {
                    "concept": one.names[at],
                    "importance": float(one.importance[at]),
                    "prevalence": float(one.graph.prevalence[at]),
                    "reliability": _number(one.graph.reliability[at]),
                }
                for at in one.order.tolist()
            ],
            "dictionaries": {k: {m: _number(v) for m, v in row.items()} for k, row in one.dictionaries.items()},
            "importances": {k: {m: _number(v) for m, v in row.items()} for k, row in one.importances.items()},
        }
        for one, number in ((one, [str(name) for name in about.network.names].index(one.name)) for one in found)
    ]
    notes = []
    if kind == "cluster":
        notes.append(
            f"This {type(learner).__name__} has no classes: its vectors were put into {len(about.network.names)} clusters, and "
            "the output that is explained is how much nearer an image is to the centre of one than to the others"
        )
    elif about.label is None:
        notes.append("No column says what images really are, so the reliability of concepts is unknown: --label NAME")
    if len(split.layers[split.layer]) == 1:
        notes.append(f"At the layer {split.layer} places are averaged away: there are no heat maps")
    cut = [one["name"] for one, whole in zip(told, found) if one["images"] > len(whole.positions)]
    if cut:
        notes.append(f"Of {', '.join(cut)} only {MOST:,} images, drawn at random, were looked at")
    return {
        "folder": str(folder),
        "run": str(run),
        "method": wanted.method,
        "weighed by": wanted.importance,
        "layer": split.layer,
        "layers": {name: list(shape) for name, shape in split.layers.items()},
        "images": len(about.rows),
        "skipped": len(about.skipped),
        "predicted": {str(name): int(count) for name, count in zip(about.network.names, about.counts)},
        "label": about.label,
        "explained": told,
        "notes": notes,
        "page": str(folder / PAGE),
        "next": [
            f"open     {folder / PAGE}",
            f"tables   {folder / IMPORTANCES}, {MEASURES}, {IMAGES}",
            f"layers   {', '.join(split.layers)}; this is {split.layer}, --layer NAME takes another",
        ],
    }


def write_page(
    path: Path, source: str, learner: Any, wanted: Any, found: list[Any], about: Any, summary: dict[str, Any]
) -> None:
    """The page that shows all of it."""
    from nolabel.report.concepts import ConceptsContents, ShownClass, ShownConcept, write_concepts
    from nolabel.training.estimator import versions

    classes = []
    for one, told in zip(found, summary["explained"], strict=True):
        concepts = [
            ShownConcept(
                one.names[at],
                float(one.importance[at]),
                float(one.graph.prevalence[at]),
                float(one.graph.reliability[at]),
                one.pictures[at],
            )
            for at in one.order.tolist()
        ]
        classes.append(
            ShownClass(
                one.name, told["images"], concepts, one.graph, one.right, one.names, one.dictionaries, one.importances
            )
        )
    ran = {
        "network": f"{type(learner).__name__} of {summary['run']}",
        "data": f"{source}: {summary['images']:,} images",
        "layer": summary["layer"],
        "dictionary": f"{wanted.method}, {wanted.concepts} concepts a {about.network.kind}",
        "weighed by": wanted.importance.replace("_", " "),
        "true classes": about.label or "not known",
        "seed": str(wanted.seed),
        "command": " ".join(["nolabel", *sys.argv[1:]]),
        **{f"version of {name}": version for name, version in versions().items()},
    }
    plural = {"class": "classes", "cluster": "clusters"}[about.network.kind]
    known = f"{len(found)} of {len(about.network.names)} {plural}"
    write_concepts(
        path,
        ConceptsContents(
            title=path.parent.name,
            headline=f"What {type(learner).__name__} looks at in {known}",
            classes=classes,
            skipped=about.skipped,
            summary=ran,
            remarks=summary["notes"],
        ),
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
