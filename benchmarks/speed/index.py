"""Queries through `nolabel.search.Index` against NumPy brute force and faiss by itself, side by side in one run.

python -m benchmarks.speed index [--quick]; the full run takes about 12 minutes on two cores and 2 GB of disk.
Goals on 200,000 x 128 clustered vectors, single queries, ten neighbours: recall at least 0.95 at 10 times the
throughput of brute force; with an SQL filter that keeps a tenth of the rows, recall at least 0.95 at 3 times the
throughput of brute force under the same mask; the memory that `add` takes does not grow with what is added (at most
64 MiB more for four times the rows).

Data: `mixture`, 500 Gaussians with centres N(0, 1) and noise 0.7 in all 128 directions; `manifolds`, 500 clusters that
each spread in 16 directions of their own, as learned embeddings do; `isotropic`, one Gaussian without any structure,
the worst case, which has no goal. Queries are drawn with the rows and held out. Filters: `spread` keeps a random tenth,
`clusters` the rows of every tenth cluster, most of them far from the query (for `isotropic` again a random tenth).

Brute force is `X @ q` on normalised float32 and `argpartition`. Under a filter it is the faster of masking the scores
and gathering the rows, both timed; `kept` is brute force on a copy of the chosen rows made beforehand: it has no goal.

Without a filter, `Index` also meets faiss, which it stands on, used directly on arrays in memory: `IndexFlatIP`, and an
`IndexIVFFlat` of 4 sqrt(n) lists that visits the fewest (a power of two) at which its recall is within 0.005 of that of
`Index`; by single queries and by batches of 256. What `Index` adds (ids, payload, files, filters) then shows as a ratio below 1.
"""

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed.faiss_itself import BATCH, against_faiss
from benchmarks.speed.funnel import milliseconds
from benchmarks.speed.harness import Line, Options, circumstances, in_child, line, spread
from nolabel.search import Index

TITLE = "Search"
DIM, K, CLUSTERS = 128, 10, 500
FILTERS = {"none": None, "spread": "tenth = 0", "clusters": "cluster % 10 = 0"}
GOALS = {"none": 10.0, "spread": 3.0, "clusters": 3.0}


def rows_of(kind: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (n, 128) and the cluster of each."""
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, CLUSTERS, n)
    noise = rng.standard_normal((n, DIM), dtype=np.float32)
    if kind == "isotropic":
        return noise, cluster
    centres = rng.standard_normal((CLUSTERS, DIM), dtype=np.float32)
    if kind == "mixture":
        return centres[cluster] + 0.7 * noise, cluster
    X = centres[cluster] + 0.05 * noise
    for number in range(CLUSTERS):
        directions = np.linalg.qr(rng.standard_normal((DIM, 16)))[0].astype(np.float32)
        rows = np.flatnonzero(cluster == number)
        X[rows] += 2 * rng.standard_normal((len(rows), 16), dtype=np.float32) @ directions.T
    return X, cluster


def top(scores: np.ndarray) -> np.ndarray:
    near = np.argpartition(scores, len(scores) - K)[-K:]
    return near[np.argsort(-scores[near])]


def brute_arms(X: np.ndarray, mask: np.ndarray | None) -> dict:
    """Ways to answer one query with NumPy; each returns row numbers."""
    if mask is None:
        return {"brute": lambda q: top(X @ q)}
    rows, hidden = np.flatnonzero(mask), ~mask
    copy = X[rows]

    def masked(q):
        scores = X @ q
        scores[hidden] = -np.inf
        return top(scores)

    return {"mask": masked, "gather": lambda q: rows[top(X[rows] @ q)], "kept": lambda q: rows[top(copy @ q)]}


def compare(index: Index, X: np.ndarray, queries: np.ndarray, name: str, mask: np.ndarray | None, rounds: int) -> dict:
    """Recall against brute force, then times of all arms in turn, round after round."""
    where = FILTERS[name]

    def ours(query):
        return index.search(query, K, where=where).ids

    arms = brute_arms(X, mask)
    reference = arms.get("brute", arms.get("mask"))
    recall = np.mean([len(set(reference(q)) & set(ours(q))) / K for q in queries[:200]])
    times: dict[str, list[float]] = {arm: [] for arm in ("index", *arms)}
    for number in range(rounds):
        some = np.roll(queries, -40 * number, axis=0)[:40]
        for arm, answer in arms.items():
            times[arm].append(milliseconds(answer, some, single=True))
        times["index"].append(milliseconds(ours, queries, single=True))
    rivals = [arm for arm in arms if arm != "kept"]
    best = [min(each) for each in zip(*(times[arm] for arm in rivals))]
    ratios = [b / i for b, i in zip(best, times["index"])]
    result = {
        "filter": name,
        "recall": float(recall),
        "ratio": spread(ratios),
        "milliseconds": {arm: spread(t) for arm, t in times.items()},
    }
    if mask is not None:
        result["ratio_to_kept"] = spread([b / i for b, i in zip(times["kept"], times["index"])])
    return result


def measure(kind: str, n: int, rounds: int) -> dict:
    raw, cluster = rows_of(kind, n + 500)
    raw, queries = raw[:n], raw[n:] / np.linalg.norm(raw[n:], axis=1, keepdims=True)
    cluster = cluster[:n]
    tenth = np.random.default_rng(1).integers(0, 10, n)
    masks = {"none": None, "spread": tenth == 0, "clusters": cluster % 10 == 0}
    X = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(folder, DIM)
        start = time.perf_counter()
        index.add(raw, {"tenth": tenth, "cluster": cluster})
        added = time.perf_counter()
        index.search(queries[0])
        built = time.perf_counter()
        again = Index(folder)
        again.search(queries[0])
        opened = time.perf_counter()
        time.sleep(0.2)
        rows = [compare(index, X, queries, name, masks[name], rounds) for name in FILTERS]
        direct = against_faiss(index, X, queries, K, rounds)
        info = index.info()
    return {
        "data": kind,
        "rows": n,
        "structure": info["structure"],
        "lists_visited": info["lists_visited"],
        "add_seconds": added - start,
        "build_seconds": built - added,
        "open_and_first_search_seconds": opened - built,
        "searches": rows,
        "direct": direct,
    }


def prepared(folder: str, n: int) -> Callable[[], Any]:
    """`n` rows streamed into an index that has some, libraries and thread pools awake."""

    def pieces(rows):
        rng = np.random.default_rng(0)
        for start in range(0, rows, 20_000):
            block = rng.standard_normal((min(20_000, rows - start), DIM), dtype=np.float32)
            yield block, {"row": np.arange(start, start + len(block))}

    index = Index.create(folder, DIM)
    index.add(pieces(20_000))
    return lambda: index.add(pieces(n))


def peak_of_add(n: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        growth = in_child(prepared, folder, n)["mib"]
    return {"rows": n, "vectors_mib": n * DIM * 4 / 2**20, "growth_mib": growth}


def run(options: Options) -> dict:
    n, rounds = (25_000, 3) if options.quick else (200_000, 9)
    found = circumstances("numpy", "faiss-cpu", "lancedb")
    rows = [measure(kind, n, rounds) for kind in ("mixture", "manifolds", "isotropic")]
    memory = [peak_of_add(size) for size in ((40_000, 80_000) if options.quick else (200_000, 800_000))]
    return {"name": "index", **found, "rows": rows, "memory_of_add": memory}


def lines(result: dict) -> list[Line]:
    found = []
    for row in result["rows"]:
        structured = row["data"] != "isotropic"
        for search in row["searches"]:
            ours = search["milliseconds"]["index"]["median"]
            what = f"`Index`, {row['rows']:,} x {DIM} {row['data']}, filter {search['filter']}: {ours:.2f} ms a query"
            goal = GOALS[search["filter"]] if structured else None
            found.append(line(what, "NumPy brute force", search["ratio"], goal=goal))
            recall = search["recall"]
            found.append(Line("its recall", "", recall, recall, recall, unit="", goal=0.95 if structured else None))
        for way, said in (("single", "one query"), ("batch", f"{BATCH} queries at once")):
            for arm, ratio in row.get("direct", {}).get(way, {}).get("ratio", {}).items():
                ours = row["direct"][way]["milliseconds"]["index"]["median"]
                what = f"`Index`, {row['rows']:,} x {DIM} {row['data']}, {said}: {ours:.3f} ms a query"
                found.append(line(what, f"{arm} by itself", ratio))
    small, large = (each["growth_mib"] for each in result["memory_of_add"])
    rows = " and ".join(f"{each['rows']:,}" for each in result["memory_of_add"])
    growth = large - small
    what = f"memory of `add`, difference of {rows} rows"
    return [*found, Line(what, "", growth, growth, growth, unit="MiB", goal=64, at_least=False)]
