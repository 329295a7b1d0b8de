"""Clusters of images, texts or vectors from several domains, from the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.cli.clustered import Found, Rows, Wanted, summary_of, tell

TABLE, LINES, MIX, PICTURE, REPORT = "clusters.parquet", "clusters.csv", "class_mix.csv", "class_mix.png", "report.json"
#: Folder of the domain classifier within that of the run.
TELLING = "discriminator"


def made(folder: Path) -> bool:
    """Whether a run folder holds clusters of several domains."""
    from nolabel.training.estimator import read_config

    return str(read_config(folder)["class"]).endswith(".LatentLabelShift")


def clustered(wanted: Wanted, as_json: bool) -> None:
    """Cluster under latent label shift, write what was found, and tell it."""
    from nolabel.training import load
    from nolabel.training.estimator import write_text

    folder = wanted.folder
    finished = (folder / "config.json").exists()
    if (folder / REPORT).exists() or (not wanted.resume and (finished or (folder / TELLING).exists())):
        kind = "a finished" if finished else "an unfinished"
        raise ValueError(f"{folder} holds {kind} run: choose another folder, delete it, or go on with --resume")
    rows = _rows(wanted)
    if wanted.model is not None:
        model = load(wanted.model)
        probabilities, kept = model.located(rows.table, rows.domains)
    else:
        model = load(folder) if finished else _learned(wanted, rows)
        probabilities, kept = model.probabilities_, model.rows_
        if not finished:
            model.save(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = Found(rows, model, kept, probabilities)
    _write_tables(folder, found)
    pictures, left_out = _draw(wanted, found)
    summary = summary_of(found, wanted.label) | {
        "run": str(folder),
        "files": {"clusters": str(folder / TABLE), "lines": str(folder / LINES), "mixes": str(folder / MIX)},
        "pictures": pictures,
        "left out": left_out,
    }
    write_text(folder / REPORT, json.dumps(summary, indent=1) + "\n")
    tell(summary, as_json)


def _rows(wanted: Wanted) -> Rows:
    """The rows to be clustered: those without a domain are left out and counted."""
    from nolabel.cli.classified import known
    from nolabel.cli.run import open_table

    table = open_table(wanted.source, wanted.columns)
    domains: list[Any] | None = None
    rows = np.arange(len(table))
    if wanted.domains is not None:
        if wanted.domains not in table.column_names:
            there = ", ".join(table.column_names)
            raise ValueError(f"--domains: {wanted.source} has no column {wanted.domains!r} among {there}")
        given = known(table, wanted.domains, wanted.source)
        rows = np.array([row for row, value in enumerate(given) if value is not None])
        domains = [given[row] for row in rows]
    truth = None
    if wanted.label is not None:
        values = known(table, wanted.label, wanted.source)
        truth = [values[row] for row in rows]
    kind = next((name for name in ("image", "vector", "text") if name in table.column_names), None)
    chosen = table if len(rows) == len(table) else table.select(rows)
    if kind is None:
        kind, chosen = "vector", _with_numbers(chosen, {wanted.domains, wanted.label}, wanted.source)
    return Rows(chosen, kind, rows, domains, truth, len(table) - len(rows))


def _with_numbers(table: Any, without: set[str | None], source: str) -> Any:
    """The table with its columns of numbers as one of vectors."""
    import pyarrow.types as kinds

    from nolabel.data import read

    types = {name: table.data.schema.field(name).type for name in table.column_names}
    names = [name for name, kind in types.items() if kinds.is_floating(kind) or kinds.is_integer(kind)]
    names = [name for name in names if name not in without and name not in ("id", "row")]
    if not names:
        there = ", ".join(table.column_names)
        raise ValueError(
            f"{source} has no column image, vector or text, and none of numbers, among {there}; name one with --column image=NAME"
        )
    vectors = np.stack([np.asarray(table[name], dtype=np.float32) for name in names], axis=1)
    bad = ~np.isfinite(vectors).all(axis=0)
    if bad.any():
        raise ValueError(f"{source}: the column {names[int(np.argmax(bad))]!r} has missing values; fill or drop them")
    others = {name: list(table[name]) for name in table.column_names if name not in names}
    return read({"vector": vectors, **others})


def _learned(wanted: Wanted, rows: Rows) -> Any:
    from nolabel.cli.run import settings_of
    from nolabel.cluster import LatentLabelShift
    from nolabel.training import Training, load

    if wanted.classes is None:
        raise ValueError("--classes says how many classes there are: it is needed with --domains")
    params = settings_of(LatentLabelShift, "cluster --domains", wanted.setting)
    if wanted.encoder is not None:
        if rows.kind != "image":
            raise ValueError(f"--encoder with --domains is the network for images; {wanted.source} holds a {rows.kind}")
        params["encoder"] = wanted.encoder
    if wanted.run is not None:
        params["representation"] = load(wanted.run)
    training = Training(wanted.epochs, random_state=wanted.seed)
    model = LatentLabelShift(**{"n_classes": wanted.classes, "training": training} | params)
    return model.fit(rows.table, rows.domains, run=wanted.folder, resume=wanted.resume)


def _write_tables(folder: Path, found: Found) -> None:
    """A line a row with its cluster, and the mix of each domain."""
    from nolabel.cli.clean import write_csv, write_parquet

    numbers: Any = found.rows.rows[found.kept]
    columns: dict[str, list[Any]] = {"row": numbers.tolist(), **found.rows.names(found.kept)}
    if found.domains is not None:
        columns["domain"] = found.domains
    columns |= {"cluster": found.clusters.tolist(), "probability": found.certain.tolist()}
    write_csv(folder / LINES, columns)
    write_parquet(folder / TABLE, columns | {f"p{c}": p.tolist() for c, p in enumerate(found.probabilities.T)})
    mix = {f"cluster {c}": share.tolist() for c, share in enumerate(found.model.class_mix_.T)}
    write_csv(folder / MIX, {"domain": [str(name) for name in found.model.domains_]} | mix)


def _draw(wanted: Wanted, found: Found) -> tuple[dict[str, str], list[str]]:
    """Draw the mixes, and of images the surest of each cluster; where the pictures are, and what was left out."""
    from nolabel.cli.cluster_pictures import draw_mixes, draw_sheet

    pictures, left_out = {}, []
    try:
        draw_mixes(wanted.folder / PICTURE, [str(name) for name in found.model.domains_], found.model.class_mix_)
        pictures["class mix"] = str(wanted.folder / PICTURE)
    except ImportError as error:
        left_out.append(f"{PICTURE}: {error}")
    for c in range(found.probabilities.shape[1] if found.rows.kind == "image" else 0):
        shown = found.surest(c, wanted.top)
        if len(shown):
            path = wanted.folder / f"cluster_{c}.png"
            title = f"cluster {c}: {len(shown)} of {int((found.clusters == c).sum()):,}, the surest"
            domains = found.domains
            captions = [f"{found.certain[at]:.2f}" + (f" {domains[at]}" if domains else "") for at in shown]
            draw_sheet(path, title, found.rows.table.select(found.kept[shown]), captions)
            pictures[f"cluster {c}"] = str(path)
    return pictures, left_out
