"""What topics described by keywords accept, checked in one place: documents, keywords, cosines."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def as_texts(docs: Any, columns: Mapping[str, str] | None = None) -> list[str]:
    """The texts of a list, an array or series of texts, or of the column ``text`` of anything `nolabel.data.read` takes.

    Raises
    ------
    TypeError : one text instead of a list of them, or an item that is none
    ValueError : no documents, an empty one (its row is named), no column ``text``
    """
    if isinstance(docs, str) and not Path(docs).is_file():
        raise TypeError(f"docs: a list of texts was expected, got the one text {docs[:40]!r}; put it in a list")
    plain = isinstance(docs, list | tuple) or (hasattr(docs, "tolist") and getattr(docs, "ndim", 0) == 1)
    if plain and columns is None:
        texts = list(docs)
    else:
        from nolabel.data import read
        from nolabel.data.columns import require_column

        table = read(docs, columns=columns)
        require_column(table, "text", "docs")
        texts = list(table["text"])
    if not texts:
        raise ValueError("docs: at least one document was expected, got none")
    for row, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"docs: texts were expected, row {row} is a {type(text).__name__}")
    refuse_empty([bool(text and text.strip()) for text in texts], "is empty")
    return texts


def refuse_empty(filled: Sequence[bool], what: str) -> None:
    """Raise ValueError if a document has nothing of which a vector could be made."""
    bad = [row for row, ok in enumerate(filled) if not ok]
    if bad:
        raise ValueError(
            f"docs: row {bad[0]} {what} ({len(bad)} of {len(filled)} such): it has no vector, leave it out"
        )


def check_keywords(keywords: Any) -> None:
    """Raise unless `keywords` maps labels, each of its own name, to lists of keywords that are not blank."""
    if not isinstance(keywords, dict):
        raise TypeError(f"keywords: a dict of label to list of keywords was expected, got {type(keywords).__name__}")
    if not keywords:
        raise ValueError("keywords: at least one label was expected, got none")
    names: dict[str, str] = {}
    for label, words in keywords.items():
        if not isinstance(label, str) or not label.strip():
            raise TypeError(f"keywords: labels must be texts, got {label!r}")
        if isinstance(words, str) or not isinstance(words, Sequence):
            raise TypeError(f"keywords: a list of keywords was expected for {label!r}, got {words!r}")
        if not words:
            raise ValueError(f"keywords: the list of {label!r} is empty")
        for word in words:
            if not isinstance(word, str):
                raise TypeError(f"keywords: {word!r} of {label!r} is a {type(word).__name__}, a text was expected")
            if not word.strip():
                raise ValueError(f"keywords: a keyword of {label!r} is blank")
        other = names.setdefault(label.strip().casefold(), label)
        if other != label:
            raise ValueError(f"keywords: the labels {other!r} and {label!r} are one name")


def number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """A finite number in [low, high]."""
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not low <= value <= high:
        span = f"of at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be a number {span}, got {value!r}")
    return float(value)


def check_similarity(name: str, value: Any) -> None:
    """None, or a cosine."""
    if value is not None:
        number(name, value, -1.0, 1.0)
