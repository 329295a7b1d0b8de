"""`nolabel search`: the nearest images of a run."""

import warnings
from pathlib import Path
from typing import Any

import typer

SHORTLIST = 200  # the paper's


def command(
    run: Path = typer.Argument(..., help="Run folder of `nolabel learn`."),
    query: str = typer.Argument(..., help="An image file, or id:NUMBER for an image of the index."),
    k: int = typer.Option(10, "-k", help="How many to find."),
    where: str | None = typer.Option(None, help="SQL filter over the columns, such as \"folder = 'cats'\"."),
    exact: bool = typer.Option(False, help="Compare with every row."),
    dims: int | None = typer.Option(None, help="Search by the first so many coordinates only."),
    rerank: int | None = typer.Option(None, help="Rank what --dims found again by so many coordinates (default: all)."),
    shortlist: int | None = typer.Option(None, help="How many --dims finds for --rerank (default: 200)."),
    picture: Path | None = typer.Option(None, help="Write the query and what was found as one picture (.png)."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Find the images nearest to a query, by the representation that was learned.

    With --dims 16 --shortlist 200 --rerank 128 the first 16 coordinates choose 200 images, which the first 128 rank.
    """
    from nolabel.cli.output import answer, grid
    from nolabel.cli.run import identity
    from nolabel.search import Index
    from nolabel.training import load

    learner = load(run)
    index = Index.open(run, encoder=identity(run))
    funnel = _funnel(index.dim, k, dims, rerank, shortlist)
    if funnel is not None:
        _warn_untrained(learner, [dim for dim, _ in funnel if dim < index.dim])
    vector, pixels = _query(learner, index, query)
    found = index.search(vector, k, where=where, exact=exact, funnel=funnel)
    hits = found.to_dicts()
    thumbnails = [hit.pop("thumbnail", None) for hit in hits]
    lines = []
    if picture is not None:
        _strip(picture, [pixels, *thumbnails])
        lines.append(f"picture  {picture}")
    if funnel is not None:
        lines.append(f"{found.multiply_adds:,} multiply-adds; {len(index) * index.dim:,} by all rows and coordinates")
    rows = [{name: value for name, value in hit.items() if name != "vector"} for hit in hits]
    names = list(rows[0]) if rows else ["id", "score"]
    answer(rows, as_json, grid(None, names, [[row[name] for name in names] for row in rows]), lines=lines)


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


def _query(learner: Any, index: Any, query: str) -> tuple[Any, bytes | None]:
    """The vector of a query and its thumbnail."""
    if query.startswith("id:"):
        number = query.removeprefix("id:")
        if not number.isdigit():
            raise ValueError(f"query: expected id:NUMBER, got {query!r}")
        row = index.rows([int(number)]).to_pylist()[0]
        return row["vector"], row.get("thumbnail")
    if not Path(query).is_file():
        raise FileNotFoundError(f"no image file at {query} (id:NUMBER asks for a row of the index)")
    from nolabel.cli.run import jpeg

    images = learner.open_one(query, None)
    return learner.transform_source(images)[0], jpeg(images.images([0])[0])


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
