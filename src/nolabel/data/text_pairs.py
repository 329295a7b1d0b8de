"""Queries and the passages that answer them, as token ids; passages are stored once, however many queries they answer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nolabel.data.sources import checked_rows
from nolabel.data.tokens import TokenSource, usable_texts

if TYPE_CHECKING:
    from datasets import Dataset
    from tokenizers import Tokenizer

#: Columns of a table of pairs; the last may be missing, or empty in some rows.
QUERY, PASSAGE, NEGATIVE = "query", "passage", "negative"


def pair_columns(queries: Any, passages: Any, negatives: Any = None) -> dict[str, list[Any]]:
    """The columns of a table of pairs, from lists.

    Parameters
    ----------
    queries, passages : n texts each; passage i answers query i
    negatives : n texts that do not, or n lists of them, or k n texts, the k of the first query first; empty texts are none

    Raises
    ------
    ValueError
        For numbers that do not fit.
    TypeError
        For something else than lists of texts.

    >>> pair_columns(["a", "b"], ["A", "B"], ["x", "y", "z", "w"])["negative"]
    [['x', 'y'], ['z', 'w']]
    """
    columns = {QUERY: list_of_texts("queries", queries), PASSAGE: list_of_texts("passages", passages)}
    n = len(columns[QUERY])
    if len(columns[PASSAGE]) != n:
        raise ValueError(f"queries and passages must be equally many, got {n} and {len(columns[PASSAGE])}")
    if negatives is None:
        return columns
    given = list(negatives) if isinstance(negatives, Sequence) and not isinstance(negatives, str) else negatives
    if isinstance(given, list) and len(given) == n and not any(isinstance(item, str) for item in given):
        return {**columns, NEGATIVE: [list_of_texts(f"negatives[{i}]", item) for i, item in enumerate(given)]}
    flat = list_of_texts("negatives", given)
    if not flat or len(flat) % n:
        raise ValueError(f"negatives must be a multiple of the {n} queries, got {len(flat)}")
    k = len(flat) // n
    return {**columns, NEGATIVE: [flat[i * k : (i + 1) * k] for i in range(n)]}


def list_of_texts(name: str, texts: Any) -> list[str]:
    """A list of strings, checked.

    >>> list_of_texts("queries", ("a", "b"))
    ['a', 'b']
    """
    if isinstance(texts, str) or not hasattr(texts, "__iter__"):
        raise TypeError(f"{name} must be a list of texts, got {type(texts).__name__}")
    found = list(texts)
    for row, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be texts, got {type(text).__name__} at position {row}")
    return found


class PairSource:
    """Pairs of a query and a passage, with hard negatives if there are any.

    A batch of rows (b,) is ``{"query": {"tokens", "mask"}, "passage": {...}, "queries": int64 (b,), "passages": int64 (m,),
    "row": int64 (b,)}``: the tokens, and numbers by which equal queries and equal passages can be told. Rows (b, 1 + k) name k
    further passages for each query; these follow the others, m = b (1 + k).

    Parameters
    ----------
    table : with columns ``query``, ``passage`` and perhaps ``negative`` (a text, or a list of texts)
    tokeniser : of the `tokenizers` library
    limits : tokens that queries and passages are cut to
    corpus : further passages, to draw negatives from

    Attributes
    ----------
    query, positive : int64 (n,), number of each row's query and passage
    hard : for each row the numbers of its hard negatives, int64 arrays
    rows : rows of the table that are here; `skipped` names the others
    queries, passages : TokenSources; `lengths` and `truncated` by column

    Examples
    --------
    >>> from nolabel.data import read
    >>> from nolabel.data.tokenisers import train_wordpiece
    >>> table = read({"query": ["a", "b", "c"], "passage": ["A a", "B b", "A a"]})
    >>> pairs = PairSource(table, train_wordpiece(["a b c A B"], 30), (8, 8))
    >>> pairs.positive.tolist(), pairs.batch([0, 2])["passages"].tolist()
    ([0, 1, 0], [0, 0])
    """

    def __init__(
        self, table: Dataset, tokeniser: Tokenizer, limits: Sequence[int], *, corpus: Sequence[str] = ()
    ) -> None:
        from nolabel.data.fingerprints import fingerprint
        from nolabel.data.reading import read

        self.rows, self.skipped = usable_texts(table, (QUERY, PASSAGE))
        if self.skipped:
            said = f"{len(self.skipped)} of {len(table)} pairs were skipped, first {self.skipped[0]}"
            warnings.warn(said, stacklevel=3)
        kept = table if len(self.rows) == len(table) else table.select(self.rows)
        numbers: dict[str, int] = {}
        asked: dict[str, int] = {}
        self.query = np.array([asked.setdefault(text, len(asked)) for text in kept[QUERY]], np.int64)
        self.positive = np.array([numbers.setdefault(text, len(numbers)) for text in kept[PASSAGE]], np.int64)
        hard = kept[NEGATIVE] if NEGATIVE in kept.column_names else [None] * len(kept)
        self.hard = [
            np.array([numbers.setdefault(text, len(numbers)) for text in _texts_of(row, found)], np.int64)
            for row, found in zip(self.rows, hard)
        ]
        for text in corpus:
            if text.strip():
                numbers.setdefault(text, len(numbers))
        self.texts = list(numbers)
        self.queries = TokenSource(read({QUERY: kept[QUERY]}), (QUERY,), tokeniser, limits[0])
        self.passages = TokenSource(read({PASSAGE: self.texts}), (PASSAGE,), tokeniser, limits[1])
        self.tokeniser, self.special = self.queries.tokeniser, self.queries.special
        self.lengths = {
            QUERY: self.queries.lengths[QUERY],
            PASSAGE: self.passages.lengths[PASSAGE][self.positive],
        }
        self.truncated = self.queries.truncated | self.passages.truncated
        content = [self.queries.fingerprint, self.passages.fingerprint, self.positive.tolist()]
        self.fingerprint = fingerprint([*content, [found.tolist() for found in self.hard]])

    def __len__(self) -> int:
        return len(self.positive)

    def __repr__(self) -> str:
        return f"PairSource({len(self)} queries, {len(self.texts)} passages, {len(self.skipped)} skipped)"

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        import torch

        rows = np.asarray(rows)
        index = checked_rows(rows[:, 0] if rows.ndim == 2 else rows, len(self))
        further = rows[:, 1:].T.ravel() if rows.ndim == 2 else rows[:0]
        numbers = np.concatenate([self.positive[index], further])
        return {
            QUERY: self.queries.batch(index)[QUERY],
            PASSAGE: self.passages.batch(numbers)[PASSAGE],
            "queries": torch.from_numpy(self.query[index]),
            "passages": torch.from_numpy(numbers),
            "row": torch.from_numpy(index),
        }

    def with_negatives(self, rows: np.ndarray, rng: np.random.Generator, *, hard_ratio: float = 1.0) -> np.ndarray:
        """Rows (b, 2): each with one negative, with probability `hard_ratio` one of its hard ones, else any other passage.

        A row without hard negatives gets any other passage.
        """
        if len(self.texts) < 2:
            raise ValueError("a single passage leaves none for negatives: give corpus or other passages")
        drawn = rng.integers(0, len(self.texts) - 1, len(rows))
        drawn += drawn >= self.positive[rows]  # any but the own one
        chances = rng.random((2, len(rows)))
        for place in np.flatnonzero(chances[0] < hard_ratio):
            found = self.hard[rows[place]]
            if len(found):
                drawn[place] = found[int(chances[1, place] * len(found))]
        return np.column_stack([rows, drawn])


def _texts_of(row: int, found: Any) -> list[str]:
    """The hard negatives of one row: nothing, a text or several; empty ones are none."""
    texts = [] if found is None else [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"columns: {NEGATIVE!r} must hold texts or lists of texts, got {found!r} in row {row}")
    return [text for text in texts if text.strip()]
