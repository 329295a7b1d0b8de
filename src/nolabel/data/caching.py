"""Where decoded data is kept."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_passing: ContextVar[Path | None] = ContextVar("passing", default=None)


def cache_root() -> Path:
    """``$NOLABEL_CACHE``, or ``~/.cache/nolabel``; within `passing_cache` a folder of its own."""
    place = _passing.get() or os.environ.get("NOLABEL_CACHE")
    return Path(place).expanduser() if place else Path.home() / ".cache" / "nolabel"


@contextmanager
def passing_cache() -> Iterator[None]:
    """What is decoded within the block, on this thread, is gone after it: for data that is looked at once.

    >>> with passing_cache():
    ...     inside = cache_root()
    >>> inside.exists(), inside == cache_root()
    (False, False)
    """
    with tempfile.TemporaryDirectory(prefix="nolabel-") as folder:
        token = _passing.set(Path(folder))
        try:
            yield
        finally:
            _passing.reset(token)
