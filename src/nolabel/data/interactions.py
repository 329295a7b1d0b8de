"""Logs of who took what: read, numbered, and split so that nothing of the test is seen in training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from nolabel.data.categories import FeatureTable, cells_of
from nolabel.data.columns import require_column
from nolabel.data.fingerprints import fingerprint
from nolabel.data.sources import Skipped
from nolabel.ops.hashing import hash64, is_missing

USER, ITEM, RATING, TIME = "user", "item", "rating", "timestamp"
#: Unknown ids that an error names.
NAMED = 5


class Identifiers:
    """Numbers 0 to n - 1 for n distinct ids; 17, "17" and 17.0 are one id.

    Parameters
    ----------
    values : distinct ids, texts or whole numbers

    Raises
    ------
    ValueError
        An id that comes twice.

    >>> Identifiers(["a", "b"]).codes(["b", "x"]).tolist()
    [1, -1]
    """

    def __init__(self, values: Any, name: str = "ids") -> None:
        self.values = as_ids(values)
        keys = hash64(self.values)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        twice = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        if len(twice):
            which = [self.values[self._order[place]] for place in twice[:NAMED]]
            raise ValueError(f"{name}: {len(twice)} come more than once, such as {', '.join(map(str, which))}")

    def __len__(self) -> int:
        return len(self.values)

    def codes(self, ids: Any) -> np.ndarray:
        """The number of each id, int64; -1 for unknown ones."""
        keys = hash64(as_ids(ids))
        if not len(self):
            return np.full(len(keys), -1)
        place = np.searchsorted(self._sorted, keys).clip(max=len(self) - 1)
        return np.where(self._sorted[place] == keys, self._order[place], -1)


def as_ids(values: Any) -> np.ndarray:
    """Ids as int64, or as an object array of texts.

    Raises
    ------
    ValueError
        Missing ids.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        return values.astype(np.int64)
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise TypeError(f"ids must be a list or an array, got {type(values).__name__}")
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    kinds = set(map(type, listed))
    if kinds == {int} or kinds == {str}:
        return np.array(listed, np.int64 if kinds == {int} else object)
    if any(is_missing(value) for value in listed):
        raise ValueError(f"ids: {sum(is_missing(value) for value in listed)} of {len(listed)} are missing")
    listed = [int(value) if isinstance(value, float) and value.is_integer() else value for value in listed]
    if listed and all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in listed):
        return np.array(listed, np.int64)
    return np.array([value if isinstance(value, str) else str(value) for value in listed], object)


@dataclass(frozen=True, eq=False)
class Interactions:
    """Distinct pairs of a user and an item.

    Attributes
    ----------
    users, items : int64 (n,), numbers of the ids
    user_ids, item_ids : the ids by number
    times : float64 (n,) when, or None
    repeated : rows beyond the first of their pair (the last in time, if there are times)
    below : rows whose rating was too low
    skipped : rows without a user or an item
    """

    users: np.ndarray
    items: np.ndarray
    user_ids: Identifiers
    item_ids: Identifiers
    times: np.ndarray | None = None
    repeated: int = 0
    below: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> Interactions:
        """Some of the pairs, with the same numbers of users and items."""
        times = None if self.times is None else self.times[rows]
        return replace(self, users=self.users[rows], items=self.items[rows], times=times)

    def numbered(self, user_ids: Identifiers, item_ids: Identifiers) -> Interactions:
        """The same pairs under the numbers of other lists of ids.

        Raises
        ------
        ValueError
            Ids that these lists lack: how many, and some of them.
        """
        of_user = _found(user_ids, self.user_ids, self.users, USER)
        of_item = _found(item_ids, self.item_ids, self.items, ITEM)
        return replace(self, users=of_user[self.users], items=of_item[self.items], user_ids=user_ids, item_ids=item_ids)

    @cached_property
    def item_counts(self) -> np.ndarray:
        """How many users took each item, int64 (items,)."""
        return np.bincount(self.items, minlength=len(self.item_ids))

    def by_user(self) -> tuple[np.ndarray, np.ndarray]:
        """Items sorted by user, and where each user's begin: (n,) and (users + 1,)."""
        order = np.argsort(self.users, kind="stable")
        counts = np.bincount(self.users, minlength=len(self.user_ids))
        return self.items[order], np.concatenate([[0], counts.cumsum()])


def _found(wanted: Identifiers, own: Identifiers, used: np.ndarray, name: str) -> np.ndarray:
    codes = wanted.codes(own.values)
    missing = np.unique(used[codes[used] < 0])
    if len(missing):
        which = ", ".join(str(own.values[code]) for code in missing[:NAMED])
        raise ValueError(
            f"{name}: {len(missing)} of {len(np.unique(used))} ids of the interactions are not in the table of {name}s, "
            f"such as {which}"
        )
    return codes


def read_interactions(
    data: Any, *, columns: Mapping[str, str] | None = None, min_rating: float | None = None
) -> Interactions:
    """Read a log: a row an interaction, with the columns ``user`` and ``item``, and ``rating`` and ``timestamp`` if there are.

    Parameters
    ----------
    data : anything that `nolabel.data.read` takes; `Interactions` are given back as they are
    columns : ``{"user": "user_id"}`` where a column has another name
    min_rating : keep the rows rated at least so high; all rows by default

    Raises
    ------
    ValueError
        A missing column, no rows, none rated highly enough.

    >>> log = read_interactions({"user": [7, 7, 9], "item": ["a", "a", "b"]})
    >>> len(log), log.repeated, log.item_counts.tolist()
    (2, 1, [1, 1])
    """
    if isinstance(data, Interactions):
        return data
    from nolabel.data.reading import read

    table = read(data, columns=columns)
    for name in (USER, ITEM):
        require_column(table, name, "interactions")
    users, items = cells_of(table, USER), cells_of(table, ITEM)
    whole = np.ones(len(table), bool)
    for column in (users, items):
        if not (isinstance(column, np.ndarray) and column.dtype.kind in "iu"):
            whole &= ~np.fromiter(map(_is_no_id, column), bool, len(column))
    skipped = [Skipped(int(row), None, "no user or no item") for row in np.flatnonzero(~whole)]
    if skipped:
        warnings.warn(f"{len(skipped)} of {len(table)} interactions were skipped, first {skipped[0]}", stacklevel=2)
    kept = np.flatnonzero(whole)
    below = 0
    if min_rating is not None:
        require_column(table, RATING, "min_rating")
        ratings = _floats(table, RATING)[kept]
        high = ratings >= min_rating
        if not high.any():
            highest = f"the highest is {np.nanmax(ratings):g}" if np.isfinite(ratings).any() else "there is none"
            raise ValueError(f"min_rating={min_rating:g} leaves no interaction: {highest}")
        below, kept = int((~high).sum()), kept[high]
    if not len(kept):
        raise ValueError(f"interactions: none of {len(table)} rows has a user and an item")
    times = _floats(table, TIME)[kept] if TIME in table.column_names else None
    user_codes, user_ids = _numbered(_some(users, kept))
    item_codes, item_ids = _numbered(_some(items, kept))
    pairs = user_codes * len(item_ids) + item_codes
    order = np.arange(len(pairs)) if times is None else np.argsort(-times, kind="stable")
    first = np.sort(order[np.unique(pairs[order], return_index=True)[1]])
    return Interactions(
        user_codes[first],
        item_codes[first],
        user_ids,
        item_ids,
        None if times is None else times[first],
        repeated=len(pairs) - len(first),
        below=below,
        skipped=skipped,
    )


def _is_no_id(value: Any) -> bool:
    """An id that is missing; in a CSV file that is an empty cell."""
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def _some(values: Any, rows: np.ndarray) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows.tolist()]


def _numbered(values: Any) -> tuple[np.ndarray, Identifiers]:
    """The number of each value, and the distinct values in the order in which they first come."""
    ids = as_ids(values)
    _, first, codes = np.unique(hash64(ids), return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[codes.reshape(-1)], Identifiers(ids[first[order]])


def _floats(table: Any, name: str) -> np.ndarray:
    """Numbers or times as floats; a time that is missing comes before all others."""
    values = table.with_format("pandas")[name]
    if str(values.dtype).startswith("datetime"):
        values = values.astype("int64")
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected numbers or times, got {table.data.schema.field(name).type}") from None
    return np.where(np.isnan(numbers), -np.inf, numbers)


def split_interactions(
    log: Interactions, share: float, rng: np.random.Generator, *, by: str = "random"
) -> tuple[Interactions, Interactions]:
    """Training and test interactions; a pair is in one of them, and both keep the numbers of all users and items.

    Parameters
    ----------
    share : of the interactions to test on, in (0, 1)
    by : ``random``: any of them; ``last``: of each user the latest, at least one, of users with two or more

    Raises
    ------
    ValueError
        A share out of range, no timestamps to tell the last ones by, a part without any.

    >>> log = read_interactions({"user": [1, 1, 1, 1], "item": [1, 2, 3, 4], "timestamp": [9, 5, 7, 6]})
    >>> train, test = split_interactions(log, 0.25, np.random.default_rng(0), by="last")
    >>> log.item_ids.values[test.items].tolist()
    [1]
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    held = np.zeros(len(log), bool)
    if by == "random":
        held[rng.permutation(len(log))[: max(round(share * len(log)), 1)]] = True
    elif by == "last":
        if log.times is None:
            raise ValueError("by='last' needs a column 'timestamp'; by='random' does not")
        order = np.lexsort((log.times, log.users))
        counts = np.bincount(log.users, minlength=len(log.user_ids))
        rank = np.arange(len(log)) - np.repeat(counts.cumsum() - counts, counts)
        tested = np.where(counts > 1, np.clip(np.round(share * counts), 1, counts - 1), 0)
        held[order] = rank >= (counts - tested)[log.users[order]]
    else:
        raise ValueError(f"by must be 'random' or 'last', got {by!r}")
    if not held.any() or held.all():
        raise ValueError(f"share={share:g} of {len(log)} interactions leaves nothing to train on or to test on")
    return log.take(np.flatnonzero(~held)), log.take(np.flatnonzero(held))


class InteractionSource:
    """Interactions as a source of batches: the features of the user, ``query``, and of the item, ``item``, of each.

    Parameters
    ----------
    log : its numbers are the rows of both tables
    queries, items : features of all users and of all items
    """

    def __init__(self, log: Interactions, queries: FeatureTable, items: FeatureTable) -> None:
        self.log, self.queries, self.items = log, queries, items
        pairs = fingerprint(np.stack([log.users, log.items]))
        self.fingerprint = "|".join([pairs, queries.fingerprint, items.fingerprint])
        self.skipped = log.skipped

    def __len__(self) -> int:
        return len(self.log)

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        return {"query": self.queries.batch(self.log.users[rows]), "item": self.items.batch(self.log.items[rows])}
