"""The images of a run that is to forget some: which those are, and the same images in the data, checked."""

import csv
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Least cosine of a vector in the index to that of the image which is said to be its own.
SAME = 0.99


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    run: Path
    ids: Path
    data: str | None
    unseen: str | None
    folder: Path
    columns: dict[str, str] | None
    epochs: int | None
    setting: list[str]
    seed: int
    resume: bool
    command: str


@dataclass(frozen=True)
class Images:
    """The images of a run.

    Attributes
    ----------
    table, opened : as they were given, and decoded
    indexed : Arrow table of `id`, `row` and, of files, `path`: what the run's index says
    positions : (n,) where each row of the index stands in `opened`
    forget : (n,) which are to be forgotten
    """

    table: Any
    opened: Any
    indexed: Any
    positions: np.ndarray
    forget: np.ndarray

    def named(self, chosen: np.ndarray, most: int = 5) -> str:
        """Some of the rows of the index in words."""
        called = "path" if "path" in self.indexed.column_names else "row"
        names = [str(name) for name in self.indexed[called].take(np.flatnonzero(chosen)[:most]).to_pylist()]
        return ", ".join(names) + (", ..." if chosen.sum() > most else "")


def read_ids(path: Path) -> list[str]:
    """The lines of a file without the empty ones, each once."""
    if not path.is_file():
        raise FileNotFoundError(f"--ids: there is no file {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"--ids: {path} is not a text; expected a path or a row number a line") from None
    lines = (line.strip() for line in text.splitlines())
    found = list(dict.fromkeys(line for line in lines if line))
    if not found:
        raise ValueError(f"--ids: {path} names nothing; expected a path or a row number a line")
    return found


def chosen_rows(ids: Sequence[str], indexed: Any, run: Path) -> np.ndarray:
    """Which rows of an index the ids name (n,); a path goes before a row number."""
    rows = {str(row): at for at, row in enumerate(indexed["row"].to_pylist())}
    paths = {str(p): at for at, p in enumerate(indexed["path"].to_pylist())} if "path" in indexed.column_names else {}
    places = [paths.get(name, rows.get(name)) for name in ids]
    missing = [name for name, at in zip(ids, places, strict=True) if at is None]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        example = next(iter(paths), next(iter(rows)))
        raise ValueError(
            f"--ids: {run} has no {shown} ({len(missing)} of {len(ids)}); its images are called as {example!r}. "
            "Nothing was changed"
        )
    found = np.zeros(len(indexed), dtype=bool)
    found[[at for at in places if at is not None]] = True
    return found


def source_of(run: Path) -> str:
    """Where a run's images came from, as its report says."""
    page = run / "report.html"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    found = re.search(r'<th scope="row">data</th><td>(.+?): [\d,]+ images', text)
    if found is None:
        raise ValueError(f"{run} does not say where its images came from: name them with --data")
    return html.unescape(found.group(1))


def images_of(wanted: Wanted, model: Any) -> Images:
    """The images of the run, each found again in the data and checked against its vector in the index."""
    from nolabel.cli.run import INDEX, open_table
    from nolabel.search import Index

    if not (wanted.run / INDEX).exists():
        raise ValueError(f"{wanted.run} has no index, so it is not known which images it learned from")
    index = Index(wanted.run)
    columns = ["id", "row", *(["path"] if "path" in index.info()["columns"] else []), "vector"]
    indexed = index.rows(columns=columns)
    if indexed["row"].null_count:
        raise ValueError(
            f"the index of {wanted.run} holds {indexed['row'].null_count} images that were added after learning; delete them "
            'from it first: index.delete(where="row IS NULL")'
        )
    chosen = chosen_rows(read_ids(wanted.ids), indexed, wanted.run)
    if chosen.all():
        raise ValueError(
            f"--ids names all {len(chosen)} images of {wanted.run}: nothing would stay, delete the run instead"
        )
    source = wanted.data or source_of(wanted.run)
    table = open_table(source, wanted.columns)
    if "image" not in table.column_names:
        there = ", ".join(table.column_names)
        raise ValueError(f"{source} has no column 'image' among {there}; name the images with --column image=NAME")
    opened = model.open_one(table, None)
    by_row = {int(row): at for at, row in enumerate(opened.rows)}
    named = "path" if "path" in columns and "path" in table.column_names else "row"
    if named == "path":
        by_path = {str(table_path): by_row.get(row) for row, table_path in enumerate(table["path"])}
        places = [by_path.get(str(name)) for name in indexed["path"].to_pylist()]
    else:
        places = [by_row.get(int(row)) for row in indexed["row"].to_pylist()]
    images = Images(table, opened, indexed, np.array([-1 if at is None else at for at in places]), chosen)
    lost = images.positions < 0
    if lost.any():
        raise ValueError(
            f"{source} lacks {int(lost.sum())} of the run's {len(lost)} images, first {images.named(lost, 1)}: "
            "forgetting needs all of them once more, also those to forget"
        )
    check_same(model, images, source)
    check_copies(images)
    return images


def check_same(model: Any, images: Images, source: str) -> None:
    """Refuse data that is not what the run learned from: an image must have the vector that the index holds."""
    from nolabel.search.fields import matrix_of

    now = model.transform_source(images.opened)[images.positions]
    then = matrix_of(images.indexed["vector"])
    sizes = np.linalg.norm(now, axis=1) * np.linalg.norm(then, axis=1)
    cosines = (now * then).sum(axis=1) / np.where(sizes > 0, sizes, 1)
    other = cosines < SAME
    if other.any():
        raise ValueError(
            f"{source} is not what the run learned from: {int(other.sum())} of {len(other)} images differ from those of its "
            f"index, first {images.named(other, 1)}"
        )


def check_copies(images: Images) -> None:
    """Refuse to keep an image of which another copy is to be forgotten."""
    from nolabel.protect.evidence import shared_rows
    from nolabel.training.batches import Some

    kept = np.flatnonzero(~images.forget)
    parts = [Some(images.opened, images.positions[rows]) for rows in (kept, np.flatnonzero(images.forget))]
    same = np.zeros(len(images.forget), dtype=bool)
    same[kept[shared_rows(*parts)]] = True
    if same.any():
        raise ValueError(
            f"--ids: {int(same.sum())} images that would stay are the same, pixel for pixel, as images to forget; name them too: "
            f"{images.named(same, 20)}"
        )


def held_out(run: Path, images: Images) -> tuple[np.ndarray, list[str] | None]:
    """Which rows of the index the run did not learn from (n,), and all labels it was given, as ``predictions.csv`` says."""
    file = run / "predictions.csv"
    held = np.zeros(len(images.indexed), dtype=bool)
    if not file.exists():
        return held, None
    with file.open(encoding="utf-8", newline="") as stream:
        _, *lines = list(csv.reader(stream))
    known = {int(line[0]): line for line in lines}
    rows = [known.get(int(row)) for row in images.indexed["row"].to_pylist()]
    held[:] = [line is not None and line[-1] == "yes" for line in rows]
    return held, [line[2] if line is not None else "" for line in rows]
