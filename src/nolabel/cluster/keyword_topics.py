"""What the two kinds of Lbl2Vec share: topics described by keywords, found among documents by vectors of both."""

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from nolabel.assess.inputs import as_count
from nolabel.cluster.candidates import candidates, cosine, inliers
from nolabel.cluster.inputs import as_texts, check_keywords, check_similarity, number
from nolabel.training import Estimator

Progress = Callable[[int, int], None]


class Ranking(NamedTuple):
    """Documents of one topic, best first."""

    rows: np.ndarray  # int64 (k,)
    similarities: np.ndarray  # (k,)


class KeywordTopics(Estimator):
    """Base of `Lbl2Vec` and `Lbl2TransformerVec`; a subclass says how keywords and documents become vectors."""

    columns = ("text",)
    keywords: dict[str, list[str]]
    min_docs: int
    max_docs: int | None
    similarity_threshold: float | None
    threshold_offset: float
    clean_outliers: bool

    labels_: list[str]
    keyword_vectors_: np.ndarray
    label_vectors_: np.ndarray
    doc_vectors_: np.ndarray
    candidates_: list[np.ndarray]

    def _learn(self, texts: list[str], progress: Progress | None) -> dict[str, Any]:
        """What `fit` learns, by attribute: ``keyword_vectors_`` (l, d), ``doc_vectors_`` (n, d; zero for none), and more."""
        raise NotImplementedError(f"{type(self).__name__} must define _learn(texts, progress)")

    def _encode(self, texts: list[str], progress: Progress | None) -> np.ndarray:
        """Vectors (n, d) of documents after `fit`, zero where there is none."""
        raise NotImplementedError(f"{type(self).__name__} must define _encode(texts, progress)")

    def fit(
        self, docs: Any, y: Any = None, *, columns: Mapping[str, str] | None = None, progress: Progress | None = None
    ) -> Self:
        """Learn the vectors of documents and topics.

        Parameters
        ----------
        docs : list of texts, or a table or file with a column ``text``
        y : ignored; there for scikit-learn's sake
        columns : ``{"text": "body"}`` if the column has another name
        progress : called as ``progress(done, of)`` now and then

        Raises
        ------
        TypeError, ValueError : documents, keywords or a parameter that do not fit
        """
        self._check()
        texts = as_texts(docs, columns)
        if len(texts) < self.min_docs:
            raise ValueError(f"docs: at least min_docs={self.min_docs} documents were expected, got {len(texts)}")
        learned = self._learn(texts, progress)
        vectors = learned["doc_vectors_"]
        known = np.flatnonzero(vectors.any(axis=1))
        if len(known) < self.min_docs:
            what = f"at least min_docs={self.min_docs} documents with known words were expected"
            raise ValueError(f"docs: {what}, got {len(known)} of {len(texts)}: lower min_docs or min_count")
        learned["candidates_"] = self._chosen(cosine(vectors[known], learned["keyword_vectors_"]), vectors, known)
        learned["label_vectors_"] = np.stack([vectors[rows].mean(axis=0) for rows in learned["candidates_"]])
        learned["labels_"] = list(self.keywords)
        for name, value in learned.items():
            setattr(self, name, value)
        return self

    def _chosen(self, similarity: np.ndarray, vectors: np.ndarray, known: np.ndarray) -> list[np.ndarray]:
        """The rows behind each label vector; `similarity` (k, labels) is that of the `known` rows."""
        chosen = []
        for column in similarity.T:
            best = candidates(
                column,
                min_docs=self.min_docs,
                max_docs=self.max_docs,
                threshold=self.similarity_threshold,
                offset=self.threshold_offset,
            )
            rows = known[best]
            chosen.append(rows[inliers(vectors[rows])] if self.clean_outliers else rows)
        return chosen

    def transform(
        self, docs: Any = None, *, columns: Mapping[str, str] | None = None, progress: Progress | None = None
    ) -> np.ndarray:
        """Vectors of documents, float32 (n, d): those of `fit` by default. One without a known word is zero, with a warning."""
        self.require_fitted()
        if docs is None:
            return self.doc_vectors_.copy()
        return self._encode(as_texts(docs, columns), progress)

    def decision_function(
        self, docs: Any = None, *, columns: Mapping[str, str] | None = None, progress: Progress | None = None
    ) -> np.ndarray:
        """Cosine of each document with each label, (n, labels) in the order of `labels_`; of the documents of `fit` by default.

        A document without a known word has 0 everywhere.
        """
        return cosine(self.transform(docs, columns=columns, progress=progress), self.label_vectors_)

    def predict(
        self,
        docs: Any = None,
        *,
        threshold: float | Mapping[str, float] | None = None,
        columns: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """The most similar label of each document, (n,) texts; of the documents of `fit` by default.

        Parameters
        ----------
        threshold : least similarity, one for all labels or one each; a document that reaches none of them gets None. So
            does, always, a document without a known word.
        """
        return self.choose(self.decision_function(docs, columns=columns, progress=progress), threshold)

    def choose(self, similarity: np.ndarray, threshold: float | Mapping[str, float] | None = None) -> np.ndarray:
        """The label of each row of similarities (n, labels), as `decision_function` gives them; see `predict`."""
        self.require_fitted()
        known = np.asarray(similarity.any(axis=1))
        allowed = (similarity >= self._thresholds(threshold)) & known[:, None]
        best = np.where(allowed, similarity, -np.inf).argmax(axis=1)
        labels = np.array([*self.labels_, None], dtype=object)
        return labels[np.where(allowed.any(axis=1), best, -1)]

    def rank(self, label: str, k: int = 10, docs: Any = None, *, columns: Mapping[str, str] | None = None) -> Ranking:
        """The `k` documents most similar to a label; of those of `fit` by default.

        Raises
        ------
        ValueError : a label that is not there, or `k` below 1
        """
        self.require_fitted()
        column = self._column(label)
        k = as_count(k, "k")
        vectors = self.transform(docs, columns=columns)
        known = np.flatnonzero(vectors.any(axis=1))
        similarity = cosine(vectors[known], self.label_vectors_)[:, column]
        order = np.argsort(-similarity, kind="stable")[:k]
        return Ranking(known[order], similarity[order])

    def _column(self, label: str) -> int:
        """Where a label stands in `labels_`."""
        if label not in self.labels_:
            near = difflib.get_close_matches(str(label), self.labels_, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"label: one of {', '.join(map(repr, self.labels_))} was expected, got {label!r}{hint}")
        return self.labels_.index(label)

    def _thresholds(self, given: float | Mapping[str, float] | None) -> np.ndarray:
        """Least similarity of each label, (labels,)."""
        if isinstance(given, Mapping):
            unknown = sorted(set(given) - set(self.labels_))
            if unknown:
                raise ValueError(f"threshold: {unknown[0]!r} is none of the labels {', '.join(self.labels_)}")
            each = [given.get(label) for label in self.labels_]
        else:
            each = [given] * len(self.labels_)
        for value in each:
            check_similarity("threshold", value)
        return np.array([-np.inf if value is None else value for value in each])

    def _check(self) -> None:
        check_keywords(self.keywords)
        as_count(self.min_docs, "min_docs")
        if self.max_docs is not None:
            as_count(self.max_docs, "max_docs", low=self.min_docs, why="as many as min_docs")
        check_similarity("similarity_threshold", self.similarity_threshold)
        number("threshold_offset", self.threshold_offset, 0.0, 2.0)


def warn_unknown(known: Sequence[bool] | np.ndarray) -> None:
    """Say how many documents hold no word of the vocabulary."""
    rows = [row for row, ok in enumerate(known) if not ok]
    if rows:
        text = f"{len(rows)} of {len(known)} documents hold no word of the vocabulary, first row {rows[0]}"
        warnings.warn(f"{text}: they get no topic", stacklevel=4)
