"""Which words count: the frequent ones and the frequent pairs of them, numbered from the most frequent on."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nolabel.data.words import NumberedTexts


def keep_probabilities(counts: np.ndarray, threshold: float) -> np.ndarray:
    """Probability (v,) of keeping one occurrence of each word when frequent ones are thinned out.

    ``min(1, sqrt(t / f) + t / f)`` for a word that is a share f of all; t is `threshold`, 0 keeps everything.
    Mikolov et al., NeurIPS 2013, arXiv:1310.4546, in the form of its code.

    >>> keep_probabilities(np.array([90, 10]), 0.1).round(3).tolist()
    [0.444, 1.0]
    """
    if not threshold >= 0:
        raise ValueError(f"threshold must be at least 0, got {threshold}")
    if threshold == 0:
        return np.ones(len(counts))
    ratio = threshold * counts.sum() / counts
    return np.minimum(1.0, np.sqrt(ratio) + ratio)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Frequent words, and frequent pairs of neighbouring ones, by falling frequency (ties in the order of the alphabet).

    Attributes
    ----------
    words : of each id; a pair is its two words with a space between them
    counts : int64 (v,), how often each occurred
    pairs : int32 (v, 2), ids of the two words of a pair, -1 for a word

    Examples
    --------
    >>> from nolabel.data.words import number_words
    >>> texts = number_words(["new york is new", "york or new york"])
    >>> vocabulary = Vocabulary.of(texts, min_count=2, max_pairs=5)
    >>> vocabulary.words, vocabulary.counts.tolist()
    (['new', 'york', 'new york'], [3, 3, 2])
    >>> [part.tolist() for part in vocabulary.encode(number_words(["a new york"]))]
    [[0, 1, 2], [0, 3]]
    """

    words: list[str]
    counts: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(
        cls,
        texts: NumberedTexts,
        *,
        min_count: int = 5,
        max_words: int | None = None,
        stop_words: Collection[str] = (),
        max_pairs: int = 0,
        min_pair_count: int | None = None,
    ) -> Vocabulary:
        """The vocabulary of texts.

        Parameters
        ----------
        texts : from `nolabel.data.words.number_words`.
        min_count, max_words : how often a word has to occur, and how many there may be.
        stop_words : words that are left out whatever their count.
        max_pairs, min_pair_count : most pairs of neighbouring words, both of the vocabulary, and how often one has to
            occur (`min_count` by default).

        Raises
        ------
        ValueError
            A number out of range, or no word that occurs so often.
        """
        for name, value, least in (
            ("min_count", min_count, 1),
            ("max_words", max_words, 1),
            ("max_pairs", max_pairs, 0),
        ):
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least
            ):
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        counts = np.bincount(texts.ids, minlength=len(texts.distinct))
        often = [i for i in np.flatnonzero(counts >= min_count) if texts.distinct[i] not in stop_words]
        often.sort(key=lambda i: (-counts[i], texts.distinct[i]))
        chosen = often[:max_words]
        if not chosen:
            most = f"the most frequent occurs {counts.max()} times" if len(counts) else "there is none at all"
            raise ValueError(f"min_count={min_count} leaves no word that is not a stop word: {most}")
        words = [texts.distinct[i] for i in chosen]
        alone = cls(words, counts[chosen].astype(np.int64), np.full((len(words), 2), -1, np.int32))
        return alone._with_pairs(texts, max_pairs, min_count if min_pair_count is None else min_pair_count)

    def _with_pairs(self, texts: NumberedTexts, most: int, least: int) -> Vocabulary:
        """Add the frequent pairs and number everything anew."""
        if not most:
            return self
        keys, _ = self._neighbours(self._ids(texts), texts.offsets)
        found, counts = np.unique(keys, return_counts=True)
        found, counts = found[counts >= least], counts[counts >= least]
        best = np.lexsort((found, -counts))[:most]
        found, counts = found[best], counts[best]
        firsts, seconds = np.divmod(found, len(self))
        names = self.words + [f"{self.words[a]} {self.words[b]}" for a, b in zip(firsts, seconds)]
        together = np.concatenate([self.counts, counts])
        order = np.array(sorted(range(len(names)), key=lambda i: (-together[i], " " in names[i], names[i])))
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order))
        pairs = np.full((len(names), 2), -1, np.int32)
        pairs[len(self) :, 0], pairs[len(self) :, 1] = place[firsts], place[seconds]
        return Vocabulary([names[i] for i in order], together[order], pairs[order])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.index

    @cached_property
    def index(self) -> dict[str, int]:
        """Id by word."""
        return {word: number for number, word in enumerate(self.words)}

    def id_of(self, word: str) -> int:
        """The id of a word; a KeyError that names the nearest words if it is not here."""
        if word in self.index:
            return self.index[word]
        near = self.nearest(word)
        hint = f": did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise KeyError(f"{word!r} is not among the {len(self)} words of the vocabulary{hint}")

    def nearest(self, word: str, k: int = 3) -> list[str]:
        """At most `k` words that are spelled almost like this one, the best first."""
        return difflib.get_close_matches(word, self.words, n=k)

    def encode(self, texts: NumberedTexts) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the known words of texts, int32 (n,), and where each text begins, int64 (texts + 1,).

        Unknown words are left out, so their neighbours become neighbours; a pair comes after its second word, and only
        where its words stood side by side.
        """
        raw = self._ids(texts)
        known = np.flatnonzero(raw >= 0)
        ids, places = raw[known], known
        if (self.pairs >= 0).any():
            keys, firsts = self._neighbours(raw, texts.offsets)
            own = np.flatnonzero(self.pairs[:, 0] >= 0)
            of_own = self.pairs[own, 0].astype(np.int64) * len(self) + self.pairs[own, 1]
            order = np.argsort(of_own)
            at = np.searchsorted(of_own[order], keys).clip(max=len(own) - 1)
            hits = np.flatnonzero(of_own[order[at]] == keys)
            ids = np.concatenate([ids, own[order[at[hits]]].astype(np.int32)])
            places = np.concatenate([places, firsts[hits] + 1])
            by_place = np.argsort(places, kind="stable")  # words stand before pairs at the same place
            ids, places = ids[by_place], places[by_place]
        return ids, np.searchsorted(places, texts.offsets).astype(np.int64)

    def keep_probabilities(self, threshold: float) -> np.ndarray:
        """`keep_probabilities` of the words, (v,)."""
        return keep_probabilities(self.counts, threshold)

    def noise(self, kind: str = "unigram", power: float = 0.75) -> np.ndarray:
        """Probabilities (v,) from which negatives are drawn.

        ``unigram``: proportional to count ** `power`. ``log-uniform``: log((k + 2) / (k + 1)) / log(v + 1) for id k, which
        needs no counts but that the ids are sorted by them.
        """
        if kind == "unigram":
            weights = self.counts.astype(float) ** power
            return np.asarray(weights / weights.sum())
        if kind == "log-uniform":
            ranks = np.arange(len(self), dtype=float)
            return np.asarray(np.log1p(1.0 / (ranks + 1.0)) / np.log(len(self) + 1.0))
        raise ValueError(f"kind must be 'unigram' or 'log-uniform', got {kind!r}")

    def _ids(self, texts: NumberedTexts) -> np.ndarray:
        """The id of every word of texts, int32 (n,); -1 for unknown ones."""
        of_distinct = np.array([self.index.get(word, -1) for word in texts.distinct], np.int32)
        if len(of_distinct) and (self.pairs >= 0).any():
            is_pair = self.pairs[:, 0] >= 0
            of_distinct[is_pair[of_distinct] & (of_distinct >= 0)] = -1  # a word with a space in it, given in a list
        return of_distinct[texts.ids] if len(texts.ids) else np.empty(0, np.int32)

    def _neighbours(self, ids: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One number for each pair of known words side by side in a text, and the place of its first word."""
        last = np.zeros(len(ids) + 1, bool)
        last[offsets[1:] - 1] = True  # of an empty first text: the place after the end
        firsts = np.flatnonzero((ids[:-1] >= 0) & (ids[1:] >= 0) & ~last[: len(ids)][:-1])
        return ids[firsts].astype(np.int64) * len(self) + ids[firsts + 1], firsts
