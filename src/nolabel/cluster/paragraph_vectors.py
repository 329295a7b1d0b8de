"""Vectors of documents and words in one space: PV-DBOW with interleaved skip-gram, and vectors of new documents.

A document vector v and the vectors u of the words around a position predict the word w there through one output layer:

    -log s(x . o_w) - sum over negatives n of log s(-x . o_n),    x in {v, u},  n drawn as count^0.75.

Training is gensim's. Inference keeps the output layer and fits a fresh v alone; it needs only the learned arrays, draws
its negatives from a seed that no other document shares in, and leaves frequent words out by weight instead of by lot.

Le & Mikolov, "Distributed representations of sentences and documents", ICML 2014, arXiv:1405.4053.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nolabel.data.vocabulary import keep_probabilities
from nolabel.training.batches import within_budget

LEAST_RATE = 1e-4
#: Words of a document that move its vector together, and negatives that every pass draws for all of them.
STRIDE, NOISE = 16, 128
#: Padded words of one batch of documents.
BATCH_WORDS = 50_000
#: gensim reads this many words of a text and silently drops the others.
LONGEST = 10_000

Progress = Callable[[int, int], None]


class Space(NamedTuple):
    """What was learned: `words` (v) with their `counts` (v,), and three float32 arrays."""

    words: list[str]
    counts: np.ndarray
    word_vectors: np.ndarray  # (v, d)
    output_vectors: np.ndarray  # (v, d)
    doc_vectors: np.ndarray  # (n, d), zero where a document has no known word


def word_counts(documents: Iterable[Sequence[str]], min_count: int) -> dict[str, int]:
    """Words that occur at least `min_count` times, most frequent first, ties in alphabetical order.

    >>> word_counts([["b", "a"], ["a", "c", "b", "a"]], 2)
    {'a': 3, 'b': 2}
    """
    counts = Counter(word for document in documents for word in document)
    kept = [(word, count) for word, count in counts.items() if count >= min_count]
    return dict(sorted(kept, key=lambda pair: (-pair[1], pair[0])))


def train(
    documents: Sequence[Sequence[str]],
    counts: dict[str, int],
    *,
    vector_size: int,
    window: int,
    epochs: int,
    sample: float,
    negative: int,
    lr: float,
    seed: int,
    progress: Progress | None = None,
) -> Space:
    """Train document and word vectors with gensim on one thread; the same seed gives the same vectors.

    Parameters
    ----------
    documents : lists of words; those outside `counts` are passed over
    counts : the vocabulary, as `word_counts` gives it
    progress : called as ``progress(epochs done, epochs)``

    Raises
    ------
    ImportError : without gensim

    Examples
    --------
    >>> texts = [["red", "apple"], ["blue", "sky"]] * 20
    >>> space = train(texts, word_counts(texts, 1), vector_size=8, window=2, epochs=2, sample=0, negative=2, lr=0.05, seed=0)
    >>> space.words, space.doc_vectors.shape
    (['apple', 'blue', 'red', 'sky'], (40, 8))
    """
    try:
        from gensim.models.callbacks import CallbackAny2Vec
        from gensim.models.doc2vec import Doc2Vec, TaggedDocument
    except ImportError:
        raise ImportError(
            "paragraph vectors are trained by gensim, which is not here: pip install nolabel[text]"
        ) from None

    class Reporter(CallbackAny2Vec):
        done = 0

        def on_epoch_end(self, model: Any) -> None:
            self.done += 1
            if progress is not None:
                progress(self.done, epochs)

    known = [[word for word in document if word in counts] for document in documents]
    texts = [
        TaggedDocument(words[start : start + LONGEST], [row])
        for row, words in enumerate(known)
        for start in range(0, max(len(words), 1), LONGEST)
    ]
    model = Doc2Vec(
        dm=0, dbow_words=1, hs=0, negative=negative, vector_size=vector_size, window=window, epochs=epochs, min_count=1,
        sample=sample, alpha=lr, min_alpha=LEAST_RATE, seed=seed, workers=1, hashfxn=_checksum,
    )  # fmt: skip
    model.build_vocab(texts)
    model.train(texts, total_examples=len(texts), epochs=epochs, callbacks=[Reporter()])
    order = np.array([model.wv.key_to_index[word] for word in counts])
    vectors = model.dv.vectors.copy()
    vectors[[not words for words in known]] = 0.0  # never trained: still the random start
    return Space(list(counts), np.array(list(counts.values())), model.wv.vectors[order], model.syn1neg[order], vectors)


def _checksum(text: str) -> int:
    """A hash that is the same in every process, unlike Python's."""
    return zlib.crc32(text.encode())


def infer(
    documents: Sequence[np.ndarray],
    output_vectors: np.ndarray,
    counts: np.ndarray,
    *,
    sample: float,
    negative: int,
    lr: float,
    passes: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
) -> np.ndarray:
    """Vectors (n, d) float32 of documents that took no part in training, the output layer frozen.

    A document's vector follows from its words and the seed alone, not from its company. One without words is zero.

    Parameters
    ----------
    documents : word numbers (int64) of each document, known words only
    output_vectors, counts : (v, d) and (v,) of `Space`
    passes : times each document is gone through
    """
    layer = torch.from_numpy(np.ascontiguousarray(output_vectors, dtype=np.float32))
    chance = torch.from_numpy(keep_probabilities(counts, sample).astype(np.float32))
    share = torch.from_numpy(counts.astype(np.float64) ** 0.75)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.multinomial(share, passes * NOISE, replacement=True, generator=generator).view(passes, NOISE)
    rates = np.linspace(lr, LEAST_RATE, passes)
    lengths = np.array([len(document) for document in documents])
    vectors = torch.zeros(len(documents), layer.shape[1])
    done = 0
    filled = np.flatnonzero(lengths)
    for rows in (filled[part] for part in within_budget(lengths[filled], BATCH_WORDS)):
        width = -(-int(lengths[rows].max()) // STRIDE) * STRIDE
        words = torch.zeros(len(rows), width, dtype=torch.int64)
        weights = torch.zeros(len(rows), width)
        for place, row in enumerate(rows):
            words[place, : lengths[row]] = torch.from_numpy(documents[row])
            weights[place, : lengths[row]] = chance[documents[row]]
        vectors[torch.from_numpy(rows)] = _fitted(words, weights, layer, noise, rates, negative)
        done += len(rows)
        if progress is not None:
            progress(done, len(documents))
    return vectors.numpy()


def _fitted(words: Tensor, weights: Tensor, layer: Tensor, noise: Tensor, rates: np.ndarray, negative: int) -> Tensor:
    """Document vectors (b, d) that predict `words` (b, l) with `weights` (b, l), from zero."""
    v = torch.zeros(len(words), layer.shape[1])
    for drawn, rate in zip(noise, rates, strict=True):
        others = layer[drawn]  # (m, d)
        for start in range(0, words.shape[1], STRIDE):
            own = layer[words[:, start : start + STRIDE]]  # (b, s, d)
            weight = weights[:, start : start + STRIDE]
            missed = weight * (1 - torch.sigmoid(torch.einsum("bsd,bd->bs", own, v)))
            towards = torch.einsum("bs,bsd->bd", missed, own)
            away = torch.sigmoid(v @ others.T) @ others / len(others)  # (b, d)
            v = v + rate * (towards - negative * weight.sum(dim=1, keepdim=True) * away)
    return v
