"""Does a representation split in two hold each kind of attribute in its own part? An audit; it needs labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nolabel.assess.inputs import as_embeddings, as_labels
from nolabel.assess.probe import linear_probe


@dataclass(frozen=True)
class SeparationReport:
    """Held-out accuracies, in [0, 1], of both attributes from both parts.

    Attributes
    ----------
    salient_from_salient, common_from_common : what each part is for; high.
    salient_from_common, common_from_salient : what leaks into the other part; near chance.
    salient_chance, common_chance : share of the most frequent value among the rows held out.
    """

    salient_from_salient: float
    salient_from_common: float
    common_from_common: float
    common_from_salient: float
    salient_chance: float
    common_chance: float

    @property
    def salient_gap(self) -> float:
        """How much better the salient part knows the salient attribute than the common part does."""
        return self.salient_from_salient - self.salient_from_common

    @property
    def common_gap(self) -> float:
        """How much better the common part knows the common attribute than the salient part does."""
        return self.common_from_common - self.common_from_salient

    def to_dict(self) -> dict[str, float]:
        """The accuracies and both gaps."""
        return asdict(self) | {"salient_gap": self.salient_gap, "common_gap": self.common_gap}

    def __str__(self) -> str:
        lines = ["attribute  salient part  common part  chance     gap"]
        for name, from_salient, from_common, chance, gap in (
            ("salient", self.salient_from_salient, self.salient_from_common, self.salient_chance, self.salient_gap),
            ("common", self.common_from_salient, self.common_from_common, self.common_chance, self.common_gap),
        ):
            lines.append(f"{name:9} {from_salient:13.3f} {from_common:12.3f} {chance:7.3f} {gap:+7.3f}")
        return "\n".join(lines)


def separation_report(
    common: Any,
    salient: Any,
    common_labels: Any,
    salient_labels: Any,
    *,
    test_rows: Any = None,
    random_state: int = 0,
) -> SeparationReport:
    """Probe the common and the salient part of TARGET rows for a common and a salient attribute.

    Background rows do not belong here: with them the salient part scores by telling target from background alone.

    Parameters
    ----------
    common, salient : (n, c) and (n, s) floats, the two parts of the same target rows.
    common_labels : (n,) an attribute that varies in both collections, such as the object behind.
    salient_labels : (n,) an attribute that the target alone has, such as the digit on it.
    test_rows : row numbers held out; ``None`` draws 30 % with `random_state`. The others train logistic regressions.

    Returns
    -------
    SeparationReport

    Raises
    ------
    ValueError
        Lengths that do not fit, NaN, test rows that repeat or are not there, a single class among the training rows.

    >>> part = np.arange(40.0)[:, None] % 2
    >>> report = separation_report(part, 1 - part, part[:, 0] > 0, part[:, 0] > 0)
    >>> report.common_from_common, report.salient_gap
    (1.0, 0.0)
    """
    parts = {"common": as_embeddings(common, "common"), "salient": as_embeddings(salient, "salient")}
    n = len(parts["common"])
    if len(parts["salient"]) != n:
        raise ValueError(f"common and salient: the same rows were expected, got {n} and {len(parts['salient'])}")
    labels = {
        "common": as_labels(common_labels, n, "common_labels"),
        "salient": as_labels(salient_labels, n, "salient_labels"),
    }
    test = _held_out(test_rows, n, random_state)
    train = np.setdiff1d(np.arange(n), test)

    def accuracy(attribute: str, part: str) -> float:
        z, y = parts[part], labels[attribute]
        return linear_probe(z[train], y[train], z[test], y[test])

    def chance(attribute: str) -> float:
        return float(np.unique(labels[attribute][test], return_counts=True)[1].max() / len(test))

    return SeparationReport(
        salient_from_salient=accuracy("salient", "salient"),
        salient_from_common=accuracy("salient", "common"),
        common_from_common=accuracy("common", "common"),
        common_from_salient=accuracy("common", "salient"),
        salient_chance=chance("salient"),
        common_chance=chance("common"),
    )


def _held_out(test_rows: Any, n: int, random_state: int) -> np.ndarray:
    if test_rows is None:
        return np.random.default_rng(random_state).permutation(n)[: max(1, round(0.3 * n))]
    rows = np.asarray(test_rows)
    whole = rows.ndim == 1 and rows.dtype.kind in "iu" and len(rows) > 0
    if not whole or rows.min() < 0 or rows.max() >= n or len(np.unique(rows)) < len(rows):
        raise ValueError(f"test_rows: different row numbers from 0 to {n - 1} were expected, got {test_rows!r:.60}")
    return rows
