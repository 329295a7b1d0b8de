"""Funnel search over prefixes of 512-wide vectors in `nolabel.search.Index` against whole-vector search, in one run.

python -m benchmarks.speed funnel [--quick]; the full run takes about 6 minutes on two cores and 3 GB of disk.
Goal on 200,000 x 512, ten neighbours by cosine, for single queries and for batches of 256: a prefix of 64 with a
shortlist of 200 ranked by the whole vector has at least 4 times the throughput of comparing whole vectors exactly, and
a mAP@10 (by class, in per cent) at most 0.5 below it.

The vectors are synthetic, made to be what nested training makes: 2,000 classes in 40 groups, the spread of class
centres falls along the coordinates and the noise within a class much less, so that early coordinates tell groups and
most classes apart and later ones the rest. Real embeddings differ; what a prefix costs does not depend on that, what it
finds does. `mAP@64` is the prefix alone.

Arms: `exact` is `Index.search(exact=True)` on whole vectors; `lists` the index's own inverted lists on whole vectors,
the honest rival that needs no prefix; `prefix` is ``dim=64, rescore=200`` through the inverted lists of the prefix,
`prefix, exact` the same with every prefix compared; `funnel` goes 64 -> 128 -> 512 with shortlists 400, 100. NumPy
brute force is a product with the whole matrix (one query: a vector, a batch: a matrix) and `argpartition`; `faiss` is its
`IndexFlatIP` on the whole vectors.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.speed.harness import Line, Options, circumstances, line, spread
from nolabel.assess import mean_average_precision
from nolabel.search import Index

TITLE = "Search by prefixes"
DIM, K, CLASSES, GROUPS, BATCH = 512, 10, 2000, 40, 256
SEARCHES: dict[str, dict[str, Any]] = {
    "exact": {"exact": True},
    "lists": {},
    "prefix": {"dim": 64, "rescore": 200},
    "prefix, exact": {"dim": 64, "rescore": 200, "exact": True},
    "funnel": {"funnel": [(64, 400), (128, 100), (DIM, K)]},
}


def vectors_of(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (n, 512) whose class shows first in their first coordinates, and the class of each."""
    rng = np.random.default_rng(0)
    falling = (np.arange(DIM) + 4.0) ** -0.5
    groups = rng.standard_normal((GROUPS, DIM)) * falling
    centres = groups[rng.integers(0, GROUPS, CLASSES)] + 0.8 * rng.standard_normal((CLASSES, DIM)) * falling
    label = rng.integers(0, CLASSES, n)
    X = np.empty((n, DIM), dtype=np.float32)
    noise = 0.45 * (np.arange(DIM, dtype=np.float32) + 4.0) ** -0.2
    for start in range(0, n, 20_000):
        rows = slice(start, start + 20_000)
        X[rows] = centres[label[rows]] + rng.standard_normal((len(label[rows]), DIM), dtype=np.float32) * noise
    return X / np.linalg.norm(X, axis=1, keepdims=True), label


def brute(X: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Row numbers of the ten nearest, for one query (d,) or for some (q, d)."""

    def one(query: np.ndarray) -> np.ndarray:
        scores = X @ query
        near = np.argpartition(scores, len(scores) - K)[-K:]
        return near[np.argsort(-scores[near])]

    def answer(queries: np.ndarray) -> np.ndarray:
        if queries.ndim == 1:
            return one(queries)
        scores = queries @ X.T
        near = np.argpartition(scores, scores.shape[1] - K, axis=1)[:, -K:]
        return np.take_along_axis(near, np.argsort(-np.take_along_axis(scores, near, 1), axis=1), 1)

    return answer


def milliseconds(answer: Callable[[np.ndarray], Any], queries: np.ndarray, single: bool) -> float:
    """Time of one query, asked alone or in one batch."""
    start = time.perf_counter()
    if single:
        for query in queries:
            answer(query)
    else:
        answer(queries)
    return (time.perf_counter() - start) / len(queries) * 1e3


def timed(arms: dict[str, Callable], queries: np.ndarray, rounds: int, single: bool) -> dict[str, list[float]]:
    """All arms in turn, round after round, each on its share of the queries; fewer for the slow ones asked alone."""
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    for number in range(rounds):
        some = np.roll(queries, -BATCH * number, axis=0)[:BATCH]
        for arm, answer in arms.items():
            slow = single and arm in ("exact", "brute", "faiss")
            times[arm].append(milliseconds(answer, some[:16] if slow else some, single))
    return times


def measure(n: int, rounds: int) -> dict[str, Any]:
    X, label = vectors_of(n + 1024)
    X, queries, label, truth = X[:n], np.ascontiguousarray(X[n:]), label[:n], label[n:]
    asked = np.isin(truth, label)
    queries, truth = queries[asked], truth[asked]
    rows = {name: set(np.flatnonzero(label == name)) for name in np.unique(truth)}
    relevant = [rows[name] for name in truth]
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "run", DIM)
        index.add(X[start : start + 20_000] for start in range(0, n, 20_000))
        start = time.perf_counter()
        index.search(queries[0])
        built = time.perf_counter()
        index.search(queries[0], dim=64)
        prefix = time.perf_counter()
        scores, costs = {}, {}
        for arm, options in SEARCHES.items():
            found = index.search(queries, K, **options)
            scores[arm] = 100 * mean_average_precision([hits.ids for hits in found], relevant, k=K)
            costs[arm] = found[0].multiply_adds
        alone = index.search(queries, K, dim=64, exact=True)
        scores["64 alone"] = 100 * mean_average_precision([hits.ids for hits in alone], relevant, k=K)
        flat = faiss.IndexFlatIP(DIM)
        flat.add(X)
        arms: dict[str, Callable] = {"brute": brute(X), "faiss": lambda q: flat.search(np.atleast_2d(q), K)}
        for arm, options in SEARCHES.items():
            arms[arm] = lambda q, options=options: index.search(q, K, **options)
        batch = timed(arms, queries, rounds, single=False)
        single = timed(arms, queries, rounds, single=True)
    return {
        "rows": n,
        "structure_seconds": built - start,
        "prefix_seconds": prefix - built,
        "map": scores,
        "multiply_adds": costs,
        "batch": _ratios(batch),
        "single": _ratios(single),
    }


def _ratios(times: dict[str, list[float]]) -> dict[str, Any]:
    """Throughput relative to exact search, to brute force and to faiss, within each round."""
    found: dict[str, Any] = {"milliseconds": {arm: spread(values) for arm, values in times.items()}}
    for rival in ("exact", "brute", "faiss"):
        found[f"to_{rival}"] = {
            arm: spread([theirs / own for theirs, own in zip(times[rival], times[arm])])
            for arm in times
            if arm != rival
        }
    return found


def run(options: Options) -> dict[str, Any]:
    n, rounds = (25_000, 2) if options.quick else (200_000, 7)
    return {"name": "funnel", **circumstances("numpy", "faiss-cpu", "lancedb"), **measure(n, rounds)}


def lines(result: dict[str, Any]) -> list[Line]:
    found = []
    for way, said in (("batch", f"batches of {BATCH}"), ("single", "single queries")):
        speed = result[way]
        for arm, goal in (("prefix", 4.0), ("prefix, exact", None), ("funnel", None), ("lists", None)):
            ms = speed["milliseconds"][arm]["median"]
            what = f"`Index`, {result['rows']:,} x {DIM}, {said}, {arm}: {ms:.3f} ms a query"
            found.append(line(what, "exact search in the same index", speed["to_exact"][arm], goal=goal))
        what = f"`Index`, {result['rows']:,} x {DIM}, {said}, prefix"
        for rival, name in (("brute", "NumPy brute force"), ("faiss", "faiss flat on whole vectors")):
            if f"to_{rival}" in speed:
                found.append(line(what, name, speed[f"to_{rival}"]["prefix"], goal=1.0))
    exact = result["map"]["exact"]
    for arm, goal in (("prefix", 0.5), ("prefix, exact", None), ("funnel", None), ("lists", None), ("64 alone", None)):
        lost = exact - result["map"][arm]
        what = f"mAP@10 that {arm} loses of {exact:.1f}, in points"
        found.append(Line(what, "", lost, lost, lost, unit="", goal=goal, at_least=False))
    share = result["multiply_adds"]["prefix, exact"] / result["multiply_adds"]["exact"]
    return [*found, Line("multiply-adds of `prefix, exact` of those of exact", "", share, share, share, unit="")]
