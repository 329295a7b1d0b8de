"""Vectors by which the domains of a table's rows are told: its own, those of a learned representation, or words of texts."""

import math
import warnings
from typing import Any

import numpy as np
import torch

from nolabel.assess.inputs import as_embeddings
from nolabel.data.sources import Skipped

#: Columns into which words are hashed.
WORDS = 4096


class HashedTexts:
    """Words of texts, hashed into columns, as a source of unit rows ``vector`` (b, 4096)."""

    def __init__(self, texts: list[str]) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        from nolabel.data import fingerprint

        reader = HashingVectorizer(n_features=WORDS, alternate_sign=False, stop_words="english", dtype=np.float32)
        hashed = reader.transform(texts)
        self.rows = np.flatnonzero(np.diff(hashed.indptr))
        self._values = hashed[self.rows]
        self.skipped = [Skipped(int(i), None, "no words") for i in np.setdiff1d(np.arange(len(texts)), self.rows)]
        self.fingerprint = fingerprint(texts)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        # a row of ones has the length that standardised columns would have
        return {"vector": torch.from_numpy(self._values[rows].toarray() * math.sqrt(WORDS))}


def open_vectors(table: Any, representation: Any) -> tuple[Any, np.ndarray]:
    """A source of ``vector`` (b, width), and the rows of the table that it holds: those that can be read.

    Parameters
    ----------
    table : with a column `vector` or `text`, or what the fitted `representation` takes, which may be None

    Raises
    ------
    ValueError : no such column, or vectors that are not finite
    """
    from nolabel.data import ColumnSource, read

    everything = np.arange(len(table))
    if representation is not None:
        representation.require_fitted()
        seen = representation.open_one(table, None)
        vectors = representation.transform_source(seen)
        return ColumnSource(read({"vector": vectors}), ("vector",)), np.asarray(getattr(seen, "rows", everything))
    if "vector" in table.column_names:
        source = ColumnSource(table, ("vector",))
        as_embeddings(np.asarray(source.batch(everything)["vector"], dtype=np.float32), "vector", at_least=1)
        return source, everything
    if "text" not in table.column_names:
        raise ValueError(f"X: a column image, vector or text was expected, there are {', '.join(table.column_names)}")
    texts = HashedTexts([text or "" for text in table["text"]])
    if texts.skipped:
        said = f"{len(texts.skipped)} of {len(table)} texts hold no words and are left out"
        warnings.warn(f"{said}, first row {texts.skipped[0].row}", stacklevel=5)
    return texts, texts.rows
