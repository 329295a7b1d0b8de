"""Rules that clean images with alt-texts: cheap, in a fixed order, counted over the raw table.

A pair of an image and a text is dropped by the first of these rules that it breaks:

    image   1 unsafe       its score is above `max_unsafe` (only if that is given)
            2 small        its short side is not above `min_side`
            3 elongated    long side / short side is not below `max_aspect`
            4 many texts   it has more than `max_texts_per_image` different texts
            5 held out     it nearly equals an image that is kept for evaluation
    text    6 boilerplate  it stands by more than `max_images_per_text` different images
            7 rare words   it has a word, or a pair of neighbouring words, that is not among the frequent ones
            8 length       it has fewer than `min_words` or more than `max_words` words

The counts behind 4, 6 and 7 are those of all rows before any rule: one pass counts, another one drops. Text is split into
words by `nolabel.data.words.split_words` in lower case, when it is counted and when it is dropped; two texts of the same words
are one text. A script without spaces between words (Chinese, Japanese, Thai) gives long runs that count as one word each: set
``min_count=1`` and ``min_words=1`` for it.

Jia, Yang, Xia, Chen, Parekh, Pham, Le, Sung, Li & Duerig, "Scaling up visual and vision-language representation learning
with noisy text supervision", ICML 2021, arXiv:2102.05918. Differences: frequent means at least `min_count` times, which suits
any size of table, instead of the 100 million most frequent (``min_count=1, vocabulary_size=100_000_000``); whether pairs of
words have to be frequent too, which the paper leaves open, is `bigrams`.
"""

from collections import Counter
from itertools import pairwise
from typing import Any, Self

import numpy as np
from sklearn.exceptions import NotFittedError

from nolabel.curate.counts import Pairs, Tally, found, most_frequent
from nolabel.curate.pictures import content_key, hash_of, image_cells, nearest_bits, size_of
from nolabel.data.words import split_words
from nolabel.ops.hashing import MISSING, hash64
from nolabel.training.estimator import Estimator

#: In the order in which they are applied; rows without a text or a readable image go first.
RULES = (
    *("no text", "no image", "unsafe", "small", "elongated", "many texts", "held out", "boilerplate", "rare words"),
    "length",
)
#: Rows at a time.
BLOCK = 4096


class NoisyTextFilter(Estimator):
    """Drop the pairs of a crawl whose image or text is of no use, with a reason for each.

    Use it before `ALIGN` or `ConVIRT` on alt-texts. It looks at sizes, counts and words alone: a well-formed text that tells
    of something else than its image stays. Which words are rare depends on the table: below some ten thousand rows set
    ``min_count=1``.

    Parameters
    ----------
    min_side : pixels that the short side has to exceed; None: any
    max_aspect : long side over short side has to lie below it; None: any
    max_texts_per_image, max_images_per_text : most different texts of an image, images of a text; None: any number
    min_count, vocabulary_size, coverage : which words (and pairs of them) are frequent: those that come so often, the so many
        most frequent, the fewest that make up this share of all occurrences; all that is given has to be met
    bigrams : ``off``: words alone have to be frequent; ``all``: every pair of neighbours too; ``any``: at least one pair
    min_words, max_words : fewest and most words of a text, both kept
    max_unsafe : highest score in a column ``unsafe``; None: that column is not looked at
    held_out_bits : bits of 64 in which the hash of an image may differ from that of a held-out image that it is dropped for

    Attributes
    ----------
    rows_ : how many rows were counted
    report_ : of the last `transform`: rows, kept, and how many each rule dropped, in order
    dropped_ : of the last `transform`: (row, rule, reason) of each row that was dropped

    Notes
    -----
    Tables have a column ``text``, and

    * which image a row shows: a column ``image_id`` if there is one, such as an address, else what ``image`` holds;
    * its size: columns ``width`` and ``height`` if there are such, else what ``image`` says.

    Examples
    --------
    >>> table = {"text": ["a red shoe"] * 3 + ["img 0042", "a blue shoe"], "image_id": list("abcde")}
    >>> table |= {"width": [300, 300, 90, 300, 300], "height": [400] * 5}
    >>> rules = NoisyTextFilter(min_words=2)
    >>> rules.fit(table).transform(table)["image_id"][:]
    ['a', 'b']
    >>> rules.dropped_[0]
    (2, 'small', 'short side 90, not above 200')
    """

    columns = ("text",)

    rows_: int
    report_: dict[str, Any]
    dropped_: list[tuple[int, str, str]]

    def __init__(
        self,
        *,
        min_side: int | None = 200,
        max_aspect: float | None = 3.0,
        max_texts_per_image: int | None = 1000,
        max_images_per_text: int | None = 10,
        min_count: int = 2,
        vocabulary_size: int | None = None,
        coverage: float | None = None,
        bigrams: str = "off",
        min_words: int = 3,
        max_words: int = 20,
        max_unsafe: float | None = None,
        held_out_bits: int = 4,
    ) -> None:
        self.min_side = min_side
        self.max_aspect = max_aspect
        self.max_texts_per_image = max_texts_per_image
        self.max_images_per_text = max_images_per_text
        self.min_count = min_count
        self.vocabulary_size = vocabulary_size
        self.coverage = coverage
        self.bigrams = bigrams
        self.min_words = min_words
        self.max_words = max_words
        self.max_unsafe = max_unsafe
        self.held_out_bits = held_out_bits

    # Counting ---------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, *, held_out: Any = None, columns: dict[str, str] | None = None) -> Self:
        """Count the raw table.

        Parameters
        ----------
        X : a table with the columns of the notes, or anything that `nolabel.data.read` takes
        y : ignored
        held_out : images that are kept for evaluation, a folder or a table with a column ``image``
        columns : ``{"text": "alt"}`` where a column has another name

        Raises
        ------
        ValueError
            A parameter out of range; no column for the text or the image; `held_out` for a table without images.
        TypeError
            A text that is no string; its row is named.
        """
        for name in ("_grams", "_pairs", "rows_", "report_", "dropped_", "held_out_", "held_out_keys_"):
            self.__dict__.pop(name, None)
        return self.partial_fit(X, held_out=held_out, columns=columns)

    def partial_fit(
        self, X: Any, y: Any = None, *, held_out: Any = None, columns: dict[str, str] | None = None
    ) -> Self:
        """Count further rows, each to be given once; as `fit` otherwise."""
        self._check()
        table = self._table(X, columns)
        if held_out is not None:
            if "image" not in table.column_names:
                raise ValueError("held_out: the table has no column 'image' to compare with these images")
            self._hold_out(held_out)
        if not hasattr(self, "_grams"):
            self._grams, self._pairs, self.rows_ = Tally(), Pairs(), 0
        for start in range(0, len(table), BLOCK):
            rows = range(start, min(start + BLOCK, len(table)))
            part = table.select(rows)
            words = self._words(part, start)
            grams: Counter[str] = Counter()
            for several in words:
                grams.update(several or ())
                if self.bigrams != "off":
                    grams.update(map(" ".join, pairwise(several or ())))
            self._grams.add(_keys(list(grams)), np.fromiter(grams.values(), np.int64, len(grams)))
            images, _ = self._images(part)
            known = np.array([bool(several) for several in words]) & (images != _NONE)
            texts = _keys([" ".join(several or ()) for several in words])
            self._pairs.add(np.column_stack([texts, images])[known])
        self.rows_ += len(table)
        return self

    def _hold_out(self, images: Any) -> None:
        from nolabel.data import read

        table = read(images)
        if "image" not in table.column_names:
            raise ValueError(f"held_out: no column 'image' among {', '.join(table.column_names)}")
        cells = image_cells(table)
        hashes = [made for made in map(hash_of, cells) if made is not None]
        keys = [key for key in map(content_key, cells) if key is not None]
        before = getattr(self, "held_out_", np.empty((0, 8), np.uint8))
        self.held_out_ = np.concatenate([before, np.array(hashes, np.uint8).reshape(-1, 8)])
        self.held_out_keys_ = np.union1d(getattr(self, "held_out_keys_", np.empty(0, np.int64)), keys).astype(np.int64)

    # Dropping ---------------------------------------------------------------------------------------------------------

    def transform(self, X: Any, *, columns: dict[str, str] | None = None) -> Any:
        """The rows that break no rule, a `datasets.Dataset` with all columns; `report_` and `dropped_` say what went.

        Raises
        ------
        NotFittedError
            Before `fit` or `partial_fit`.
        ValueError
            A column that a rule needs is not there, a size that is not above 0, a score that is NaN.
        """
        self.require_fitted()
        self._check()
        table = self._table(X, columns)
        allowed = self._allowed()
        pairs = self._pairs.merged()
        per_text, per_image = (np.unique(pairs[:, side], return_counts=True) for side in (0, 1))
        self.dropped_ = []
        for start in range(0, len(table), BLOCK):
            part = table.select(range(start, min(start + BLOCK, len(table))))
            verdicts = self._verdicts(part, start, allowed, per_text, per_image)
            self.dropped_ += [(start + row, *verdict) for row, verdict in enumerate(verdicts) if verdict]
        gone = {row for row, _, _ in self.dropped_}
        by_rule = Counter(rule for _, rule, _ in self.dropped_)
        self.report_ = {
            "rows": len(table),
            "kept": len(table) - len(gone),
            "dropped": {rule: by_rule[rule] for rule in RULES},
        }
        return table.select([row for row in range(len(table)) if row not in gone])

    def fit_transform(self, X: Any, y: Any = None, **fit: Any) -> Any:
        """`fit`, then `transform` of the same table."""
        return self.fit(X, y, **fit).transform(X, columns=fit.get("columns"))

    def _verdicts(self, part: Any, start: int, allowed: np.ndarray, per_text: Any, per_image: Any) -> list[Any]:
        """The rule that each row breaks first, with the reason; None for a row that stays."""
        words = self._words(part, start)
        images, cells = self._images(part)
        sizes = self._sizes(part, cells, start)
        scores = self._scores(part, start)
        texts = found(per_text[0], per_text[1], _keys([" ".join(several or ()) for several in words]))
        told = found(per_image[0], per_image[1], images)
        verdicts: list[Any] = []
        for row, several in enumerate(words):
            verdict = None
            if several is None:
                verdict = ("no text", "missing")
            elif images[row] == _NONE or isinstance(sizes[row], str):
                verdict = ("no image", sizes[row] if isinstance(sizes[row], str) else "missing")
            verdict = verdict or self._of_image(sizes[row], scores[row], int(told[row]))
            if not verdict and hasattr(self, "held_out_"):
                verdict = self._held_out(cells[row])
            verdicts.append(verdict or self._of_text(several or [], int(texts[row]), allowed))
        return verdicts

    def _of_image(self, size: Any, score: float | None, texts: int) -> tuple[str, str] | None:
        if self.max_unsafe is not None and score is not None and score > self.max_unsafe:
            return "unsafe", f"score {score:g}, above {self.max_unsafe:g}"
        if size is not None:
            short, long = sorted(size)
            if self.min_side is not None and short <= self.min_side:
                return "small", f"short side {short:g}, not above {self.min_side}"
            if self.max_aspect is not None and long / short >= self.max_aspect:
                return "elongated", f"{size[0]:g} x {size[1]:g}, aspect not below {self.max_aspect:g}"
        if self.max_texts_per_image is not None and texts > self.max_texts_per_image:
            return "many texts", f"image with {texts:,} texts, above {self.max_texts_per_image:,}"
        return None

    def _held_out(self, cell: Any) -> tuple[str, str] | None:
        if content_key(cell) in self.held_out_keys_.tolist():
            return "held out", "the very file of a held-out image"
        made = hash_of(cell) if len(self.held_out_) else None
        bits = 65 if made is None else int(nearest_bits(made[None], self.held_out_)[0])
        return ("held out", f"{bits} of 64 bits from a held-out image") if bits <= self.held_out_bits else None

    def _of_text(self, words: list[str], images: int, allowed: np.ndarray) -> tuple[str, str] | None:
        if self.max_images_per_text is not None and images > self.max_images_per_text:
            return "boilerplate", f"text of {images:,} images, above {self.max_images_per_text:,}"
        rare = [word for word, kept in zip(words, _listed(words, allowed), strict=True) if not kept]
        if rare:
            return "rare words", f"rare word {rare[0]!r}"
        couples = list(map(" ".join, pairwise(words)))
        if self.bigrams != "off" and couples:
            kept = _listed(couples, allowed)
            if self.bigrams == "all" and not kept.all():
                return "rare words", f"rare pair {couples[int(np.argmin(kept))]!r}"
            if self.bigrams == "any" and not kept.any():
                return "rare words", "no frequent pair of words"
        if not self.min_words <= len(words) <= self.max_words:
            return "length", f"{len(words)} words, expected {self.min_words} to {self.max_words}"
        return None

    def _allowed(self) -> np.ndarray:
        keys, counts = self._grams.merged()
        return most_frequent(keys, counts, min_count=self.min_count, size=self.vocabulary_size, coverage=self.coverage)

    # Reading ----------------------------------------------------------------------------------------------------------

    def _table(self, X: Any, columns: dict[str, str] | None) -> Any:
        from nolabel.data import read
        from nolabel.data.columns import require_column

        table = read(X, columns=columns)
        require_column(table, "text", "columns")
        there = set(table.column_names)
        if not there & {"image", "image_id"}:
            raise ValueError(f"columns: no 'image' or 'image_id' among {', '.join(table.column_names)}")
        sized = self.min_side is not None or self.max_aspect is not None
        if sized and "image" not in there and not {"width", "height"} <= there:
            raise ValueError(
                f"columns: no 'image', nor 'width' and 'height', among {', '.join(table.column_names)}; set min_side=None and "
                "max_aspect=None to leave sizes out"
            )
        if self.max_unsafe is not None:
            require_column(table, "unsafe", "max_unsafe")
        return table

    def _words(self, part: Any, start: int) -> list[list[str] | None]:
        texts = list(part["text"])
        wrong = next((row for row, text in enumerate(texts) if not isinstance(text, str | None)), None)
        if wrong is not None:
            hint = "; give each text of a list a row of its own" if isinstance(texts[wrong], list) else ""
            raise TypeError(f"text: expected a string, got {type(texts[wrong]).__name__} in row {start + wrong}{hint}")
        return [None if text is None else split_words(text) for text in texts]

    def _images(self, part: Any) -> tuple[np.ndarray, list[Any]]:
        """A key for each image, int64 (n,), and the images themselves if they are there."""
        cells = image_cells(part) if "image" in part.column_names else [None] * len(part)
        if "image_id" in part.column_names:
            return _keys(list(part["image_id"])), cells
        keys = map(content_key, cells)
        return np.array([_NONE if key is None else key for key in keys], np.int64), cells

    def _sizes(self, part: Any, cells: list[Any], start: int) -> list[Any]:
        if self.min_side is None and self.max_aspect is None:
            return [None] * len(part)
        if not {"width", "height"} <= set(part.column_names):
            return [size_of(cell) for cell in cells]
        sizes: list[Any] = list(zip(part["width"], part["height"], strict=True))
        for row, size in enumerate(sizes):
            if any(side is None or side != side for side in size):
                sizes[row] = size_of(cells[row]) if cells[row] is not None else "its size is missing"
            elif not min(size) > 0:
                raise ValueError(
                    f"width, height: expected sizes above 0, got {size[0]} x {size[1]} in row {start + row}"
                )
        return sizes

    def _scores(self, part: Any, start: int) -> list[Any]:
        if self.max_unsafe is None:
            return [None] * len(part)
        scores = list(part["unsafe"])
        wrong = next((row for row, score in enumerate(scores) if score is None or score != score), None)
        if wrong is not None:
            raise ValueError(f"unsafe: expected a score in each row, got {scores[wrong]} in row {start + wrong}")
        return scores

    def _check(self) -> None:
        for name, least in (
            ("min_side", 0),
            ("max_texts_per_image", 1),
            ("max_images_per_text", 1),
            ("vocabulary_size", 1),
        ):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"{name} must be None or a whole number of at least {least}, got {value!r}")
        for name, least in (("min_count", 1), ("min_words", 0), ("max_words", 1), ("held_out_bits", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.max_words < self.min_words:
            raise ValueError(f"max_words must be at least min_words={self.min_words}, got {self.max_words}")
        if self.max_aspect is not None and not self.max_aspect > 1:
            raise ValueError(f"max_aspect must be None or above 1, got {self.max_aspect!r}")
        if self.coverage is not None and not 0 < self.coverage <= 1:
            raise ValueError(f"coverage must be None or lie in (0, 1], got {self.coverage!r}")
        if self.bigrams not in ("off", "any", "all"):
            raise ValueError(f"bigrams must be 'off', 'any' or 'all', got {self.bigrams!r}")

    # Saving -----------------------------------------------------------------------------------------------------------

    def require_fitted(self) -> None:
        if not hasattr(self, "_grams"):
            raise NotFittedError(
                "this NoisyTextFilter has counted nothing: call fit(...) or partial_fit(...) on the raw table"
            )

    def _learned(self) -> dict[str, Any]:
        learned = super()._learned()
        learned.pop("dropped_", None)
        if not hasattr(self, "_grams"):
            return {}
        keys, counts = self._grams.merged()
        return learned | {"counted_": {"grams": keys, "counts": counts, "pairs": self._pairs.merged()}}

    def _restore(self, tensors: Any) -> None:
        counted: dict[str, np.ndarray] = self.__dict__.pop("counted_")
        self._grams = Tally(counted["grams"], counted["counts"])
        self._pairs = Pairs(counted["pairs"])


_NONE = int(MISSING.view(np.int64))


def _keys(values: list[Any]) -> np.ndarray:
    return hash64(values).view(np.int64)


def _listed(grams: list[str], allowed: np.ndarray) -> np.ndarray:
    """Which of the words or pairs are among the sorted keys."""
    return found(allowed, np.ones(len(allowed), np.int64), _keys(grams)) > 0
