"""One process at a time: a file that is locked while somebody writes beside it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def exclusive(lock: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the file `lock` alone among all processes and threads; it is there only as long as it is held.

    The kernel lets go of a lock when its holder dies, so a killed process never keeps the next one out.

    Parameters
    ----------
    lock : its folder must exist
    what : what may not be written meanwhile, in words
    wait : wait for whoever holds it

    Raises
    ------
    BlockingIOError : without `wait`, at once, naming the process that holds it
    OSError : the folder cannot be written
    """
    import fcntl

    descriptor = _locked(lock, what, wait)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        with suppress(OSError):  # a file that stays is taken by whoever comes next
            if _is_at(descriptor, lock):  # else the folder was deleted and made anew by others
                lock.unlink()  # while it is held: who waits for it sees that it is gone
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child has the descriptor too
        os.close(descriptor)


def _locked(lock: Path, what: str, wait: bool) -> int:
    """A descriptor of the locked file that has this name now, not of one that was removed while it was waited for."""
    import fcntl

    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, lock):
                return descriptor
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise BlockingIOError(f"{what} is in use by process {holder or 'unknown'}: wait for it") from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
