"""Judging and grouping a million vectors: RankMe, the k-NN probe and clusters at 1,000,000 x 256, against peers, in one run.

python -m benchmarks.speed million [--quick]; the full run takes about 12 minutes on two cores and needs 6 GB of memory.
Unit vectors in 500 clusters that are the classes, a fifth of the labels drawn anew.

* `effective_rank` against singular values in float32, as in `rankme`.
* `knn_accuracy` of 1,000 held-out rows, 20 voters. It stands on faiss' exact search, block by block; peers are scikit-learn's
  `KNeighborsClassifier` with the same weights and faiss by itself, votes counted by hand on vectors that are unit length already.
* `cluster_rows`, the clusters of report and explorer: k-means on main components of at most 5,000 rows, four
  starts, then all rows are assigned. Peers group all 256 dimensions into as many clusters: scikit-learn's `KMeans` and
  `MiniBatchKMeans`, and faiss' `Kmeans` (25 rounds on at most 256 rows a cluster), which assigns by a search. `inertia` is the
  mean squared distance to the mean of the own cluster in all dimensions, over that of `KMeans`.

Arms take turns within a round. Goal: no slower than a peer.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import faiss
import numpy as np

from benchmarks.speed import harness
from benchmarks.speed.harness import Line, Options, circumstances, clocked, in_child, line, spread, times_less
from benchmarks.speed.rankme import plain
from nolabel.assess import knn_accuracy
from nolabel.ops import effective_rank
from nolabel.report.groups import cluster_count, cluster_rows

TITLE = "A million vectors"
DIM, CLASSES, QUERIES, K, TEMPERATURE = 256, 500, 1000, 20, 0.1


@cache
def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (n + 1000, 256), float32, and their labels."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, DIM), dtype=np.float32)
    label = rng.integers(0, CLASSES, n + QUERIES)
    X = np.empty((len(label), DIM), np.float32)
    for start in range(0, len(X), 50_000):
        part = centres[label[start : start + 50_000]]
        part = part + 2 * rng.standard_normal(part.shape, dtype=np.float32)
        X[start : start + 50_000] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return X, np.where(rng.random(len(label)) < 0.2, rng.integers(0, CLASSES, len(label)), label)


def rank(n: int) -> float:
    return effective_rank(data(n)[0][:n])


def rank_by_values(n: int) -> float:
    return plain(data(n)[0][:n])


def probe(n: int) -> float:
    X, label = data(n)
    return knn_accuracy(X[:n], label[:n], X[n:], label[n:], k=K, temperature=TEMPERATURE)


def probe_by_scikit(n: int) -> float:
    from sklearn.neighbors import KNeighborsClassifier

    X, label = data(n)
    model = KNeighborsClassifier(K, metric="cosine", algorithm="brute", weights=lambda far: np.exp(-far / TEMPERATURE))
    return float(model.fit(X[:n], label[:n]).score(X[n:], label[n:]))


def probe_by_faiss(n: int) -> float:
    X, label = data(n)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(X[:n])
    scores, rows = flat.search(X[n:], K)
    votes = np.zeros((QUERIES, CLASSES))
    np.add.at(votes, (np.arange(QUERIES)[:, None], label[rows]), np.exp((scores - 1) / TEMPERATURE))
    return float((votes.argmax(axis=1) == label[n:]).mean())


def groups(n: int) -> np.ndarray:
    return cluster_rows(data(n)[0][:n], 0)


def groups_by_scikit(n: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    return KMeans(cluster_count(n), n_init=1, random_state=0).fit_predict(data(n)[0][:n])


def groups_by_batches(n: int) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans

    return MiniBatchKMeans(cluster_count(n), n_init=1, random_state=0).fit_predict(data(n)[0][:n])


def groups_by_faiss(n: int) -> np.ndarray:
    X = data(n)[0][:n]
    model = faiss.Kmeans(DIM, cluster_count(n), seed=1)
    model.train(X)
    return model.index.search(X, 1)[1][:, 0]


#: By task: ours, and its peers.
TASKS: dict[str, tuple[Callable[[int], Any], dict[str, Callable[[int], Any]]]] = {
    "RankMe": (rank, {"singular values in float32": rank_by_values}),
    "k-NN probe": (probe, {"scikit-learn": probe_by_scikit, "faiss flat by itself": probe_by_faiss}),
    "clusters": (
        groups,
        {
            "scikit-learn KMeans": groups_by_scikit,
            "scikit-learn MiniBatchKMeans": groups_by_batches,
            "faiss Kmeans": groups_by_faiss,
        },
    ),
}


def inertia(n: int, found: np.ndarray) -> float:
    """Mean squared distance to the mean of the own cluster; for unit rows, 1 - the mean square of the means' lengths."""
    X, sums = data(n)[0][:n], np.zeros((found.max() + 1, DIM))
    for number in range(len(sums)):
        sums[number] = X[found == number].sum(axis=0, dtype=np.float64)
    sizes = np.maximum(np.bincount(found), 1)
    return float(1 - ((sums**2).sum(axis=1) / sizes).sum() / n)


def prepared(task: str, peer: str | None, n: int) -> Callable[[], Any]:
    """One evaluation on data that are there; libraries come before the count."""
    ours, peers = TASKS[task]
    arm = ours if peer is None else peers[peer]
    arm(2000)
    data(n)
    return lambda: arm(n)


def measure(task: str, n: int, rounds: int) -> dict[str, Any]:
    ours, peers = TASKS[task]
    arms: dict[str | None, Callable[[int], Any]] = {None: ours, **peers}
    data(n)
    for arm in arms.values():
        arm(2000)  # libraries and thread pools
    taken: dict[str | None, list[float]] = {name: [] for name in arms}
    values: dict[str | None, float] = {}
    for number in range(rounds):
        for name, arm in arms.items():
            time, found = clocked(lambda arm=arm: arm(n))
            taken[name].append(time)
            values[name] = inertia(n, found) if isinstance(found, np.ndarray) else float(found)
        said = ", ".join(f"{name or 'nolabel'} {times[-1]:.2f} s" for name, times in taken.items())
        print(f"  {task}, round {number + 1}: {said}", flush=True)
    return {
        "task": task,
        "rows": n,
        "seconds": spread(taken[None]),
        "value": values[None],
        "mib": in_child(prepared, task, None, n)["mib"],
        "peers": {
            name: {
                "seconds": spread(taken[name]),
                "times_faster": spread([theirs / own for theirs, own in zip(taken[name], taken[None])]),
                "value": values[name],
                "mib": in_child(prepared, task, name, n)["mib"],
            }
            for name in peers
        },
    }


def run(options: Options) -> dict[str, Any]:
    n, rounds = (30_000, 1) if options.quick else (1_000_000, 3)
    found = circumstances("numpy", "scikit-learn", "faiss-cpu")
    known = None if options.quick else harness.unfinished("million", width=DIM)
    result = {"name": "million", **found, "width": DIM, "complete": False, "rows": known["rows"] if known else []}
    for task in TASKS:
        if task not in [row["task"] for row in result["rows"]]:
            result["rows"].append(measure(task, n, rounds))
            if not options.quick:
                harness.write(result)
    return {**result, "complete": True}


def lines(result: dict[str, Any]) -> list[Line]:
    made = []
    for row in result["rows"]:
        case = f"{row['task']}, {row['rows']:,} x {result['width']}"
        for name, peer in row["peers"].items():
            seconds = f"{row['seconds']['median']:.3g} s", f"{name}, {peer['seconds']['median']:.3g} s"
            made.append(line(f"{case}: {seconds[0]}", seconds[1], peer["times_faster"], goal=1.0))
            less = times_less(peer["mib"], row["mib"])
            made.append(line(f"{case}: memory, {row['mib']:,.0f} MiB", f"{name}, {peer['mib']:,.0f} MiB", less))
        for name, peer in row["peers"].items():
            if row["task"] == "clusters":
                worse = row["value"] / peer["value"]
                made.append(Line(f"{case}: inertia over that of {name}", "", worse, worse, worse, unit=""))
            else:
                off = abs(row["value"] - peer["value"])
                made.append(Line(f"{case}: value {row['value']:.4g}, difference to {name}", "", off, off, off, unit=""))
    return made
