"""`python -m tests.faults kills --number 60 --out tests/faults/kills.json`, and the same with `inputs`."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.faults.processes import ready


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("what", choices=["kills", "inputs"])
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    ready()
    with tempfile.TemporaryDirectory() as folder:

        def tell(line: str) -> None:
            print(line, file=sys.stderr, flush=True)

        if given.what == "kills":
            from tests.faults.kills import Killing

            found = Killing(Path(folder), given.number, given.seed, tell).run()
        else:
            from tests.faults.inputs import Reading

            found = Reading(Path(folder), given.number, given.seed, tell).run()
    given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
