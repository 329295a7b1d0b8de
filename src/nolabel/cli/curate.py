"""`nolabel curate`: images with alt-texts, cleaned by rules, with a reason for every row that goes."""

import csv
import json
from pathlib import Path
from typing import Any

import typer

from nolabel.data.replacing import replacing

KEPT, DROPPED, REPORT, PAGE = "kept.parquet", "dropped.csv", "report.json", "curated.html"
TEXT_LENGTH = 500
#: Columns that say which row it is.
IDENTIFIERS = ("image_id", "path", "id")


def command(
    source: str = typer.Argument(..., help="File or known set with a column of texts, and images or their ids."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Folder to write; runs/NAME-curated by default."),
    column: list[str] = typer.Option([], "--column", help="Name of a column if it differs, such as text=alt."),
    held_out: Path | None = typer.Option(None, help="Images kept for evaluation: what nearly equals one is dropped."),
    min_side: int = typer.Option(200, help="Pixels that the short side has to exceed."),
    max_aspect: float = typer.Option(3.0, help="Long side over short side has to lie below it."),
    any_size: bool = typer.Option(False, "--any-size", help="Leave sizes out, for tables that do not tell them."),
    max_texts: int = typer.Option(1000, help="Most different texts of an image."),
    max_images: int = typer.Option(10, help="Most different images of a text."),
    min_count: int = typer.Option(2, help="How often a word has to occur in the table."),
    bigrams: str = typer.Option("off", help="Whether pairs of words have to be frequent too: off, any or all."),
    min_words: int = typer.Option(3, help="Fewest words of a text."),
    max_words: int = typer.Option(20, help="Most words of a text."),
    max_unsafe: float | None = typer.Option(None, help="Highest score in the column 'unsafe'."),
    examples: int = typer.Option(12, help="Rows of each rule to show on the page."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Drop pairs of images and texts that are of no use; leaves what is kept, what went and why, and a page of examples."""
    from nolabel.cli.claims import claim
    from nolabel.cli.output import answer, grid
    from nolabel.cli.run import open_table, read_columns
    from nolabel.curate import NoisyTextFilter
    from nolabel.training.estimator import write_text

    if examples < 0:
        raise ValueError(f"--examples must be at least 0, got {examples}")
    folder = out or Path("runs") / f"{Path(source.rstrip('/')).stem or 'data'}-curated"
    claim(folder)
    there = [name for name in (KEPT, DROPPED, REPORT, PAGE) if (folder / name).exists()]
    if there:
        raise ValueError(f"{folder} holds {there[0]} already: choose another folder or delete it")
    table = open_table(source, read_columns(column))
    _require(table, source, any_size)
    rules = NoisyTextFilter(
        min_side=None if any_size else min_side,
        max_aspect=None if any_size else max_aspect,
        max_texts_per_image=max_texts,
        max_images_per_text=max_images,
        min_count=min_count,
        bigrams=bigrams,
        min_words=min_words,
        max_words=max_words,
        max_unsafe=max_unsafe,
    )
    kept = rules.fit(table, held_out=held_out).transform(table)
    folder.mkdir(parents=True, exist_ok=True)
    _write_kept(folder / KEPT, kept)
    _write_dropped(folder / DROPPED, table, rules.dropped_)
    settings = rules.get_params(deep=False)
    report = {"source": source, **rules.report_, "rules": settings}
    _write_page(folder / PAGE, source, table, rules, examples)
    summary = {name: report[name] for name in ("rows", "kept", "dropped")}
    summary |= {name: str(folder / file) for name, file in (("table", KEPT), ("reasons", DROPPED), ("page", PAGE))}
    write_text(folder / REPORT, json.dumps(report, indent=1) + "\n")
    shown = [[rule, dropped] for rule, dropped in report["dropped"].items()]
    lines = ["", f"open    {folder / PAGE}", f"learn   nolabel learn {folder / KEPT}"]
    answer(
        summary,
        as_json,
        grid(None, ["", "rows"], [["given", report["rows"]], *shown, ["kept", report["kept"]]]),
        lines=lines,
    )


def _require(table: Any, source: str, any_size: bool) -> None:
    """Refuse a table that lacks a column, with the option that names it."""
    there = set(table.column_names)
    listed = ", ".join(table.column_names)
    if "text" not in there:
        raise ValueError(f"{source} has no column 'text' among {listed}; name the texts with --column text=NAME")
    if not there & {"image", "image_id"}:
        raise ValueError(
            f"{source} has no column 'image' or 'image_id' among {listed}; name it with --column image=NAME, or "
            "--column image_id=NAME for addresses"
        )
    if not any_size and "image" not in there and not {"width", "height"} <= there:
        raise ValueError(
            f"{source} has no column 'image', nor 'width' and 'height', among {listed}; leave sizes out with --any-size"
        )


def _write_kept(path: Path, kept: Any) -> None:
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with replacing(path) as partial:
            kept.to_parquet(str(partial))
    finally:
        if shown:
            datasets.enable_progress_bars()


def _write_dropped(path: Path, table: Any, dropped: list[tuple[int, str, str]]) -> None:
    """The rows that went, for a spreadsheet."""
    rows = [row for row, _, _ in dropped]
    named = [name for name in IDENTIFIERS if name in table.column_names]
    part = table.select(rows)
    which = [list(part[name]) for name in named]
    texts = list(part["text"])

    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "rule", "reason", *named, "text"])
        for at, verdict in enumerate(dropped):
            text = " ".join((texts[at] or "").split())[:TEXT_LENGTH]
            writer.writerow([*verdict, *(values[at] for values in which), text])


def _write_page(path: Path, source: str, table: Any, rules: Any, examples: int) -> None:
    """What each rule dropped, to look at: the first rows of each, and of what is kept."""
    from html import escape
    from importlib import resources
    from string import Template

    from nolabel.report import page
    from nolabel.report.groups import PALETTE
    from nolabel.training.estimator import versions

    report, gone = rules.report_, {row for row, _, _ in rules.dropped_}
    groups = {rule: [(row, why) for row, of, why in rules.dropped_ if of == rule] for rule in report["dropped"]}
    groups = {rule: rows for rule, rows in groups.items() if rows}
    groups["kept"] = [(row, "") for row in range(len(table)) if row not in gone]
    numbers = {rule: len(rows) for rule, rows in groups.items()}
    bars, cards = [], []
    for number, (rule, rows) in enumerate(groups.items()):
        colour = PALETTE[number % len(PALETTE)]
        width = 100 * len(rows) / max(numbers.values())
        bars.append(
            f'<a href="#rule-{number}">{escape(rule)}</a><i style="--c:{colour};width:{width:.1f}%"></i>'
            f"<span>{len(rows):,} · {page.percent(len(rows), len(table))}</span>"
        )
        step = max(1, len(rows) // max(1, examples))  # from the whole table, not from its beginning
        chosen = rows[::step][:examples]
        texts = table.select([row for row, _ in chosen])["text"] if chosen else []
        items = "".join(
            f"<li><output>{row}</output><div>{escape(page.beginning(' '.join((text or '').split())))}"
            f"<small>{escape(page.shortened(why))}</small></div></li>"
            for (row, why), text in zip(chosen, texts, strict=True)
        )
        cards.append(
            f'<article class="cluster" id="rule-{number}" style="--c:{colour}"><header><i class="dot"></i><h3>{escape(rule)}</h3>'
            f'<p>{len(rows):,} rows</p></header><ol class="documents">{items}</ol></article>'
        )
    facts = {"data": source, **{k: str(v) for k, v in rules.get_params(deep=False).items()}}
    facts |= {f"version of {k}": v for k, v in versions().items()}
    lead = "A row is dropped by the first rule that it breaks, in this order. The number before a text is its row."
    sections = [
        page.section("sizes", "How many rows each rule dropped", "", f'<div class="bars">{"".join(bars)}</div>'),
        page.section("rules", "Examples of each rule", lead, f'<div class="clusters">{"".join(cards)}</div>'),
        page.section("run", "What was run", "", page.facts_body(facts)),
    ]
    tiles = [page.tile("Rows", f"{report['rows']:,}"), page.tile("Kept", f"{report['kept']:,}")]
    package = resources.files("nolabel.report")
    html = Template(package.joinpath("topics.html").read_text(encoding="utf-8")).substitute(
        title=escape(page.shortened(path.parent.name)),
        headline=f"{report['kept']:,} of {report['rows']:,} rows are kept",
        remarks="",
        tiles="".join(tiles),
        links='<a href="#sizes">Rules</a><a href="#rules">Examples</a><a href="#run">Run</a>',
        sections="\n".join(sections),
        style=package.joinpath("report.css").read_text(encoding="utf-8"),
    )
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8")
