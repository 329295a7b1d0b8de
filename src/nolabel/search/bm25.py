"""BM25: how well a text answers the words of a query, by how often it has them and how rare they are.

score = sum over query words of idf * count / (count + k1 * (1 - b + b * length / mean length)), with
idf = ln(1 + (N - n + 1/2) / (n + 1/2)) for a word in n of N texts (Robertson and Zaragoza 2009; this form, with idf
above 0 and without the constant factor k1 + 1, is Lucene's, Kamphuis et al. 2020). A word that is twice in the query
counts twice.

The inverted index holds counts, not scores, and N, n and the mean length are those of the rows that are there when the
search runs: after an addition or deletion every score is what a new index would give. (Lance's own full text search and
bm25s keep the statistics of when they were built.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from nolabel.search.files import seal, sealed
from nolabel.search.found import Found, Matches
from nolabel.search.postings import Postings, top
from nolabel.search.snapshot import Snapshot
from nolabel.search.sparse import kept_mask, named
from nolabel.search.words import Counts, Stems, content_words, count, over, positions, split, stacked

K1, B = 1.2, 0.75
FORMAT = 1


def inverse_document_frequency(having: Any, texts: int) -> Any:
    """How rare a word is that `having` of `texts` have.

    >>> float(inverse_document_frequency(1, 2))  # ln(1 + 1.5 / 1.5)
    0.6931471805599453
    """
    return np.log1p((texts - having + 0.5) / (having + 0.5))


def saturation(counts: Any, length_ratio: Any) -> Any:
    """What some occurrences of a word count in a text of so many times the mean length: from 0 up to 1.

    >>> saturation(1.0, 1.0), saturation(3.0, 1.0)  # 1 / (1 + 1.2), 3 / (3 + 1.2)
    (0.45454545454545453, 0.7142857142857143)
    """
    return counts / (counts + K1 * (1 - B + B * length_ratio))


class Texts:
    """The words of texts as postings: for each stem the texts that have it, and how often."""

    kind, lists_visited = "postings", None

    def __init__(self, postings: Postings, words: np.ndarray, lengths: np.ndarray) -> None:
        self.postings, self.words, self.lengths = postings, words, lengths
        self.rows = postings.rows


class BM25:
    """A text column as `Texts`."""

    name = "bm25"

    def __init__(self, column: str, language: str | None) -> None:
        self.columns: tuple[str, ...] = (column,)
        self.language = language

    def build(self, folder: Path, pieces: Callable[[], Iterator[pa.RecordBatch]], rows: int) -> None:
        """Memory holds the counts of all texts: 8 bytes for each different word of each text."""
        parts = [self.read(piece) for piece in pieces()]
        words = parts[0].words
        for part in parts[1:]:
            words = np.union1d(words, part.words)
        np.save(folder / "words.npy", words)
        np.save(folder / "lengths.npy", np.concatenate([part.lengths for part in parts]))
        per_word = np.zeros(len(words), dtype=np.int64)
        for part in parts:
            per_word[np.searchsorted(words, part.words)] += np.bincount(part.matrix.indices, minlength=len(part.words))
        Postings.build(folder, per_word, (over(part, words) for part in parts), rows)
        seal(folder, {"format": FORMAT, "rows": rows, "column": self.columns[0], "language": self.language})

    def load(self, folder: Path) -> Texts:
        notes = sealed(folder, FORMAT)
        if (notes["column"], notes["language"]) != (self.columns[0], self.language):
            raise ValueError(f"it is for column {notes['column']!r} in {notes['language']}")
        words, lengths = (
            np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in ("words", "lengths")
        )
        postings = Postings.load(folder, notes["rows"])
        if len(lengths) != postings.rows or len(words) != len(postings.starts) - 1:
            raise ValueError("its words do not belong to its postings")
        return Texts(postings, words, lengths)

    def read(self, rows: pa.Table) -> Counts:
        return count(rows[self.columns[0]].to_pylist(), self.language)

    def stack(self, parts: Sequence[Counts]) -> Counts:
        return stacked(parts)

    def hold(self, contents: Counts) -> Texts:
        return Texts(Postings.of(contents.matrix), contents.words, contents.lengths)

    def contents(self, structure: Texts) -> Counts:
        assert structure.postings.matrix is not None
        return Counts(structure.words, structure.postings.matrix)


class Asked(NamedTuple):
    """A query: its words as typed, their different stems, and how often each stem comes."""

    words: list[str]
    stems: list[str]
    times: Float64[np.ndarray, " s"]


def asked(texts: Sequence[Any], language: str | None) -> list[Asked]:
    """Queries as stems; one without words is a ValueError that names it."""
    found = []
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"query: text {number}: expected a text, got {type(text).__name__}")
        words = content_words(split(text), language)
        if not words:
            said = f"{text!r}, which holds none" if text.strip() else "an empty text"
            raise ValueError(f"query: text {number}: expected words, got {said}")
        stems = Stems(language)
        numbers = [stems[word] for word in words]
        typed = dict(zip(reversed(numbers), reversed(words)))  # the first of several words with one stem
        times = np.bincount(numbers).astype(np.float64)
        found.append(Asked([typed[at] for at in range(len(times))], list(stems.stems), times))
    return found


def search(
    snapshot: Snapshot, queries: Sequence[Asked], k: int, where: str | None, *, lenient: bool = False
) -> list[Found]:
    """The k texts with the largest scores, ties by id; texts that have none of the words are not found.

    A query without any word that is in the index is a ValueError unless `lenient`.
    """
    kept = snapshot.filtered(where, None, kept_mask)
    texts, mean = snapshot.once("statistics", lambda: _statistics(snapshot))
    answers = []
    for number, (words, stems, times) in enumerate(queries):
        columns = [positions(part.words, stems) for part, _ in snapshot.parts]
        having = np.sum(
            [_having(snapshot, part, at, start) for (part, start), at in zip(snapshot.parts, columns)], axis=0
        )
        if snapshot.rows and not having.any() and not lenient:
            raise ValueError(
                f"query: text {number}: column {snapshot.kind.columns[0]!r} has none of its words: {' '.join(words)}"
            )
        weights = times * inverse_document_frequency(having, texts)
        scores, found, read = [], [], 0
        for (part, start), at, mask in zip(snapshot.parts, columns, kept):
            known = np.flatnonzero(at >= 0)
            sums, entries = part.postings.sum(at[known].tolist(), partial(_worth, part, mean, weights[known]))
            near, rows = top(sums, k, mask)
            scores.append(near)
            found.append(rows + start)
            read += entries
        best = snapshot.best(np.concatenate(scores)[None], np.concatenate(found)[None], k)
        answers.append(Found(best[0][0], best[1][0], read, partial(_explain, snapshot, words, stems, weights, mean)))
    return answers


def _worth(part: Texts, mean: float, weights: np.ndarray, place: int, rows: np.ndarray, counts: np.ndarray) -> Any:
    return weights[place] * saturation(counts, part.lengths[rows] / mean)


def _statistics(snapshot: Snapshot) -> tuple[int, float]:
    """How many texts with words there are, and how many words they have on average."""
    lengths = []
    for part, start in snapshot.parts:
        live = snapshot.live(start)
        lengths.append(part.lengths if live is None else part.lengths[live])
    every = np.concatenate(lengths)
    texts = int(np.count_nonzero(every))
    if snapshot.rows and not texts:
        column = snapshot.kind.columns[0]
        raise ValueError(f"mode: no row has a text in column {column!r}, which bm25 needs: give it in payload=")
    return texts, float(every.sum()) / max(1, texts)


def _having(snapshot: Snapshot, part: Texts, columns: np.ndarray, start: int) -> np.ndarray:
    """How many rows that are there have each word."""
    live = snapshot.live(start)
    found = np.zeros(len(columns))
    for place, number in enumerate(columns):
        if number >= 0:
            rows, _ = part.postings.column(number)
            found[place] = len(rows) if live is None else np.count_nonzero(live[rows])
    return found


def _explain(
    snapshot: Snapshot, words: list[str], stems: list[str], weights: np.ndarray, mean: float, at: np.ndarray
) -> list[Matches]:
    def contributions(part: Texts, rows: np.ndarray) -> np.ndarray:
        found = np.zeros((len(rows), len(words)))
        columns = positions(part.words, stems)
        known = np.flatnonzero(columns >= 0)
        counts = part.postings.entries(rows, columns[known].tolist())
        found[:, known] = weights[known] * saturation(counts, (part.lengths[rows] / mean)[:, None])
        return found

    return named(snapshot, at, words, contributions)
