"""The files of a run of `nolabel extract`: a table, a sheet, and a page to look at."""

import csv
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from nolabel.data.replacing import replacing

CSV, TABLE, PAGE = "fields.csv", "fields.parquet", "extracted.html"
#: Pages that the page shows, and values of a field.
SHOWN, LISTED, LENGTH = 24, 12, 240
#: Steps of the longest XPath that is written.
DEEPEST = 1000
_NAMES = ("row", "page", "field", "text", "xpath", "probability", "held_out")
_STYLE = """
.pages { display: grid; gap: 18px; margin: 26px 0; }
.pages article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; }
.pages article { overflow-wrap: anywhere; min-width: 0; }
.pages h2 { margin: 0 0 6px; font-size: 15px; font-weight: 600; } .pages h2 small { font-weight: 400; color: var(--soft); }
.pages table { width: 100%; border-collapse: collapse; font-size: 14.5px; }
.pages td, .pages th { text-align: left; vertical-align: top; padding: 5px 10px 5px 0; border-top: 1px solid var(--line); }
.pages th { font-weight: 600; width: 8em; } .pages output { color: var(--soft); font-variant-numeric: tabular-nums; }
.pages ul { margin: 0; padding: 0; list-style: none; } .right { color: var(--good); } .wrong { color: var(--bad); }
.pages td.known { width: 36%; color: var(--soft); }
"""


def write_files(folder: Path, pages: Any, names: Sequence[str], found: Sequence[Sequence[Any]], held: set[int]) -> None:
    """A row a value, as a table and for a spreadsheet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        (
            int(pages.rows[i]),
            names[i],
            one.field,
            one.text,
            _xpath(pages[i], one.node),
            round(one.probability, 6),
            i in held,
        )
        for i, values in enumerate(found)
        for one in values
    ]
    kinds = (pa.int64(), pa.string(), pa.string(), pa.string(), pa.string(), pa.float64(), pa.bool_())
    columns = zip(*rows) if rows else [[]] * len(_NAMES)
    table = pa.table({name: pa.array(list(column), kind) for name, column, kind in zip(_NAMES, columns, kinds)})
    with replacing(folder / TABLE) as partial:
        pq.write_table(table, partial, compression="zstd")
    with replacing(folder / CSV) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_NAMES)
        writer.writerows((*row[:-1], "yes" if row[-1] else "no") for row in rows)


def _xpath(page: Any, node: int) -> str:
    """The node's XPath; empty where it has so many steps that no table wants it."""
    return str(page.xpath(node)) if page.depths[node] <= DEEPEST else ""


def write_page(
    path: Path,
    source: str,
    pages: Any,
    names: Sequence[str],
    found: Sequence[Sequence[Any]],
    labels: Sequence[Any] | None,
    held: set[int],
    tested: Mapping[str, Any],
) -> None:
    """What was extracted of the first pages, those held out first, beside what is known of them; all of it escaped."""
    from importlib import resources

    order = [*sorted(held), *(i for i in range(len(pages)) if i not in held)][:SHOWN]
    cards = "".join(_card(names[i], found[i], labels and labels[i], i in held) for i in order)
    style = resources.files("nolabel.report").joinpath("report.css").read_text(encoding="utf-8") + _STYLE
    number = sum(map(len, found))
    tiles = "".join(
        f"<div><dt>F1 of {escape(name)}</dt><dd>{_figure(own['F1'])}<small>{own['pages']:,} pages held out</small></dd></div>"
        for name, own in tested.get("scores", {}).items()
    )
    about = f"Tested on {tested['tested on']}." if tested else "By a model of before; nothing was held out."
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    text = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(path.parent.name)}</title><style>{style}</style></head><body><main class=wrap><header class=top>"
        f"<h1>{escape(path.parent.name)}</h1>"
        f"<p class=headline><b>{number:,}</b> values of {len(pages):,} pages of {escape(source)}</p>"
        f'<p class="remarks">{escape(about)} Shown are {len(order)} pages.</p><dl class="tiles">{tiles}</dl></header>'
        f'<section class="pages">{cards}</section><footer>One self-contained file: it loads nothing and sends nothing.</footer>'
        "</main></body></html>\n"
    )
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _card(name: str, values: Sequence[Any], labels: Any, held: bool) -> str:
    """A page: field, extracted values with their probability, known values."""
    from nolabel.report.page import beginning, shortened

    known: Mapping[str, set[str]] = labels.expected if labels else {}
    rows = []
    for field in dict.fromkeys([*known, *(one.field for one in values)]):
        expected = known.get(field, set())
        items = []
        for one in [one for one in values if one.field == field][:LISTED]:
            mark = "" if not expected else " class=right" if one.text in expected else " class=wrong"
            items.append(f"<li{mark}>{escape(beginning(one.text, LENGTH))} <output>{one.probability:.2f}</output></li>")
        said = "".join(f"<li>{escape(beginning(text, LENGTH))}</li>" for text in sorted(expected)[:LISTED])
        rows.append(f"<tr><th>{escape(field)}<td><ul>{''.join(items) or '–'}</ul><td class=known><ul>{said}</ul></tr>")
    note = "held out" if held else "learned from" if labels and labels.known else ""
    head = "<tr><th>field<th>extracted<th>known</tr>" if rows else "<tr><td>nothing was found</tr>"
    return f"<article><h2>{escape(shortened(name))} <small>{note}</small></h2><table>{head}{''.join(rows)}</table></article>"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
