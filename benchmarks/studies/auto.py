"""Where `--method auto` ends, as the command line runs it: its candidates, its defaults, successive halving, no label.

The hidden labels judge the winner, trained with its whole budget, beside raw pixels, by k-NN and by ridge.

``python -m benchmarks.studies.auto``; data sets that were measured before are not measured again.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.data import DATA, sets
from nolabel.assess import knn_accuracy, ridge_probe, select
from nolabel.cli.run import candidates
from nolabel.learn import RawPixels
from nolabel.training import Training

RESULTS = Path(__file__).parent / "results" / "auto.json"
TRAIN, TEST = 8000, 2000


def truth(learner: Any, data: tuple[Any, np.ndarray, Any, np.ndarray]) -> dict[str, float]:
    images, labels, test, test_labels = data
    train, held = learner.transform(images), learner.transform(test)
    return {
        "k-NN": round(100 * knn_accuracy(train, labels, held, test_labels), 2),
        "ridge": round(100 * ridge_probe(train, labels, held, test_labels), 2),
    }


def measure(name: str) -> dict[str, Any]:
    data = sets(name, TRAIN, TEST)
    begun = time.perf_counter()
    found = select(candidates(None, None, Training(progress=False)), data[0], progress=lambda line: print(" ", line))
    seconds = time.perf_counter() - begun
    return {
        "rows": len(data[0]),
        "chosen": found.name,
        "seconds": round(seconds, 1),
        "auto": truth(found.best, data),
        "raw pixels": truth(RawPixels().fit(data[0]), data),
        "trials": found.to_dict()["trials"],
    }


def section(result: dict[str, Any]) -> list[str]:
    """The table as lines of Markdown."""
    lines = ["## Where `auto` ends", "", str(__doc__).split("``python")[0].strip(), ""]
    lines += [
        "| data set | images | chosen | `auto`: k-NN / ridge | raw pixels: k-NN / ridge | gain |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result.items():
        ours, raw = row["auto"], row["raw pixels"]
        gain = " / ".join(f"{ours[truth] - raw[truth]:+.1f}" for truth in ("k-NN", "ridge"))
        cells = (f"{each['k-NN']:.1f} / {each['ridge']:.1f}" for each in (ours, raw))
        lines.append(f"| {name} | {row['rows']:,} | {row['chosen']} | {' | '.join(cells)} | {gain} |")
    return [*lines, ""]


def main() -> None:
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in DATA:
        if name not in result:
            result[name] = measure(name)
            print(name, {key: value for key, value in result[name].items() if key != "trials"}, flush=True)
            partial = RESULTS.with_suffix(".partial")
            partial.write_text(json.dumps(result, indent=1) + "\n")
            os.replace(partial, RESULTS)


if __name__ == "__main__":
    main()
