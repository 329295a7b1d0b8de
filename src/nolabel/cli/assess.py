"""`nolabel assess`: how good is a representation, without labels and, if there are any, with them."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from nolabel.cli.corpora import ADDRESS, CORPUS, ENGINE, by_shards

ANCHORS = 300
#: Rows of a corpus that are drawn for what cannot be summed over its shards.
SAMPLE = 20_000


def command(
    vectors: str = typer.Argument(
        ..., help=f"Run folder; a file of vectors (.npy, .parquet with a column vector); or {CORPUS}, of vectors."
    ),
    labels: str | None = typer.Option(None, help="Column of labels to audit with; learning never uses it."),
    against: Path | None = typer.Option(
        None, "--against", help="Another run folder: whether it tells the items that both have apart in the same way."
    ),
    engine: str = ENGINE,
    address: str | None = ADDRESS,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Judge vectors without labels: rank, spread, uniformity, cluster stability; with --labels also k-NN, probe, clusters.

    Of a corpus of shards, rank and spread are of all rows; the rest, and what labels say, of 20,000 drawn by a fixed seed.
    """
    from nolabel.cli.output import answer, pairs

    moments = None
    if by_shards(vectors, engine, address):
        if against is not None:
            raise ValueError(f"--against compares two run folders, and {vectors} is none")
        z, columns, health, moments = _summed(vectors, labels, engine, address)
    else:
        z, columns, health = _vectors(Path(vectors))
    if labels is not None and labels not in columns:
        raise ValueError(f"--labels: no column {labels!r} in {vectors}; there are {', '.join(columns) or 'none'}")
    scores = _label_free(z, moments) | health
    tables = [pairs("Without labels", scores)]
    if labels is not None:
        audit = _audit(z, columns[labels])
        tables.append(pairs(f"Against the column {labels!r}", audit))
        scores |= {"audit": audit}
    if against is not None:
        compared = _compared(Path(vectors), against)
        tables.append(pairs(f"Compared with {against}", compared))
        scores |= {"against": compared}
    answer(scores, as_json, *tables)


def _vectors(path: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Vectors, payload columns, and what a run says about itself."""
    import numpy as np

    if not path.exists():
        raise FileNotFoundError(f"no run folder or file of vectors at {path}")
    if path.is_dir():
        from nolabel.search import Index
        from nolabel.training import load

        table = Index.open(path).rows()
        columns = {name: table[name].to_pylist() for name in table.column_names if name not in ("vector", "thumbnail")}
        flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        health = load(path).health_
        kept = ("verdict", "alignment", "self_consistency")
        return flat.reshape(len(table), -1), columns, {k: health[k] for k in kept if health.get(k) is not None}
    from nolabel.data import read

    table = read(path)
    if "vector" not in table.column_names:
        raise ValueError(f"{path} has no column 'vector'; there are {', '.join(table.column_names)}")
    z = np.asarray(table.with_format("numpy", columns=["vector"])["vector"], dtype=np.float32)
    return z, {name: table[name] for name in table.column_names if name != "vector"}, {}


def _summed(
    source: str, labels: str | None, engine: str, address: str | None
) -> tuple[Any, dict[str, Any], dict[str, Any], Any]:
    """Sampled vectors of a corpus and their labels, how many they are, and the moments of all its rows."""
    from nolabel.corpus import open_corpus, summarise

    columns = () if labels is None else (labels,)
    found = summarise(open_corpus(source), sample=SAMPLE, columns=columns, engine=engine, address=address)
    if found.moments.rows == len(found.sample):
        return found.sample, found.columns, {}, None
    return found.sample, found.columns, {"rows drawn": len(found.sample)}, found.moments


def _label_free(z: Any, moments: Any = None) -> dict[str, Any]:
    """The scores of vectors; of more than these, rank and spread by the moments of all."""
    from nolabel.assess import alpha_req, cluster_stability, rankme, spread, uniformity

    def where_it_fits(name: str, measure: Callable[[], float]) -> float:
        try:
            return measure()
        except ValueError as error:  # few rows, or few dimensions in use
            warnings.warn(f"{name} left out: {error}", stacklevel=2)
            return math.nan

    def all_rows() -> Any:
        return z if moments is None else iter([moments.alike()])

    return {
        "rows": len(z) if moments is None else moments.rows,
        "width": z.shape[1],
        "RankMe": rankme(all_rows()),
        "RankMe, centred": rankme(all_rows(), center=True),
        "alpha-ReQ": where_it_fits("alpha-ReQ", lambda: alpha_req(all_rows()).alpha),
        "uniformity": uniformity(z),
        "spread, least": float((spread(z) if moments is None else moments.spread()).min()),
        "cluster stability": where_it_fits("cluster stability", lambda: cluster_stability(z)),
    }


def _audit(z: Any, labels: Any) -> dict[str, Any]:
    """Accuracy on a fifth of the rows held out, and agreement of k-means with the labels."""
    import numpy as np
    from sklearn.cluster import KMeans

    from nolabel.assess import cluster_scores, knn_accuracy, ridge_probe

    known = np.array([label is not None for label in labels])
    z, y = z[known], np.asarray([str(label) for label, ok in zip(labels, known, strict=True) if ok])
    classes = np.unique(y)
    if len(classes) < 2 or len(y) < 10:
        raise ValueError(f"--labels: need at least 2 classes and 10 labelled rows, got {len(classes)} and {len(y)}")
    order = np.random.default_rng(0).permutation(len(y))
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    found = KMeans(len(classes), n_init=3, random_state=0).fit_predict(
        z / np.linalg.norm(z, axis=1, keepdims=True).clip(1e-12)
    )
    k = min(20, len(train))
    return {
        "k-NN accuracy": knn_accuracy(z[train], y[train], z[test], y[test], k=k),
        "ridge accuracy": ridge_probe(z[train], y[train], z[test], y[test]),
        **{f"k-means {name}": value for name, value in vars(cluster_scores(y, found)).items()},
    }


def _compared(run: Path, other: Path) -> dict[str, Any]:
    """How like the spaces of two runs are, through common anchors and, where they are equally wide, as they are."""
    from nolabel.assess import compare_spaces
    from nolabel.search.common_items import common_items, drawn

    for folder in (run, other):
        if not folder.is_dir():
            raise ValueError(f"--against compares two run folders, and {folder} is none")
    common = common_items(run, other)
    found = compare_spaces(common.first, common.second, drawn(common, min(ANCHORS, len(common.ids) // 2)))
    told = {
        "items in common": len(common.ids),
        "matched by": common.by,
        "anchors": found.anchors,
        f"common neighbours (Jaccard of {found.k})": found.relative.jaccard,
        "MRR of the twin": found.relative.mrr,
        "cosine of the twin": found.relative.cosine,
    }
    if found.absolute is not None:
        told |= {"MRR of the twin, vectors as they are": found.absolute.mrr}
    return told
