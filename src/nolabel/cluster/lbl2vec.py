"""Lbl2Vec: find the documents of topics that are described by keywords alone.

Documents and words are learned in one space (PV-DBOW with interleaved skip-gram, see `paragraph_vectors`). There

    k_l = mean of u_w / |u_w| over the keywords w of label l,
    c_l = mean of v_d over the documents d nearest to k_l,      similarity of d to l = cos(v_d, c_l),

so that a topic is where its documents lie and not where its keywords do. New documents get vectors with words frozen.

Schopf, Braun & Matthes, "Lbl2Vec: an embedding-based approach for unsupervised document retrieval on predefined topics",
WEBIST 2021; arXiv:2210.06023. Differences: negative sampling without hierarchical softmax, and a label vector from 50
documents; the authors' code takes a single one unless told otherwise (here ``min_docs=1``).
"""

import difflib
import warnings
from collections.abc import Collection
from typing import Any

import numpy as np

from nolabel.assess.inputs import as_count
from nolabel.cluster import paragraph_vectors
from nolabel.cluster.candidates import cosine, unit
from nolabel.cluster.inputs import number, refuse_empty
from nolabel.cluster.keyword_topics import KeywordTopics, Progress, warn_unknown
from nolabel.data.vocabulary import keep_probabilities
from nolabel.data.words import split_words

#: Most frequent words among which one that looks like an unknown keyword is sought.
NEAREST_AMONG = 20_000
#: Words of a document that a pass has to use, on average, for its vector to say something.
FEW_WORDS = 2.0


class Lbl2Vec(KeywordTopics):
    """Similarity of documents to topics, given a few keywords a topic and no labels; learned from the documents alone.

    Use it on a thousand documents or more of one language in which the keywords are common. With fewer documents set
    ``sample=0``; with fewer still, or keywords that are phrases, use `Lbl2TransformerVec`: here a keyword of several words
    is the mean of those that are known.

    Parameters
    ----------
    keywords : label to its keywords; capitals do not matter, a keyword that comes twice counts once
    vector_size, window, epochs : width of the vectors, words to either side that predict a word, passes (the authors' code:
        300, 15, 10)
    min_count, sample, negative : least count of a word, frequency from which words are dropped at random (0 for never),
        negatives a pair (the authors' code: 50, 1e-5, 5)
    lr : rate at the start, falling to 1e-4
    inference_passes : times a new document is gone through for its vector
    min_docs, max_docs : fewest and most documents that make a label vector
    similarity_threshold : cosine to the keywords above which a document may be one of them; by default the highest there is
        less `threshold_offset`, so that with an offset of 0 exactly `min_docs` are taken
    clean_outliers : whether the local outlier factor drops some of them
    random_state : seed, from 0 to 2**32 - 1

    Attributes
    ----------
    labels_ : labels in the order of the columns of `decision_function`
    doc_vectors_ : (n, d) float32; zero for a document without a known word
    label_vectors_, keyword_vectors_ : (labels, d) float32
    candidates_ : rows of the documents behind each label vector
    unknown_keywords_ : keywords of each label of which no word is in the vocabulary
    words_, counts_, word_vectors_, output_vectors_ : the vocabulary, most frequent first, and its two tables (v, d)

    Examples
    --------
    >>> texts = ["the apple and the pear are ripe", "a pear or an apple cake", "rain and wind and snow", "snow after rain"] * 25
    >>> model = Lbl2Vec({"fruit": ["Apple", "pear"], "weather": ["rain", "snow"]}, sample=0, min_docs=10)
    >>> model.fit(texts).predict()[:4].tolist()
    ['fruit', 'fruit', 'weather', 'weather']
    >>> model.predict(["snow and rain again"]).tolist()
    ['weather']
    """

    words_: list[str]
    counts_: np.ndarray
    word_vectors_: np.ndarray
    output_vectors_: np.ndarray
    unknown_keywords_: dict[str, list[str]]

    def __init__(
        self,
        keywords: dict[str, list[str]],
        *,
        vector_size: int = 100,
        window: int = 10,
        epochs: int = 15,
        min_count: int = 3,
        sample: float = 1e-4,
        negative: int = 5,
        lr: float = 0.025,
        inference_passes: int = 50,
        min_docs: int = 50,
        max_docs: int | None = None,
        similarity_threshold: float | None = None,
        threshold_offset: float = 0.0,
        clean_outliers: bool = False,
        random_state: int = 0,
    ) -> None:
        self.keywords = keywords
        self.vector_size = vector_size
        self.window = window
        self.epochs = epochs
        self.min_count = min_count
        self.sample = sample
        self.negative = negative
        self.lr = lr
        self.inference_passes = inference_passes
        self.min_docs = min_docs
        self.max_docs = max_docs
        self.similarity_threshold = similarity_threshold
        self.threshold_offset = threshold_offset
        self.clean_outliers = clean_outliers
        self.random_state = random_state

    def words_near(self, label: str, k: int = 10) -> list[tuple[str, float]]:
        """The `k` words most similar to a label, with their cosines: what it is about, and further keywords to consider."""
        self.require_fitted()
        similarity = cosine(self.word_vectors_, self.label_vectors_)[:, self._column(label)]
        order = np.argsort(-similarity, kind="stable")[: as_count(k, "k")]
        return [(self.words_[i], float(similarity[i])) for i in order]

    def _learn(self, texts: list[str], progress: Progress | None) -> dict[str, Any]:
        documents = self._documents(texts)
        counts = paragraph_vectors.word_counts(documents, self.min_count)
        if not counts:
            raise ValueError(
                f"docs: no word occurs min_count={self.min_count} times in {len(texts)} documents: lower it"
            )
        keywords, unknown = self._known_keywords(counts)
        self._warn_of_sampling(counts, len(texts))
        space = paragraph_vectors.train(
            documents,
            counts,
            vector_size=self.vector_size,
            window=self.window,
            epochs=self.epochs,
            sample=self.sample,
            negative=self.negative,
            lr=self.lr,
            seed=self.random_state,
            progress=progress,
        )
        warn_unknown(np.asarray(space.doc_vectors.any(axis=1)))
        number_of = {word: i for i, word in enumerate(space.words)}
        each = unit(space.word_vectors)
        means = [
            np.mean([each[[number_of[word] for word in keyword]].mean(axis=0) for keyword in known], axis=0)
            for known in keywords
        ]
        return {
            "keyword_vectors_": np.stack(means).astype(np.float32),
            "doc_vectors_": space.doc_vectors,
            "words_": space.words,
            "counts_": space.counts,
            "word_vectors_": space.word_vectors,
            "output_vectors_": space.output_vectors,
            "unknown_keywords_": unknown,
        }

    def _encode(self, texts: list[str], progress: Progress | None) -> np.ndarray:
        number_of = {word: i for i, word in enumerate(self.words_)}
        documents = [
            np.array([number_of[word] for word in document if word in number_of], dtype=np.int64)
            for document in self._documents(texts)
        ]
        warn_unknown([len(document) > 0 for document in documents])
        return paragraph_vectors.infer(
            documents,
            self.output_vectors_,
            self.counts_,
            sample=self.sample,
            negative=self.negative,
            lr=self.lr,
            passes=self.inference_passes,
            seed=self.random_state,
            progress=progress,
        )

    def _warn_of_sampling(self, counts: dict[str, int], documents: int) -> None:
        each = np.array(list(counts.values()))
        used = float((each * keep_probabilities(each, self.sample)).sum()) / documents
        if used < FEW_WORDS and self.sample:
            text = f"sample={self.sample:g} leaves {used:.1f} words of a document in a pass, on average"
            warnings.warn(f"{text}: too few to learn from, raise it or set it to 0", stacklevel=4)

    def _documents(self, texts: list[str]) -> list[list[str]]:
        documents = [split_words(text) for text in texts]
        refuse_empty([bool(words) for words in documents], "holds no word")
        return documents

    def _known_keywords(self, counts: dict[str, int]) -> tuple[list[list[list[str]]], dict[str, list[str]]]:
        """The known words of each keyword of each label, and the keywords without one; warns of these and of phrases."""
        known: list[list[list[str]]] = []
        unknown: dict[str, list[str]] = {}
        phrases = []
        for label, keywords in self.keywords.items():
            split = {keyword: split_words(keyword) for keyword in keywords}
            phrases += [keyword for keyword, words in split.items() if len(words) > 1]
            found = {tuple(word for word in words if word in counts) for words in split.values()}
            known.append([list(words) for words in sorted(found) if words])
            unknown[label] = [k for k, words in split.items() if not any(w in counts for w in words)]
            if not known[-1]:
                raise ValueError(self._nothing_known(label, split, counts))
        missing = [keyword for keywords in unknown.values() for keyword in keywords]
        if missing:
            text = ", ".join(map(repr, missing[:10])) + (", ..." if len(missing) > 10 else "")
            warnings.warn(
                f"{len(missing)} keywords do not occur min_count={self.min_count} times: {text}", stacklevel=4
            )
        if phrases:
            text = ", ".join(map(repr, phrases[:5])) + (", ..." if len(phrases) > 5 else "")
            warnings.warn(f"keywords of several words are read as the mean of these words: {text}", stacklevel=4)
        return known, unknown

    def _nothing_known(self, label: str, split: dict[str, list[str]], counts: Collection[str]) -> str:
        words = [word for parts in split.values() for word in parts]
        common = list(counts)[:NEAREST_AMONG]
        near = list(dict.fromkeys(hit for word in words for hit in difflib.get_close_matches(word, common, n=2)))
        hint = f"; words that look like them are {', '.join(near[:8])}" if near else ""
        return (
            f"keywords: none of {', '.join(map(repr, split))} of {label!r} is among the {len(counts):,} words that occur "
            f"min_count={self.min_count} times{hint}"
        )

    def _check(self) -> None:
        super()._check()
        for name in ("vector_size", "window", "epochs", "min_count", "negative", "inference_passes"):
            as_count(getattr(self, name), name)
        if not 0 <= number("sample", self.sample, 0.0) < 1:
            raise ValueError(f"sample must be a frequency in [0, 1), got {self.sample!r}")
        if number("lr", self.lr, 0.0) < paragraph_vectors.LEAST_RATE:
            raise ValueError(
                f"lr must be at least {paragraph_vectors.LEAST_RATE:g}, to which it falls, got {self.lr!r}"
            )
        as_count(self.random_state, "random_state", low=0, high=2**32 - 1)
