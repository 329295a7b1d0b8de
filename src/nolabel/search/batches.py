"""Rows and payload as a person hands them over, turned into checked batches of bounded size."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from nolabel.search.fields import Fields

BATCH_BYTES = 16 * 2**20  # of what is searched, in one batch
RESERVED = ("id", "vector", "score", "_rowid", "_rowaddr", "_distance")


@dataclass(frozen=True)
class Batch:
    """Some rows on their way in: the columns that are searched, the payload, and ids when the caller gave them."""

    rows: int
    columns: dict[str, pa.Array]
    payload: pa.Table
    ids: Int64[np.ndarray, " n"] | None


def as_ids(given: Any, rows: int | None = None) -> Int64[np.ndarray, " n"]:
    """Ids as int64, each at least 0 and given once."""
    ids = np.asarray(given)
    if ids.size == 0:
        ids = ids.astype(np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise TypeError(
            f"ids: expected a flat list of whole numbers, got {ids.dtype} of shape {ids.shape}; "
            "keep names in a payload column and filter by it"
        )
    if rows is not None and len(ids) != rows:
        raise ValueError(f"ids: expected one for each of {rows} rows, got {len(ids)}")
    wrong = (ids < 0) | (ids > 2**62)
    if wrong.any():
        raise ValueError(f"ids: expected numbers from 0 to 2**62, got {ids[wrong][0]}")
    return ids.astype(np.int64)


def as_payload(given: Any, rows: int, taken: Collection[str] = (), what: str = "vectors") -> pa.Table:
    """Payload columns as an Arrow table: from a dict of columns, a DataFrame, an Arrow table or batch, or nothing.

    `taken` are the columns of the index that hold what it is searched by, `what` is counted by `rows`.
    """
    if given is None:
        return pa.table({"": pa.nulls(rows)}).select([])
    if isinstance(given, Mapping):
        columns = {}
        for name, values in given.items():
            if not isinstance(name, str):
                raise TypeError(f"payload: a column's name is a string, got {name!r}")
            if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
                raise TypeError(f"payload: column {name!r}: expected {rows} values, got {type(values).__name__}")
            try:
                columns[name] = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
            except (pa.ArrowException, TypeError) as error:
                raise ValueError(f"payload: column {name!r} has no Arrow type: {str(error).splitlines()[0]}") from None
            if len(columns[name]) != rows:
                raise ValueError(f"payload: column {name!r} has {len(columns[name])} values for {rows} {what}")
        table = pa.table(columns) if columns else as_payload(None, rows)
    elif hasattr(given, "iloc"):
        table = pa.Table.from_pandas(given, preserve_index=False)
    elif isinstance(given, pa.Table | pa.RecordBatch):
        table = pa.table(given)
    else:
        raise TypeError(f"payload: expected a dict of columns, DataFrame or Arrow table, got {type(given).__name__}")
    if table.num_columns and table.num_rows != rows:
        raise ValueError(f"payload: {table.num_rows} rows for {rows} {what}")
    if len({name.lower() for name in table.column_names}) < table.num_columns:
        raise ValueError(f"payload: two columns have the same name but for capitals, among {table.column_names}")
    for field in table.schema:
        if field.name.lower() in (*RESERVED, *taken) or not re.fullmatch(r"[^.`\"\x00-\x1f]+", field.name):
            raise ValueError(f'payload: a column cannot be named {field.name!r}: reserved, empty or with one of . ` "')
        if pa.types.is_dictionary(field.type):  # pandas categories
            at = table.schema.get_field_index(field.name)
            table = table.set_column(at, field.name, table[field.name].cast(field.type.value_type))
    return table.replace_schema_metadata(None)


def batches(given: Mapping[str, Any], payload: Any, ids: Any, fields: Fields) -> Iterator[Batch]:
    """Cut arrays, or an iterator of pieces, into batches of at most 16 MiB of what is searched.

    A piece is a dict of what `Index.add` takes, a tuple (vectors, payload, ids), or vectors.
    """
    given = {name: rows for name, rows in given.items() if rows is not None}
    vectors = given.get("vectors")
    if not isinstance(vectors, Iterator):
        yield from _cut(given, payload, ids, fields, 0)
        return
    others = [name for name, value in ({**given, "payload": payload, "ids": ids}).items() if value is not None]
    if others != ["vectors"]:
        raise ValueError(
            "vectors: an iterator yields (vectors, payload, ids) itself, so payload= and ids= are not taken"
            if {*others} <= {"vectors", "payload", "ids"}
            else f"vectors: an iterator yields everything itself, so {others[1]}= is not taken"
        )
    first = 0
    for piece in vectors:
        of_piece = _parts(piece)
        for batch in _cut(*of_piece, fields, first):
            first += batch.rows
            yield batch


def _parts(piece: Any) -> tuple[dict[str, Any], Any, Any]:
    """What is searched, payload and ids of one piece of an iterator."""
    if isinstance(piece, Mapping):
        named = {name: rows for name, rows in piece.items() if rows is not None}
        return named, named.pop("payload", None), named.pop("ids", None)
    parts = piece if isinstance(piece, tuple) else (piece,)
    if len(parts) > 3:
        raise ValueError(f"vectors: an iterator yields (vectors, payload, ids), got {len(parts)} parts")
    vectors, payload, ids = (*parts, None, None)[:3]
    return {"vectors": vectors}, payload, ids


def _cut(given: Mapping[str, Any], payload: Any, ids: Any, fields: Fields, first: int) -> Iterator[Batch]:
    if fields.given:
        rows, whole = fields.opened(given, first)
    elif given:
        raise ValueError(f"{next(iter(given))}: the index holds none; its rows are {fields.said}")
    else:
        rows, whole = _rows_of(payload, fields), {}
    table = as_payload(payload, rows, fields.columns, "vectors" if fields.dim else "rows")
    numbers = None if ids is None else as_ids(ids, rows)
    for start, length, columns in fields.pieces(whole, rows, first, BATCH_BYTES):
        part = slice(start, start + length)
        yield Batch(length, columns, table.slice(start, length), None if numbers is None else numbers[part])


def _rows_of(payload: Any, fields: Fields) -> int:
    """How many rows a payload has, where nothing else says so."""
    if isinstance(payload, Mapping) and fields.text in payload:
        values = payload[fields.text]
        return len(values) if hasattr(values, "__len__") and not isinstance(values, str) else 0
    if fields.text in getattr(payload, "columns", ()) or isinstance(payload, pa.Table | pa.RecordBatch):
        return len(payload)
    raise ValueError(f"payload: the rows of this index are texts, so it needs column {fields.text!r}")
