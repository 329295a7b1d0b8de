"""Where a word stands in texts, and which sense it has there."""

import csv
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nolabel.data.replacing import replacing

#: Characters of a context to show on either side of the word.
AROUND = 70


@dataclass(frozen=True)
class Occurrence:
    """One place where the word stands.

    Attributes
    ----------
    row : of the text in the source
    text : what stands around, the word between two pairs of stars
    words : known words in the window that the model learned with, without stop words
    sense, probability : the likeliest sense; -1 before it is known
    """

    row: int
    text: str
    words: list[str]
    sense: int = -1
    probability: float = 0.0


def places(text: str, *, lowercase: bool = True) -> tuple[str, list[tuple[str, int]]]:
    """The words of a text and where each begins in the text that is returned: the given one in normal form (NFC).

    Capitals are kept in it, unless a letter has another length without them.

    >>> places("A Bank", lowercase=True)
    ('A Bank', [('a', 0), ('bank', 2)])
    """
    from nolabel.data.words import split_words

    shown = unicodedata.normalize("NFC", text)
    read = unicodedata.normalize("NFC", text.lower()) if lowercase else shown
    found, at = [], 0
    for word in split_words(text, lowercase=lowercase):
        at = read.index(word, at)  # between two words nothing belongs to a word
        found.append((word, at))
        at += len(word)
    return (shown if len(shown) == len(read) else read), found


def occurrences(learner: Any, word: str, rows: Sequence[int], texts: Sequence[str | None]) -> Iterator[Occurrence]:
    """All places where a word of the vocabulary stands, in the order of the texts."""
    known = learner.vocabulary_.index
    for row, text in zip(rows, texts, strict=True):
        if not text or word not in unicodedata.normalize("NFC", text.lower() if learner.lowercase else text):
            continue
        shown, found = places(text, lowercase=learner.lowercase)
        kept = [(name, at) for name, at in found if name in known]
        for i, (name, at) in enumerate(kept):
            if name == word:
                near = kept[max(0, i - learner.window) : i] + kept[i + 1 : i + 1 + learner.window]
                yield Occurrence(row, _cut(shown, at, len(word)), [other for other, _ in near if other != word])


def _cut(text: str, at: int, length: int) -> str:
    """What stands around a word, in one line and in whole words, the word marked."""
    end = at + length
    before, after = text[max(0, at - AROUND) : at], text[end : end + AROUND]
    if at > AROUND and " " in before:
        before = "… " + before.partition(" ")[2]
    if end + AROUND < len(text) and " " in after:
        after = after.rpartition(" ")[0] + " …"
    return " ".join(f"{before}**{text[at:end]}**{after}".split())


def tagged(learner: Any, word: str, found: Iterable[Occurrence]) -> tuple[list[Occurrence], int]:
    """The occurrences with their likeliest senses, and how many have no known word around: those get the commonest sense."""
    places = list(found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # contexts without a known word are counted here
        p = learner.probabilities(word, [one.words for one in places])
    senses = p.argmax(axis=1).tolist()
    result = [replace(one, sense=s, probability=float(row[s])) for one, s, row in zip(places, senses, p)]
    return result, sum(not one.words for one in places)


def write_tagged(path: Path, found: Sequence[Occurrence]) -> None:
    """A line an occurrence, for a spreadsheet."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "sense", "probability", "context"])
        writer.writerows([one.row, one.sense, f"{one.probability:.4f}", one.text] for one in found)
