"""What the label-free scores say, in words: one sentence each, and what is good."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

# key -> name, one sentence, what is good
EXPLAINED: dict[str, tuple[str, str, str]] = {
    "rankme": (
        "Dimensions in use (RankMe)",
        "How many directions the embeddings really fill: the effective rank of their matrix.",
        "higher is better, within one method",
    ),
    "spread": (
        "Spread",
        "How much the coordinates vary from row to row, where 1 is evenly in all directions.",
        "near 1; 0 is a collapse",
    ),
    "alignment": (
        "Alignment",
        "How far apart two views of the same row lie.",
        "lower is better, unless everything is close",
    ),
    "uniformity": (
        "Uniformity",
        "How evenly the embeddings cover the sphere, as a logarithm.",
        "lower is better; 0 is a collapse",
    ),
    "self_consistency": (
        "Self-consistency",
        "How often a row finds its own second view among all others.",
        "higher is better; 1 is always",
    ),
    "view_recall": (
        "View recall",
        "How often a row's second view is among the nearest tenth of all rows.",
        "higher is better; 0.1 is chance",
    ),
}
# measures that back up those above: in the table, but without a curve of their own
DETAILS: dict[str, tuple[str, str, str]] = {
    "rankme_centered": (
        "RankMe, centred",
        "Dimensions in use once the mean embedding is taken off.",
        "higher is better",
    ),
    "rank_share": ("Share of dimensions", "RankMe divided by the width.", ""),
    "second_direction": ("Second direction", "The second singular value over the first, centred.", "0 is a collapse"),
    "top_share": ("Share of the first direction", "How much of the variance lies in one direction.", "1 is a collapse"),
    "spread_min": ("Least spread", "The spread of the dimension that varies least.", ""),
    "spread_median": ("Median spread", "The spread of the dimension in the middle.", ""),
    "collapsed_dimensions": ("Dead dimensions", "The share of dimensions that hardly vary.", "0"),
    "chance": ("Chance", "What self-consistency would be by chance.", ""),
}
MINUS = "\N{MINUS SIGN}"
VERDICTS = {"healthy": "Healthy", "collapsing": "Collapsing", "collapsed": "Collapsed"}


def figure(value: object) -> str:
    """Write one score.

    >>> figure(34.2178), figure(0.01234), figure(1797)
    ('34.2', '0.0123', '1,797')
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        number = float(value)
        return (f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}").replace("-", MINUS)
    return str(value)


def sentence(text: str) -> str:
    """Begin with a capital, end with a stop.

    >>> sentence("the rank fell by half")
    'The rank fell by half.'
    """
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def checked_verdict(health: Mapping[str, Any]) -> str | None:
    """The verdict of a health report, or None where none was given.

    Raises
    ------
    ValueError
        A verdict other than healthy, collapsing or collapsed.
    """
    verdict = health.get("verdict")
    if verdict is not None and verdict not in VERDICTS:
        raise ValueError(f"health: a verdict of {', '.join(VERDICTS)} was expected, got {verdict!r}")
    return verdict


def headline(health: Mapping[str, Any], n: int, width: int) -> str:
    """Say in one sentence how the representation is.

    >>> headline({"verdict": "healthy", "rankme": 34.21}, 1797, 256)
    'Healthy: 34.2 of 256 dimensions in use, no sign of a collapse.'
    """
    verdict = checked_verdict(health)
    used = health.get("rankme")
    share = "" if used is None else f"{figure(float(used))} of {health.get('width', width)} dimensions in use"
    if verdict is None:
        return f"{n:,} rows in {width} dimensions" + (f", {share}." if share else ", not judged.")
    if verdict == "healthy":
        return f"Healthy: {share + ', ' if share else ''}no sign of a collapse."
    reasons = [str(reason).strip().rstrip(".") for reason in health.get("reasons", ())]
    return f"{VERDICTS[verdict]}: " + (reasons[0] if reasons else share or "no reason was recorded") + "."


def told_scores(health: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Name, value, what it says and what is good of each score: known ones first, then all other numbers.

    >>> told_scores({"rankme": 34.21, "width": 256})[0][:2]
    ('Dimensions in use (RankMe)', '34.2 of 256')
    """
    told = []
    known = EXPLAINED | DETAILS
    keys = [*(key for key in known if key in health), *(key for key in health if key not in known)]
    for key in keys:
        if key in ("verdict", "reasons", "width", "n") or health[key] is None:
            continue
        name, text, good = known.get(key, (key.replace("_", " ").capitalize(), "", ""))
        shown = figure(health[key]) + (f" of {health['width']}" if key == "rankme" and "width" in health else "")
        told.append((name, shown, text, sentence(good)))
    return told


def score_rows(health: Mapping[str, Any]) -> str:
    """The rows of the table of scores."""
    return "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{escape(shown)}</td>'
        f"<td>{escape(text)}</td><td>{escape(good)}</td></tr>"
        for name, shown, text, good in told_scores(health)
    )
