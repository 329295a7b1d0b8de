"""RankMe in one float64 pass against a plain float32 singular value decomposition, side by side in one run.

python -m benchmarks.speed rankme [--quick]; the full run takes about a minute on two cores.
Goals for 100,000 x 512 float32: at least 5 times faster, the same value to 1e-4.
"""

import statistics
from collections.abc import Callable

import numpy as np

from benchmarks.speed.harness import Line, Options, circumstances, in_child, line, seconds, spread, times_less
from nolabel.ops import effective_rank

TITLE = "RankMe"


def plain(z: np.ndarray) -> float:
    s = np.linalg.svd(z, compute_uv=False).astype(np.float64)
    p = s / s.sum() + 1e-7
    return float(np.exp(-(p * np.log(p)).sum()))


ARMS = (plain, effective_rank)


def embeddings(spectrum: str, n: int, d: int) -> np.ndarray:
    """Gaussian rows whose dimensions fall off as a power law, exponentially, or not at all; rotated, with a mean."""
    rng = np.random.default_rng(0)
    k = np.arange(d)
    scale = {"flat": np.ones(d), "power law": 1 / (1 + k), "exponential": np.exp(-k / 20)}[spectrum].astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
    return (rng.standard_normal((n, d), dtype=np.float32) * scale) @ rotation + np.float32(0.01)


def prepared(arm: int, n: int, d: int) -> Callable[[], float]:
    """One evaluation, libraries and thread pools awake."""
    ARMS[arm](np.eye(64, dtype=np.float32))
    z = embeddings("flat", n, d)
    return lambda: ARMS[arm](z)


def measure(spectrum: str, n: int, d: int, rounds: int) -> dict:
    z = embeddings(spectrum, n, d)
    values = [arm(z) for arm in ARMS]
    pairs = [tuple(seconds(lambda arm=arm: arm(z)) for arm in ARMS) for _ in range(rounds)]
    ratios = [p / o for p, o in pairs]
    return {
        "spectrum": spectrum,
        "n": n,
        "width": d,
        "rounds": rounds,
        "plain_seconds": statistics.median(p for p, _ in pairs),
        "seconds": statistics.median(o for _, o in pairs),
        "times_faster": spread(ratios),
        "plain_value": values[0],
        "value": values[1],
        "difference": values[1] - values[0],
    }


def run(options: Options) -> dict:
    n, d = (10_000, 128) if options.quick else (100_000, 512)
    found = circumstances("numpy")
    rows = [measure("flat", n, d, 3 if options.quick else 5)]
    rows += [measure(spectrum, n, d, 1) for spectrum in ("power law", "exponential")]
    plain, ours = (in_child(prepared, arm, n, d)["mib"] for arm in (0, 1))
    return {"name": "rankme", **found, "plain_peak_mib": plain, "peak_mib": ours, "rows": rows}


def lines(result: dict) -> list[Line]:
    found = []
    for row in result["rows"]:
        case = f"RankMe of {row['n']:,} x {row['width']}, {row['spectrum']} spectrum"
        goal = 5.0 if row["rounds"] > 1 else None
        found.append(line(case, "singular values in float32", row["times_faster"], goal=goal))
        difference = abs(row["difference"])
        found.append(Line("difference of the value", "", *[difference] * 3, unit="", goal=1e-4, at_least=False))
    memory = times_less(result["plain_peak_mib"], result["peak_mib"])
    what = f"RankMe: {result['peak_mib']:.0f} MiB of extra memory"
    return [*found, line(what, f"singular values in float32, {result['plain_peak_mib']:.0f} MiB", memory)]
