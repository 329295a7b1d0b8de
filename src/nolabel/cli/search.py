"""`nolabel search`: the nearest images or texts of a run."""

import warnings
from pathlib import Path
from typing import Any

import typer

SHORTLIST = 200  # the paper's
SNIPPET = 160
MODES = ("dense", "binary", "sparse", "bm25", "hybrid")


def command(
    run: Path = typer.Argument(..., help="Run folder of `nolabel learn`."),
    query: str = typer.Argument(
        ..., help="An image file, words to search texts by, or id:NUMBER for an item of the run."
    ),
    k: int = typer.Option(10, "-k", help="How many to find."),
    mode: str | None = typer.Option(
        None,
        help="How to compare: dense, binary, sparse, bm25 or hybrid; by default the run's first, hybrid for texts.",
    ),
    where: str | None = typer.Option(None, help="SQL filter over the columns, such as \"folder = 'cats'\"."),
    exact: bool = typer.Option(False, help="Compare with every row."),
    dims: int | None = typer.Option(None, help="Search by the first so many coordinates only."),
    rerank: int | None = typer.Option(None, help="Rank what --dims found again by so many coordinates (default: all)."),
    shortlist: int | None = typer.Option(None, help="How many --dims finds for --rerank (default: 200)."),
    picture: Path | None = typer.Option(None, help="Write the query and what was found as one picture (.png)."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Find the images or texts nearest to a query, by the representation that was learned, by words, or both.

    With --dims 16 --shortlist 200 --rerank 128 the first 16 coordinates choose 200 images, which the first 128 rank.
    """
    from nolabel.cli.output import answer, grid
    from nolabel.cli.run import identity
    from nolabel.search import Index
    from nolabel.training import load

    learner = load(run)
    index = Index.open(run, encoder=identity(run))
    mode = _mode(mode, index, dims)
    funnel = _funnel(index.dim, k, dims, rerank, shortlist)
    if funnel is not None:
        _warn_untrained(learner, [dim for dim, _ in funnel if dim < index.dim])
    asked, pixels = _query(learner, index, query, mode)
    if picture is not None and pixels is None:
        raise ValueError("--picture is for images; this run holds texts")
    found = index.search(asked, k, mode=mode, where=where, exact=exact, funnel=funnel)
    hits = told(found)
    thumbnails = [hit.pop("thumbnail", None) for hit in hits]
    lines = []
    if picture is not None:
        _strip(picture, [pixels, *thumbnails])
        lines.append(f"picture  {picture}")
    if funnel is not None:
        lines.append(f"{found.multiply_adds:,} multiply-adds; {len(index) * index.dim:,} by all rows and coordinates")
    rows = [{name: value for name, value in hit.items() if name != "vector"} for hit in hits]
    if rows and "text" in rows[0]:
        answer(rows, as_json, lines=[*found_lines(found), *lines])
        return
    names = list(rows[0]) if rows else ["id", "score"]
    answer(rows, as_json, grid(None, names, [[row[name] for name in names] for row in rows]), lines=lines)


def told(found: Any) -> list[dict[str, Any]]:
    """Hits as dicts, with the words that matched where words were compared."""
    hits: list[dict[str, Any]] = found.to_dicts()
    if any(found.matches):
        for hit, matches in zip(hits, found.matches, strict=True):
            hit["matched"] = [[word, round(float(part), 4)] for word, part in matches[:8]]
    return hits


def found_lines(found: Any) -> list[str]:
    """Texts that were found, two or three lines each."""
    return [line for row in told(found) for line in _lines(row)]


def _lines(row: dict[str, Any]) -> list[str]:
    """A text that was found: score, number and other columns, its beginning, the words that matched."""
    about = [str(value) for name, value in row.items() if name not in ("id", "score", "row", "text", "matched")]
    lines = [
        f"{row['score']:9.4f}  id:{row['id']}  {'  '.join(about)}",
        f"{'':11}{' '.join(row['text'].split())[:SNIPPET]}",
    ]
    if row.get("matched"):
        lines.append(f"{'':11}matched: {', '.join(f'{word} {part:.2f}' for word, part in row['matched'])}")
    return lines


def _mode(mode: str | None, index: Any, dims: int | None) -> str:
    """The way of searching, checked against what the run has."""
    if mode is None:
        return "hybrid" if "hybrid" in index.modes and dims is None else str(index.modes[0])
    if mode not in MODES:
        raise ValueError(f"--mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode not in index.modes:
        raise ValueError(f"--mode {mode}: this run can be searched by {', '.join(index.modes)}")
    return mode


def _funnel(
    width: int, k: int, dims: int | None, rerank: int | None, shortlist: int | None
) -> list[tuple[int, int]] | None:
    """The stages that --dims, --rerank and --shortlist ask for; None searches by the whole vector."""
    if dims is None:
        for name, value in (("--rerank", rerank), ("--shortlist", shortlist)):
            if value is not None:
                raise ValueError(f"{name} {value} ranks what a prefix found: give --dims too")
        return None
    if not 1 <= dims <= width:
        raise ValueError(f"--dims must lie between 1 and {width}, the width of the index, got {dims}")
    if rerank is None and shortlist is None:
        return [(dims, k)]
    rerank = width if rerank is None else rerank
    if not dims < rerank <= width:
        raise ValueError(
            f"--rerank must lie above --dims {dims} and not above {width}, the width of the index, got {rerank}"
        )
    shortlist = max(SHORTLIST, k) if shortlist is None else shortlist
    if shortlist < k:
        raise ValueError(f"--shortlist must be at least -k {k}, got {shortlist}")
    return [(dims, shortlist), (rerank, k)]


def _warn_untrained(learner: Any, dims: list[int]) -> None:
    """A prefix that was not trained for may say little: said, since its ranking looks like any other."""
    sizes = getattr(learner, "nested", None)
    untrained = [dim for dim in dims if dim not in (sizes or ())]
    if untrained:
        trained = (
            f"trained for the first {', '.join(map(str, sizes))}" if sizes else "trained for the whole vector only"
        )
        text = ", ".join(map(str, untrained))
        warnings.warn(
            f"the first {text} coordinates were not trained for: this {type(learner).__name__} was {trained}",
            stacklevel=2,
        )


def _query(learner: Any, index: Any, query: str, mode: str) -> tuple[Any, bytes | None]:
    """What the index takes for a query, and its thumbnail where it is an image."""
    from nolabel.cli.contents import jpeg

    if query.startswith("id:"):
        number = query.removeprefix("id:")
        if not number.isdigit():
            raise ValueError(f"query: expected id:NUMBER, got {query!r}")
        row = index.rows([int(number)]).to_pylist()[0]
        if "text" not in row:
            return row["vector"], row.get("thumbnail")
        query = row["text"]
    elif "image" in learner.columns:
        if not Path(query).is_file():
            raise FileNotFoundError(f"no image file at {query} (id:NUMBER asks for a row of the index)")
        images = learner.open_one(query, None)
        return learner.transform_source(images)[0], jpeg(images.images([0])[0])
    return asked_by(learner, query, mode), None


def asked_by(learner: Any, text: str, mode: str) -> Any:
    """What an index of texts takes for the query `text`."""
    if not text.strip():
        raise ValueError("query: expected words to search by, got an empty text")
    if mode == "bm25":
        return text
    table = {"text": [text]}
    if hasattr(learner, "search_rows"):
        found = learner.search_rows(table, query=True)
    else:
        found = {"dense": learner.transform(table)}
    asked = {name: rows[0] for name, rows in found.items()}
    return asked | {"bm25": text} if mode == "hybrid" else asked[mode]


def _strip(path: Path, thumbnails: list[bytes | None]) -> None:
    """The query and its hits side by side, the query set apart."""
    import io
    import os

    from PIL import Image

    side, gap = 96, 8
    tiles = [Image.open(io.BytesIO(data)).convert("RGB") for data in thumbnails if data]
    sheet = Image.new("RGB", (len(tiles) * (side + gap) + 2 * gap, side + 2 * gap), "white")
    for number, tile in enumerate(tiles):
        at = gap + number * (side + gap) + (gap if number else 0)
        sheet.paste(tile.resize((side, side), Image.Resampling.BICUBIC), (at, gap))
    partial = path.with_name(f".{path.stem}.partial.png")
    sheet.save(partial, "PNG")
    os.replace(partial, path)
