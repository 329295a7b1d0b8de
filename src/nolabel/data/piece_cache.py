"""Token ids of many texts at once: each word is cut into pieces once, whatever the number of texts that hold it."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WORDS = 400_000  # remembered at most
_BETWEEN = "\x00"  # stands between two texts; no text that goes this way holds it
# Words and single marks of a text without control characters, as BERT splits ASCII text.
_PARTS = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9\s]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class _Numbers(dict[str, int]):
    """A new number for each new word; `new` lists those."""

    def __init__(self, known: dict[str, int]) -> None:
        super().__init__(known)
        self.new: list[str] = []

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        self.new.append(word)
        return number


class PieceCache:
    """The ids that a tokeniser gives to texts, without start and end tokens.

    A tokeniser that splits into words as BERT's does cuts each word by itself, so its pieces can be remembered: ASCII texts go
    this way, an order of magnitude faster; others, and all texts of other tokenisers, go through the library.

    >>> from nolabel.data import train_wordpiece
    >>> tokeniser = train_wordpiece(["a cat sat", "cats"], 30)
    >>> ids, counts = PieceCache(tokeniser)(["cats sat", "", "a café"])
    >>> counts.tolist(), ids.tolist() == [i for text in ("cats sat", "a café") for i in tokeniser.encode(text).ids[1:-1]]
    ([2, 0, 2], True)
    """

    def __init__(self, tokeniser: Tokenizer) -> None:
        self.tokeniser = tokeniser
        described = json.loads(tokeniser.to_str())
        kinds = [(described.get(part) or {}).get("type") for part in ("model", "normalizer", "pre_tokenizer")]
        whole = not described.get("truncation") and bool(described["model"].get("continuing_subword_prefix"))
        self.by_word = whole and kinds == ["WordPiece", "BertNormalizer", "BertPreTokenizer"]
        self.lowercase = self.by_word and bool(described["normalizer"].get("lowercase"))
        self.special = tuple(token["content"] for token in described.get("added_tokens", ()))
        if self.by_word:
            mark = described["model"]["continuing_subword_prefix"]
            self.begins = np.ones(max(described["model"]["vocab"].values()) + 1, bool)
            self.begins[[i for piece, i in described["model"]["vocab"].items() if piece.startswith(mark)]] = False
        self._forget()

    def _cut(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The pieces of ASCII words, by the library, many words a text: all ids on end, and how many each word has.

        Which piece begins a word is seen from its lack of the mark.
        """
        texts = [" ".join(words[start : start + 256]) for start in range(0, len(words), 256)]
        if any(name in text for text in texts for name in self.special):  # a word, without its capitals, as such a name
            model = self.tokeniser.model
            return _flat([[token.id for token in model.tokenize(word)] for word in words])
        ids = self._library(texts)[0]
        starts = np.flatnonzero(self.begins[ids])
        return ids, np.diff(starts, append=len(ids))

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All ids on end, int32, and how many each text has (n,)."""
        return next(self.stream([texts]))

    def stream(self, blocks: Iterable[Sequence[str]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same of each block; the new words of one are cut on another core while the next is split into words."""
        if not self.by_word:
            yield from map(self._library, blocks)
            return
        waiting: deque[Future[Callable[[], tuple[np.ndarray, np.ndarray]]]] = deque()
        with ThreadPoolExecutor(1, "nolabel-pieces") as other:
            for block in blocks:
                if len(self.numbers) > _WORDS:
                    while waiting:
                        yield waiting.popleft().result()()
                    self._forget()
                waiting.append(self._begun(block, other))
                if len(waiting) > 2:
                    yield waiting.popleft().result()()
            while waiting:
                yield waiting.popleft().result()()

    def _begun(self, texts: Sequence[str], other: ThreadPoolExecutor) -> Future[Callable[[], Any]]:
        """Split texts into words and number them; the new ones are then cut by `other`, and what remains is a function."""
        plain = [text if text.isascii() else None for text in texts]
        joined = _BETWEEN.join(text for text in plain if text is not None)
        # a control character or the name of a special token is the library's to judge
        odd = _CONTROL.search(joined.replace(_BETWEEN, "")) or joined.count(_BETWEEN) != max(
            sum(text is not None for text in plain) - 1, 0
        )
        if odd or any(name in joined for name in self.special):
            plain = [
                None if text is None or _CONTROL.search(text) or any(name in text for name in self.special) else text
                for text in plain
            ]
            joined = _BETWEEN.join(text for text in plain if text is not None)
        fast = np.array([text is not None for text in plain], bool)
        words = _PARTS.findall(joined.lower() if self.lowercase else joined)
        number = np.fromiter(map(self.numbers.__getitem__, words), np.int64, len(words))
        new, self.numbers.new = self.numbers.new, []
        rest = [text for text, quick in zip(texts, fast) if not quick]

        def cut() -> Callable[[], tuple[np.ndarray, np.ndarray]]:
            found, slow = self._cut(new), self._library(rest) if rest else None

            def finish() -> tuple[np.ndarray, np.ndarray]:
                self._remember(*found)
                known = self._joined(number, int(fast.sum()))
                return known if slow is None else _woven(known, slow, fast)

            return finish

        return other.submit(cut)

    def _library(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        found = self.tokeniser.encode_batch_fast(list(texts), add_special_tokens=False)
        return _flat([each.ids for each in found])

    def _joined(self, number: np.ndarray, texts: int) -> tuple[np.ndarray, np.ndarray]:
        """The same from the numbers of all words of the texts, 0 between two texts."""
        counts = self.counts[number]
        total = counts.cumsum()
        # piece j of word w stands at starts[w] + j
        place = np.arange(total[-1] if len(total) else 0) - np.repeat(total - counts - self.starts[number], counts)
        ends = np.append(np.flatnonzero(number == 0), len(number))  # of the texts, in words
        upto = np.concatenate([[0], total])[ends]
        return self.pieces[place], np.diff(upto, prepend=0) if texts else np.zeros(0, np.int64)

    def _forget(self) -> None:
        self.numbers = _Numbers({_BETWEEN: 0})
        self.counts, self.starts, self.pieces = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int32)

    def _remember(self, ids: np.ndarray, counts: np.ndarray) -> None:
        """The pieces of new words, in the order in which these were numbered."""
        self.starts = np.append(self.starts, len(self.pieces) + counts.cumsum() - counts)
        self.counts, self.pieces = np.append(self.counts, counts), np.append(self.pieces, ids)


def _flat(lists: Sequence[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists on end, int32, and how long each is."""
    counts = np.fromiter(map(len, lists), np.int64, len(lists))
    return np.fromiter(chain.from_iterable(lists), np.int32, int(counts.sum())), counts


def _woven(
    fast: tuple[np.ndarray, np.ndarray], slow: tuple[np.ndarray, np.ndarray], is_fast: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of texts in the order in which they stood together."""
    counts = np.empty(len(is_fast), np.int64)
    counts[is_fast], counts[~is_fast] = fast[1], slow[1]
    whose = np.repeat(is_fast, counts)
    ids = np.empty(int(counts.sum()), np.int32)
    ids[whose], ids[~whose] = fast[0], slow[0]
    return ids, counts
