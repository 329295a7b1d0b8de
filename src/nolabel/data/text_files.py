"""Texts and pages in files of their own: one line a row, or one file a row."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from nolabel.data.encodings import decoded

TEXTS = (".txt", ".md", ".rst")
PAGES = (".html", ".htm", ".xhtml")


def read_lines(path: Path) -> dict[str, list[object]]:
    """Columns ``text`` and ``line`` (from 1): the lines of a file that hold something.

    Bytes that are no UTF-8 (or what a byte-order mark says) become U+FFFD; one warning counts the lines.
    """
    lines = _text(path).splitlines()
    kept = [(line, number) for number, line in enumerate(lines, 1) if line.strip()]
    damaged = [number for line, number in kept if "\ufffd" in line]
    if damaged:
        warnings.warn(
            f"{path}: {len(damaged)} lines hold bytes that are no text, read as U+FFFD; first line {damaged[0]}",
            stacklevel=2,
        )
    return {"text": [line for line, _ in kept], "line": [number for _, number in kept]}


def read_files(root: Path, relative: Sequence[str]) -> list[str]:
    """The content of text files or pages; one warning counts those with bytes that are no text."""
    contents = [_text(root / name) for name in relative]
    damaged = [name for name, text in zip(relative, contents, strict=True) if "\ufffd" in text]
    if damaged:
        count = f"{len(damaged)} of {len(relative)} files"
        warnings.warn(f"{root}: {count} hold bytes that are no text, read as U+FFFD; first {damaged[0]}", stacklevel=2)
    return contents


def _text(path: Path) -> str:
    return decoded(path.read_bytes(), None if path.suffix.lower() in PAGES else "utf-8")[0]
