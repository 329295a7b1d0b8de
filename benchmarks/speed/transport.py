"""Entropic optimal transport against POT's Sinkhorn in the log domain, side by side in one run.

python -m benchmarks.speed transport [--quick]; the full run takes a few minutes on two cores, nearly all of them POT's. Both get
the same costs (squared distances of Gaussian points over their largest), the same epsilon and equal weights, and take the
same number of iterations without stopping early. POT runs on NumPy in the peers' environment (NOLABEL_PEERS), which runs this
file too; the arms alternate. Goals for 2,000 x 500: not slower, the same plan to 1e-4 in total mass moved.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.speed.harness import Line, Options, circumstances, line, scratch, spread
from benchmarks.speed.peer import Peer

TITLE = "Optimal transport"
EPSILONS = (0.05, 0.01, 0.002)


def answer_requests() -> None:
    """The peer's side: solve the problem that a line of JSON names, answer with the seconds it took."""
    import ot

    for request in map(json.loads, sys.stdin):
        cost = np.load(request["cost"])
        n, m = cost.shape
        source, target = np.full(n, 1 / n, cost.dtype), np.full(m, 1 / m, cost.dtype)
        start = time.perf_counter()
        plan = ot.sinkhorn(
            source, target, cost, request["epsilon"], method="sinkhorn_log", numItermax=request["iterations"], stopThr=0.0,
            warn=False,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        np.save(request["plan"], plan)
        print(json.dumps({"seconds": seconds, "version": ot.__version__}), flush=True)


def costs(n: int, m: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, 16)), rng.standard_normal((m, 16))
    cost = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    return cost / cost.max()


def measure(peer: Peer, folder: Path, cost: np.ndarray, epsilon: float, iterations: int, rounds: int) -> dict:
    import torch

    from nolabel.ops.transport import transport

    np.save(folder / "cost.npy", cost)
    given = torch.from_numpy(cost)
    request = {"cost": str(folder / "cost.npy"), "plan": str(folder / "plan.npy"), "epsilon": epsilon}
    pairs = []
    for _ in range(rounds + 1):  # the first does not count
        start = time.perf_counter()
        plan = transport(given, epsilon=epsilon, iterations=iterations, tolerance=0.0)
        ours = time.perf_counter() - start
        answer = peer.ask(iterations=iterations, **request)
        pairs.append((answer["seconds"], ours))
    theirs = np.load(folder / "plan.npy")
    return {
        "n": cost.shape[0],
        "m": cost.shape[1],
        "dtype": str(cost.dtype),
        "epsilon": epsilon,
        "iterations": iterations,
        "rounds": rounds,
        "pot_seconds": statistics.median(p for p, _ in pairs[1:]),
        "seconds": statistics.median(o for _, o in pairs[1:]),
        "times_faster": spread([p / o for p, o in pairs[1:]]),
        "difference": float(np.abs(plan.numpy() - theirs).sum()),
        "pot": answer["version"],
    }


def run(options: Options) -> dict:
    (n, m), iterations, rounds = ((200, 50), 20, 2) if options.quick else ((2000, 500), 50, 3)
    found = circumstances("torch", "numpy")
    cost = costs(n, m)
    with scratch() as folder, Peer("transport") as peer:
        rows = [
            measure(peer, folder, cost.astype(dtype), epsilon, iterations, rounds)
            for dtype in ("float32", "float64")
            for epsilon in EPSILONS
        ]
    found["versions"]["POT"] = rows[0]["pot"]
    return {"name": "transport", **found, "rows": rows}


def lines(result: dict) -> list[Line]:
    found = []
    for row in result["rows"]:
        case = f"`transport`, {row['n']:,} x {row['m']:,}, {row['dtype']}, epsilon {row['epsilon']:g}"
        peer = f'`ot.sinkhorn(method="sinkhorn_log")`: {row["pot_seconds"]:.2f} s'
        found.append(line(case, peer, row["times_faster"], goal=1.0))
        found.append(Line("difference of the plans", "", *[row["difference"]] * 3, unit="", goal=1e-4, at_least=False))
    return found


if __name__ == "__main__":
    answer_requests()
