"""What `nolabel cluster --domains` was asked for, what it finds, and how it tells that."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Columns of a domain's line up to which all shares are printed; beyond, only the largest.
PRINTED = 8


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    source: str
    folder: Path
    domains: str | None
    classes: int | None
    model: Path | None
    run: Path | None
    columns: dict[str, str] | None
    encoder: str | None
    epochs: int
    setting: list[str]
    label: str | None
    top: int
    seed: int
    resume: bool


@dataclass(frozen=True)
class Rows:
    """The rows of a table that have a domain.

    Attributes
    ----------
    table : these rows, with a column `image`, `vector` or `text`
    kind : which of these
    rows : their numbers in the source
    domains : of each; None where domains are not known
    truth : of each, its true class or None; None without a column of them
    missing : how many rows have no domain
    """

    table: Any
    kind: str
    rows: np.ndarray
    domains: list[Any] | None
    truth: list[Any] | None
    missing: int

    def names(self, chosen: np.ndarray) -> dict[str, list[str]]:
        """The column that says what some of the rows are called, if there is one."""
        own = next((name for name in ("id", "path", "url") if name in self.table.column_names), None)
        return {} if own is None else {own: [str(value) for value in self.table.select(chosen)[own]]}


@dataclass(frozen=True)
class Found:
    """What a model says of rows.

    Attributes
    ----------
    kept : (n,) positions in `rows` of those that could be read
    probabilities : (n, k) of their clusters
    """

    rows: Rows
    model: Any
    kept: np.ndarray
    probabilities: np.ndarray

    @property
    def clusters(self) -> np.ndarray:
        found: np.ndarray = self.probabilities.argmax(axis=1)
        return found

    @property
    def certain(self) -> np.ndarray:
        found: np.ndarray = self.probabilities.max(axis=1)
        return found

    @property
    def domains(self) -> list[Any] | None:
        return None if self.rows.domains is None else [self.rows.domains[row] for row in self.kept]

    def surest(self, cluster: int, top: int) -> np.ndarray:
        """Positions of a cluster's most probable rows; equals in random order, or the first domain's would be all."""
        order = np.random.default_rng(0).permutation(len(self.kept))
        mine = order[self.clusters[order] == cluster]
        return mine[np.argsort(-self.certain[mine], kind="stable")[:top]]


def summary_of(found: Found, label: str | None) -> dict[str, Any]:
    """Clusters, mixes and diagnosis in plain types; with a column of true classes also how well clusters match these."""
    model, clusters, rows = found.model, found.clusters, found.rows
    words = _words(found)
    told = []
    for c in range(found.probabilities.shape[1]):
        own = clusters == c
        one: dict[str, Any] = {
            "cluster": c,
            "rows": int(own.sum()),
            "share": round(float(model.class_mix_[:, c].mean()), 4),
            "probability": round(float(found.certain[own].mean()), 4) if own.any() else None,
        }
        if rows.kind == "text":
            shown = rows.table.select(found.kept[found.surest(c, 3)])["text"]
            one |= {"words": words.get(c, []), "examples": [" ".join(text.split())[:200] for text in shown]}
        told.append(one)
    names = [str(name) for name in model.domains_]
    summary = {
        "rows": len(clusters),
        "without domain": rows.missing,
        "skipped": len(rows.table) - len(clusters),
        "domains": len(names),
        "clusters": told,
        "class mix": {name: [round(float(share), 4) for share in mix] for name, mix in zip(names, model.class_mix_)},
        "diagnosis": {key: _plain(value) for key, value in model.diagnose().items()},
    }
    return summary if rows.truth is None else summary | {"scores": {"label": label} | _scores(found)}


def _words(found: Found) -> dict[int, list[str]]:
    """Of texts, the words that tell each cluster from the others."""
    from nolabel.report.words import READ_ROWS, typical_words

    if found.rows.kind != "text":
        return {}
    read = np.sort(np.random.default_rng(0).permutation(len(found.kept))[:READ_ROWS])
    return typical_words(list(found.rows.table.select(found.kept[read])["text"]), found.clusters[read], count=6)


def _scores(found: Found) -> dict[str, Any]:
    """How well clusters match true classes, of the rows that have one; nothing else looks at these."""
    from nolabel.assess import cluster_scores

    assert found.rows.truth is not None
    truth = [found.rows.truth[row] for row in found.kept]
    labelled = [at for at, value in enumerate(truth) if value is not None]
    labels = np.array([str(truth[at]) for at in labelled])
    scores = cluster_scores(labels, found.clusters[labelled]).to_dict()
    return {"rows": len(labelled)} | {name: round(value, 4) for name, value in scores.items()}


def _plain(value: Any) -> Any:
    """JSON knows no infinity."""
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return [_plain(each) for each in value] if isinstance(value, list) else value


def tell(summary: dict[str, Any], as_json: bool) -> None:
    """Print what was found."""
    from nolabel.cli.output import answer, grid

    said = summary["diagnosis"]
    tables = [_grid_of_clusters(summary["clusters"]), _grid_of_mixes(summary["class mix"])]
    if "scores" in summary:
        scores = summary["scores"]
        keys = ("rows", "accuracy", "nmi", "ari")
        tables.append(grid(f"Compared with {scores['label']}", list(keys), [[scores[key] for key in keys]]))
    condition = "infinite" if said["condition number"] is None else f"{said['condition number']:.1f}"
    lines = [
        f"domains are told {said['gain']:.3f} ± {said['gain error']:.3f} nats better than by chance "
        f"(of at most {said['chance loss']:.3f}), on rows kept out",
        f"condition number {condition}, unexplained {said['residual']:.1%}, "
        f"empty cells {said['empty cells']} of {said['cells']}",
        "if the domains differ in style (camera, light, wording) the clusters are styles: look at the pictures",
        *(f"warning: {note}" for note in said["warnings"]),
        *(f"left out: {note}" for note in summary["left out"]),
        "",
        *(f"{name:<10}{path}" for name, path in (summary["files"] | summary["pictures"]).items()),
    ]
    answer(summary, as_json, *tables, lines=lines)


def _grid_of_clusters(clusters: Sequence[dict[str, Any]]) -> Any:
    from nolabel.cli.output import grid

    worded = any("words" in one for one in clusters)
    rows = [
        [one[key] for key in ("cluster", "rows", "share", "probability")]
        + ([", ".join(one.get("words", []))] if worded else [])
        for one in clusters
    ]
    head = ["cluster", "rows", "share", "probability", *(["words"] if worded else [])]
    return grid(f"{sum(one['rows'] for one in clusters):,} rows in {len(clusters)} clusters", head, rows)


def _grid_of_mixes(mixes: dict[str, list[float]]) -> Any:
    from nolabel.cli.output import grid

    width = len(next(iter(mixes.values())))
    if width <= PRINTED:
        rows = [[name, *(f"{share:.0%}" for share in mix)] for name, mix in mixes.items()]
        return grid("Mix of each domain", ["domain", *(str(c) for c in range(width))], rows)
    rows = []
    for name, mix in mixes.items():
        largest = np.argsort(-np.array(mix), kind="stable")[:4]
        rows.append([name, ", ".join(f"{c}: {mix[c]:.0%}" for c in largest if mix[c] >= 0.005)])
    return grid("Mix of each domain", ["domain", "its largest clusters"], rows)
