"""The rows of a shard, in pieces that fit into memory."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence

import pyarrow as pa

from nolabel.corpus import webdataset
from nolabel.corpus.places import on_disk, place
from nolabel.corpus.shards import Shard, lance

#: A piece of a shard has at most so many rows, and about so many bytes.
ROWS, BYTES = 4096, 64 * 2**20


def count_rows(shard: Shard) -> int:
    """How many rows a shard says that it has."""
    if shard.rows is not None:
        return shard.rows
    files, path = place(shard.url)
    if shard.kind == "webdataset":
        with on_disk(files, path) as local:
            return webdataset.listed(local)[1]
    import pyarrow.parquet as pq

    with files.open(path, "rb") as handle:
        return int(pq.ParquetFile(handle).metadata.num_rows)


def pieces(shard: Shard, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a shard in order, as tables of at most `ROWS` rows and about `BYTES` bytes; all columns, or those named.

    Raises
    ------
    ValueError : a column that is not there, or a file that is not what its ending says
    """
    try:
        if shard.kind == "lance":
            yield from _lance_pieces(shard, columns)
        elif shard.kind == "parquet":
            yield from _parquet_pieces(shard, columns)
        else:
            files, path = place(shard.url)
            with on_disk(files, path) as local:
                there = webdataset.listed(local)[0]
                yield from webdataset.read(local, _chosen(columns, there), ROWS, BYTES)
    except (pa.ArrowInvalid, tarfile.TarError) as error:
        raise ValueError(f"cannot be read as {shard.kind}: {error}") from error


def _chosen(columns: Sequence[str] | None, there: Sequence[str]) -> Sequence[str]:
    for name in columns or ():
        if name not in there:
            raise ValueError(f"no column {name!r}; there are {', '.join(there)}")
    return there if columns is None else columns


def _lance_pieces(shard: Shard, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    dataset = lance().dataset(shard.url, version=shard.version)
    fragment = dataset.get_fragment(shard.fragment)
    chosen = list(_chosen(columns, dataset.schema.names))
    size = sum(file["file_size_bytes"] or 0 for file in fragment.metadata.to_json()["files"])
    for batch in fragment.to_batches(columns=chosen, batch_size=_rows(size, shard.rows or 1)):
        yield pa.Table.from_batches([batch]).replace_schema_metadata(dataset.schema.metadata)


def _parquet_pieces(shard: Shard, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq

    files, path = place(shard.url)
    with files.open(path, "rb") as handle:
        parquet = pq.ParquetFile(handle)
        about = parquet.metadata
        chosen = list(_chosen(columns, parquet.schema_arrow.names))
        size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        for batch in parquet.iter_batches(_rows(size, about.num_rows), columns=chosen):
            yield pa.Table.from_batches([batch]).replace_schema_metadata(parquet.schema_arrow.metadata)


def _rows(size: int, rows: int) -> int:
    """Rows of a piece, where all of them take `size` bytes."""
    return max(1, min(ROWS, BYTES * max(rows, 1) // max(size, 1)))
