"""Measure speed: ``python -m benchmarks.speed [name ...] [--quick]``; the committed results become ``docs/speed.md``.

NOLABEL_DATA names the folder of the public data sets, NOLABEL_PEERS the Python of the environment made from
``benchmarks/speed/requirements.txt``, NOLABEL_AUTHORS the folder of the checkouts named there. ``--page`` measures nothing and
writes the page and its charts anew.
"""

import argparse

from benchmarks.speed import harness, page

NAMES = (
    "training",
    "quality",
    "views",
    "photographs",
    "info_nce",
    "two_towers",
    "rankme",
    "million",
    "transport",
    "index",
    "funnel",
    "hamming",
    "label_errors",
    "text",
    "folder",
    "corpus",
    "startup",
    "explorer",
    "growth",
)  # as the page has them


def main() -> None:
    defaults = harness.Options()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(NAMES)}; all by default")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, to see that all parts run; nothing is written"
    )
    parser.add_argument(
        "--page", action="store_true", help="measure nothing, write the page from the committed results"
    )
    parser.add_argument("--minutes", type=float, default=defaults.minutes, help="of training, for each arm of quality")
    parser.add_argument("--photos", type=int, default=defaults.photos, help="in the folder of folder")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(NAMES))
    if unknown:
        parser.error(f"nothing called {', '.join(unknown)}: there are {', '.join(NAMES)}")
    options = harness.Options(given.quick, given.minutes, given.photos)
    for name in () if given.page else given.names or NAMES:
        print(f"{name}: {page.module(name).__doc__.splitlines()[0]}", flush=True)
        result = page.module(name).run(options)
        print(page.section(result), flush=True)
        if not given.quick:
            harness.write(result)
    if not given.quick:
        page.write(NAMES)


if __name__ == "__main__":
    main()
