"""Items of a run as the page gets them: plain values, whatever the columns hold."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nolabel.explorer.marks import COLUMN, TAGS, tags_of
from nolabel.explorer.opened import SHOWN_APART, TITLES, NoSuchItem, OpenRun

TITLE_LENGTH, TEXT_LENGTH = 200, 4000
SAFE_INTEGER = 2**53  # beyond, a browser's numbers are not exact
KINDS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF8": "image/gif"}


def items_of(run: OpenRun, ids: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
    """Items in the order of their ids; NoSuchItem names the first that is not there."""
    return [item_of(row, run.stamp) for row in run.taken(np.asarray(ids, dtype=np.int64))] if len(ids) else []


def item_of(row: dict[str, Any], stamp: str) -> dict[str, Any]:
    """A row of the index, as `Item` of the API; `stamp` keeps a browser from showing it the picture of another run."""
    text = row.get("text")
    title = next((str(row[name]) for name in TITLES if row.get(name)), None)
    if title is None:
        title = " ".join(text.split()) if text else f"row {row.get('row', row['id'])}"
    columns = {name: _plain(value) for name, value in row.items() if name not in SHOWN_APART and name != "id"}
    return {
        "id": row["id"],
        "title": title if len(title) <= TITLE_LENGTH else title[: TITLE_LENGTH - 1] + "…",
        "text": None if text is None else text[:TEXT_LENGTH],
        "columns": columns,
        "mark": row.get(COLUMN),
        "tags": tags_of(row.get(TAGS)),
        "thumbnail": f"/api/items/{row['id']}/thumbnail?of={stamp}" if row.get("thumbnail") else None,
    }


def thumbnail_of(run: OpenRun, number: int) -> tuple[bytes, str]:
    """The small picture of an item and its type, told by its first bytes; LookupError if it has none."""
    if "thumbnail" not in run.index.schema.names:
        raise NoSuchItem(f"the {run.noun} of this run have no pictures")
    try:
        data = run.index.rows([number], ["thumbnail"])["thumbnail"][0].as_py()
    except ValueError as error:
        raise NoSuchItem(str(error).removeprefix("ids: ")) from None
    kind = next((kind for start, kind in KINDS.items() if data and data.startswith(start)), None)
    if kind is None:
        raise NoSuchItem(f"item {number} has no picture")
    return data, kind


def chosen_ids(run: OpenRun, where: str | None, mark: str | None = None, tag: str | None = None) -> np.ndarray:
    """Ids of the items that a filter, a mark and a tag leave, ascending."""
    found = np.sort(run.index.ids(where or None))
    for column, wanted in ((COLUMN, mark), (TAGS, tag)):
        if wanted is None:
            continue
        if column not in run.index.schema.names:
            return found[:0]
        cells = run.column(column, found).to_pylist()
        held = [wanted in tags_of(cell) if column == TAGS else cell == wanted for cell in cells]
        found = found[np.array(held, dtype=bool)]
    return found


def ordered(run: OpenRun, ids: np.ndarray, order: str) -> np.ndarray:
    """Ids by a column, `-` before its name for the largest first; what has no value comes last."""
    name, falling = order.removeprefix("-"), order.startswith("-")
    if name == "id":
        return ids[::-1] if falling else ids
    column = COLUMN if name == "mark" else name
    if name != "mark" and name not in run.columns:
        raise ValueError(
            f"order: expected id, mark or a column ({', '.join(run.columns) or 'none'}), got {name[:60]!r}"
        )
    if column not in run.index.schema.names:
        return ids
    values = run.column(column, ids).to_pylist()
    there = [at for at, value in enumerate(values) if not _missing(value)]
    there.sort(key=lambda at: values[at], reverse=falling)
    absent = [at for at, value in enumerate(values) if _missing(value)]
    return ids[np.array(there + absent, dtype=np.int64)]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _plain(value: Any) -> Any:
    """A value that JSON can hold."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) < SAFE_INTEGER else str(value)
    return str(value)[:TEXT_LENGTH]
