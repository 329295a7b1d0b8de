"""Lbl2TransformerVec: the topics of Lbl2Vec in the space of a sentence encoder that exists already.

    k_l = mean of the vectors of the keywords of label l,
    v_d = mean of the vectors of groups of sentences, each of at most half as many words as the encoder reads tokens,

then as in `Lbl2Vec`: c_l = mean of v_d over the documents nearest to k_l, similarity cos(v_d, c_l).

Schopf, Braun & Matthes, "Evaluating unsupervised text classification: zero-shot and similarity-based approaches", NLPIR
2022, arXiv:2211.16285. Difference: ``clean_outliers`` runs the local outlier factor, as in Lbl2Vec; the authors' code
does not.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from nolabel.assess.inputs import as_count, as_embeddings
from nolabel.cluster.keyword_topics import KeywordTopics, Progress
from nolabel.training.sentences import sentence_encoder

#: Tokens that an encoder which does not say so is taken to read.
TOKENS = 256
#: Texts that are encoded between two reports of progress.
PORTION = 256
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])\s+|\s*\n\s*")


def sentence_groups(text: str, most: int) -> list[str]:
    """Cut a text into groups of whole sentences of at most `most` words each; a longer sentence is cut between words.

    >>> sentence_groups("One two three. Four five. Six!", 5)
    ['One two three. Four five.', 'Six!']
    >>> sentence_groups("one two three four five", 2)
    ['one two', 'three four', 'five']
    """
    pieces: list[list[str]] = []
    for sentence in _SENTENCE_END.split(text):
        words = sentence.split()
        pieces += [words[start : start + most] for start in range(0, len(words), most)]
    groups: list[list[str]] = []
    for piece in pieces:
        if groups and len(groups[-1]) + len(piece) <= most:
            groups[-1] = groups[-1] + piece
        else:
            groups.append(piece)
    return [" ".join(group) for group in groups]


def _encoder_of(spec: Any) -> tuple[Callable[[list[str]], Any], int]:
    """What makes vectors of texts, and how many tokens it reads."""
    if isinstance(spec, str):
        spec = sentence_encoder(spec)
    for name in ("encode", "transform"):
        if callable(getattr(spec, name, None)):
            return getattr(spec, name), int(getattr(spec, "max_seq_length", None) or TOKENS)
    if not callable(spec):
        kind = type(spec).__name__
        raise TypeError(f"encoder: an object with encode(texts) or transform(texts) was expected, got a {kind}")
    return spec, TOKENS


class Lbl2TransformerVec(KeywordTopics):
    """Similarity of documents to topics, given a few keywords or phrases a topic, by a sentence encoder.

    Use it on few documents, short ones, or where keywords are rare or phrases. Do not use it in a language or field that
    the encoder does not know, nor on very many documents without an accelerator: `Lbl2Vec` is faster.

    Parameters
    ----------
    keywords : label to its keywords, which may be phrases
    encoder : ``st:`` or ``hf:`` and a name or folder; or an object with ``encode(texts)``, such as a model of
        `sentence-transformers`, or with ``transform(texts)``, such as a fitted estimator; or a function. The last three return
        floats (n, d)
    group_words : most words of a group of sentences; by default half of the encoder's ``max_seq_length``, or 128
    min_docs, max_docs, similarity_threshold, threshold_offset, clean_outliers : see `Lbl2Vec`

    Attributes
    ----------
    labels_, doc_vectors_, label_vectors_, keyword_vectors_, candidates_ : see `Lbl2Vec`

    Examples
    --------
    >>> def letters(texts):  # a poor encoder: how often each letter comes
    ...     return np.array([[float(text.count(c)) for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
    >>> model = Lbl2TransformerVec({"a": ["aa"], "z": ["zz top"]}, letters, min_docs=1)
    >>> model.fit(["banana", "alabama", "jazz", "pizza"]).predict().tolist()
    ['a', 'a', 'z', 'z']
    """

    def __init__(
        self,
        keywords: dict[str, list[str]],
        encoder: Any = "st:all-MiniLM-L6-v2",
        *,
        group_words: int | None = None,
        min_docs: int = 50,
        max_docs: int | None = None,
        similarity_threshold: float | None = None,
        threshold_offset: float = 0.0,
        clean_outliers: bool = False,
    ) -> None:
        self.keywords = keywords
        self.encoder = encoder
        self.group_words = group_words
        self.min_docs = min_docs
        self.max_docs = max_docs
        self.similarity_threshold = similarity_threshold
        self.threshold_offset = threshold_offset
        self.clean_outliers = clean_outliers

    def _learn(self, texts: list[str], progress: Progress | None) -> dict[str, Any]:
        means = [self._vectors(list(dict.fromkeys(words)), None).mean(axis=0) for words in self.keywords.values()]
        return {"keyword_vectors_": np.stack(means), "doc_vectors_": self._encode(texts, progress)}

    def _encode(self, texts: list[str], progress: Progress | None) -> np.ndarray:
        most = self.group_words or max(1, _encoder_of(self.encoder)[1] // 2)
        groups = [sentence_groups(text, most) for text in texts]
        vectors = self._vectors([group for one in groups for group in one], progress)
        ends = np.cumsum([len(one) for one in groups])
        return np.stack([part.mean(axis=0) for part in np.split(vectors, ends[:-1])])

    def _vectors(self, texts: list[str], progress: Progress | None) -> np.ndarray:
        """Vectors of texts, float32 (n, d)."""
        encode, _ = _encoder_of(self.encoder)
        parts = []
        for start in range(0, len(texts), PORTION):
            portion = texts[start : start + PORTION]
            parts.append(as_embeddings(encode(portion), "encoder: its vectors", at_least=1).astype(np.float32))
            if len(parts[-1]) != len(portion):
                raise ValueError(f"encoder: {len(portion)} vectors were expected, got {len(parts[-1])}")
            if progress is not None:
                progress(start + len(portion), len(texts))
        return np.concatenate(parts)

    def _check(self) -> None:
        super()._check()
        _encoder_of(self.encoder)
        if self.group_words is not None:
            as_count(self.group_words, "group_words")
