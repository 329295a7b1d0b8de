"""Binary codes: the ten nearest of a million 256-bit codes in `nolabel.search.Index` against real vectors compared exactly.

python -m benchmarks.speed hamming [--quick]; the full run takes about 4 minutes on two cores and 4 GB of disk.

The codes are the signs of the vectors, 1,000,000 x 256, in 500 clusters. Peers: faiss' `IndexFlatIP` on the real vectors, and
NumPy's product with `argpartition`. Single queries and batches of 64. Goal: 10 times the throughput of the faster peer. Recall is
of the ten nearest by real vectors: of the codes alone, and with a shortlist of 200 ranked again by the real vectors in the index.
"""

import tempfile
from typing import Any

import faiss
import numpy as np

from benchmarks.speed.harness import Line, Options, circumstances, line, seconds, spread
from nolabel.search import Index

TITLE = "Binary codes"
ROWS, DIM, K, CLUSTERS, BATCH, ROUNDS, SHORTLIST = 1_000_000, 256, 10, 500, 64, 7, 200


def vectors_of(rows: int, seed: int) -> np.ndarray:
    """Unit vectors (rows, 256) around 500 centres."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, DIM), dtype=np.float32)
    rng = np.random.default_rng(seed)
    X = np.empty((rows, DIM), np.float32)
    for start in range(0, rows, 50_000):
        part = slice(start, min(start + 50_000, rows))
        size = part.stop - part.start
        X[part] = centres[rng.integers(0, CLUSTERS, size)] + rng.standard_normal((size, DIM), dtype=np.float32)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def by_numpy(X: np.ndarray, queries: np.ndarray) -> np.ndarray:
    scores = queries @ X.T
    return np.argpartition(-scores, K, axis=1)[:, :K]


def run(options: Options) -> dict[str, Any]:
    result = {"name": "hamming", **circumstances("faiss-cpu", "numpy", "lancedb")}
    rows = 20_000 if options.quick else ROWS
    X, queries = vectors_of(rows, 1), vectors_of(BATCH, 2)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(X)
    truth = flat.search(queries, K)[1]
    with tempfile.TemporaryDirectory(prefix="nolabel-hamming-") as folder:
        index = Index.create(folder, bits=DIM, dim=DIM)
        for start in range(0, rows, 50_000):
            part = X[start : start + 50_000]
            index.add(
                vectors=part,
                codes=np.packbits(part > 0, axis=1),
                payload={"row": list(range(start, start + len(part)))},
            )
        codes = np.packbits(queries > 0, axis=1)
        rounds: dict[str, list[dict[str, float]]] = {"single": [], "batch": []}
        for _ in range(2 if options.quick else ROUNDS + 1):
            for name, some in (("single", slice(0, 1)), ("batch", slice(0, BATCH))):
                rounds[name].append(
                    {
                        "codes": seconds(lambda some=some: index.search(codes[some], K, mode="binary")),
                        "faiss": seconds(lambda some=some: flat.search(queries[some], K)),
                        "numpy": seconds(lambda some=some: by_numpy(X, queries[some])),
                    }
                )
        again = index.search(codes, K, mode="binary", rescore=SHORTLIST, query_vector=queries)
        result["recall"] = {
            "alone": recall(index.search(codes, K, mode="binary"), truth),
            "ranked again": recall(again, truth),
        }
    result["seconds"] = {name: each[1:] for name, each in rounds.items()}  # the first round loads the codes
    return result | {"rows": rows, "megabytes": {"codes": rows * DIM / 8 / 2**20, "vectors": rows * DIM * 4 / 2**20}}


def recall(found: Any, truth: np.ndarray) -> float:
    hits = [{row["row"] for row in each.to_dicts()} for each in found]
    return float(np.mean([len(have & set(near.tolist())) / K for have, near in zip(hits, truth, strict=True)]))


def lines(result: dict[str, Any]) -> list[Line]:
    made = []
    for name, what in (("single", "one query"), ("batch", f"{BATCH} queries at once")):
        ratios = [min(row["faiss"], row["numpy"]) / row["codes"] for row in result["seconds"][name]]
        made.append(
            line(
                f"256 bits, {result['rows']:,} codes, {what}",
                "the faster of faiss flat and NumPy",
                spread(ratios),
                goal=10,
            )
        )
    recalls = [
        Line(f"recall@{K} of the codes, {how}, of real vectors'", "", value, value, value, unit="")
        for how, value in result["recall"].items()
    ]
    share = result["megabytes"]["vectors"] / result["megabytes"]["codes"]
    return [
        *made,
        *recalls,
        Line(f"256 bits, {result['rows']:,} codes: memory", "real vectors", share, share, share),
    ]
