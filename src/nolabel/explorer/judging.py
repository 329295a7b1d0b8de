"""What the vectors are worth without labels, and for two runs of the same items what changed from one to the other."""

import threading
from dataclasses import asdict
from typing import Any

import numpy as np

from nolabel.explorer.items import items_of
from nolabel.explorer.opened import OpenRun
from nolabel.report.curves import read_curves
from nolabel.report.scores import headline, told_scores

SPECTRUM_ROWS, SPECTRUM_LENGTH = 20_000, 256
COMPARED = 2000  # items whose neighbours are compared
ANCHORS = 300
NEIGHBOURS = 10
MOVED, SHOWN = 12, 5
FEW_ROWS = 2


def spectrum(vectors: np.ndarray) -> list[float]:
    """Shares of the centred variance of the main directions, the largest first.

    >>> [round(share, 2) for share in spectrum(np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]]))]
    [0.8, 0.2]
    """
    sample = vectors[np.sort(np.random.default_rng(0).permutation(len(vectors))[:SPECTRUM_ROWS])].astype(np.float64)
    centred = sample - sample.mean(axis=0)
    variances = np.linalg.eigvalsh(centred.T @ centred)[::-1].clip(min=0)
    total = variances.sum()
    shares: list[float] = (variances / total if total > 0 else variances)[:SPECTRUM_LENGTH].tolist()
    return shares


def judged(run: OpenRun) -> dict[str, Any]:
    """The report of one run: as its training left it, or of its vectors where it was not trained here."""
    rows = run.rows()
    n, width = rows.vectors.shape
    found: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    run.read()
    if run.trouble is None:
        learner = run.learner
        found = dict(getattr(learner, "health_", {}))
        history = list(getattr(learner, "history_", []))
    if not found and n > FEW_ROWS:
        from nolabel.assess.health import health

        found = asdict(health(rows.vectors))
    curves = [
        {"name": curve.key, "axis": curve.axis, "steps": curve.x.tolist(), "values": curve.y.tolist()}
        for curve in read_curves(history)
    ]
    scores = [dict(zip(("name", "value", "what", "good"), told, strict=True)) for told in told_scores(found)]
    return {
        "name": run.name,
        "method": run.method,
        "headline": headline(found, n, width),
        "verdict": found.get("verdict"),
        "reasons": [str(reason) for reason in found.get("reasons", ())],
        "rows": n,
        "width": width,
        "scores": scores,
        "spectrum": spectrum(rows.vectors) if n > FEW_ROWS else [],
        "curves": curves,
    }


def changed(run: OpenRun, other: OpenRun) -> dict[str, Any]:
    """What `other` sees differently from `run`: how alike the two are, and the items whose neighbours differ most.

    ValueError where the two have too few items in common.
    """
    from nolabel.assess.spaces import compare_spaces
    from nolabel.ops.neighbours import nearest
    from nolabel.search.common_items import common_items, drawn

    common = common_items(run.folder, other.folder)
    chosen = drawn(common, COMPARED)
    first, second, ids = common.first[chosen], common.second[chosen], common.ids[chosen]
    anchors = np.arange(min(ANCHORS, len(ids) // 2))
    k = min(NEIGHBOURS, len(ids) - len(anchors) - 1)
    found = compare_spaces(first, second, anchors, k=k).relative
    near = [nearest(z, z, k, exclude_self=True)[1] for z in (first, second)]
    kept = np.array([len(np.intersect1d(a, b)) / k for a, b in zip(*near, strict=True)])
    moved = []
    for at in np.argsort(kept, kind="stable")[:MOVED]:
        before, after = (items_of(run, ids[rows[at][:SHOWN]]) for rows in near)
        (item,) = items_of(run, [int(ids[at])])
        moved.append({"item": item, "kept": round(float(kept[at]), 3), "before": before, "after": after})
    likeness = [
        (
            "neighbours kept",
            float(kept.mean()),
            f"of an item's {k} nearest, the share that is the same in both, on average",
        ),
        (
            "twins found",
            found.mrr,
            "one over the rank at which an item finds itself in the other run, on average; 1 is best",
        ),
        ("cosine of twins", found.cosine, "of an item and itself in the other run, by cosines to common anchors"),
    ]
    return {
        "items": len(common.ids),
        "compared": len(ids),
        "by": common.by,
        "likeness": [{"name": name, "value": round(value, 4), "what": what} for name, value, what in likeness],
        "moved": moved,
    }


class Judge:
    """The report of a run, and of another beside it, made once for the same vectors."""

    def __init__(self, run: OpenRun, against: OpenRun | None) -> None:
        self.runs = [run] if against is None else [run, against]
        self._lock = threading.Lock()
        self._made: tuple[tuple[str, ...], dict[str, Any]] | None = None

    def report(self) -> dict[str, Any]:
        with self._lock:
            keys = tuple(run.rows().key for run in self.runs)
            if self._made is None or self._made[0] != keys:
                compared = changed(*self.runs) if len(self.runs) > 1 else None
                self._made = (keys, {"runs": [judged(run) for run in self.runs], "changed": compared})
            return self._made[1]
