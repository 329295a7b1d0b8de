"""What the peers' processes share: requests answered line by line, and steps timed in slots. Standard library alone."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

LEAST_STEPS = 2  # of a timed slot


def serve(answer: Callable[..., dict[str, Any]]) -> None:
    """Answer every line of JSON on standard input by one on standard output."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed must not come between the answers
    for request in map(json.loads, sys.stdin):
        answers.write(json.dumps(answer(**request)) + "\n")


class Slot:
    """Batches of a loader, again and again: some to warm up, then batches that count, until the time is over.

    A step has ended when the next batch is asked for. The warm-up takes at least `warm` seconds and one step, what counts at
    least `seconds` and two steps; ``measured`` then says ``steps``, ``seconds`` and how long the steps ``waited`` for data.
    """

    def __init__(self, loader: Iterable[Any], *, warm: float, seconds: float) -> None:
        self.loader, self.warm, self.seconds = loader, warm, seconds
        self.measured: dict[str, float] = {}

    def __len__(self) -> int:
        return 10**6  # what a schedule may ask for

    def _endless(self) -> Iterator[Any]:
        while True:
            yield from self.loader

    def __iter__(self) -> Iterator[Any]:
        batches, begun = self._endless(), time.perf_counter()
        started, steps, waited = None, 0, 0.0
        while True:
            now = time.perf_counter()
            if started is None and steps and now - begun >= self.warm:
                started, steps, waited = now, 0, 0.0
            elif started is not None and steps >= LEAST_STEPS and now - started >= self.seconds:
                self.measured = {"steps": steps, "seconds": now - started, "waited": waited}
                batches.close()  # ends the worker processes
                return
            batch = next(batches)
            waited += time.perf_counter() - now
            yield batch
            steps += 1
