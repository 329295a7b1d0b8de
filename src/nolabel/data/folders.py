"""The files of a kind below a folder, in a fixed order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Listing:
    """What a walk through a folder met."""

    files: list[str] = field(default_factory=list)  # relative, with forward slashes, sorted
    others: Counter[str] = field(default_factory=Counter)  # endings of other files
    links: list[str] = field(default_factory=list)  # symbolic links that lead out of the folder, or nowhere
    closed: list[str] = field(default_factory=list)  # sub-folders that may not be listed

    def found_instead(self) -> str:
        parts = [f"{count} {ending or 'without ending'}" for ending, count in self.others.most_common(5)]
        parts += [f"{len(self.links)} links that leave the folder"] if self.links else []
        parts += [f"{len(self.closed)} folders that may not be read"] if self.closed else []
        return ", ".join(parts) or "nothing"


def list_files(folder: Path, endings: Sequence[str]) -> Listing:
    """Find every file below ``folder`` with one of the endings.

    Hidden names are passed over, links are not followed out of the folder.

    A link to a sub-folder inside the folder adds nothing: its files are found where they are.
    """
    root = os.path.realpath(folder)
    listing = Listing()
    pending = [""]
    while pending:
        below = pending.pop()
        try:
            entries = list(os.scandir(os.path.join(root, below)))
        except PermissionError:
            listing.closed.append(below or ".")
            continue
        for entry in entries:
            relative = f"{below}/{entry.name}" if below else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                target = os.path.realpath(entry.path)
                inside = target == root or target.startswith(root + os.sep)
                if not inside or not os.path.exists(target):
                    listing.links.append(relative)
                    continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(relative)
            elif entry.is_file():
                ending = os.path.splitext(entry.name)[1].lower()
                if ending in endings:
                    listing.files.append(relative)
                else:
                    listing.others[ending] += 1
    listing.files.sort()
    listing.links.sort()
    return listing
