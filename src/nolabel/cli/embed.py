"""`nolabel embed`: vectors of new data from a trained run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from nolabel.cli.corpora import ADDRESS, CORPUS, ENGINE, by_shards
from nolabel.data.replacing import replacing

REPRESENTATION = "representation"


def command(
    run: Path = typer.Argument(..., help="Run folder of `nolabel learn`."),
    source: str = typer.Argument(..., help=f"Folder, file or name of a known set; or {CORPUS}."),
    out: str | None = typer.Option(
        None,
        "--out",
        "-o",
        help="File to write, .parquet or .npy. Of a corpus: folder, .lance or URL. NAME.vectors... by default.",
    ),
    layer: str = typer.Option(REPRESENTATION, help="representation, embedding, or a stage such as stage3."),
    add: bool = typer.Option(
        False, "--add", help="Add the items to the run's index too, where `search` and `explore` find them."
    ),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as image=photo."),
    engine: str = ENGINE,
    address: str | None = ADDRESS,
    format: str | None = typer.Option(
        None, "--format", help="Shards to write of a corpus: parquet, webdataset, or lance where --out ends in .lance."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Write a vector for every item: Parquet with the columns path, row and vector, or a NumPy array.

    With --add they come into the run's index as well, each once however often it is added; the encoder stays as it is.
    A corpus of shards is embedded shard by shard, into shards with the columns id, those it has, and vector; the same
    command again goes on where it stopped.
    """

    import numpy as np

    from nolabel.cli.contents import contents_of
    from nolabel.cli.output import answer, pairs
    from nolabel.cli.run import index_rows, open_table, read_columns, searched_rows
    from nolabel.data.locks import exclusive
    from nolabel.search.files import when_free
    from nolabel.training import load

    if by_shards(source, engine, address):
        from nolabel.cli.embed_corpus import embedded

        if add:
            raise ValueError("--add is for items that fit into memory; a corpus has a data set of its own")
        stage = None if layer == REPRESENTATION else layer
        summary = embedded(run, source, out, format, stage, read_columns(column), engine, address)
        answer(summary, as_json, pairs(None, summary))
        return
    if format is not None:
        raise ValueError(f"--format is of the shards of a corpus: {CORPUS}; {source} is none")
    learner = load(run)
    target = Path(out or f"{Path(source.rstrip('/')).stem}.vectors.parquet")
    if target.suffix not in (".parquet", ".npy"):
        raise ValueError(f"--out must end in .parquet or .npy, got {target}")
    table = open_table(source, read_columns(column))
    if add and hasattr(table, "graph"):
        raise ValueError("--add is for items one by one; the nodes of a graph are embedded together")
    index = _index(run) if add else None
    opened = learner.open_one(table, None)
    contents = contents_of(opened, table)
    chosen = {} if layer == REPRESENTATION else {"layer": layer}
    if chosen and contents.noun != "images":
        raise ValueError(f"--layer is for encoders of images; {type(learner).__name__} has representation alone")
    vectors = learner.transform_source(opened, **chosen)
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(target.with_name(f".{target.name}.lock"), str(target), wait=True), replacing(target) as partial:
        if target.suffix == ".npy":
            np.save(partial, vectors, allow_pickle=False)
        else:
            _write_parquet(partial, vectors, table, contents.rows)
    summary = {"file": str(target), "rows": len(vectors), "width": vectors.shape[1], "skipped": len(contents.skipped)}
    if index is not None:
        searched = searched_rows(learner, table, opened)

        ids, known = when_free(lambda: _added(run, index, index_rows(searched, table, contents, learned=False)))
        summary |= {"added": len(ids), "added before": known}
        summary |= {"ids": f"{ids[0]} to {ids[-1]}"} if len(ids) else {}
    answer(summary, as_json, pairs(None, summary), lines=[f"skipped {skip}" for skip in contents.skipped[:20]])


def _index(run: Path) -> Any:
    """The run's index, if it is by the run's encoder."""
    from nolabel.search import Index
    from nolabel.training import identity

    return Index.open(run, encoder=identity(run))


def _added(run: Path, index: Any, pieces: Iterator[dict[str, Any]]) -> tuple[Any, int]:
    """Add items in one commit; their ids, and how many were there since an earlier time that perhaps nobody heard of.

    The same item has the same columns, down to its picture or text.
    """
    import xxhash

    from nolabel.training.unfinished import locked

    known = 0

    def new() -> Iterator[dict[str, Any]]:
        nonlocal known
        before: set[bytes] | None = None
        for piece in pieces:
            payload = piece["payload"]
            if before is None:
                there = set(payload) <= set(index.schema.names)
                rows = index.rows(index.ids(where="row IS NULL"), list(payload)) if there else None
                before = set() if rows is None else set(keys(rows.to_pydict()))
            kept = [at for at, key in enumerate(keys(payload)) if key not in before]
            known += len(next(iter(payload.values()))) - len(kept)
            if kept:
                searched = {name: rows[kept] for name, rows in piece.items() if name != "payload"}
                yield searched | {"payload": {name: [values[at] for at in kept] for name, values in payload.items()}}

    def keys(columns: dict[str, list[Any]]) -> Iterator[bytes]:
        return (xxhash.xxh3_128(repr(row).encode()).digest() for row in zip(*columns.values(), strict=True))

    with locked(run):
        return index.add(new()), known


def _write_parquet(path: Path, vectors: Any, table: Any, rows: Any) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    columns = {"row": pa.array(rows)}
    if "path" in table.column_names:
        columns["path"] = pa.array(list(table.select(rows)["path"]))
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    pq.write_table(pa.table(columns), path, compression="zstd")
