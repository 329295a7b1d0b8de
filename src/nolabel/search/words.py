"""Texts as words: split, stemmed, and counted into a sparse matrix with one column a stem.

Splitting is by runs of letters and digits, lower-cased; languages written without spaces come out as whole phrases, so
they are not served well. Stems are Snowball's (Porter 2001), by the library PyStemmer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import Stemmer
from scipy import sparse

from nolabel.data.stop_words import ENGLISH

LONGEST = 40  # characters; what is longer is no word that anybody types
RUNS = re.compile(r"[^\W_]+")


def languages() -> list[str]:
    """The languages whose words can be stemmed."""
    return sorted(Stemmer.algorithms())


def split(text: str) -> list[str]:
    """The words of a text as they stand there, but lower-cased.

    >>> split("Two birds, ONE re-used stone_42.")
    ['two', 'birds', 'one', 're', 'used', 'stone', '42']
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return [word for word in RUNS.findall(text.lower()) if len(word) <= LONGEST]


def content_words(words: Sequence[str], language: str | None) -> list[str]:
    """The words of a query without function words, unless it has no others.

    >>> content_words(["the", "flight", "of", "birds"], "english"), content_words(["the", "who"], "english")
    (['flight', 'birds'], ['the', 'who'])
    """
    kept = [word for word in words if language != "english" or word not in ENGLISH]
    return kept or list(words)


class Stems(dict[str, int]):
    """Number of the stem of each word, counted up as stems come; a language of None leaves words as they are."""

    def __init__(self, language: str | None) -> None:
        self.stems: dict[str, int] = {}
        self._stem = Stemmer.Stemmer(language).stemWord if language else str

    def __missing__(self, word: str) -> int:
        number = self[word] = self.stems.setdefault(self._stem(word), len(self.stems))
        return number


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each word occurs in each text: csr (n, w) over `words`, UTF-8 bytes that rise."""

    words: np.ndarray
    matrix: sparse.csr_array

    def __getitem__(self, rows: np.ndarray) -> Counts:
        return Counts(self.words, self.matrix[rows])

    @property
    def lengths(self) -> np.ndarray:
        """Words of each text, int64 (n,)."""
        return np.asarray(self.matrix.sum(axis=1), dtype=np.int64)


def count(texts: Iterable[str | None], language: str | None) -> Counts:
    """Count the stems of each text; None is a text without words.

    >>> found = count(["Birds sing", None, "bird, bird!"], "english")
    >>> found.words.tolist(), found.matrix.toarray().tolist()
    ([b'bird', b'sing'], [[1.0, 1.0], [0.0, 0.0], [2.0, 0.0]])
    """
    number = Stems(language)
    rows = [[number[word] for word in split(text)] if text else [] for text in texts]
    columns = np.fromiter(chain.from_iterable(rows), dtype=np.int32)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    words = np.array([stem.encode() for stem in number.stems], dtype=np.bytes_)
    order = np.argsort(words)
    rank = np.empty(len(words), dtype=np.int32)
    rank[order] = np.arange(len(words))
    ones = np.ones(len(columns), dtype=np.float32)
    matrix = sparse.csr_array((ones, rank[columns], starts), shape=(len(rows), len(words)))
    matrix.sum_duplicates()
    return Counts(words[order], matrix)


def stacked(parts: Sequence[Counts]) -> Counts:
    """Texts of several counts one after another, over the words of all."""
    if len(parts) == 1:
        return parts[0]
    words = parts[0].words
    for part in parts[1:]:
        words = np.union1d(words, part.words)
    return Counts(words, sparse.vstack([over(part, words) for part in parts], format="csr"))


def over(part: Counts, words: np.ndarray) -> sparse.csr_array:
    """The counts over other words, which hold all of the part's."""
    at = np.searchsorted(words, part.words).astype(np.int32)  # rising, so indices stay sorted
    matrix = part.matrix
    return sparse.csr_array((matrix.data, at[matrix.indices], matrix.indptr), shape=(matrix.shape[0], len(words)))


def positions(words: np.ndarray, wanted: Sequence[str]) -> np.ndarray:
    """Where each wanted word is among rising UTF-8 words; -1 where it is not.

    >>> positions(np.array([b"bird", b"sing"]), ["sing", "birdsong", "a"])
    array([ 1, -1, -1])
    """
    encoded = [word.encode() for word in wanted]
    fitting = np.array([len(word) <= words.dtype.itemsize for word in encoded], dtype=bool)  # longer ones would be cut
    found = np.full(len(wanted), -1)
    if len(words) and fitting.any():
        some = np.array([word for word, fits in zip(encoded, fitting) if fits], dtype=words.dtype)
        at = np.minimum(np.searchsorted(words, some), len(words) - 1)
        found[fitting] = np.where(words[at] == some, at, -1)
    return found
