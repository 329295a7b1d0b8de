"""Processes to be killed: forks of one that has imported everything, and has begun no thread that works."""

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before what follows is imported: threads do not survive a fork

PATIENCE = 120.0  # seconds after which a process hangs


def ready() -> None:
    """Import what the commands need, so that a fork works from its first moment on.

    Lance warns of forks while it is at work; here it works in forks alone.
    """
    import importlib

    warnings.filterwarnings("ignore", message="lancedb fork support")

    import torch

    torch.set_num_threads(1)
    from nolabel.cli.catalogue import systems

    systems()
    for module in (
        *(
            "datasets",
            "nolabel.cli.app",
            "nolabel.cli.graphs",
            "nolabel.cli.run",
            "nolabel.cli.claims",
            "nolabel.cli.contents",
            "nolabel.cli.classified",
        ),
        *("nolabel.cli.classify_images", "nolabel.data.images", "nolabel.data.reading", "nolabel.data.thumbnails"),
        *("nolabel.report.report", "nolabel.search.index", "nolabel.training.loop", "nolabel.training.encoding"),
        *("nolabel.data.dom", "pandas", "pyarrow.csv", "pyarrow.json", "pyarrow.parquet", "sklearn.manifold"),
        *("lightning_fabric", "torch._dynamo", "xxhash"),
    ):
        importlib.import_module(module)


@dataclass
class Ended:
    """How a process ended: exit code (None: it hung), what it printed, processor seconds."""

    code: int | None
    said: str
    seconds: float


class Process:
    """A fork of this process that runs a function; what it prints goes to a file."""

    def __init__(self, work: Callable[[], object], log: Path) -> None:
        self.log, self.begun = log, time.monotonic()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                code = self._child(work)
            finally:
                os._exit(code)
        os.setpgid(self.pid, self.pid)  # a group of its own, to be killed with all that it starts

    def _child(self, work: Callable[[], object]) -> int:
        import faulthandler
        import traceback

        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        sys.stdout = sys.stderr = open(1, "w", closefd=False)  # noqa: SIM115 (as long as the process)
        faulthandler.enable()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            work()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        except BaseException:
            traceback.print_exc()
            code = 70
        sys.stdout.flush()
        return code

    def ended(self, within: float = PATIENCE) -> Ended | None:
        """How it ended; None while it runs after so many seconds."""
        limit = time.monotonic() + within
        while True:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                said = self.log.read_text(errors="replace")
                return Ended(os.waitstatus_to_exitcode(status), said, used.ru_utime + used.ru_stime)
            if time.monotonic() >= limit:
                return None
            time.sleep(0.002)

    def after(self, seconds: float) -> Ended | None:
        """How it ended; None once it has used so many processor seconds."""
        clock = (~self.pid << 3) | 2  # the kernel's name for the processor time of a process
        while True:
            ended = self.ended(within=0.0)
            if ended is not None:
                return ended
            if time.clock_gettime(clock) >= seconds:
                return None
            assert time.monotonic() < self.begun + PATIENCE, "it hangs"
            time.sleep(0.0005)

    def whole(self) -> Ended:
        """How it ended by itself; killed if it hangs."""
        ended = self.ended()
        if ended is not None:
            return ended
        self.kill()
        said = self.log.read_text(errors="replace")
        return Ended(None, said, 0.0)

    def kill(self) -> Ended:
        """`kill -9`, of everything that it started as well."""
        os.killpg(self.pid, signal.SIGKILL)
        ended = self.ended()
        assert ended is not None
        return ended


def command(words: Sequence[str], before: Callable[[], object] = lambda: None) -> Callable[[], object]:
    """`nolabel` with these words, as a function for a `Process`."""

    def work() -> object:
        from nolabel.cli.app import main

        before()
        sys.argv = ["nolabel", *words]
        return main(list(words))

    return work
