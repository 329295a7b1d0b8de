"""Measure speed: ``python -m benchmarks.speed [name ...] [--quick]``; the committed results become ``docs/speed.md``.

NOLABEL_DATA names the folder of the public data sets, NOLABEL_PEERS the Python of the environment made from
``benchmarks/speed/requirements.txt``.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks.speed import harness

DOCS = Path(__file__).parents[2] / "docs" / "speed.md"
NAMES = (
    "training",
    "quality",
    "views",
    "info_nce",
    "two_towers",
    "rankme",
    "transport",
    "index",
    "funnel",
    "hamming",
    "label_errors",
    "text",
    "folder",
    "startup",
    "explorer",
)  # as the page has them


def module(name: str) -> Any:
    return importlib.import_module(f"benchmarks.speed.{name}")


def section(result: dict[str, Any]) -> str:
    made_by = module(result["name"])
    return harness.table(made_by.TITLE, result, made_by.lines(result))


def write_page() -> None:
    """Rewrite ``docs/speed.md`` from the committed results."""
    results = [json.loads(p.read_text()) for p in (harness.RESULTS / f"{name}.json" for name in NAMES) if p.exists()]
    head = "# Speed\n\nMeasured side by side in one run; ratios are taken within a round, and the median of the rounds counts.\n"
    head += "Made by `make speed` from `benchmarks/speed/results/`.\n\n"
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text(head + "\n".join(section(result) for result in results))


def main() -> None:
    defaults = harness.Options()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(NAMES)}; all by default")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, to see that all parts run; nothing is written"
    )
    parser.add_argument("--minutes", type=float, default=defaults.minutes, help="of training, for each arm of quality")
    parser.add_argument("--photos", type=int, default=defaults.photos, help="in the folder of folder")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(NAMES))
    if unknown:
        parser.error(f"nothing called {', '.join(unknown)}: there are {', '.join(NAMES)}")
    options = harness.Options(given.quick, given.minutes, given.photos)
    for name in given.names or NAMES:
        print(f"{name}: {module(name).__doc__.splitlines()[0]}", flush=True)
        result = module(name).run(options)
        print(section(result), flush=True)
        if not given.quick:
            harness.write(result)
    if not given.quick:
        write_page()


if __name__ == "__main__":
    main()
