"""The run folders that a command works in, kept from other processes until it ends."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_held = ExitStack()


def claim(folder: Path) -> None:
    """Be the only process that writes a run folder; BlockingIOError names the one that does already."""
    from nolabel.training.unfinished import locked

    _held.enter_context(locked(folder))


@contextmanager
def let_go() -> Iterator[None]:
    """Let go of what was claimed meanwhile, however the block ends."""
    try:
        yield
    finally:
        _held.close()
