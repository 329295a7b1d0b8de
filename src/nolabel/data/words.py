"""Texts as numbered words: one rule of what a word is, and one pass that numbers millions of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

_PLAIN, _ASCII = re.compile(r"\w+"), re.compile(r"\w+", re.ASCII)


@cache
def _marks() -> frozenset[str]:
    """Combining marks, which ``\\w`` leaves out: in some scripts they are vowels."""
    return frozenset(chr(code) for code in range(0x20000) if unicodedata.category(chr(code))[0] == "M")


@cache
def _with_marks() -> re.Pattern[str]:
    return re.compile(rf"[\w{re.escape(''.join(sorted(_marks())))}]+")


def split_words(text: str, *, lowercase: bool = True) -> list[str]:
    """Split plain text into words: runs of letters, digits, underscores and combining marks, of any script.

    Everything else separates, so ``don't`` is two words. Accents are brought into one form (NFC). A script that is
    written without spaces needs a tokeniser of its own: give lists of words instead of texts.

    Parameters
    ----------
    text : any length.
    lowercase : drop capitals.

    Examples
    --------
    >>> split_words("Don't panic: 42 cafés, 3.5 £!")
    ['don', 't', 'panic', '42', 'cafés', '3', '5']
    """
    if lowercase:
        text = text.lower()
    if text.isascii():
        return _ASCII.findall(text)
    text = unicodedata.normalize("NFC", text)
    return (_PLAIN if _marks().isdisjoint(text) else _with_marks()).findall(text)


class _Numbers(dict[str, int]):
    """A new number for each new word."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


@dataclass(frozen=True, eq=False)
class NumberedTexts:
    """Texts whose words are numbers.

    Attributes
    ----------
    distinct : the different words, in order of appearance
    ids : int32 (n,), the words of all texts one after the other, as positions in `distinct`
    offsets : int64 (texts + 1,), where each text begins; the last is n

    Examples
    --------
    >>> texts = number_words(["to be or not", "to be"])
    >>> texts.distinct, texts.ids.tolist(), texts.offsets.tolist()
    (['to', 'be', 'or', 'not'], [0, 1, 2, 3, 0, 1], [0, 4, 6])
    """

    distinct: list[str]
    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def rows(self) -> np.ndarray:
        """int32 (n,): the text that each word is in."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.offsets))


def number_words(texts: Iterable[str | Sequence[str] | None], *, lowercase: bool = True) -> NumberedTexts:
    """Number the words of texts, or of lists of words, which stay as they are; a missing text has none.

    Parameters
    ----------
    texts : strings, which `split_words` splits, or lists of words.
    lowercase : of strings.

    Raises
    ------
    TypeError
        A text that is neither, or a list that holds something else than words.
    """
    numbers = _Numbers()
    parts, lengths = [], []
    for row, text in enumerate(texts):
        if isinstance(text, str):
            words: Sequence[str] = split_words(text, lowercase=lowercase)
        elif text is None:
            words = ()
        elif isinstance(text, list | tuple) and all(isinstance(word, str) for word in text):
            words = text
        else:
            raise TypeError(f"text: a string or a list of words was expected, got {_described(text)} in row {row}")
        parts.append(np.fromiter(map(numbers.__getitem__, words), np.int32, len(words)))
        lengths.append(len(words))
    ids = np.concatenate(parts) if parts else np.empty(0, np.int32)
    return NumberedTexts(list(numbers), ids, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))


def read_words(data: Any, *, columns: dict[str, str] | None = None, lowercase: bool = True) -> NumberedTexts:
    """Number the words in the column ``text`` of anything `nolabel.data.read` takes, or of a list of lists of words.

    Raises
    ------
    ValueError, FileNotFoundError
        As `nolabel.data.read`.
    TypeError
        A source or a column of another kind.

    Examples
    --------
    >>> len(read_words({"text": ["one text", "another"]})), read_words([["given", "words"]]).distinct
    (2, ['given', 'words'])
    """
    from nolabel.data.columns import column_blocks, require_column
    from nolabel.data.reading import read

    if isinstance(data, list | tuple) and any(isinstance(text, list | tuple) for text in data):
        return number_words(data, lowercase=lowercase)
    table = read(data, columns=columns)
    require_column(table, "text", "columns")
    texts = (text for block in column_blocks(table, "text", rows=4096) for text in block.to_pylist())
    return number_words(texts, lowercase=lowercase)


def _described(text: object) -> str:
    if isinstance(text, list | tuple):
        return f"a list with a {next(type(word).__name__ for word in text if not isinstance(word, str))}"
    return f"a {type(text).__name__}"
