"""What the retrievers with one dimension a word share: which words there are, and the tower that weighs them."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.optim import Optimizer

from nolabel.data.tokenisers import special_ids
from nolabel.data.tokens import TokenSource
from nolabel.objectives.vocabulary import elu1p
from nolabel.ops.max_scores import max_scores
from nolabel.views.tokens import content

#: Where a weight begins before elu1p: at exp(-3), so that inner products over thousands of words stay small at first.
FIRST = -3.0
ALL = slice(None)
#: Words whose weights stand for all where a representation is only judged.
JUDGED = 512
_PLAIN = re.compile(r"(##)?[A-Za-z0-9]+")


def vocabulary(tokeniser: Any, *, plain: bool = False) -> tuple[list[str], np.ndarray]:
    """The words that are dimensions, and the id of each: all but special and unused ones.

    With `plain`, only those of ASCII letters and digits: what a picture can show is not punctuation.
    """
    special = set(special_ids(tokeniser).all)
    pieces = sorted(tokeniser.get_vocab().items(), key=lambda item: item[1])
    kept = [
        (piece, number)
        for piece, number in pieces
        if number not in special and not piece.startswith("[unused") and (not plain or _PLAIN.fullmatch(piece))
    ]
    if not kept:
        raise ValueError("the tokeniser has no word besides its special tokens")
    return [piece for piece, _ in kept], np.array([number for _, number in kept], np.int64)


def places_of(ids: np.ndarray, size: int) -> np.ndarray:
    """Which dimension each of `size` token ids is; ``len(ids)``: none.

    >>> places_of(np.array([2, 4]), 5).tolist()
    [2, 2, 0, 2, 1]
    """
    places = np.full(size, len(ids), np.int64)
    places[ids] = np.arange(len(ids))
    return places


def require_words(name: str, texts: TokenSource, column: str, ids: np.ndarray, rows: np.ndarray) -> None:
    """Refuse texts that hold none of the words with these ids; `rows` is how the error numbers the texts."""
    tokens, ends = texts.stream(column)
    known = np.concatenate([[0], np.cumsum(np.isin(tokens, ids))])
    empty = np.flatnonzero(known[ends] == known[np.concatenate([[0], ends[:-1]])])
    if len(empty):
        raise ValueError(
            f"{name}: {len(empty)} of {len(ends)} texts have no word of the vocabulary, the first at {rows[empty[0]]}: "
            "leave them out or set allow_empty=True"
        )


class TextTower(nn.Module):
    """Tokens (b, l) to the weights of words (b, v), all above 0.

    ``weight = elu1p(max over tokens of LayerNorm(state) . word vector + bias)``, through the encoder's own table of words. Only
    what stands between start and end counts, so that padding and company change nothing.
    """

    ids: Tensor

    def __init__(self, encoder: Any, ids: np.ndarray) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = nn.LayerNorm(encoder.dim)
        self.bias = nn.Parameter(torch.full((len(ids),), FIRST))
        self.register_buffer("ids", torch.from_numpy(ids), persistent=False)

    def forward(self, tokens: Tensor, mask: Tensor, part: Tensor | slice = ALL) -> Tensor:
        """Weights of all words, or of a `part` of them."""
        states = self.norm(self.encoder.states(tokens, mask).float())
        inner = content(mask)
        inner = inner | (mask & ~inner.any(dim=1, keepdim=True))  # a text that the tokeniser leaves nothing of
        words = self.encoder.words.weight[self.ids[part]]
        return elu1p(max_scores(states, inner, words) + self.bias[part])


class PatchTower(nn.Module):
    """Maps of an image encoder (b, c, h, w) to the weights of words (b, v), all above 0: the maximum over places."""

    def __init__(self, dim: int, words: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.words = nn.Parameter(torch.randn(words, dim) * 0.02)
        self.bias = nn.Parameter(torch.full((words,), FIRST))

    def forward(self, maps: Tensor, part: Tensor | slice = ALL) -> Tensor:
        """Weights of all words, or of a `part` of them."""
        states = self.norm(maps.float().flatten(2).transpose(1, 2))  # (b, h w, c)
        everywhere = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        return elu1p(max_scores(states, everywhere, self.words[part]) + self.bias[part])


def without_decay(optimiser: Optimizer, tables: Sequence[Tensor]) -> None:
    """Move weights into a group of their own, without weight decay: word vectors are inputs and outputs at once."""
    own = {id(table) for table in tables}
    for group in optimiser.param_groups:
        group["params"] = [weight for weight in group["params"] if id(weight) not in own]
    optimiser.add_param_group({"params": list(tables), "weight_decay": 0.0})


def strongest(words: Sequence[str], weights: np.ndarray, k: int) -> list[tuple[str, float]]:
    """The k words with the largest weights above 0, and these.

    >>> strongest(["a", "b", "c"], np.array([0.0, 2.0, 3.0]), 3)
    [('c', 3.0), ('b', 2.0)]
    """
    order = np.argsort(-weights, kind="stable")[:k]
    return [(words[place], float(weights[place])) for place in order if weights[place] > 0]


def contributions(words: Sequence[str], query: csr_array, item: csr_array, k: int) -> list[tuple[str, float]]:
    """The k words that add most to the inner product of two rows (1, v)."""
    return strongest(words, (query * item).toarray()[0], k)


def ranked(queries: csr_array, items: csr_array, k: int, rows: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Positions and inner products of the k best items of each query, best first, equal ones in order: (q, k) each."""
    ids, scores = [], []
    for start in range(0, queries.shape[0], rows):
        products = (queries[start : start + rows] @ items.T).toarray()
        order = np.argsort(-products, axis=1, kind="stable")[:, :k]
        ids.append(order)
        scores.append(np.take_along_axis(products, order, axis=1))
    return np.concatenate(ids), np.concatenate(scores).astype(np.float32)


def csr_of(arrays: dict[str, np.ndarray], words: int) -> csr_array:
    """The matrix (n, words) whose ``data``, ``indices`` and ``indptr`` these are."""
    return csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(len(arrays["indptr"]) - 1, words))


def arrays_of(matrix: csr_array) -> dict[str, np.ndarray]:
    """The inverse of `csr_of`."""
    return {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}


def sample(words: int) -> Tensor:
    """Some dimensions, always the same, in rising order: to judge wide vectors at the cost of narrow ones."""
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(words, generator=generator)[:JUDGED].sort().values


def checked_topk(topk: int | None, usual: int, words: int, keep_lexical: bool) -> int:
    """How many weights stay; ``None``: as in training."""
    chosen = usual if topk is None else topk
    if isinstance(chosen, bool) or not isinstance(chosen, int | np.integer) or not 0 <= chosen <= words:
        raise ValueError(f"topk must be a whole number from 0 to the {words} words, got {chosen!r}")
    if chosen == 0 and not keep_lexical:
        raise ValueError("topk=0 keeps the words of the text alone: keep_lexical must be True")
    return int(chosen)
