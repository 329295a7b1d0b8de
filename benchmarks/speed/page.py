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
    cores = f"{result['processor']}, {cores}" if "processor" in result else cores
    return "\n".join([*text, f"*{cores}threads: {threads}, load average at the start: {load}; {packages}.*", ""])


def lines_of(result: dict[str, Any]) -> tuple[str, list[Line]]:
    """Title and lines of a result, by the module that made it: the one of its name, if it does not name another."""
    made_by = module(result.get("benchmark", result["name"]))
    return made_by.title(result) if hasattr(made_by, "title") else made_by.TITLE, made_by.lines(result)


def section(result: dict[str, Any]) -> str:
    title, lines = lines_of(result)
    return table(title, result, lines)


def ratios(results: list[dict[str, Any]]) -> dict[str, list[Line]]:
    """By section, the lines that compare with a peer."""
    found = {title: [each for each in lines if each.is_ratio] for title, lines in map(lines_of, results)}
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
    """The results of these benchmarks; one may have a second, ``NAME_in_OTHER_CIRCUMSTANCES``."""
    files = [
        p
        for name in names
        for p in sorted(harness.RESULTS.glob(f"{name}.json")) + sorted(harness.RESULTS.glob(f"{name}_in_*.json"))
    ]
    return [json.loads(p.read_text()) for p in files]


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
    from benchmarks.speed import charts, cost

    results = committed(names)
    (DOCS / "speed.md").write_text(text(results))
    if costs := cost.text(results):
        (DOCS / "cost.md").write_text(costs)
    charts.draw_ratios(ratios(results), DOCS / "images" / "speed")
    for result in results:
        if result["name"] == "growth":
            charts.draw_growth(result, DOCS / "images" / "speed")
