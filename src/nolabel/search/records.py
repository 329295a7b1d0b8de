"""Checked batches as Arrow records in the columns of the table, each with its id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from nolabel.search.batches import Batch
from nolabel.search.fields import Fields


def twice(ids: np.ndarray) -> int:
    """The first id that occurs more than once."""
    numbers, counts = np.unique(ids, return_counts=True)
    return int(numbers[counts > 1][0])


def fill(payload: pa.Table, schema: pa.Schema, rows: int, fields: Fields) -> dict[str, Any]:
    """Payload columns in the types of the table, null where they are left out."""
    columns = {}
    for field in schema:
        if field.name in ("id", *fields.columns):
            continue
        if field.name not in payload.column_names:
            columns[field.name] = pa.nulls(rows, field.type)
            continue
        came = payload.schema.field(field.name).type
        if field.name == fields.text and not (_is_text(came) or pa.types.is_null(came)):
            raise ValueError(f"payload: column {field.name!r} is searched by its words and holds texts, got {came}")
        try:
            columns[field.name] = payload[field.name].cast(field.type).combine_chunks()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ValueError(f"payload: column {field.name!r} holds {field.type}, got {came}") from None
    unknown = [name for name in payload.column_names if name not in schema.names]
    if unknown:
        raise ValueError(f"payload: unknown column {unknown[0]!r}; the columns are {', '.join(columns)}")
    return columns


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def record(batch: Batch, ids: np.ndarray, schema: pa.Schema, fields: Fields) -> pa.RecordBatch:
    columns = {"id": pa.array(ids), **batch.columns, **fill(batch.payload, schema, batch.rows, fields)}
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def numbered(
    batches: Iterable[Batch],
    known: np.ndarray,
    start: int,
    schema: pa.Schema,
    fields: Fields,
    given: list[np.ndarray],
) -> Iterator[pa.RecordBatch]:
    """Batches as records with ids, `given` or counted on; a second use of an id undoes the whole commit."""
    chosen_by_caller = False
    for batch in batches:
        if batch.ids is None:
            ids = np.arange(start, start + batch.rows)
        else:
            ids, chosen_by_caller = batch.ids, True
            at = np.searchsorted(known, ids)
            old = at < len(known)
            old[old] = known[at[old]] == ids[old]
            if old.any():
                raise ValueError(f"ids: the index holds a row {ids[old][0]} already")
        start = max(start, int(ids.max()) + 1)
        given.append(ids)
        yield record(batch, ids, schema, fields)
    if chosen_by_caller:
        everything = np.concatenate(given)
        if len(np.unique(everything)) < len(everything):
            raise ValueError(f"ids: {twice(everything)} comes twice")
