"""`nolabel search`: the nearest images, videos or texts of a run."""

import warnings
from pathlib import Path
from typing import Any

import typer

from nolabel.data.replacing import replacing

ANCHORS = 500  # the paper's, for images
SNIPPET = 160


def command(
    run: Path = typer.Argument(..., help="Run folder of `nolabel learn`."),
    query: str = typer.Argument(
        ...,
        help="An image or video file, words for texts or for images learned with texts, a page for a run of pages, or id:NUMBER "
        "for an item of the run.",
    ),
    k: int = typer.Option(10, "-k", help="How many to find."),
    mode: str | None = typer.Option(
        None,
        help="How to compare: dense, binary, sparse, bm25 or hybrid; by default the run's first, hybrid for texts. Where whole "
        "pages were learned: dense for a page, bm25 for words.",
    ),
    where: str | None = typer.Option(None, help="SQL filter over the columns, such as \"folder = 'cats'\"."),
    exact: bool = typer.Option(False, help="Compare with every row."),
    dims: int | None = typer.Option(None, help="Search by the first so many coordinates only."),
    rerank: int | None = typer.Option(None, help="Rank what --dims found again by so many coordinates (default: all)."),
    shortlist: int | None = typer.Option(None, help="How many --dims finds for --rerank (default: 200)."),
    plus: str | None = typer.Option(None, help="Words added to an image, where images were learned with texts."),
    weight: float | None = typer.Option(None, help="Of the words of --plus (default: 1); below 0 takes them away."),
    by: Path | None = typer.Option(
        None, "--by", help="Run folder of another encoder that reads the query, through items both runs have."
    ),
    picture: Path | None = typer.Option(None, help="Write the query and what was found as one picture (.png)."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Find the images or texts nearest to a query, by the representation that was learned, by words, or both.

    With --dims 16 --shortlist 200 --rerank 128 the first 16 coordinates choose 200 images, which the first 128 rank.
    """
    from nolabel.cli.output import answer, grid
    from nolabel.search import Index
    from nolabel.search.queries import added_words, chosen_mode, read_query, stages, usual_mode
    from nolabel.training import identity, load

    learner = load(run)
    index = Index.open(run, encoder=identity(run))
    if by is not None and mode is None:
        mode = "dense"
    if mode is None and dims is None:
        mode = usual_mode(learner, words=not query.startswith("id:") and not Path(query).is_file())
    mode = chosen_mode(mode, index, dims)
    funnel = stages(index.dim, k, dims, rerank, shortlist)
    if funnel is not None:
        _warn_untrained(learner, [dim for dim, _ in funnel if dim < index.dim])
    added = added_words(learner, plus, weight)
    if by is not None:
        for option, given in (("--plus", plus), ("--dims", dims)):
            if given is not None:
                raise ValueError(f"{option} compares within one run: leave it out with --by")
        if mode != "dense":
            raise ValueError(f"--by compares vectors: it goes with --mode dense, not {mode}")
    reader = learner if by is None else load(by)
    read = read_query(reader, index if by is None else Index.open(by, encoder=identity(by)), query, mode)
    asked = read.asked
    if added is not None:
        if read.picture is None:
            raise ValueError(f"--plus adds words to an image, and {query[:40]!r} is none: give a file or id:NUMBER")
        asked = learner.compose(asked[None], *added)[0]
    if by is None:
        found = index.search(asked, k, mode=mode, where=where, exact=exact, funnel=funnel)
    else:
        found = _across(run, by, index, asked, k, where)
    hits = told(found)
    thumbnails = [hit.pop("thumbnail", None) for hit in hits]
    lines = []
    if picture is not None:
        if not any((read.picture, *thumbnails)):
            raise ValueError("--picture is for images and videos; neither the query nor what was found is any")
        _strip(picture, read.picture, thumbnails)
        lines.append(f"picture  {picture}")
    if funnel is not None:
        lines.append(f"{found.multiply_adds:,} multiply-adds; {len(index) * index.dim:,} by all rows and coordinates")
    rows = [{name: value for name, value in hit.items() if name != "vector"} for hit in hits]
    if rows and "text" in rows[0] and not any(thumbnails):
        answer(rows, as_json, lines=[*found_lines(found), *lines])
        return
    names = list(rows[0]) if rows else ["id", "score"]
    answer(rows, as_json, grid(None, names, [[row[name] for name in names] for row in rows]), lines=lines)


def _across(run: Path, by: Path, index: Any, asked: Any, k: int, where: str | None) -> Any:
    """The nearest rows to a vector of another run's encoder."""
    from nolabel.search.common_items import common_items, drawn

    common = common_items(run, by)
    anchors = drawn(common, max(ANCHORS, common.second.shape[1]))
    return index.search_across(asked, common.ids[anchors], common.second[anchors], k, where=where)


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
    shown = ("id", "score", "row", "text", "matched")
    about = [str(value) for name, value in row.items() if name not in shown and value != row["text"]]
    lines = [
        f"{row['score']:9.4f}  id:{row['id']}  {'  '.join(about)}",
        f"{'':11}{' '.join(row['text'].split())[:SNIPPET]}",
    ]
    if row.get("matched"):
        lines.append(f"{'':11}matched: {', '.join(f'{word} {part:.2f}' for word, part in row['matched'])}")
    return lines


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


def _strip(path: Path, query: bytes | None, thumbnails: list[bytes | None]) -> None:
    """The query, set apart where it is a picture, and its hits side by side; videos, some frames of each, below each other."""
    import io

    from PIL import Image

    side, gap = 96, 8
    tiles = [Image.open(io.BytesIO(data)).convert("RGB") for data in (query, *thumbnails) if data]
    wide = side * max(1, tiles[0].width // tiles[0].height)
    down = wide > 2 * side
    apart = gap if query else 0
    length = len(tiles) * (side + gap) + gap + apart
    sheet = Image.new("RGB", (wide + 2 * gap, length) if down else (length, side + 2 * gap), "white")
    for number, tile in enumerate(tiles):
        at = gap + number * (side + gap) + (apart if number else 0)
        sheet.paste(tile.resize((wide, side), Image.Resampling.BICUBIC), (gap, at) if down else (at, gap))
    with replacing(path) as partial:
        sheet.save(partial, "PNG")
