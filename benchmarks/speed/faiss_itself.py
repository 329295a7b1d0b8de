"""faiss used directly on arrays in memory, beside the `Index` that stands on it; a part of the benchmark `index`."""

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from benchmarks.speed.funnel import milliseconds
from benchmarks.speed.harness import spread
from nolabel.search import Index

BATCH = 256
CLOSE = 0.005  # recalls that count as the same


def shared(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean share of the true neighbours that were found; both (q, k)."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, truth, strict=True)]))


def against_faiss(index: Index, X: np.ndarray, queries: np.ndarray, k: int, rounds: int) -> dict[str, Any]:
    """Times of `Index` and of faiss' own flat and inverted-list indexes on the same vectors, in turn, round after round."""
    dim = X.shape[1]
    flat = faiss.IndexFlatIP(dim)
    flat.add(X)
    lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, int(4 * len(X) ** 0.5), faiss.METRIC_INNER_PRODUCT)
    lists.train(X)
    lists.add(X)
    truth = flat.search(queries, k)[1]
    recall = shared(np.array([hits.ids for hits in index.search(queries, k)]), truth)
    while lists.nprobe < lists.nlist and shared(lists.search(queries, k)[1], truth) < recall - CLOSE:
        lists.nprobe *= 2
    arms: dict[str, Callable] = {
        "index": lambda q: index.search(q, k),
        "faiss flat": lambda q: flat.search(np.atleast_2d(q), k),
        "faiss lists": lambda q: lists.search(np.atleast_2d(q), k),
    }
    result: dict[str, Any] = {"recall": recall, "lists visited": lists.nprobe}
    for way in ("single", "batch"):
        times: dict[str, list[float]] = {arm: [] for arm in arms}
        for number in range(rounds):
            some = np.roll(queries, -BATCH * number, axis=0)[:BATCH]
            for arm, answer in arms.items():
                times[arm].append(milliseconds(answer, some, single=way == "single"))
        result[way] = {
            "milliseconds": {arm: spread(t) for arm, t in times.items()},
            "ratio": {
                arm: spread([theirs / own for theirs, own in zip(times[arm], times["index"])])
                for arm in arms
                if arm != "index"
            },
        }
    return result
