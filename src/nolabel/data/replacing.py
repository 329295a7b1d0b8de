"""Files that are there whole or not at all, and errors that name them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: Path, written: Path | None = None) -> Iterator[None]:
    """Let errors of the system, such as that of a full disk, name the file `path`.

    `written` is the temporary name under which it is written.

    >>> with naming(Path("report.html")):
    ...     raise OSError(28, "no room")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: 'report.html'
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and str(error.filename) != str(written):
            raise
        if error.errno is None:  # of a library that says it in its own words
            raise OSError(f"could not write {path}: {error}") from error
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary name with the same ending, which becomes `path` in one step when the block ends well."""
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    with naming(path, partial):
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a file under a name of this process alone, then put it in the place of the old one."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with naming(path, part), open(part, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
