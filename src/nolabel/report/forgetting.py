"""The page of a forgetting: what was taken out, what has changed, what an attack still finds, and where copies remain."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from nolabel.data.replacing import replacing
from nolabel.report import page

SETS = {"forget": "Forgotten", "retain": "Kept", "test": "Never learned from"}
MEASURES = (
    ("drift", "Drift", "mean 1 − cosine of an embedding to what it was: 0 has not moved"),
    ("neighbours", "Same neighbours", "share of the ten nearest, within the set, that are the same"),
    ("agreement", "Same class", "share that is called what it was called before"),
)
ATTACKS = {
    "learned from or not": "An attack learns to tell kept images from images that were never learned from, by how sure the model "
    "is. Forgotten images should be called learned from as often as those that never were.",
    "forgotten or unseen": "An attack learns to tell the forgotten images themselves from images that were never learned from. "
    "It should find nothing: 50 %.",
}


def share(value: float | None) -> str:
    """
    >>> share(0.5), share(None)
    ('50.0 %', '–')
    """
    return "–" if value is None else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table whose first column names the rows."""
    top = "".join(f"<th>{escape(word)}</th>" for word in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def changes_body(evidence: Mapping[str, Any]) -> str:
    """A row a measure, a column a set of images."""
    there = [name for name in SETS if name in evidence]
    rows = [["Images", *(f"{evidence[name]['rows']:,}" for name in there), ""]]
    for key, called, said in MEASURES:
        if any(key in evidence[name] for name in there):
            told = number if key == "drift" else share
            rows.append([called, *(told(evidence[name].get(key)) for name in there), said])
    return table(["", *(SETS[name] for name in there), "What it is"], rows)


def accuracy_body(accuracy: Mapping[str, Mapping[str, float]]) -> str:
    rows = [[SETS[name], share(found["before"]), share(found["after"])] for name, found in accuracy.items()]
    return "<h3>Accuracy</h3>" + table(["", "Before", "After"], rows)


def attacks_body(membership: Mapping[str, Mapping[str, Any]]) -> str:
    """Of each attack what it finds before and after."""
    parts = []
    for name, lead in ATTACKS.items():
        before, after = (membership[when][name] for when in ("before", "after"))
        if before is None or after is None:
            parts.append(f"<h3>{escape(name.capitalize())}</h3><p class='lead'>Too few images for this attack.</p>")
            continue
        shown = [("Right, balanced (chance is 50 %)", "accuracy"), ("Area under the ROC curve", "auc")]
        shown += [("The same by the largest probability alone", "confidence_auc")]
        if before["suspects_called"] is not None:
            shown += [
                ("Forgotten called learned from", "suspects_called"),
                ("Never learned from called so", "strangers_called"),
            ]
        rows = [[called, share(before[key]), share(after[key])] for called, key in shown]
        parts.append(
            f"<h3>{escape(name.capitalize())}</h3><p class='lead'>{escape(lead)}</p>{table(['', 'Before', 'After'], rows)}"
        )
    return "".join(parts)


def render(told: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """The page as HTML, from the contents of ``forgetting.json``."""
    evidence = told["evidence"]
    tiles = [
        page.tile("Forgotten", f"{told['forgotten']:,}", "images"),
        page.tile("Kept", f"{told['kept']:,}", "images, in the new index"),
        page.tile(
            "Drift",
            number(evidence["forget"]["drift"]),
            f"of the forgotten; kept {number(evidence['retain']['drift'])}",
        ),
    ]
    attack = evidence.get("membership", {}).get("after", {}).get("forgotten or unseen")
    if attack is not None:
        tiles.append(page.tile("Attack", share(attack["accuracy"]), "right about forgotten or unseen; 50 % is chance"))
    changes = changes_body(evidence)
    if "accuracy" in told:
        changes += accuracy_body(told["accuracy"])
    parts = [("changes", "Changes", page.section("changes", "What has changed", "", changes))]
    if "membership" in evidence:
        body = attacks_body(evidence["membership"])
        parts.append(("attacks", "Attacks", page.section("attacks", "What can still be told", "", body)))
    body = page.list_of(told["still there"])
    lead = "Forgetting leaves these as they are. They go when you delete them."
    parts.append(("copies", "Copies", page.section("copies", "Where copies remain", lead, body)))
    parts.append(("run", "Record", page.section("run", "The record", "", page.facts_body(facts))))
    folder = resources.files("nolabel.report")
    template = Template(folder.joinpath("topics.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(page.shortened(told["title"])),
        headline=escape(told["headline"]),
        remarks=page.list_of(told["notes"]),
        tiles="".join(tiles),
        links="".join(f'<a href="#{identifier}">{escape(word)}</a>' for identifier, word, _ in parts),
        sections="\n".join(html for *_, html in parts),
        style=folder.joinpath("report.css").read_text(encoding="utf-8") + STYLE,
    )


STYLE = "td { font-variant-numeric: tabular-nums; }\n"


def write_forgetting(path: str | os.PathLike[str], told: Mapping[str, Any], facts: Mapping[str, str]) -> Path:
    """Write one HTML file that loads nothing; replaces a file only once it is complete."""
    path = Path(path)
    with replacing(path) as partial:
        partial.write_text(render(told, facts), encoding="utf-8")
    return path
