"""The files of a run of `nolabel recommend`: recommendations, items, picture."""

import csv
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nolabel.data.replacing import replacing

TABLE, SHEET, ITEMS = "recommendations.parquet", "recommendations.csv", "items.parquet"
#: Depth of the recall in the picture.
DEPTH = 50


def plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def recommendations(learner: Any, users: Any, k: int, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The k best items of each of these users, as many as there are."""
    found, scores = learner.ranked(users, k)
    result = []
    for user, row, own in zip(users, found, scores):
        listed = [
            {"rank": rank, "item": plain(learner.item_ids_[item]), "score": round(float(score), 4)}
            for rank, (item, score) in enumerate(zip(row, own), start=1)
            if item >= 0
        ]
        for one in listed:
            if titles:
                one["title"] = titles.get(str(one["item"]))
        result.append({"user": plain(learner.user_ids_[user]), "items": listed})
    return result


def _pieces(learner: Any, k: int, titles: Mapping[str, str]) -> Iterator[dict[str, list[Any]]]:
    """Recommendations of all users in columns, some thousand users at a time."""
    import numpy as np

    everybody = np.arange(len(learner.user_ids_))
    for start in range(0, len(everybody), 4096):
        some = recommendations(learner, everybody[start : start + 4096], k, titles)
        rows = [{"user": one["user"], **item} for one in some for item in one["items"]]
        names = ["user", "rank", "item", "score", *(["title"] if titles else [])]
        yield {name: [row[name] for row in rows] for name in names}


def write_recommendations(folder: Path, learner: Any, k: int, titles: Mapping[str, str]) -> None:
    """A row a user and item, as a table and for a spreadsheet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table, sheet = (folder / f".{name}.partial" for name in (TABLE, SHEET))
    writer = None
    try:
        with sheet.open("w", encoding="utf-8", newline="") as file:
            for columns in _pieces(learner, k, titles):
                piece = pa.table(columns)
                if writer is None:
                    writer = pq.ParquetWriter(table, piece.schema, compression="zstd")
                    csv.writer(file).writerow(columns)
                writer.write_table(piece.cast(writer.schema))
                csv.writer(file).writerows(zip(*columns.values()))
        if writer is not None:
            writer.close()
            os.replace(table, folder / TABLE)
            os.replace(sheet, folder / SHEET)
    finally:
        for partial in (table, sheet):
            partial.unlink(missing_ok=True)


def write_items(path: Path, learner: Any, titles: Mapping[str, str]) -> None:
    """A row an item: its id, title, how often it was taken in training, and its vector if the method has any."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = [plain(item) for item in learner.item_ids_]
    columns: dict[str, Any] = {"item": ids}
    if titles:
        columns["title"] = [titles.get(str(item)) for item in ids]
    columns["interactions"] = learner.item_counts_
    if hasattr(learner, "item_vectors_"):
        columns["vector"] = list(learner.item_vectors_)
    with replacing(path) as partial:
        pq.write_table(pa.table(columns), partial, compression="zstd")


def finished(model: Path) -> tuple[Any, dict[str, str]]:
    """The recommender of a finished run, and the titles of its items."""
    import pyarrow.parquet as pq

    from nolabel.recommend.recommender import Recommender
    from nolabel.training import load

    learner = load(model)
    if not isinstance(learner, Recommender):
        raise ValueError(f"{model} holds a {type(learner).__name__}, which recommends nothing")
    titles: dict[str, str] = {}
    if (model / ITEMS).exists():
        table = pq.read_table(model / ITEMS)
        if "title" in table.column_names:
            titles = dict(zip(map(str, table["item"].to_pylist()), table["title"].to_pylist()))
    return learner, titles


def drawn(path: Path, measured: dict[str, Any], method: str, source: str) -> str | None:
    """The picture, where something was measured and matplotlib is there."""
    from nolabel.recommend.picture import draw_recall

    if not measured:
        return None
    rows = [row for row in measured["by popularity"] if row["held out"]]
    names = list(dict.fromkeys([method, "popularity"]))
    recall = {name: [row[name] for row in rows] for name in names}
    try:
        draw_recall(
            path,
            [row["training interactions"] for row in rows],
            [row["held out"] for row in rows],
            recall,
            f"{Path(source).stem}: recall@{DEPTH} of held-out interactions",
        )
    except ImportError as error:
        warnings.warn(f"no picture was drawn: {error}", stacklevel=2)
        return None
    return str(path)
