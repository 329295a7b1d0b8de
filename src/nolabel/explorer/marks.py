"""Marks and tags that a person gives to items: columns of the index, saved at once, taken back step by step.

A journal beside the index holds for each step who made it, what was there before and what came after. It is written before
the index is, so that a step which a killed process left half-done is known as one that never happened.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from nolabel.data.locks import exclusive
from nolabel.explorer.opened import FOLDER, NoSuchItem, OpenRun
from nolabel.search.files import when_free

MARKS = ("keep", "drop", "wrong label")
COLUMN, TAGS = "curated", "curated_tags"
SEPARATOR = ", "
JOURNAL = "marks.jsonl"
TAG_LENGTH = 60


class CannotUndo(Exception):
    """Nothing to undo, or others changed the same items since."""


@dataclass(frozen=True)
class Step:
    """One change: its number, whose it is, and mark and tags of each item before and after."""

    step: int
    session: str
    ids: list[int]
    before: list[list[str | None]]
    after: list[list[str | None]]
    said: str


def tags_of(cell: str | None) -> list[str]:
    """
    >>> tags_of("blurred, night"), tags_of(None)
    (['blurred', 'night'], [])
    """
    return cell.split(SEPARATOR) if cell else []


def checked_tag(tag: str) -> str:
    """A tag without the spaces around it.

    >>> checked_tag("a, b")
    Traceback (most recent call last):
    ValueError: tag: up to 60 characters without commas or line breaks were expected, got 'a, b'
    """
    found = " ".join(tag.split(" ")).strip()
    if not found or len(found) > TAG_LENGTH or "," in found or not found.isprintable():
        raise ValueError(
            f"tag: up to {TAG_LENGTH} characters without commas or line breaks were expected, got {tag[:80]!r}"
        )
    return found


class Marks:
    """The marks of a run; any number of browsers and other writers of the index at the same time."""

    def __init__(self, run: OpenRun) -> None:
        self.run = run
        self._lock = threading.Lock()

    @property
    def journal(self) -> Path:
        return self.run.folder / FOLDER / JOURNAL

    def summary(self, session: str = "") -> dict[str, Any]:
        """How many items have each mark and tag, and what this session would undo."""
        marks, tags = Counter[str](dict.fromkeys(MARKS, 0)), Counter[str]()
        index = self.run.index
        if COLUMN in index.schema.names:
            table = index.rows(columns=[COLUMN, TAGS])
            marks.update(mark for mark in table[COLUMN].to_pylist() if mark)
            tags.update(tag for cell in table[TAGS].to_pylist() for tag in tags_of(cell))
        last = self._last(session)
        return {
            "marks": dict(marks),
            "tags": dict(sorted(tags.items())),
            "undo": None if last is None else last.said,
            "version": index.version,
        }

    def change(
        self,
        ids: Sequence[int],
        session: str,
        *,
        mark: str | None = None,
        marks: bool = False,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
    ) -> int:
        """Set the mark of items (None takes it away) where `marks` says so, add and remove tags; how many items changed.

        Raises
        ------
        ValueError : an unknown mark, a tag that is none
        NoSuchItem : an id that the index does not hold; nothing is changed
        BlockingIOError : another process has been writing the index for half a minute
        """
        if mark is not None and mark not in MARKS:
            raise ValueError(f"mark: expected {', '.join(MARKS)} or null, got {mark[:40]!r}")
        added, removed = [checked_tag(tag) for tag in add], {checked_tag(tag) for tag in remove}
        numbers = list(dict.fromkeys(ids))

        def changed(now: list[str | None]) -> list[str | None]:
            tags = [tag for tag in tags_of(now[1]) if tag not in removed]
            tags += [tag for tag in dict.fromkeys(added) if tag not in tags]
            return [mark if marks else now[0], SEPARATOR.join(tags) or None]

        words = (
            ([mark or "no mark"] if marks else []) + [f"+{tag}" for tag in added] + [f"-{t}" for t in sorted(removed)]
        )
        with self._writing():
            now = self._values(numbers)
            after = [changed(values) for values in now]
            rows = [at for at, values in enumerate(now) if values != after[at]]
            if not rows:
                return 0
            said = f"{', '.join(words)}: {len(rows):,} item{'s' * (len(rows) > 1)}"
            steps = self._steps()
            number = 1 + max((step.step for step in steps.values()), default=0)
            step = Step(
                number,
                session,
                [numbers[at] for at in rows],
                [now[at] for at in rows],
                [after[at] for at in rows],
                said,
            )
            self._append(asdict(step))
            self._set(step.ids, step.after)
            return len(rows)

    def undo(self, session: str) -> int:
        """Take the last step of a session back; how many items changed.

        Raises
        ------
        CannotUndo : there is none, or an item was changed by somebody else, or is gone, since
        """
        with self._writing():
            while (step := self._last(session)) is not None:
                try:
                    now = self._values(step.ids)
                except NoSuchItem as error:
                    raise CannotUndo(f"{step.said} cannot be undone: {error}") from None
                if now == step.before:  # the process was killed before it got there
                    self._append({"undone": step.step})
                    continue
                other = [number for number, a, b in zip(step.ids, now, step.after, strict=True) if a != b]
                if other:
                    raise CannotUndo(f"{step.said} cannot be undone: item {other[0]} was changed again since")
                self._set(step.ids, step.before)
                self._append({"undone": step.step})
                return len(step.ids)
            raise CannotUndo("there is nothing to undo")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One change at a time: among the threads of this process, and among explorers of one run."""
        self.journal.parent.mkdir(exist_ok=True)
        with self._lock, exclusive(self.journal.with_suffix(".lock"), str(self.journal), wait=True):
            yield

    def _values(self, ids: list[int]) -> list[list[str | None]]:
        """Mark and tags of items, as they are."""
        index = self.run.index
        names = [name for name in (COLUMN, TAGS) if name in index.schema.names]
        try:
            table = index.rows(ids, ["id", *names])
        except ValueError as error:
            raise NoSuchItem(str(error).removeprefix("ids: ")) from None
        if len(names) < 2:
            return [[None, None] for _ in ids]
        return [list(pair) for pair in zip(table[COLUMN].to_pylist(), table[TAGS].to_pylist(), strict=True)]

    def _set(self, ids: list[int], values: list[list[str | None]]) -> None:
        marks, tags = (pa.array([pair[at] for pair in values], pa.string()) for at in (0, 1))
        payload = pa.table({COLUMN: marks, TAGS: tags})
        when_free(lambda: self.run.index.update(ids, payload=payload))  # `nolabel embed --add` may be at it

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with self.journal.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                text = text if file.read() == b"\n" else b"\n" + text  # the half line of a killed process stays alone
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _steps(self) -> dict[int, Step]:
        """The steps that were not undone, oldest first; the half line of a killed process is passed over."""
        found: dict[int, Step] = {}
        if not self.journal.exists():
            return found
        for line in self.journal.read_bytes().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if "undone" in entry:
                found.pop(entry["undone"], None)
            else:
                found[entry["step"]] = Step(**entry)
        return found

    def _last(self, session: str) -> Step | None:
        own = [step for step in self._steps().values() if step.session == session]
        return own[-1] if own else None
