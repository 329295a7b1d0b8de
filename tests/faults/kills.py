"""`kill -9` at random moments: what is run again ends as if nothing had happened.

Every job is run once unbroken. Then it is begun, killed at a moment drawn uniformly from all of its processor time, that of
its last file included, and begun again as a person would, perhaps to be killed again; what it ends with must be what the
unbroken run ended with: weights bit by bit, rows of the index, tables, and no file more or less.
"""

import hashlib
import json
import platform
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.processes import Ended, Process, command

MOST_IN_A_ROW = 4
#: Jobs that are also begun twice at the same time on one folder.
TOGETHER = ("learn", "clean", "embed --add")
TINY = ["--encoder", "resnet10-x0.125", "--size", "16"]


def write_images(folder: Path, first: int, count: int) -> None:
    """Some of scikit-learn's digits as files, a sub-folder a digit."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    for row in range(first, first + count):
        place = folder / str(data.target[row])
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.rint(data.images[row] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{row:04}.png")


def often_saved() -> None:
    """A checkpoint after every step, so that kills find many."""
    from nolabel.training import Training

    assert Training.__init__.__kwdefaults__ is not None
    Training.__init__.__kwdefaults__["checkpoint_seconds"] = 0.0


def digest_of_index(folder: Path) -> str:
    """Ids, vectors and payload of all rows."""
    from nolabel.search import Index

    table = Index.open(folder).rows().sort_by("id").combine_chunks()
    return hashlib.sha256(repr(table.to_pydict()).encode()).hexdigest()


def files_of(folder: Path) -> list[str]:
    """Files and folders, without what lies in the index (its files have random names) and the derived structures."""
    inside = (path.relative_to(folder) for path in folder.rglob("*"))
    return sorted(
        str(path) for path in inside if path.parts[0] not in ("index.lance", "index.faiss") or len(path.parts) == 1
    )


@dataclass
class Job:
    """Something to be killed, in a folder of its own."""

    place: Path
    unbroken: dict[str, Any] = field(default_factory=dict)
    duration: float = 0.0

    def begin(self, folder: Path) -> Callable[[], object]:
        """The work, when it is begun for the first time."""
        raise NotImplementedError

    def again(self, folder: Path) -> Sequence[Callable[[], object]]:
        """What a person does after a kill: the next is tried where one is refused."""
        return [self.begin(folder)]

    def result(self, folder: Path) -> dict[str, Any]:
        """What the folder ends with."""
        raise NotImplementedError

    def prepare(self, folder: Path) -> None:
        folder.mkdir(parents=True)


class Learn(Job):
    def begin(self, folder: Path, *more: str) -> Callable[[], object]:
        words = ["learn", str(self.place / "photos"), "--out", str(folder / "run"), "--method", "simclr", *TINY, *more]
        budget = ["--epochs", "4", "--batch-size", "16", "--lr", "0.01", "--set", "projection=(16,8)"]
        return command([*words, *budget], often_saved)

    def again(self, folder: Path) -> Sequence[Callable[[], object]]:
        return [self.begin(folder, "--resume"), self.begin(folder)]

    def result(self, folder: Path) -> dict[str, Any]:
        run = folder / "run"
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        told = json.loads((run / "config.json").read_text())
        return {
            "weights": hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(),
            "losses": [(row["step"], row.get("loss"), row.get("rankme")) for row in rows],
            "params": told["params"],
            "index": digest_of_index(run),
            "files": files_of(run),
        }


class Clean(Job):
    def begin(self, folder: Path, *more: str) -> Callable[[], object]:
        words = ["clean", str(self.place / "photos"), "--out", str(folder / "run"), *TINY]
        return command([*words, "--epochs", "1", "--pretrain-epochs", "1", *more], often_saved)

    def again(self, folder: Path) -> Sequence[Callable[[], object]]:
        return [self.begin(folder, "--resume")]

    def result(self, folder: Path) -> dict[str, Any]:
        run = folder / "run"
        return {
            "weights": hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(),
            "suspects": (run / "suspects.csv").read_text(),
            "index": digest_of_index(run),
            "files": files_of(run),
        }


class Embed(Job):
    def begin(self, folder: Path) -> Callable[[], object]:
        return command(
            ["embed", str(self.place / "learned"), str(self.place / "photos"), "--out", str(folder / "z.parquet")]
        )

    def result(self, folder: Path) -> dict[str, Any]:
        import pyarrow.parquet as pq

        return {"table": repr(pq.read_table(folder / "z.parquet").to_pydict()), "files": files_of(folder)}


class EmbedAdd(Embed):
    def prepare(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        shutil.copytree(self.place / "learned", folder / "run")

    def begin(self, folder: Path) -> Callable[[], object]:
        out = str(folder / "z.parquet")
        return command(["embed", str(folder / "run"), str(self.place / "more"), "--add", "--out", out])

    def result(self, folder: Path) -> dict[str, Any]:
        return super().result(folder) | {"index": digest_of_index(folder / "run"), "files": files_of(folder / "run")}


class IndexAdd(Job):
    """Batches of rows through the library, some of the first deleted, and a structure built over them."""

    BATCHES, ROWS = 24, 60

    def begin(self, folder: Path) -> Callable[[], object]:
        def work() -> None:
            import numpy as np

            from nolabel.search import Index, derived

            derived.BESIDE_ROWS = 300  # small enough for a structure
            made = (folder / "index.lance" / "_versions").is_dir()
            index = Index.open(folder) if made else Index.create(folder, 8)
            done = index.ids()
            for batch in range(0 if not len(done) else int(done.max()) // self.ROWS + 1, self.BATCHES):
                rng = np.random.default_rng(batch)
                ids = np.arange(batch * self.ROWS, (batch + 1) * self.ROWS)
                index.add(rng.normal(size=(self.ROWS, 8)), {"batch": [batch] * self.ROWS}, ids)
                if batch % 6 == 5:
                    index.search(np.ones(8), 3)
            index.delete(where="batch = 0")
            index.compact()

        return work

    def result(self, folder: Path) -> dict[str, Any]:
        import numpy as np

        from nolabel.search import Index, derived

        derived.BESIDE_ROWS = 300
        hits = Index.open(folder).search(np.ones(8), 5)
        return {"index": digest_of_index(folder), "hits": hits.ids.tolist(), "files": files_of(folder)}


JOBS: dict[str, type[Job]] = {
    "learn": Learn,
    "clean": Clean,
    "embed": Embed,
    "embed --add": EmbedAdd,
    "index add": IndexAdd,
}
#: How often each is killed, of so many.
SHARES = {"learn": 5, "clean": 4, "embed": 3, "embed --add": 3, "index add": 5}
STAGES = (
    "report.json",
    "report.html",
    "index.lance",
    "config.json",
    "checkpoint.safetensors",
    "metrics.jsonl",
    "z.parquet",
)


class Killing:
    """A number of kills of all jobs, in a folder."""

    def __init__(self, place: Path, kills: int, seed: int, tell: Callable[[str], object]) -> None:
        self.place, self.kills, self.seed, self.tell = place, kills, seed, tell
        self.random = random.Random(seed)
        self.rows: list[dict[str, Any]] = []
        self.together: list[str] = []
        self.durations: dict[str, float] = {}
        self.seconds = 0.0

    def run(self) -> dict[str, Any]:
        write_images(self.place / "photos", 0, 48)
        write_images(self.place / "more", 100, 20)
        self._whole(Learn(self.place).begin(self.place / "base"), self.place / "cache")
        shutil.move(self.place / "base" / "run", self.place / "learned")
        total = sum(SHARES.values())
        left = self.kills
        for at, (name, share) in enumerate(SHARES.items()):
            wanted = left if at == len(SHARES) - 1 else round(self.kills * share / total)
            left -= wanted
            if wanted:
                self._job(name, JOBS[name](self.place), wanted)
        return {
            "kills": len(self.rows),
            "two at once": self.together,
            "seed": self.seed,
            "same": sum(row["outcome"] == "same" for row in self.rows),
            "processor seconds": round(self.seconds),
            "one run": self.durations,
            "versions": versions(),
            "rows": self.rows,
        }

    def _job(self, name: str, job: Job, wanted: int) -> None:
        folder = self.place / "unbroken"
        job.prepare(folder)
        job.duration = self._whole(job.begin(folder), folder / "cache").seconds
        self.durations[name] = round(job.duration, 2)
        job.unbroken = self._result(job, folder)
        shutil.rmtree(folder)
        if name in TOGETHER:
            self.together.append(f"{name}: {self._two(job)}")
        done = 0
        while done < wanted:
            rows = self._trial(name, job, min(wanted - done, self.random.randint(1, MOST_IN_A_ROW)))
            done += len(rows)
            self.rows += rows
            shares = ", ".join(str(row["share"]) for row in rows)
            self.tell(f"{name}: {shares} of {job.duration:.1f} s: {rows[-1]['outcome'] if rows else 'ended first'}")

    def _two(self, job: Job) -> str:
        """Two at once on one folder, the second begun while the first is at work: it waits, or is refused in one line."""
        folder = self.place / "shared"
        job.prepare(folder)
        first = self._process(job.begin(folder), folder / "cache")
        assert first.after(self.random.uniform(0.2, 0.7) * job.duration) is None
        second = Process(job.begin(folder), self.place / "log of the second").whole()
        lines = [line for line in second.said.splitlines() if line.startswith("nolabel: ")]
        ended = first.whole()
        self.seconds += ended.seconds + second.seconds
        same = ended.code == 0 and self._result(job, folder) == job.unbroken
        shutil.rmtree(folder)
        refused = (
            second.code == 2 and len(lines) == len(second.said.splitlines()) == 1 and "in use by process" in lines[0]
        )
        if same and (refused or second.code == 0):
            return "refused" if refused else "waited"
        return f"{'same' if same else 'another result'}; {second.code} {second.said[-500:]}"

    def _trial(self, name: str, job: Job, most: int) -> list[dict[str, Any]]:
        """Up to `most` kills of one folder; it may end before one of them."""
        folder = self.place / "killed"
        job.prepare(folder)
        rows: list[dict[str, Any]] = []
        work = [job.begin(folder)]
        for number in range(most):
            share = self.random.random()
            process = self._process(work[0], folder / "cache")
            if process.after(share * job.duration) is not None:
                break  # there was less left to do
            self.seconds += process.kill().seconds
            found = [file for file in STAGES if any(folder.rglob(file))]
            rows.append({"job": name, "share": round(share, 3), "in a row": number + 1, "left": found})
            work = list(job.again(folder))
        ended = self._finished(work, folder / "cache")
        outcome = "same"
        if ended.code != 0 and "finished run" not in ended.said:
            outcome = f"exit {ended.code}: {ended.said[-600:]}"
        else:
            result = self._result(job, folder)
            different = [key for key in job.unbroken if result.get(key) != job.unbroken[key]]
            if different:
                outcome = f"another {', '.join(different)}: {[result.get(key) for key in different]}"[:600]
        shutil.rmtree(folder)
        assert rows or outcome == "same", outcome
        return [row | {"outcome": outcome} for row in rows]

    def _finished(self, work: Sequence[Callable[[], object]], cache: Path) -> Ended:
        for each in work:
            ended = self._process(each, cache).whole()
            self.seconds += ended.seconds
            if ended.code != 2:
                break
        return ended

    def _whole(self, work: Callable[[], object], cache: Path) -> Ended:
        ended = self._finished([work], cache)
        assert ended.code == 0, ended.said
        return ended

    def _result(self, job: Job, folder: Path) -> dict[str, Any]:
        """Read in a fork too: Lance must not have been at work in a process that forks."""
        out = self.place / "result.json"
        out.unlink(missing_ok=True)
        ended = self._process(lambda: out.write_text(json.dumps(job.result(folder))), folder / "cache").whole()
        self.seconds += ended.seconds
        assert ended.code == 0, ended.said
        found: dict[str, Any] = json.loads(out.read_text())
        return found

    def _process(self, work: Callable[[], object], cache: Path) -> Process:
        import os

        os.environ["NOLABEL_CACHE"] = str(cache)
        return Process(work, self.place / "log")


def versions() -> dict[str, str]:
    import importlib.metadata

    import nolabel

    names = ("torch", "lancedb", "pyarrow", "pillow", "safetensors", "faiss-cpu")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"nolabel": nolabel.__version__, "python": platform.python_version(), "system": platform.system(), **found}
