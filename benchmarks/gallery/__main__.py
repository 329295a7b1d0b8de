"""What each system learns from the same images, as pictures: ``python -m benchmarks.gallery``.

Writes ``docs/gallery.md`` and its pictures; what the captions say is kept in ``results.json``. NOLABEL_DATA names the folder
of the public data sets. Trained runs are kept in ``runs/gallery``: what is there is not trained again.
"""

import argparse
import json
import math
import time
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

from benchmarks.claims.__main__ import names as claims
from benchmarks.gallery import trained
from benchmarks.gallery.neighbours import COMPARED
from benchmarks.gallery.sections import SECTIONS, Section
from nolabel.cli.catalogue import CLAIMED_BY, systems

RESULTS = Path(__file__).parent / "results.json"
DOCS = Path(__file__).parents[2] / "docs"
PICTURES = DOCS / "images" / "gallery"
MADE = (
    "Made by `make gallery`: all settings are in [trained.py](../benchmarks/gallery/trained.py), all figures in "
    "[results.json](../benchmarks/gallery/results.json)."
)
PYTHON = ("beclr", "sie", "bss")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which pictures: {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--page", action="store_true", help="draw nothing, write the page anew, as after new claims")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(SECTIONS))
    if unknown:
        parser.error(f"no picture called {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in () if options.page else options.names or SECTIONS:
        begun = time.perf_counter()
        trained.faulty.clear()
        sheet, caption, figures = SECTIONS[name].picture()
        caption += "".join(f" The health report calls {run} {verdict}." for run, verdict in trained.faulty.items())
        sheet.save(PICTURES / f"{name}.png")
        results[name] = {"caption": caption, "figures": figures}
        RESULTS.write_text(json.dumps(results, indent=1, default=float) + "\n")
        print(f"{name}: {time.perf_counter() - begun:.0f} s. {caption}", flush=True)
    (DOCS / "gallery.md").write_text(page(results))


def page(results: dict[str, Any]) -> str:
    """The page, of the sections whose pictures are there."""
    shown = {name: section for name, section in SECTIONS.items() if name in results}
    links = " · ".join(f"[{section.title}](#{anchor(section.title)})" for section in shown.values() if section.system)
    lines = [
        "# Gallery",
        "",
        f"What each system learns from the same {trained.ROWS['train']:,} images of CIFAR-10 (Krizhevsky, 2009) without a "
        "label. The pictures show images that were not learned from, unless they say so; hidden labels make the figures, of one "
        f"seed each. The networks are small and train for {trained.STEPS} steps, about a minute on one core: the pictures show "
        "what a system looks for, not how good it gets; that is measured in [the claims](claims.md).",
        "",
        links,
        "",
    ]
    for name, section in shown.items():
        lines += [f"## {section.title}", "", section.text, ""]
        if section.how:
            lines += [f"```{'python' if section.system in PYTHON else ''}", section.how, "```", ""]
        lines += [f"![{section.title}](images/gallery/{name}.png)", "", f"*{results[name]['caption']}*", ""]
        lines += [table(results[name]["figures"])] if name == "overview" else [claim(section)]
        lines += [""]
    return "\n".join([*lines, MADE, ""])


def table(figures: dict[str, dict[str, float]]) -> str:
    """The measures of the overview."""
    lines = [
        "| representation | 20-NN accuracy, % | same class, % | same colours, % | RankMe, of width |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {COMPARED[name]} | {row['k-NN']:.1f} | {row['same class']:.1f} | {row['same colours']:.1f} | {rank(row)} |"
        for name, row in figures.items()
    ]
    return "\n".join(lines)


def rank(row: dict[str, float]) -> str:
    return f"{row['RankMe']:.0f} of {row['width']:.0f}" if math.isfinite(row["RankMe"]) else "too few images"


def claim(section: Section) -> str:
    """The paper, its claim at reduced size and the measured verdict, as `nolabel methods` has them."""
    known = {system.name: system for system in systems()}[section.system]
    module = section.system.replace("-", "_")
    key = CLAIMED_BY.get(module, module)
    measured = json.loads(resources.files("nolabel.cli").joinpath("claims.json").read_text(encoding="utf-8")).get(key)
    paper = f"[{known.paper}](https://arxiv.org/abs/{known.paper.removeprefix('arXiv:')})"
    if measured is None:
        return f"Paper: {paper}. {'Its claim is not measured yet' if key in claims() else 'No claim of its own'}."
    heading = f"{key}: {measured['verdict']}"
    return f"Paper: {paper}. Claim: {measured['claim']} [**{measured['verdict'].capitalize()}**](claims.md#{anchor(heading)})."


def anchor(heading: str) -> str:
    """The anchor that a heading gets on a rendered page."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


if __name__ == "__main__":
    warnings.simplefilter("default")
    main()
