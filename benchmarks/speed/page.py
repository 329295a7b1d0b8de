"""The page of the committed results: an overview of all ratios with its chart, growth with its chart, a section a benchmark."""

import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks.speed import harness
from benchmarks.speed.harness import Line

DOCS = Path(__file__).parents[2] / "docs"
HEAD = """# Speed

Measured side by side in one run; ratios are taken within a round, and the median of the rounds counts. A ratio is the peer's time
or memory over ours: above 1 nolabel is ahead. Made by `make speed` from `benchmarks/speed/results/`.
"""


def module(name: str) -> Any:
    return importlib.import_module(f"benchmarks.speed.{name}")


def markdown(rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in rows]


def table(title: str, result: dict[str, Any], lines: list[Line]) -> str:
    """A Markdown section."""
    threads = result.get("threads", "default")
    cores = f"{result['cores']} cores, " if "cores" in result else ""
    head = ["what", "against", "median (least-greatest)", "goal", ""]
    rows = [head, ["---"] * len(head), *(each.cells() for each in lines)]
    text = [f"## {title}", "", *markdown(rows), ""]
    text += [result["note"], ""] if result.get("note") else []
    load = f"{result['load_average']:.1f}"
    packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return "\n".join([*text, f"*{cores}threads: {threads}, load average at the start: {load}; {packages}.*", ""])


def section(result: dict[str, Any]) -> str:
    made_by = module(result["name"])
    return table(made_by.TITLE, result, made_by.lines(result))


def ratios(results: list[dict[str, Any]]) -> dict[str, list[Line]]:
    """By section, the lines that compare with a peer."""
    found = {module(r["name"]).TITLE: [x for x in module(r["name"]).lines(r) if x.is_ratio] for r in results}
    return {title: lines for title, lines in found.items() if lines}


def overview(by_section: dict[str, list[Line]]) -> str:
    """The table of all ratios, and how many there are of each kind."""
    rows = [["what", "against", "peer / nolabel (least-greatest)", "goal", ""]]
    rows.append(["---"] * len(rows[0]))
    everything = [each for lines in by_section.values() for each in lines]
    for title, lines in by_section.items():
        rows.append([f"**{title}**", "", "", "", ""])
        rows += [
            [*each.cells()[:-1], each.verdict if each.goal else "" if each.median >= 1 else "behind"] for each in lines
        ]
    ahead = sum(each.median >= 1 for each in everything)
    goals = [each for each in everything if each.goal is not None]
    reached = sum(each.verdict == "reached" for each in goals)
    said = f"{ahead} of {len(everything)} ratios are at least 1; {reached} of {len(goals)} goals are reached."
    return "\n".join(["## All ratios", "", said, "", "![Ratios](images/speed/ratios.svg)", "", *markdown(rows), ""])


def committed(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in (harness.RESULTS / f"{name}.json" for name in names) if p.exists()]


def text(results: list[dict[str, Any]]) -> str:
    """The page in Markdown."""
    parts = [HEAD, overview(ratios(results))]
    for result in results:
        parts.append(section(result))
        if result["name"] == "growth":
            parts.append("![Growth](images/speed/growth.svg)\n")
    return "\n".join(parts)


def write(names: tuple[str, ...]) -> None:
    """Rewrite ``docs/speed.md`` and its charts from the committed results."""
    from benchmarks.speed import charts

    results = committed(names)
    (DOCS / "speed.md").write_text(text(results))
    charts.draw_ratios(ratios(results), DOCS / "images" / "speed")
    for result in results:
        if result["name"] == "growth":
            charts.draw_growth(result, DOCS / "images" / "speed")
