"""What the speed benchmarks share: a measured line and its goal, time and memory, the circumstances, the files.

A benchmark is a module with ``TITLE``, ``run(options) -> dict``, which measures, and ``lines(result) -> list[Line]``,
which reads a result. `python -m benchmarks.speed` runs them and writes `docs/speed.md` from the committed results.
"""

import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Options:
    """What the command line says to every benchmark."""

    quick: bool = False  # small sizes; shows that all parts run, the numbers mean nothing
    minutes: float = 5.0  # of training, for each arm of `quality`
    photos: int = 50_000  # in the folder of `folder`


@dataclass(frozen=True)
class Line:
    """One measured thing: the median of the rounds, their least and greatest, and what it should reach.

    A line with a `peer` and the unit ``x`` is a ratio, and always the peer's time (or memory) over ours: above 1 is better.
    """

    what: str
    peer: str
    median: float
    low: float
    high: float
    unit: str = "x"
    goal: float | None = None
    at_least: bool = True

    @property
    def is_ratio(self) -> bool:
        return bool(self.peer) and self.unit == "x"

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return "reported"
        reached = self.median >= self.goal if self.at_least else self.median <= self.goal
        return "reached" if reached else "**missed**"

    def cells(self) -> list[str]:
        spread = f" ({_number(self.low)}-{_number(self.high)})" if self.low != self.high else ""
        goal = "" if self.goal is None else f"{'at least' if self.at_least else 'at most'} {self.goal:g} {self.unit}"
        return [self.what, self.peer, f"{_number(self.median)}{spread} {self.unit}", goal, self.verdict]


def line(what: str, peer: str, spread: dict[str, float], **goal: Any) -> Line:
    """A line from ``{"median", "min", "max"}``."""
    return Line(what, peer, spread["median"], spread["min"], spread["max"], **goal)


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def inverse(ratio: dict[str, float]) -> dict[str, float]:
    """The spread of the other way round: of ours over the peer's, the peer's over ours."""
    return {"median": 1 / ratio["median"], "min": 1 / ratio["max"], "max": 1 / ratio["min"]}


def alike(value: float) -> dict[str, float]:
    """The spread of a thing measured once."""
    return spread([value])


def times_less(theirs_mib: float, ours_mib: float) -> dict[str, float]:
    """The ratio of two amounts of memory measured once; what is below a tenth of a MiB counts as that."""
    return alike(max(theirs_mib, 0.1) / max(ours_mib, 0.1))


def _number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def circumstances(*packages: str) -> dict[str, Any]:
    """Versions, cores, threads and what else the machine was doing; taken before a measurement starts."""
    versions = {"python": platform.python_version()}
    for package in ("nolabel", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "versions": versions,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "load_average": os.getloadavg()[0],
    }


def processor() -> str:
    """Its name, with the widest arithmetic that matters here."""
    described = Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in described.split("\n\n")[0].splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(named.get("flags", "").split())
    kinds = ["AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else ""]
    kinds += ["bfloat16" if flags & {"avx512_bf16", "amx_bf16"} else "no bfloat16"]
    return f"{named.get('model name', platform.machine())} ({', '.join(filter(None, kinds))})"


def write(result: dict[str, Any]) -> None:
    """``results/NAME.json``, at once or not at all."""
    path = RESULTS / f"{result['name']}.json"
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".tmp").write_text(json.dumps(result, indent=1) + "\n")
    os.replace(path.with_suffix(".tmp"), path)


def unfinished(name: str, **settings: Any) -> dict[str, Any] | None:
    """The result of a run with these settings that was cut off (``complete`` is false), to go on with."""
    path = RESULTS / f"{name}.json"
    result = json.loads(path.read_text()) if path.exists() else {"complete": True}
    return None if result.get("complete", True) or any(result.get(k) != v for k, v in settings.items()) else result


def clocked(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that it took, and what it gave."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def seconds(work: Callable[[], Any]) -> float:
    return clocked(work)[0]


def _resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _work_in_child(connection: Any, prepare: Callable[..., Callable[[], Any]], given: tuple[Any, ...]) -> None:
    work = prepare(*given)
    Path("/proc/self/clear_refs").write_text("5")  # start a new peak
    before = _resident_mib("VmRSS")
    taken = seconds(work)
    connection.send({"seconds": taken, "mib": _resident_mib("VmHWM") - before})


def in_child(prepare: Callable[..., Callable[[], Any]], *given: Any) -> dict[str, float]:
    """What a fresh process needs for a piece of work: ``seconds`` and ``mib``, the growth of its resident peak.

    ``prepare(*given)``, a function of a module, loads libraries and makes inputs, which do not count, and returns the work.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_work_in_child, args=(there, prepare, given))
    child.start()
    there.close()  # so that the end of the child is seen
    try:
        measured: dict[str, float] = here.recv()
    except EOFError:
        raise RuntimeError(f"the process that measured {prepare.__name__}{given} ended: out of memory?") from None
    finally:
        child.join()
    return measured


def free_mib() -> float:
    """Memory that a new process may take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards, with nolabel's cache in it: nothing is found decoded, nothing stays."""
    before = os.environ.get("NOLABEL_CACHE")
    with tempfile.TemporaryDirectory(prefix="nolabel-speed-") as folder:
        os.environ["NOLABEL_CACHE"] = f"{folder}/cache"
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["NOLABEL_CACHE"]
            else:
                os.environ["NOLABEL_CACHE"] = before


def write_photos(table: Any, folder: Path) -> None:
    """The encoded images of a table as files, in order: what a peer that reads folders is given."""
    folder.mkdir(parents=True)
    for number, cell in enumerate(table["image"]):
        ending = "png" if cell["bytes"].startswith(b"\x89PNG") else "jpg"
        (folder / f"{number:06d}.{ending}").write_bytes(cell["bytes"])
