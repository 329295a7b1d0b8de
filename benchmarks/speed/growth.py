"""How time and memory grow with the number of items: learning, embedding, indexing and searching, with the exponents.

python -m benchmarks.speed growth [--quick]; the full run takes about 25 minutes on two cores, 8 GB of memory and 4 GB of disk.

* learn: `SimCLR` as it comes, one epoch, on a Parquet file of small JPEGs: reading, decoding, training, health report.
* embed: a trained `SimCLR` on such a file: reading, decoding, vectors.
* index: rows of width 128 in 500 clusters streamed into a new `Index` in pieces, and the first search, which builds what search
  stands on.
* search: one query at a time, 200 of them, in that index, opened and searched once before; its memory is that with opening.

Each is done in a process of its own, libraries loaded; memory is the growth of that process's resident peak (decoding may use
further processes: they are not in it). The exponent is the least-squares slope of log time over log n through all sizes, and
`last` the slope between the two largest: constant costs flatten the first.
"""

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import harness
from benchmarks.speed.harness import Line, Options, circumstances, in_child, scratch, spread

TITLE = "Growth"
SIZES = {
    "learn": (1_000, 4_000, 16_000, 64_000),
    "embed": (1_000, 4_000, 16_000, 64_000, 256_000),
    "index": (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000),
    "search": (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000),
}
QUICK = {"learn": (300, 600), "embed": (300, 600), "index": (1_000, 4_000), "search": (1_000, 4_000)}
ONCE = 64_000  # from here on, one round instead of three
SIDE, DISTINCT, DIM, CLUSTERS, PIECE, QUERIES = 32, 4096, 128, 500, 20_000, 200


def write_images(path: Path, n: int) -> None:
    """A Parquet file of `n` JPEGs of 32 x 32, at most 4,096 of them different."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    rng, cells = np.random.default_rng(0), []
    for _ in range(min(n, DISTINCT)):
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        cells.append({"bytes": buffer.getvalue(), "path": None})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    with pq.ParquetWriter(path, pa.schema([("image", kind)])) as writer:
        for start in range(0, n, DISTINCT):
            writer.write_table(pa.table({"image": pa.array(cells[: n - start], kind)}))


def learn(folder: str, n: int) -> Callable[[], Any]:
    from nolabel.learn import SimCLR
    from nolabel.training import Training

    tiny = Path(folder) / "tiny.parquet"
    write_images(tiny, 64)
    SimCLR(training=Training(steps=1, batch_size=32, progress=False)).fit(str(tiny))
    one = Training(epochs=1, progress=False, stop_on_collapse=False)
    return lambda: SimCLR(training=one).fit(str(Path(folder) / f"{n}.parquet"))


def embed(folder: str, n: int) -> Callable[[], Any]:
    from nolabel.learn import SimCLR
    from nolabel.training import Training

    tiny = Path(folder) / "tiny.parquet"
    write_images(tiny, 64)
    learner = SimCLR(training=Training(steps=1, batch_size=32, progress=False)).fit(str(tiny))
    learner.transform(str(tiny))
    return lambda: learner.transform(str(Path(folder) / f"{n}.parquet"))


def pieces(n: int) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, DIM), dtype=np.float32)
    for start in range(0, n, PIECE):
        rng, rows = np.random.default_rng(1 + start), min(PIECE, n - start)
        noise = 0.7 * rng.standard_normal((rows, DIM), dtype=np.float32)
        yield centres[rng.integers(0, CLUSTERS, rows)] + noise, {"row": np.arange(start, start + rows)}


def queries() -> np.ndarray:
    return next(pieces(PIECE))[0][:QUERIES]


def index(folder: str, n: int) -> Callable[[], Any]:
    from nolabel.search import Index

    def fill(place: Path, rows: int) -> None:
        made = Index.create(place, DIM)
        made.add(pieces(rows))
        made.search(queries()[0])

    for old in ("tiny", f"index{n}"):
        shutil.rmtree(Path(folder) / old, ignore_errors=True)
    fill(Path(folder) / "tiny", 1000)
    return lambda: fill(Path(folder) / f"index{n}", n)


def searched(place: Path) -> Callable[[], Any]:
    """All queries, in an index that was opened and searched once."""
    from nolabel.search import Index

    opened, asked = Index(place), queries()
    opened.search(asked[0])
    return lambda: [opened.search(query) for query in asked]


def search(folder: str, n: int) -> Callable[[], Any]:
    return searched(Path(folder) / f"index{n}")


def opening(folder: str, n: int) -> Callable[[], Any]:
    """As `search`, opening included: what a process that searches holds."""
    searched(Path(folder) / "tiny")()  # libraries and thread pools
    return lambda: searched(Path(folder) / f"index{n}")()


WORK: dict[str, Callable[[str, int], Callable[[], Any]]] = {
    "learn": learn,
    "embed": embed,
    "index": index,
    "search": search,
}


def size_mib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def measure(name: str, n: int, rounds: int, place: Path) -> dict[str, Any]:
    if name in ("learn", "embed"):
        write_images(place / f"{n}.parquet", n)
    found = []
    for _ in range(rounds):
        found.append(in_child(WORK[name], str(place), n))
        shutil.rmtree(place / "cache", ignore_errors=True)  # what was decoded, for it is found again by its content
    (place / f"{n}.parquet").unlink(missing_ok=True)
    if name != "search":
        row = {
            "n": n,
            "seconds": spread([each["seconds"] for each in found]),
            "mib": max(each["mib"] for each in found),
        }
        return row | ({"disk_mib": size_mib(place / f"index{n}")} if name == "index" else {})
    seconds = spread([each["seconds"] / QUERIES for each in found])
    return {"n": n, "seconds": seconds, "mib": in_child(opening, str(place), n)["mib"]}


def run(options: Options) -> dict[str, Any]:
    sizes = QUICK if options.quick else SIZES
    found = circumstances("torch", "faiss-cpu", "lancedb")
    known = None if options.quick else harness.unfinished("growth", sizes={k: list(v) for k, v in sizes.items()})
    result = {"name": "growth", **found, "sizes": {k: list(v) for k, v in sizes.items()}, "complete": False}
    result["work"] = known["work"] if known else {}
    with scratch() as place:
        # search follows index for each n, whose folder it needs
        steps = [(name, n) for name in ("learn", "embed") for n in sizes[name]]
        steps += [(name, n) for n in sizes["index"] for name in ("index", "search")]
        for name, n in steps:
            rows = result["work"].setdefault(name, [])
            if n in [row["n"] for row in result["work"].get("search" if name == "index" else name, [])]:
                continue
            row = measure(name, n, 1 if options.quick or n >= ONCE else 3, place)
            rows[:] = [*(each for each in rows if each["n"] != n), row]
            print(f"  {name}, {n:,}: {row['seconds']['median']:.4g} s, {row['mib']:.0f} MiB", flush=True)
            if not options.quick:
                harness.write(result)
    return {**result, "complete": True}


def exponents(rows: list[dict[str, Any]], of: Callable[[dict[str, Any]], float]) -> tuple[float, float]:
    """Slopes of log value over log n: least squares through all sizes, and between the two largest."""
    n = np.log([row["n"] for row in rows])
    value = np.log([of(row) for row in rows])
    return float(np.polyfit(n, value, 1)[0]), float((value[-1] - value[-2]) / (n[-1] - n[-2]))


#: What grows, and where a row has it. Below a MiB a process' memory tells nothing.
MEASURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "seconds (of a query for search)": lambda row: row["seconds"]["median"],
    "MiB": lambda row: max(row["mib"], 1.0),
}


def measured(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The work that has two sizes or more, which an unfinished result may lack."""
    return {name: rows for name, rows in result["work"].items() if len(rows) > 1}


def lines(result: dict[str, Any]) -> list[Line]:
    made = []
    for name, rows in measured(result).items():
        case = f"{name}, {rows[0]['n']:,} to {rows[-1]['n']:,} items"
        for what, of in zip(("time", "memory"), MEASURES.values(), strict=True):
            overall, last = (round(slope, 2) + 0.0 for slope in exponents(rows, of))  # no minus before a zero
            made.append(Line(f"{case}: exponent of {what}, {last:.2f} at the end", "", *[overall] * 3, unit=""))
        largest = f"{name}, {rows[-1]['n']:,} items"
        each = ", one query" if name == "search" else ""
        made.append(harness.line(f"{largest}{each}: time", "", rows[-1]["seconds"], unit="s"))
        made.append(Line(f"{largest}: memory", "", *[rows[-1]["mib"]] * 3, unit="MiB"))
    return made
