"""Damaged inputs by the thousand: read, or refused in one line that names them; no traceback, no hang, no dead process.

Each is made by a seed and its number (`tests/faults/mutations.py`) and goes through the doors of the command line: `read` and
what decodes, `load`, `Index`, and for a share of them the command itself. They are read in forks whose memory and time are
limited, so that a crash of a decoder is seen as what it is.
"""

import contextlib
import io
import json
import random
import resource
import shutil
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults import mutations
from tests.faults.kills import TINY, versions, write_images
from tests.faults.processes import Process, command

LONGEST = 10  # seconds for one input
ROOM = 4 * 2**30  # bytes of addresses beyond what is taken already
REFUSALS = (ValueError, TypeError, OSError)  # what the command line turns into one line and exit code 2
FILES = ("config.json", "model.safetensors", "metrics.jsonl", "index.lance", "checkpoint.safetensors")
#: Kinds of inputs, and how many of a hundred.
SHARES = {
    "png": 11, "jpg": 11, "gif": 8, "txt": 8, "csv": 12, "jsonl": 6, "parquet": 14, "npy": 5, "npz": 4, "html": 9, "run": 12,
}  # fmt: skip
BY_COMMAND = 0.03  # the share that goes through the command as well


class Slow(BaseException):
    """An input took too long; nothing of ours catches it."""


def made(kind: str, rng: random.Random) -> bytes:
    """A file of a kind: valid for one in ten, else damaged."""
    pictures = {"png": "PNG", "jpg": "JPEG", "gif": "GIF"}
    texts: dict[str, Callable[[random.Random], bytes]] = {
        "txt": mutations.plain_text, "csv": mutations.csv_table, "jsonl": mutations.jsonl_table, "html": mutations.html_page,
    }  # fmt: skip
    if kind in texts:
        data = texts[kind](rng)
        return data if rng.random() < 0.1 else mutations.damaged_text(data, rng)
    if kind in pictures:
        data = mutations.image(rng, pictures[kind])
    elif kind == "parquet":
        data = mutations.parquet_table(rng)
        if rng.random() < 0.4:  # strange enough as it is
            return data
    else:
        data = mutations.arrays(rng, kind == "npz")
        if rng.random() < 0.4:
            return data
    return data if rng.random() < 0.1 else mutations.damaged(data, rng)


def read_file(path: Path, cache: Path) -> None:
    """What the commands do with a file, up to what a network would be given."""
    from nolabel.cli.run import open_table, usual_method
    from nolabel.data import ColumnSource, modality, open_images, visible_text
    from nolabel.data.modalities import holds_images

    table = open_table(str(path), None)
    modality(table)
    usual_method(table)
    for name in table.column_names:
        if holds_images(table, name):
            open_images(table, column=name, folder=cache)
        elif name == "html":
            for page in table[name]:
                with contextlib.suppress(ValueError):  # nothing to see on it: counted by who asks
                    visible_text(page)
        else:
            ColumnSource(table, [name])


def read_run(folder: Path, damaged: str) -> None:
    """What the commands do with a run folder."""
    import numpy as np

    from nolabel.search import Index
    from nolabel.training import identity, load
    from nolabel.training.checkpoint import read_checkpoint

    if damaged == "checkpoint.safetensors":
        read_checkpoint(folder)
    elif damaged == "index.lance":
        index = Index.open(folder, encoder=identity(folder))
        index.rows()
        index.search(np.ones(index.dim), 3, where="row < 20")
    else:
        learner = load(folder)
        learner.transform(np.zeros((3, 8, 8), np.uint8))
        Index.open(folder, encoder=identity(folder))


class Reading:
    """A number of inputs, in a folder."""

    def __init__(self, place: Path, number: int, seed: int, tell: Callable[[str], object]) -> None:
        self.place, self.number, self.seed, self.tell = place, number, seed, tell
        self.told = place / "told.jsonl"
        self.seconds = 0.0

    def run(self) -> dict[str, Any]:
        self._learn()
        rows: list[dict[str, Any]] = []
        while len(rows) < self.number:
            self.told.unlink(missing_ok=True)
            start = len(rows)
            process = Process(lambda start=start: self._read_from(start), self.place / "log")
            ended = process.ended(within=LONGEST * self.number)
            if ended is None:
                ended = process.kill()
            self.seconds += ended.seconds
            rows += [json.loads(line) for line in self.told.read_text().splitlines()] if self.told.exists() else []
            if len(rows) < self.number:  # it died of the next one
                kind = self._kind(len(rows))
                outcome = f"ended the process: {ended.code}, {ended.said[-900:]}"
                rows.append({"number": len(rows), "kind": kind, "outcome": outcome, "fault": True})
        faults = [row for row in rows if row.get("fault")]
        for row in faults[:50]:
            self.tell(json.dumps(row))
        by_kind = {
            kind: dict(Counter(row["outcome"] for row in rows if row["kind"] == kind and not row.get("fault")))
            for kind in SHARES
        }
        return {
            "inputs": len(rows),
            "seed": self.seed,
            "by the command as well": sum(row.get("command", False) for row in rows),
            "faults": faults,
            "outcomes": by_kind,
            "longest seconds": round(max(row.get("seconds", 0.0) for row in rows), 2),
            "processor seconds": round(self.seconds),
            "versions": versions(),
        }

    def _learn(self) -> None:
        """A run folder, and a checkpoint in it."""
        import gc
        import os

        write_images(self.place / "photos", 0, 24)
        os.environ["NOLABEL_CACHE"] = str(self.place / "cache")
        words = ["learn", str(self.place / "photos"), "--method", "simclr", "--out", str(self.place / "run"), *TINY]
        more = ["--epochs", "1", "--batch-size", "12", "--lr", "0.01", "--set", "projection=(16,8)"]

        def keep() -> None:
            from nolabel.training import loop

            def finish(*given: Any) -> None:
                fit = next(one for one in gc.get_objects() if isinstance(one, loop.Fit))
                fit.checkpoint()
                shutil.copy(self.place / "run" / "checkpoint.safetensors", self.place / "checkpoint.safetensors")
                usual(*given)

            usual, loop._finish = loop._finish, finish

        ended = Process(command([*words, *more], keep), self.place / "log").whole()
        assert ended.code == 0, ended.said
        shutil.move(self.place / "checkpoint.safetensors", self.place / "run" / "checkpoint.safetensors")

    def _random(self, number: int) -> random.Random:
        return random.Random(f"{self.seed} {number}")

    def _kind(self, number: int) -> str:
        return self._random(number).choices(list(SHARES), list(SHARES.values()))[0]

    def _read_from(self, start: int) -> None:
        """Inputs from a number on; what became of each is told at once."""
        warnings.simplefilter("ignore")
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, resource.RLIM_INFINITY))

        def late(*signals: Any) -> None:
            raise Slow

        signal.signal(signal.SIGALRM, late)
        with self.told.open("a") as told:
            for number in range(start, self.number):
                row = self._one(number)
                told.write(json.dumps(row) + "\n")
                told.flush()

    def _one(self, number: int) -> dict[str, Any]:
        rng = self._random(number)
        kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
        row: dict[str, Any] = {"number": number, "kind": kind}
        folder = self.place / "input"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if kind == "run":
            damaged = rng.choice(FILES)
            path = folder / "given"
            shutil.copytree(self.place / "run", path)
            row["damaged"] = self._damage(path, damaged, rng)
            work: Callable[[], object] = lambda: read_run(path, damaged)  # noqa: E731
            words = ["search", str(path), "id:1"]
        else:
            path = folder / f"given.{kind}"
            path.write_bytes(made(kind, rng))
            work = lambda: read_file(path, folder / "cache")  # noqa: E731
            words = ["embed", str(self.place / "run"), str(path), "--out", str(folder / "z.npy")]
        begun = time.monotonic()
        signal.alarm(LONGEST)
        try:
            row |= self._outcome(work)
            if rng.random() < BY_COMMAND:
                row["command"] = True
                row |= self._by_command(words)
        finally:
            signal.alarm(0)
        return row | {"seconds": round(time.monotonic() - begun, 3)}

    def _damage(self, run: Path, name: str, rng: random.Random) -> str:
        files = [run / name] if (run / name).is_file() else sorted(p for p in (run / name).rglob("*") if p.is_file())
        path = rng.choice(files)
        mutations.damaged_file(path, {".json": "json", ".jsonl": "text"}.get(path.suffix, ""), rng)
        if name == "model.safetensors" and rng.random() < 0.5:  # of the size that is expected, but of other content
            config = json.loads((run / "config.json").read_text())
            (run / "config.json").write_text(json.dumps(config | {"tensor_bytes": path.stat().st_size}))
        return str(path.relative_to(run))

    def _outcome(self, work: Callable[[], object]) -> dict[str, Any]:
        """What came of it: ``read``, ``refused``, or a fault and its end."""
        import traceback

        try:
            work()
        except REFUSALS as error:
            said = " ".join(str(error).split())
            if not type(error).__module__.startswith("pyarrow") and ("given" in said or "column" in said):
                return {"outcome": "refused"}
            fault, trace = f"names nothing: {type(error).__name__}: {said[:300]}", traceback.format_exc()
        except Slow:
            fault, trace = f"took more than {LONGEST} s", traceback.format_exc()
        except BaseException as error:
            fault, trace = f"{type(error).__name__}: {str(error)[:300]}", traceback.format_exc()
        else:
            return {"outcome": "read"}
        return {"fault": True, "outcome": fault, "trace": trace[-1500:]}

    def _by_command(self, words: list[str]) -> dict[str, Any]:
        """The command itself: done, or exit code 2 and one line."""
        out, err = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                command(words)()
            code: Any = 0
        except SystemExit as stop:
            code = stop.code
        except Slow:
            return {"fault": True, "outcome": f"nolabel {words[0]} took more than {LONGEST} s"}
        lines = [line for line in err.getvalue().splitlines() if not line.startswith("nolabel: warning:")]
        if code == 0 or (code == 2 and len(lines) == 1 and lines[0].startswith("nolabel: ")):
            return {}
        return {"fault": True, "outcome": f"nolabel {words[0]}: exit code {code}, {err.getvalue()[-600:]}"}
