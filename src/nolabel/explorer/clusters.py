"""The clusters of a run, named by the words that tell them apart or by number."""

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nolabel.explorer.opened import OpenRun, Rows
from nolabel.report.groups import Group, cluster_rows, describe_groups
from nolabel.report.vectors import near_duplicates
from nolabel.report.words import READ_ROWS, typical_words

SAYS = "k-means on the vectors, as many clusters as the size of the run asks for; no label was used"
SEED = 0


@dataclass(frozen=True)
class Named:
    """A cluster with its words."""

    group: Group
    name: str
    words: list[str]

    @property
    def size(self) -> int:
        return self.group.size


@dataclass(frozen=True)
class Grouping:
    """All clusters of some rows, largest first: `codes` int64 (n,) are positions in `groups`."""

    groups: list[Named]
    codes: np.ndarray = field(repr=False)


class Clusters:
    """The clusters of a run, made when they are first asked for and again when rows came or went."""

    def __init__(self, run: OpenRun) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._made: tuple[str, Grouping] | None = None

    def of(self, rows: Rows) -> Grouping:
        """The clusters of these rows."""
        with self._lock:
            if self._made is None or self._made[0] != rows.key:
                self._made = (rows.key, self._make(rows))
            return self._made[1]

    def members(self, rows: Rows, label: int) -> np.ndarray:
        """Ids of a cluster, the nearest to its centre first; LookupError if there is none of that number."""
        grouping = self.of(rows)
        if not 0 <= label < len(grouping.groups):
            raise LookupError(f"there is no cluster {label}: they are numbered 0 to {len(grouping.groups) - 1}")
        at = np.flatnonzero(grouping.codes == label)
        centre = rows.vectors[at].mean(axis=0)
        order = np.argsort(-(rows.vectors[at] @ centre), kind="stable")
        found: np.ndarray = rows.ids[at[order]]
        return found

    def _make(self, rows: Rows) -> Grouping:
        n = len(rows.ids)
        if n < 2:
            return Grouping([], np.zeros(n, dtype=np.int64))
        codes = cluster_rows(rows.vectors, SEED)
        duplicated, _ = near_duplicates(rows.vectors, SEED)
        groups = describe_groups(rows.vectors, codes, duplicated, first=1)
        order = {group.label: at for at, group in enumerate(groups)}
        codes = np.array([order[label] for label in range(len(groups))])[codes]
        words = self._words(rows, codes)
        named = [Named(g, ", ".join(words[at]) or g.name, words[at]) for at, g in enumerate(groups)]
        return Grouping(named, codes)

    def _words(self, rows: Rows, codes: np.ndarray) -> list[list[str]]:
        count = int(codes.max()) + 1
        if "text" not in self.run.index.schema.names:
            return [[] for _ in range(count)]
        chosen = np.sort(np.random.default_rng(SEED).permutation(len(codes))[:READ_ROWS])
        texts: list[Any] = self.run.column("text", rows.ids[chosen]).to_pylist()
        found = typical_words([text or "" for text in texts], codes[chosen])
        return [found.get(at, []) for at in range(count)]
