"""Queries of another encoder than the one an index was made with, through items that both have encoded.

The query and every row are told by their cosines to the same m anchor items, each in its own space around the mean of its
anchors; these agree between encoders, so the rows nearest in them are the answer. With a row v (d,) and the anchors A (m, d),
both less that mean and A of unit length, a row is told by A v; so one product with ``A.T r`` (d,), r the query so told, serves
all rows:

    score = v . A.T r / |A v|,     |A v| ** 2 = v . (A.T A) v

Moschella et al., "Relative representations enable zero-shot latent space communication", ICLR 2023, arXiv:2209.15430.
Difference: the paper takes cosines around the origin, where vectors without negative coordinates all lie one way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from nolabel.search.answers import as_hits
from nolabel.search.fields import as_vectors
from nolabel.search.found import Found
from nolabel.search.funnel import whole
from nolabel.search.snapshot import Snapshot
from nolabel.search.store import Store

#: Rows compared at a time.
TILE = 65_536
FEWEST_ANCHORS = 2


def answer_across(
    store: Store,
    snapshots: Callable[[Sequence[str]], dict[str, Snapshot]],
    query: Any,
    own: np.ndarray,
    other: Any,
    k: int,
    where: str | None,
) -> Any:
    """`Hits` of one query (e,) or a list of them for (q, e); `own` (m, d) and `other` (m, e) are the anchors in either space."""
    whole("k", k, 1)
    there = as_vectors(other, np.shape(other)[-1] if np.ndim(other) == 2 else 0, "cosine", name="anchor_vectors")
    if len(there) != len(own) or len(own) < FEWEST_ANCHORS:
        raise ValueError(
            f"anchor_vectors: expected one for each of {FEWEST_ANCHORS} anchors or more, got {len(there)} for {len(own)}"
        )
    single = np.ndim(query) == 1
    rows = as_vectors(np.atleast_2d(query) if single else query, there.shape[1], "cosine", name="query")
    there = _unit(there)
    middle = there.mean(axis=0)
    told = _unit(_unit(rows) - middle) @ _unit(there - middle).T  # (q, m)
    snapshot = snapshots(["dense"])["dense"]
    hits = [as_hits(snapshot, found, 1.0) for found in _search(snapshot, _unit(told), _unit(own), k, where)]
    return hits[0] if single else hits


def _search(
    snapshot: Snapshot, told: Float32[np.ndarray, "q m"], anchors: Float32[np.ndarray, "m d"], k: int, where: str | None
) -> list[Found]:
    middle = anchors.mean(axis=0)
    around = _unit(anchors - middle)
    asked, metric = told @ around, around.T @ around  # (q, d), (d, d)
    kept = snapshot.filtered(where, "across", lambda structure, rows: rows)
    scores, positions = [np.empty((len(told), 0), np.float32)], [np.empty(0, np.int64)]
    for (structure, start), some in zip(snapshot.parts, kept):
        rows = np.arange(structure.rows) if some is None else some
        for at in range(0, len(rows), TILE):
            part = rows[at : at + TILE]
            apart = _unit(np.asarray(structure.matrix[part], dtype=np.float32)) - middle
            length = np.sqrt(np.einsum("nd,nd->n", apart @ metric, apart).clip(1e-12))
            scores.append(asked @ apart.T / length)
            positions.append(part + start)
    score, position = np.concatenate(scores, axis=1), np.concatenate(positions)
    best, found = snapshot.best(score, np.broadcast_to(position, score.shape), k)
    cost = len(position) * anchors.shape[1]
    return [Found(best[row].astype(np.float32), found[row], cost) for row in range(len(told))]


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return unit
