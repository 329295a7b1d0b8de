"""The peers' processes, seen from this side: started with the Python of their own environment, asked line by line."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any


def peers_python() -> str:
    python = os.environ.get("NOLABEL_PEERS")
    if not python or not Path(python).is_file():
        raise SystemExit(
            f"NOLABEL_PEERS must name the Python of the peers' environment, got {python!r}: make one with "
            "`python3 -m venv peers && peers/bin/pip install -r benchmarks/speed/requirements.txt` and set "
            "NOLABEL_PEERS=peers/bin/python"
        )
    return python


class Peer:
    """A peer in an environment and process of its own; it works only while a request, a line of JSON, is answered.

    ``name`` is that of its module in this folder, which the peer's Python runs.
    """

    def __init__(self, name: str) -> None:
        self.process = subprocess.Popen(
            [peers_python(), "-m", f"benchmarks.speed.{name}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            bufsize=1, cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request, one answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the peer ended while it worked on {request}; its error stands above")
        found: dict[str, Any] = json.loads(answer)
        return found

    def best_workers(self, **request: Any) -> tuple[int, dict[str, float]]:
        """The number of loader processes with which the peer is fastest here, and images a second with each."""
        rates = {}
        for workers in (0, 1, 2):
            slot = self.ask(do="time", workers=workers, **request)
            rates[str(workers)] = slot["images"] / slot["seconds"]
        return int(max(rates, key=lambda workers: rates[workers])), rates
