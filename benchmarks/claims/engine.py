"""The engine of claims: arms, seeds, measures, intervals, verdict.

A claim file defines one `Claim`. Its ``run(seed)`` trains the arms of one seed at equal budget and returns the measures of
each arm. Gates say what has to hold. Results are written after every seed, so an interrupted claim goes on where it was.
"""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

#: arm -> measure -> value, of one seed
Measures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Gate:
    """Something that has to hold: the mean over seeds of ``measure(values of a seed)`` is at least ``margin``."""

    text: str
    margin: float
    measure: Callable[[Measures], float]


@dataclass(frozen=True)
class Claim:
    """A paper's claim at reduced size.

    ``gates`` decide the verdict; ``reports`` are measured the same way and only shown. ``note`` explains what falls short
    and what differs from the paper.
    """

    name: str
    paper: str
    claim: str
    data: str
    metric: str
    run: Callable[[int], Measures]
    gates: Sequence[Gate]
    seeds: Sequence[int] = (0, 1, 2)
    reports: Sequence[Gate] = ()
    note: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval (Student's t)."""
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def measure(claim: Claim, fresh: bool = False) -> dict[str, Any]:
    """Run the seeds that are missing, judge, write ``results/NAME.json`` and return it."""
    path = RESULTS / f"{claim.name}.json"
    known = {} if fresh or not path.exists() else json.loads(path.read_text()).get("seeds", {})
    for seed in claim.seeds:
        if str(seed) in known:
            continue
        begun = time.perf_counter()
        values = claim.run(seed)
        known[str(seed)] = {"values": values, "seconds": round(time.perf_counter() - begun, 1)}
        _write(path, judge(claim, known))
        print(f"  {claim.name} seed {seed}: {known[str(seed)]['seconds']:.0f} s", flush=True)
    result = judge(claim, known)
    _write(path, result)
    return result


def judge(claim: Claim, seeds: dict[str, Any]) -> dict[str, Any]:
    """The result of the seeds measured so far."""
    values: list[Measures] = [seeds[key]["values"] for key in sorted(seeds, key=int)]
    arms: dict[str, dict[str, list[float]]] = {}
    for one in values:
        for arm, measures in one.items():
            for name, value in measures.items():
                arms.setdefault(arm, {}).setdefault(name, []).append(round(value, 4))
    gates = [_judged(gate, values) for gate in claim.gates]
    complete = len(values) == len(claim.seeds)
    holds = complete and all(gate["holds"] for gate in gates)
    return {
        "name": claim.name,
        "paper": claim.paper,
        "claim": claim.claim,
        "data": claim.data,
        "metric": claim.metric,
        "settings": claim.settings,
        "arms": arms,
        "gates": gates,
        "reports": [_judged(gate, values) for gate in claim.reports],
        "verdict": "holds" if holds else "falls short" if complete else "unfinished",
        "note": claim.note,
        "seconds": round(sum(one["seconds"] for one in seeds.values()), 1),
        "versions": _versions(),
        "seeds": seeds,
    }


def _judged(gate: Gate, values: list[Measures]) -> dict[str, Any]:
    measured = [gate.measure(one) for one in values]
    mean, half = interval(measured)
    return {
        "text": gate.text,
        "margin": gate.margin,
        "measured": [round(m, 4) for m in measured],
        "mean": round(mean, 4),
        "interval95": None if math.isnan(half) else round(half, 4),
        "holds": mean >= gate.margin,
    }


def table(result: dict[str, Any]) -> str:
    """A Markdown table of the arms and the gates of a result."""
    names = list(dict.fromkeys(name for arm in result["arms"].values() for name in arm))
    lines = [f"### {result['name']}: {result['verdict']}", "", f"{result['claim']}", ""]
    lines += [
        f"*{result['paper']}* · data: {result['data']} · metric: {result['metric']} · {result['seconds']:.0f} s",
        "",
    ]
    lines += ["| arm | " + " | ".join(map(_in_cell, names)) + " |", "|---|" + "---|" * len(names)]
    for arm, measures in result["arms"].items():
        lines.append(f"| {_in_cell(arm)} | " + " | ".join(_cell(measures.get(name)) for name in names) + " |")
    lines += ["", "| what has to hold | at least | measured | |", "|---|---|---|---|"]
    for gate in result["gates"]:
        lines.append(_gate_line(gate, "holds" if gate["holds"] else "**falls short**"))
    for gate in result["reports"]:
        lines.append(_gate_line(gate, "reported"))
    return "\n".join([*lines, "", result["note"], ""]) if result["note"] else "\n".join([*lines, ""])


def _gate_line(gate: dict[str, Any], verdict: str) -> str:
    half = "" if gate["interval95"] is None else f" ± {gate['interval95']:.2f}"
    return f"| {_in_cell(gate['text'])} | {gate['margin']:g} | {gate['mean']:.2f}{half} | {verdict} |"


def _in_cell(text: str) -> str:
    """A text that holds bars, as a cell of a table takes it."""
    return text.replace("|", "\\|")


def _cell(values: list[float] | None) -> str:
    if not values:
        return ""
    mean, half = interval(values)
    return f"{mean:.2f}" if math.isnan(half) else f"{mean:.2f} ± {half:.2f}"


def _versions() -> dict[str, str]:
    import torch

    import nolabel

    cores = len(os.sched_getaffinity(0))
    return {
        "nolabel": nolabel.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": str(cores),
    }


def _write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(partial, path)
