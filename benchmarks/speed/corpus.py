"""Photographs a second of `nolabel embed` on a corpus of shards, in one process and on Ray on this machine, side by side.

python -m benchmarks.speed corpus [--quick]; the full run takes about 5 minutes on two cores. Needs ``nolabel[corpus]``.

Photographs of 500 x 375 as JPEGs in Parquet shards, embedded by a `SimCLR` as it comes (what the vectors are worth does not
matter here). An arm is the whole command, from its first line to its last, at two sizes of corpus; arms take turns. The seconds a
photograph are the slope between the sizes, and what is left over is paid once a run: imports, the model, and starting Ray.
"""

import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.speed.folder import photo, samples
from benchmarks.speed.harness import Line, Options, circumstances, line, scratch, seconds, spread

TITLE = "A corpus of shards"
ENGINES = ("local", "ray")
SHARD, DISTINCT = 512, 512


def encoded(number: int, pictures: list[Any]) -> bytes:
    buffer = io.BytesIO()
    photo(pictures, np.random.default_rng(number)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def write_corpus(folder: Path, cells: list[dict[str, Any]], rows: int) -> None:
    """Parquet shards of the same photographs in turn."""
    folder.mkdir()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for start in range(0, rows, SHARD):
        part = [cells[row % len(cells)] for row in range(start, min(start + SHARD, rows))]
        pq.write_table(pa.table({"image": pa.array(part, kind)}), folder / f"{start // SHARD:05d}.parquet")


def embedding(run: Path, corpus: Path, out: Path, engine: str) -> Callable[[], None]:
    """The whole command."""
    command = [sys.executable, "-m", "nolabel", "embed", str(run), str(corpus), "--out", str(out), "--engine", engine]

    def call() -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")

    return call


def run(options: Options) -> dict[str, Any]:
    from nolabel.learn import SimCLR
    from nolabel.training import Training

    sizes, rounds = ((64, 128), 1) if options.quick else ((2_048, 10_240), 3)
    found = circumstances("torch", "pillow", "ray")
    taken: dict[str, dict[int, list[float]]] = {engine: {size: [] for size in sizes} for engine in ENGINES}
    with scratch() as place:
        pictures = samples()
        cells = [{"bytes": encoded(number, pictures), "path": None} for number in range(DISTINCT)]
        for size in sizes:
            write_corpus(place / f"corpus{size}", cells, size)
        learner = SimCLR(training=Training(steps=1, batch_size=32, progress=False))
        learner.fit(str(place / f"corpus{sizes[0]}" / "00000.parquet")).save(place / "run")
        side = learner.example_["batch"]["image"]["shape"][-1]
        for number in range(rounds):
            for size in sizes:
                for engine in ENGINES:
                    command = embedding(place / "run", place / f"corpus{size}", place / "out", engine)
                    taken[engine][size].append(seconds(command))
                    shutil.rmtree(place / "out")
            said = ", ".join(f"{engine} {times[sizes[-1]][-1]:.1f} s" for engine, times in taken.items())
            print(f"  round {number + 1}, {sizes[-1]:,} photographs: {said}", flush=True)
    arms = {engine: _slope(times, *sizes) for engine, times in taken.items()}
    note = f"The network sees {side} x {side} pixels."
    return {"name": "corpus", **found, "sizes": list(sizes), "note": note, "arms": arms}


def _slope(times: dict[int, list[float]], small: int, large: int) -> dict[str, Any]:
    """Seconds a photograph, and those paid once, round by round."""
    each = [(b - a) / (large - small) for a, b in zip(times[small], times[large], strict=True)]
    once = [a - small * slope for a, slope in zip(times[small], each, strict=True)]
    return {
        "whole": {str(size): spread(found) for size, found in times.items()},
        "each": spread(each),
        "once": spread(once),
    }


def lines(result: dict[str, Any]) -> list[Line]:
    made = []
    for engine, arm in result["arms"].items():
        rate = {"median": 1 / arm["each"]["median"], "min": 1 / arm["each"]["max"], "max": 1 / arm["each"]["min"]}
        made.append(line(f"embedding on engine {engine}: photographs of 500 x 375", "", rate, unit="a second"))
        made.append(line(f"engine {engine}: paid once a command", "", arm["once"], unit="s"))
    return made
