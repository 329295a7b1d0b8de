"""What `nolabel explain` finds out of each class, and the files it leaves."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.data.replacing import replacing

IMPORTANCES, MEASURES, IMAGES, BARS = "importance.csv", "measures.csv", "images.csv", "importance.png"
#: Classes that are explained where none is named; images of a class that are looked at; those shown of a concept.
CLASSES, MOST, SHOWN = 4, 2000, 8
#: Images of a class below which nothing is learned from them; images that importances are tested on.
FEWEST, TESTED = 16, 100
#: Places of maps that the dictionaries are compared on.
COMPARED = 10_000


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    classes: list[str]
    method: str
    concepts: int
    layer: str | None
    importance: str
    clusters: int | None
    label: str | None
    seed: int


@dataclass(frozen=True)
class Network:
    """A network cut in two, the names of its outputs, and what these are: classes or clusters."""

    split: Any
    names: list[Any]
    kind: str


@dataclass(frozen=True)
class About:
    """What all classes share: the network, the images that could be read, how many are of each class.

    Attributes
    ----------
    rows, items : rows of the table, and what they are called
    counts : (classes,) images that the network takes for each
    skipped : what could not be read, and why
    label : column of the true classes, if there is one
    """

    network: Network
    rows: np.ndarray
    items: list[str]
    counts: np.ndarray
    skipped: list[tuple[str, str]]
    label: str | None


@dataclass(frozen=True)
class Explained:
    """What is known of one class.

    Attributes
    ----------
    positions : (n,) its images among those that can be read
    importance : (k,) mean over images, and `local` (n, k) of each
    order : (k,) numbers of the concepts, most important first
    names : (k,) what concepts are called, by number
    pictures : by number; None where no image has any of a concept
    graph : the strategic cluster graph; `right` (n,) says 1, 0 or NaN of each image
    dictionaries, importances : method to measure to value
    """

    name: str
    positions: np.ndarray
    local: np.ndarray
    importance: np.ndarray
    order: np.ndarray
    names: list[str]
    pictures: list[np.ndarray | None]
    graph: Any
    right: np.ndarray
    dictionaries: dict[str, dict[str, float]]
    importances: dict[str, dict[str, float]]


@contextmanager
def _bar() -> Iterator[Callable[[str, float], None]]:
    """A progress bar on standard error, as a function of what is being done and the share of it that is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("looking at images", total=1.0)
        yield lambda words, share: bar.update(task, description=words, completed=share)


def learner_at(run: Path) -> Any:
    """The learner of images in a run folder."""
    from nolabel.training import ImageLearner, load

    learner = load(run)
    if not isinstance(learner, ImageLearner):
        raise ValueError(f"{run} holds a {type(learner).__name__}; expected a run that learned from images")
    if not any(True for _ in learner.net_.parameters()):
        raise ValueError(f"{run} holds a {type(learner).__name__}, which has no network to explain")
    return learner


def network_of(learner: Any, opened: Any, layer: str | None, seed: int) -> Network:
    """The network of a learner; one without a classifier gets the clusters of its vectors as outputs."""
    from nolabel.explain.splitting import split_model

    if getattr(learner, "class_names_", None) and hasattr(learner.net_, "classifier"):
        return Network(split_model(learner, layer), list(learner.class_names_), "class")
    head = cluster_head(learner.transform_source(opened), seed)
    names = [f"cluster {number}" for number in range(1, head.out_features + 1)]
    return Network(split_model(learner, layer, head=head), names, "cluster")


def cluster_head(vectors: np.ndarray, seed: int) -> Any:
    """A linear layer whose largest output is the nearest of some centroids: z . (c - m) - ||c||^2 / 2, largest cluster first.

    The mean m of the centroids changes no largest output: without it outputs rest on what tells clusters apart.
    """
    import torch
    from sklearn.cluster import KMeans

    from nolabel.explain.strategies import by_size
    from nolabel.report.groups import cluster_count

    count = cluster_count(len(vectors))
    if count < 2:
        raise ValueError(f"a run without classes is explained by clusters, for which {len(vectors)} images are too few")
    model = KMeans(count, n_init=4, random_state=seed).fit(vectors)
    labels = by_size(model.labels_)
    centres = torch.from_numpy(np.stack([vectors[labels == label].mean(axis=0) for label in range(labels.max() + 1)]))
    head = torch.nn.Linear(vectors.shape[1], len(centres))
    with torch.no_grad():
        head.weight.copy_(centres - centres.mean(dim=0))
        head.bias.copy_(-centres.square().sum(dim=1) / 2)
    return head


def outputs_of(network: Network, opened: Any, progress: Callable[[int, int], None]) -> np.ndarray:
    """All outputs (n, classes) for all images."""
    import torch

    found, batch = [], 256
    with torch.no_grad():
        for start in range(0, len(opened), batch):
            images = opened.batch(np.arange(start, min(start + batch, len(opened))))["image"]
            found.append(network.split.encode.model(images).float().cpu().numpy())
            progress(min(start + batch, len(opened)), len(opened))
    return np.concatenate(found)


def chosen(network: Network, told: np.ndarray, given: Sequence[str]) -> list[int]:
    """The numbers of the classes to explain, each with enough images."""
    counts = np.bincount(told, minlength=len(network.names))
    known = {str(name): number for number, name in enumerate(network.names)}
    strange = [name for name in given if name not in known]
    if strange:
        raise ValueError(f"--class: {strange[0]!r} is none of {', '.join(known)}")
    if given:
        few = [name for name in given if counts[known[name]] < FEWEST]
        if few:
            raise ValueError(
                f"--class {few[0]}: {counts[known[few[0]]]} images are predicted as it, at least {FEWEST} were expected"
            )
        return list(dict.fromkeys(known[name] for name in given))
    found = [int(number) for number in np.argsort(-counts, kind="stable") if counts[number] >= FEWEST][:CLASSES]
    if not found:
        raise ValueError(f"no {network.kind} has {FEWEST} images or more among the {len(told)} there are")
    return found


def label_column(table: Any, name: str | None, network: Network) -> str | None:
    """The column of true classes: the one named, or ``label`` or ``folder`` if classes of the network are in it."""
    if name is not None or network.kind != "class":
        return name
    there = [column for column in ("label", "folder") if column in table.column_names]
    return next((column for column in there if set(table[column]) & set(network.names)), None)


def true_names(table: Any, rows: np.ndarray, name: str | None, network: Network, source: str) -> list[Any] | None:
    """The true class of each image, None where it has none; None altogether where no column says so."""
    from nolabel.cli.classified import known

    if name is None:
        return None
    values = known(table, name, source)
    if not set(values) & set(network.names):
        raise ValueError(f"--label {name}: none of its values is one of {', '.join(map(str, network.names))}")
    return [values[row] for row in rows]


def explain(learner: Any, table: Any, source: str, wanted: Wanted) -> tuple[list[Explained], About]:
    """Explain the classes that were asked for, each from the images that the network takes for it."""
    opened = learner.open_one(table, None)
    pixels = opened.sources[0] if hasattr(opened, "sources") else opened
    network = network_of(learner, opened, wanted.layer, wanted.seed)
    if wanted.label is not None and network.kind != "class":
        raise ValueError("--label: a run without classes has none that could be true")
    label = label_column(table, wanted.label, network)
    truth = true_names(table, pixels.rows, label, network, source)
    with _bar() as progress:
        told = outputs_of(network, opened, lambda done, of: progress("looking at images", done / of)).argmax(axis=1)
        numbers = chosen(network, told, wanted.classes)
        found = [
            explain_class(network, opened, np.flatnonzero(told == number), truth, number, wanted, progress)
            for number in numbers
        ]
    skipped = [(skip.path or f"row {skip.row}", skip.reason) for skip in pixels.skipped]
    paths = table["path"] if "path" in table.column_names else None
    items = [f"row {row}" if paths is None else str(paths[row]) for row in pixels.rows.tolist()]
    counts = np.bincount(told, minlength=len(network.names))
    return found, About(network, pixels.rows, items, counts, skipped, label)


def explain_class(
    network: Network,
    opened: Any,
    positions: np.ndarray,
    truth: list[Any] | None,
    number: int,
    wanted: Wanted,
    progress: Callable[[str, float], None],
) -> Explained:
    """Learn the concepts of a class from three quarters of its images, weigh them on all, judge them on the rest."""
    from nolabel.explain import ConceptExplainer
    from nolabel.explain.concepts import best_places
    from nolabel.explain.pictures import concept_picture
    from nolabel.explain.strategies import strategy_graph

    name, rng = str(network.names[number]), np.random.default_rng(wanted.seed)
    if len(positions) > MOST:
        positions = np.sort(rng.permutation(positions)[:MOST])
    images = opened.batch(positions)["image"]
    progress(f"{name}: learning concepts", 0.0)
    order = rng.permutation(len(positions))
    held, train = np.sort(order[: len(order) // 4]), np.sort(order[len(order) // 4 :])
    explainer = ConceptExplainer(
        *network.split, n_concepts=wanted.concepts, method=wanted.method, random_state=wanted.seed
    ).fit(images[train])
    progress(f"{name}: weighing concepts", 0.2)
    u = explainer.transform(images)
    local = explainer.importance(images, number, wanted.importance, None)
    progress(f"{name}: finding strategies", 0.4)
    right = np.full(len(positions), np.nan)
    if truth is not None:
        known = [truth[at] for at in positions]
        right = np.array([math.nan if one is None else float(one == network.names[number]) for one in known])
    graph = strategy_graph(local, right, clusters=wanted.clusters, random_state=wanted.seed)
    importance = local.mean(axis=0)
    ranked = np.argsort(-importance, kind="stable")
    names = [f"concept {rank}" for rank in (np.argsort(ranked) + 1).tolist()]
    pictures: list[np.ndarray | None] = []
    for concept, places in enumerate(best_places(u, SHOWN)):
        rows = [row for row, *_ in places]
        shown = images[rows].permute(0, 2, 3, 1).numpy()
        heat = u[rows][..., concept].clip(min=0) if u.ndim == 4 else None
        at = [None if y is None or x is None else (y, x) for _, y, x, _ in places]
        pictures.append(concept_picture(shown, at, heat) if rows else None)
    progress(f"{name}: comparing dictionaries", 0.5)
    dictionaries = compared(explainer, images[train], images[held], wanted)
    progress(f"{name}: testing importances", 0.8)
    orders = dict.fromkeys([wanted.importance, "gradient_input", "occlusion", "saliency", "random"])
    importances = explainer.importance_metrics(images[held[:TESTED]], number, list(orders))
    return Explained(
        name, positions, local, importance, ranked, names, pictures, graph, right, dictionaries, importances
    )


def compared(explainer: Any, train: Any, held: Any, wanted: Wanted) -> dict[str, dict[str, float]]:
    """Every dictionary learned from the same activations, measured on the same held-out ones; nmf if none is negative."""
    from nolabel.explain.concept_metrics import extraction_metrics
    from nolabel.explain.dictionaries import METHODS, learn_dictionary

    rng = np.random.default_rng(wanted.seed)
    fitted, others = (
        rows[np.sort(rng.permutation(len(rows))[:COMPARED])] for rows in map(explainer.rows, (train, held))
    )
    found = {}
    for method in METHODS:
        if method == "nmf" and min(fitted.min(), others.min()) < 0:
            continue
        learned = learn_dictionary(fitted, wanted.concepts, method, random_state=wanted.seed)
        found[method] = extraction_metrics(learned, others, fitted, random_state=wanted.seed)
    return found


def slug(number: int, name: str) -> str:
    """A folder's name for a class.

    >>> slug(3, "../Ice cream")
    '3-ice-cream'
    """
    word = re.sub(r"[^\w]+", "-", name.lower()).strip("-_")[:40]
    return f"{number}-{word}" if word else str(number)


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    """A writer of CSV whose file is there whole or not at all."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        yield csv.writer(file)


def write_tables(folder: Path, found: Sequence[Explained], about: About) -> None:
    """Importances by concept, measures by method, and what each image rests on."""
    kind = about.network.kind
    with _table(folder / IMPORTANCES) as table:
        table.writerow([kind, "concept", "importance", "prevalence", "reliability"])
        for one in found:
            for at in one.order.tolist():
                values = (one.importance[at], one.graph.prevalence[at], one.graph.reliability[at])
                table.writerow([one.name, one.names[at], *("" if math.isnan(v) else f"{v:.6g}" for v in values)])
    with _table(folder / MEASURES) as table:
        table.writerow([kind, "of", "method", "measure", "value"])
        for one in found:
            for of, methods in (("dictionary", one.dictionaries), ("importance", one.importances)):
                for method, measures in methods.items():
                    table.writerows([one.name, of, method, measure, f"{v:.6g}"] for measure, v in measures.items())
    with _table(folder / IMAGES) as table:
        table.writerow([kind, "row", "image", "cluster", "largest concept", "right"])
        for one in found:
            for at, position in enumerate(one.positions.tolist()):
                right = {1.0: "yes", 0.0: "no"}.get(float(one.right[at]), "")
                largest = one.names[one.graph.dominant[at]]
                table.writerow(
                    [
                        one.name,
                        int(about.rows[position]),
                        about.items[position],
                        int(one.graph.labels[at]) + 1,
                        largest,
                        right,
                    ]
                )


def write_pictures(folder: Path, found: Sequence[Explained]) -> list[str]:
    """The pictures of concepts and, with matplotlib, bars and graphs; what was left out and why."""
    from nolabel.explain.pictures import draw_importances, draw_strategies, write_png

    for number, one in enumerate(found, start=1):
        place = folder / slug(number, one.name)
        place.mkdir(parents=True, exist_ok=True)
        for rank, at in enumerate(one.order.tolist(), start=1):
            picture = one.pictures[at]
            if picture is not None:
                write_png(place / f"concept-{rank:02}.png", picture)
    try:
        bars = [(one.name, [one.names[at] for at in one.order], one.importance[one.order].tolist()) for one in found]
        draw_importances(folder / BARS, bars)
        for number, one in enumerate(found, start=1):
            title = f"{one.name}: {len(one.positions):,} images by the concepts that decide them"
            draw_strategies(folder / slug(number, one.name) / "strategies.png", one.graph, one.names, title, one.right)
    except ImportError as error:
        return [f"{BARS} and strategies.png are left out: {error}"]
    return []
