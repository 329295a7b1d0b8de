"""URLs with labels: checked, drawn in batches, and what a learned head has to beat on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from nolabel.data.tokens import TokenSource


def character_baseline() -> Pipeline:
    """What a learned head has to beat: logistic regression on character n-grams (3 to 5, TF-IDF) of normalised URLs."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from nolabel.data.urls import normalise_url

    words = TfidfVectorizer(preprocessor=normalise_url, analyzer="char", ngram_range=(3, 5), sublinear_tf=True)
    return make_pipeline(words, LogisticRegression(C=10.0, max_iter=1000))


class LabelledUrls:
    """Some rows of tokenised URLs, with task and label.

    Parameters
    ----------
    tokens : the URLs of all tasks
    rows : those that are here
    task, label : int64 (n,) number of the task, and of the label among those of the task, for all URLs
    """

    def __init__(self, tokens: TokenSource, rows: np.ndarray, task: np.ndarray, label: np.ndarray) -> None:
        from nolabel.data import fingerprint

        self.tokens, self.rows, self.task, self.label = tokens, rows, task[rows], label[rows]
        self.lengths = {"url": tokens.lengths["url"][rows]}
        self.skipped = tokens.skipped
        self.fingerprint = fingerprint([tokens.fingerprint, rows, task, label])

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        rows = np.asarray(rows)
        told = {"task": torch.from_numpy(self.task[rows]), "label": torch.from_numpy(self.label[rows])}
        return self.tokens.batch(self.rows[rows]) | told


def labels_of(y: Any, n: int, name: str) -> list[Any]:
    """Labels as plain values, one a URL."""
    if isinstance(y, str | bytes | Mapping) or not hasattr(y, "__len__"):
        raise TypeError(f"{name}: expected a list with one label a URL, got {type(y).__name__}")
    values = [value.item() if hasattr(value, "item") else value for value in y]
    if len(values) != n:
        raise ValueError(f"{name}: expected {n} labels, one a URL, got {len(values)}")
    for row, value in enumerate(values):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise ValueError(f"{name}[{row}]: expected a label, got {value}; leave unlabelled URLs out")
        if not isinstance(value, str | int | float):
            raise TypeError(f"{name}[{row}]: expected a text or a number, got {type(value).__name__}")
    return values


def classes_of(y: list[Any], name: str) -> list[Any]:
    """The different labels in order."""
    kinds = {isinstance(value, str) for value in y}
    if len(kinds) > 1:
        raise TypeError(f"{name}: expected labels of one kind, got texts and numbers")
    found = sorted(set(y))
    if len(found) < 2:
        raise ValueError(f"{name}: all {len(y)} labels are {found[0]!r}; expected two different ones or more")
    return found
