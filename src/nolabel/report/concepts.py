"""The page of an explanation: the concepts of each class, who is decided by which, and how far all this can be trusted."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from nolabel.data.replacing import replacing
from nolabel.explain.pictures import COLOURS, strongest
from nolabel.explain.strategies import StrategyGraph, describe_clusters
from nolabel.report import page
from nolabel.report.scores import MINUS, figure

WIDTH, HEIGHT, MARGIN = 760, 480, 16

#: Measures of dictionaries: key, name, what is good.
EXTRACTION = (
    ("relative error", "Relative error", "lower: what the concepts leave out of the activations"),
    ("zeros", "Zeros", "higher: few concepts describe a place"),
    ("instability", "Instability", "lower: half of the images gives the same concepts"),
    ("instability, centred", "Instability, centred", "the same with the mean taken off the concepts"),
    ("distribution gap", "Distribution gap", "lower: Fréchet distance of reconstructed to real activations"),
    ("out of distribution", "Out of distribution", "lower: reconstructed activations lie among real ones"),
)
#: Measures of importances.
FAITHFULNESS = (
    ("deletion", "Deletion", "lower: the output falls fast without the concepts that count most"),
    ("insertion", "Insertion", "higher: it rises fast with them"),
    ("deletion of probability", "Deletion, probability", "lower"),
    ("insertion of probability", "Insertion, probability", "higher"),
    ("fidelity", "Fidelity", "near 1: sums of importances say what the output loses"),
)


@dataclass(frozen=True)
class ShownConcept:
    """One concept: `picture` is uint8 (h, w, 3); NaN where nothing is known of its reliability."""

    name: str
    importance: float
    prevalence: float
    reliability: float
    picture: np.ndarray | None


@dataclass(frozen=True)
class ShownClass:
    """What is known of one class.

    Attributes
    ----------
    name : of the class
    images : how many are predicted as the class
    concepts : most important first
    graph, right : the strategic cluster graph; of each of its images 1 if it is what the network says, 0 if not, NaN if unknown
    names : of the concepts as the graph numbers them
    extraction : dictionary to measure to value, on held-out images
    faithfulness : way of attribution to measure to value, on held-out images
    """

    name: str
    images: int
    concepts: Sequence[ShownConcept]
    graph: StrategyGraph
    right: np.ndarray
    names: Sequence[str]
    extraction: Mapping[str, Mapping[str, float]]
    faithfulness: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ConceptsContents:
    """Everything that the page shows."""

    title: str
    headline: str
    classes: Sequence[ShownClass]
    skipped: Sequence[tuple[str, str]] = ()
    summary: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()


def picture_body(pixels: np.ndarray, text: str) -> str:
    """An image element that carries its pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=82)
    data = base64.b64encode(buffer.getvalue()).decode()
    high, wide = pixels.shape[:2]
    return f'<img src="data:image/webp;base64,{data}" width="{wide}" height="{high}" alt="{escape(text)}">'


def number(value: float) -> str:
    """A measure as it stands in a table.

    >>> number(0.51234), number(float("nan")), number(-0.5)
    ('0.512', '–', '−0.500')
    """
    if math.isnan(value):
        return "–"
    return (f"{value:.3f}" if abs(value) < 100 else figure(value)).replace("-", MINUS)


def concept_body(concept: ShownConcept, most: float) -> str:
    """The card of a concept: how much the class rests on it, how often it decides, its best images."""
    share = 100 * abs(concept.importance) / (most or 1.0)
    kind = "" if concept.importance >= 0 else ' class="against"'
    facts = [f"largest importance in {page.percent(concept.prevalence, 1)} of the images"]
    if not math.isnan(concept.reliability):
        facts.append(f"{page.percent(concept.reliability, 1)} of these are right")
    name = escape(concept.name)
    picture = (
        '<p class="words">No image has any of it.</p>'
        if concept.picture is None
        else picture_body(concept.picture, f"Images with most of {concept.name}")
    )
    return (
        f'<article class="cluster concept"><header><h3>{name}</h3><p>{" · ".join(facts)}</p></header>'
        f'<div class="weight"><i{kind} style="width:{share:.1f}%"></i><output>{number(concept.importance)}</output></div>'
        f"{picture}</article>"
    )


def graph_body(shown: ShownClass) -> str:
    """The strategic cluster graph as a drawing, and what its colours mean."""
    graph, right = shown.graph, shown.right
    low, high = graph.positions.min(axis=0), graph.positions.max(axis=0)
    span = np.where(high - low > 0, high - low, 1.0)
    inside = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    at = MARGIN + (graph.positions - low) / span * inside
    lines = "".join(f"M{a[0]:.0f} {a[1]:.0f}L{b[0]:.0f} {b[1]:.0f}" for a, b in at[strongest(graph)])
    radius = float(np.clip(70 / len(at) ** 0.5, 2.5, 6))
    points = []
    for i, (x, y) in enumerate(at):
        shade = COLOURS[graph.labels[i] % len(COLOURS)]
        fill = "var(--card)" if right[i] == 0 else shade
        points.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}" stroke="{shade}"/>')
    items = []
    for cluster, said in enumerate(describe_clusters(graph, shown.names, right)):
        shade = COLOURS[cluster % len(COLOURS)]
        items.append(f'<li><i class="dot" style="--c:{shade}"></i>{escape(said)}</li>')
    return (
        f'<svg class="graph" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Images joined to those decided by the same '
        f'concepts"><path d="{lines}"/>{"".join(points)}</svg><ul class="legend">{"".join(items)}</ul>'
    )


def measures_body(rows: Mapping[str, Mapping[str, float]], measures: Sequence[tuple[str, str, str]]) -> str:
    """A table of measures, a row a method."""
    there = [measure for measure in measures if any(measure[0] in row for row in rows.values())]
    head = "".join(f"<th>{escape(name)}<small>{escape(good)}</small></th>" for _, name, good in there)
    body = "".join(
        f'<tr><th scope="row">{escape(method.replace("_", " "))}</th>'
        + "".join(f"<td>{number(row.get(key, math.nan))}</td>" for key, *_ in there)
        + "</tr>"
        for method, row in rows.items()
    )
    head = f"<thead><tr><th></th>{head}</tr></thead>"
    return f'<div class="scroll"><table class="measures">{head}<tbody>{body}</tbody></table></div>'


def class_body(shown: ShownClass) -> str:
    """All that is known of a class."""
    most = max((abs(concept.importance) for concept in shown.concepts), default=1.0)
    parts = [f'<div class="clusters">{"".join(concept_body(concept, most) for concept in shown.concepts)}</div>']
    hollow = "" if np.isnan(shown.right).all() else " Hollow points are images that the network gets wrong."
    parts.append(
        "<h3>Strategies</h3><p class='lead'>A point is an image, joined to those whose output rests on the same concepts."
        f"{hollow} Colours are clusters.</p>{graph_body(shown)}"
    )
    if shown.extraction:
        parts.append(
            "<h3>Dictionaries</h3><p class='lead'>How well each kind of concepts describes held-out images. None wins on all."
            f"</p>{measures_body(shown.extraction, EXTRACTION)}"
        )
    if shown.faithfulness:
        parts.append(
            "<h3>Importances</h3><p class='lead'>What becomes of the class's output while concepts are hidden or added in the "
            f"order of their importances.</p>{measures_body(shown.faithfulness, FAITHFULNESS)}"
        )
    return "".join(parts)


def render(contents: ConceptsContents) -> str:
    """The page as HTML."""
    parts = []
    for position, shown in enumerate(contents.classes):
        lead = (
            f"{shown.images:,} images. The bar says what the output owes to a concept, in the mean over images; red ones speak "
            "against the class."
        )
        name = page.shortened(shown.name, 60)
        identifier = f"class-{position}"
        parts.append((identifier, name, page.section(identifier, name, lead, class_body(shown))))
    if contents.skipped:
        body = page.skipped_body(contents.skipped)
        parts.append(("skipped", "Skipped", page.section("skipped", "Skipped images", "", body)))
    body = page.facts_body(contents.summary)
    parts.append(("run", "Run", page.section("run", "What was run", "", body)))
    tiles = [page.tile(page.shortened(one.name, 40), f"{one.images:,}", "images") for one in contents.classes]
    folder = resources.files("nolabel.report")
    template = Template(folder.joinpath("topics.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(page.shortened(contents.title)),
        headline=escape(contents.headline),
        remarks=page.list_of(contents.remarks),
        tiles="".join(tiles),
        links="".join(f'<a href="#{identifier}">{escape(word)}</a>' for identifier, word, _ in parts),
        sections="\n".join(html for *_, html in parts),
        style=folder.joinpath("report.css").read_text(encoding="utf-8") + STYLE,
    )


STYLE = """
.concept img { display: block; width: 100%; height: auto; margin-top: 10px; border-radius: 4px; }
.weight { display: grid; grid-template-columns: minmax(0, 1fr) max-content; gap: 10px; align-items: center; font-size: 14px; }
.weight i { display: block; height: 12px; min-width: 2px; border-radius: 3px; background: var(--accent); }
.weight i.against { background: var(--bad); } .weight output { font-variant-numeric: tabular-nums; font-weight: 600; }
.graph { display: block; width: 100%; max-width: 900px; height: auto; }
.graph { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.graph path { fill: none; stroke: var(--soft); stroke-width: .5; opacity: .3; } .graph circle { stroke-width: 1.2; }
.measures th small { display: block; font-size: 12px; line-height: 1.35; } .measures td { font-variant-numeric: tabular-nums; }
"""


def write_concepts(path: str | os.PathLike[str], contents: ConceptsContents) -> Path:
    """Write `contents` as one HTML file that opens anywhere and loads nothing; replaces a file only once it is complete."""
    path = Path(path)
    with replacing(path) as partial:
        partial.write_text(render(contents), encoding="utf-8")
    return path
