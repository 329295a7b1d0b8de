"""Tables and arrays in files: CSV, JSON lines, NumPy; what is wrong with one, in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def read_file(reader: Callable[[Path], Any], path: Path) -> Any:
    """Run a reader; what it says about a damaged file becomes one line with the file's name."""
    try:
        return reader(path)
    except (PermissionError, FileNotFoundError):
        raise
    except Exception as error:  # damaged files make readers raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"source: {path} cannot be read as {path.suffix.lower()}: {reason}") from error


def load_csv(path: Path) -> pa.Table:
    from pyarrow import csv

    return csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True))


def load_jsonl(path: Path) -> pa.Table:
    from pyarrow import json

    return json.read_json(path)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {"image" if loaded.ndim > 2 else "vector": loaded}
    with loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    pictures = [name for name, array in arrays.items() if array.ndim > 2]
    alike = len({array.shape[:1] for array in arrays.values()}) == 1
    if alike and len(pictures) == 1 and "image" not in arrays:
        arrays = {"image" if name == pictures[0] else name: array for name, array in arrays.items()}
    return arrays
