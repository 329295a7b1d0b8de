"""A chosen part of a run as a file that other programs read: Parquet, CSV or a list of paths."""

import io
from pathlib import PurePath

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from nolabel.explorer.opened import SEARCHED, OpenRun

FORMATS = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv", "paths": "text/plain"}


def exported(run: OpenRun, ids: np.ndarray, kind: str) -> bytes:
    """These rows with all their columns but thumbnails and what they are searched by; or their paths, one a line.

    ValueError where paths are asked of a run whose items are no files, or one of them holds a line break.
    """
    if kind == "paths":
        if "path" not in run.index.schema.names:
            raise ValueError(
                f"format: the {run.noun} of this run are no files with paths; take parquet or csv, which name rows"
            )
        paths = [str(path) for path in run.index.rows(ids, ["path"])["path"].to_pylist() if path]
        broken = next((path for path in paths if "\n" in path or "\r" in path), None)
        if broken is not None:
            raise ValueError(f"format: {PurePath(broken).name!r} holds a line break; take parquet or csv")
        return "".join(f"{path}\n" for path in paths).encode("utf-8", "surrogateescape")
    names = [name for name in run.index.schema.names if name not in SEARCHED and name != "thumbnail"]
    table = run.index.rows(ids, names)
    buffer = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, buffer, compression="zstd")
    else:
        flat = [c for c in table.column_names if not pa.types.is_nested(table.schema.field(c).type)]
        pacsv.write_csv(table.select(flat), buffer)
    return buffer.getvalue()
