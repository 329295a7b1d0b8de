"""Words of many texts as training rows, each with its text and its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nolabel.data.fingerprints import fingerprint
from nolabel.data.sources import Skipped, checked_rows

if TYPE_CHECKING:
    import torch

    from nolabel.data.vocabulary import Vocabulary


class WordWindows:
    """Every word of every text as a row.

    A batch holds int64 tensors ``word`` (b,), ``document`` (b,) and, with a window, ``context`` (b, before + after): the
    neighbours in order of place, -1 beyond the ends of the text.

    Parameters
    ----------
    ids : int32 (n,) words of all texts one after the other, as from `Vocabulary.encode`.
    offsets : int64 (texts + 1,) where each text begins.
    before, after : width of the window on either side.
    vocabulary : whose ids these are.
    skipped : texts that gave no rows, and why.

    Examples
    --------
    >>> windows = WordWindows(np.array([7, 8, 9, 5], np.int32), np.array([0, 3, 4]), before=1, after=1)
    >>> windows.batch(np.array([1, 3]))["context"].tolist()
    [[7, 9], [-1, -1]]
    """

    def __init__(
        self,
        ids: np.ndarray,
        offsets: np.ndarray,
        *,
        before: int = 0,
        after: int = 0,
        vocabulary: Vocabulary | None = None,
        skipped: Sequence[Skipped] = (),
    ) -> None:
        self.ids, self.offsets, self.vocabulary = ids, offsets, vocabulary
        self.documents = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
        self.steps = np.concatenate([np.arange(-before, 0), np.arange(1, after + 1)])
        self.kept: np.ndarray | None = None
        self.rank: np.ndarray | None = None
        self.skipped = list(skipped)
        self.fingerprint = fingerprint({"ids": ids, "offsets": offsets})

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def texts(self) -> int:
        return len(self.offsets) - 1

    def thin(self, keep: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Leave out words at random; from now on they are nobody's neighbours. Returns the rows that stay.

        Parameters
        ----------
        keep : (v,) probability of keeping one occurrence of each word.
        rng : decides.
        """
        stay = rng.random(len(self.ids), dtype=np.float32) < keep.astype(np.float32)[self.ids]
        stay[:1] |= not stay.any()  # of nothing no batch can be made
        self.kept = np.flatnonzero(stay)
        self.rank = np.cumsum(stay) - stay  # words kept before this one
        return self.kept

    def batch(self, rows: np.ndarray | Sequence[int]) -> dict[str, torch.Tensor]:
        """The rows at these positions."""
        import torch

        index = checked_rows(rows, len(self))
        found = {"word": self.ids[index], "document": self.documents[index]}
        if len(self.steps):
            found["context"] = self._context(index)
        return {name: torch.from_numpy(values.astype(np.int64)) for name, values in found.items()}

    def _context(self, index: np.ndarray) -> np.ndarray:
        if self.kept is None or self.rank is None:
            last, places = len(self.ids) - 1, index[:, None] + self.steps
        else:
            here = self.rank[index]
            stays = self.kept[here.clip(max=len(self.kept) - 1)] == index
            # a word that was left out lies between two that stay: the next one is at its own rank
            skip = np.where((self.steps[None] > 0) & ~stays[:, None], 1, 0)
            last, places = len(self.kept) - 1, here[:, None] + self.steps - skip
        inside = (places >= 0) & (places <= last)
        places = places.clip(0, last)
        positions = places if self.kept is None else self.kept[places]
        inside &= self.documents[positions] == self.documents[index][:, None]
        return np.where(inside, self.ids[positions], -1)


class WordLists:
    """Whole texts as rows, each a list of words: what a fitted model encodes.

    A batch holds what that of `WordWindows` holds, for all words of its texts, with ``document`` counted within the batch,
    and ``lengths`` (b,), the words of each text.

    Parameters
    ----------
    windows : the words.

    Examples
    --------
    >>> lists = WordLists(WordWindows(np.array([7, 8, 9], np.int32), np.array([0, 2, 2, 3])))
    >>> {name: values.tolist() for name, values in lists.batch(np.array([2, 0])).items()}
    {'word': [9, 7, 8], 'document': [0, 1, 1], 'lengths': [1, 2]}
    """

    def __init__(self, windows: WordWindows) -> None:
        self.windows = windows
        self.skipped: list[Skipped] = []
        self.fingerprint = windows.fingerprint

    def __len__(self) -> int:
        return self.windows.texts

    def batch(self, rows: np.ndarray | Sequence[int]) -> dict[str, torch.Tensor]:
        """The texts at these positions."""
        import torch

        index = checked_rows(rows, len(self))
        begins, ends = self.windows.offsets[index], self.windows.offsets[index + 1]
        lengths = ends - begins
        words = np.arange(lengths.sum()) + np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
        batch = self.windows.batch(words)
        batch["document"] = torch.from_numpy(np.repeat(np.arange(len(index)), lengths))
        return batch | {"lengths": torch.from_numpy(lengths)}
