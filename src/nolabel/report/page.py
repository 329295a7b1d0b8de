"""The page's parts as HTML. Everything that comes from outside (names, reasons, parameters) is escaped here."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from nolabel.report.groups import Group
from nolabel.report.scores import VERDICTS, figure, score_rows, sentence
from nolabel.report.sprites import COLUMNS, Sprites

NAME_LENGTH, TEXT_LENGTH, SNIPPET_LENGTH = 120, 2000, 260
SKIPPED_SHOWN = 200
PAIRS_SHOWN = 12

Thumb = Callable[[int], str]  # row -> HTML


def shortened(text: str, length: int = NAME_LENGTH) -> str:
    """Cut the middle out of a long text; the end of a path says most.

    >>> shortened("photos/2021/summer/cat.jpg", 15)
    'phot…er/cat.jpg'
    """
    if len(text) <= length:
        return text
    tail = 2 * length // 3
    return text[: length - tail - 1] + "…" + text[-tail:]


def beginning(text: str, length: int = SNIPPET_LENGTH) -> str:
    """The first words of a text.

    >>> beginning("the quick brown fox", 12)
    'the quick …'
    """
    return text if len(text) <= length else text[: length - 1].rsplit(" ", 1)[0] + " …"


def safe_json(value: Any) -> str:
    """JSON that may stand inside a script element: it cannot close the element or open a comment.

    >>> safe_json("</script>")
    '"\\\\u003c/script>"'
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def packed(values: np.ndarray, dtype: str) -> str:
    """Little-endian bytes of an array as base64."""
    return base64.b64encode(np.ascontiguousarray(values).astype(dtype).tobytes()).decode()


def percent(part: float, whole: float) -> str:
    """
    >>> percent(1, 8), percent(0, 8), percent(8, 8), percent(1, 3000)
    ('12.5 %', '0 %', '100 %', 'under 0.1 %')
    """
    share = 100 * part / whole
    return "under 0.1 %" if 0 < share < 0.1 else f"{share:.1f}".removesuffix(".0") + " %"


def sprite_position(sprites: Sprites, row: int) -> tuple[int, str]:
    """Sheet of a row's tile, and the CSS position that brings it into view at any display size."""
    sheet, column, line = sprites.place(row)
    lines = sprites.lines(sheet)
    wide, high = sprites.width + 2, sprites.height + 2
    x = (column * wide + 1) / (COLUMNS * wide - sprites.width)
    y = (line * high + 1) / (lines * high - sprites.height)
    return sheet, f"{100 * x:.4f}% {100 * y:.4f}%"


def sheet_rules(sprites: Sprites) -> str:
    """CSS classes s0, s1, ... that show a sheet, scaled so that one tile fills the element."""
    rules = [f":root{{--ratio:{sprites.width}/{sprites.height}}}"]
    if sprites.pixels:
        rules.append(".t{image-rendering:pixelated}")
    for i, uri in enumerate(sprites.sheets):
        x = 100 * COLUMNS * (sprites.width + 2) / sprites.width
        y = 100 * sprites.lines(i) * (sprites.height + 2) / sprites.height
        rules.append(f'.s{i}{{background-image:url("{uri}");background-size:{x:.4f}% {y:.4f}%}}')
    return "".join(rules)


def thumbnail_writer(sprites: Sprites, shown: np.ndarray, name: Callable[[int], str]) -> Thumb:
    """A function that writes the thumbnail of a row; `data-i` is its number on the map."""
    number = {int(row): i for i, row in enumerate(shown)}

    def thumb(row: int) -> str:
        sheet, position = sprite_position(sprites, int(row))
        return (
            f'<span class="t s{sheet}" data-i="{number[int(row)]}" role="img" aria-label="{escape(name(int(row)))}" '
            f'style="background-position:{position}"></span>'
        )

    return thumb


def text_writer(sprites: Sprites, shown: np.ndarray, name: Callable[[int], str]) -> Thumb:
    """In the place of `thumbnail_writer` where rows are texts: a function that writes the beginning of a row's text."""
    number = {int(row): i for i, row in enumerate(shown)}

    def text(row: int) -> str:
        return f'<q class="t" data-i="{number[int(row)]}">{escape(name(int(row)))}</q>'

    return text


def section(identifier: str, title: str, lead: str, body: str) -> str:
    lead = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f'<section id="{identifier}"><h2>{escape(title)}</h2>{lead}{body}</section>'


def tile(term: str, value: str, remark: str = "", share: float | None = None) -> str:
    """One key figure; `share` in [0, 1] adds a small bar."""
    kind = "" if value[:1].isdigit() and " " not in value else ' class="word"'
    bar = (
        "" if share is None else f'<span class="meter"><i style="width:{100 * min(max(share, 0), 1):.1f}%"></i></span>'
    )
    return f"<div><dt>{escape(term)}</dt><dd{kind}>{escape(value)}{bar}<small>{escape(remark)}</small></dd></div>"


def list_of(texts: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence(shortened(str(text), TEXT_LENGTH)))}</li>" for text in texts)
    return f'<ul class="remarks">{items}</ul>' if items else ""


def marked_headline(text: str) -> str:
    """Set the verdict, where a headline begins with one, in bold."""
    word, colon, rest = text.partition(":")
    return f"<b>{word}</b>{colon}{escape(rest)}" if word in VERDICTS.values() else escape(text)


def map_body() -> str:
    return resources.files("nolabel.report").joinpath("map.html").read_text(encoding="utf-8")


def strips_body(queries: np.ndarray, rows: np.ndarray, cosines: np.ndarray, thumb: Thumb, name: Callable) -> str:
    """One strip a query: the row itself, then its neighbours with their cosines."""
    strips = []
    for query, near, values in zip(queries.tolist(), rows.tolist(), cosines.tolist(), strict=True):
        cells = "".join(
            f'<div class="cell">{thumb(row)}{value:.2f}</div>' for row, value in zip(near, values, strict=True)
        )
        strips.append(
            f'<figure class="strip"><figcaption>{escape(name(query))}</figcaption>'
            f'<div class="cell query">{thumb(query)}</div><i></i>{cells}</figure>'
        )
    return f'<div class="strips">{"".join(strips)}</div>'


def pairs_body(pairs: Sequence[tuple[int, int, float]], count: int, n: int, thumb: Thumb) -> str:
    """The closest pairs of rows, and how many rows have a near-duplicate."""
    if not pairs:
        return '<h3>Near-duplicates</h3><p class="lead">None: no row has another almost on top of it.</p>'
    shown = pairs[:PAIRS_SHOWN]
    cells = "".join(f'<div class="pair">{thumb(a)}{thumb(b)}<small>{value:.4f}</small></div>' for a, b, value in shown)
    text = (
        f"{count:,} rows ({percent(count, n)}) have another row closer than 1 % of the typical distance. "
        f"{f'The closest {len(shown)} pairs' if len(shown) > 1 else 'The pair'}, with the cosine:"
    )
    return f'<h3>Near-duplicates</h3><p class="lead">{text}</p><div class="pairs">{cells}</div>'


def cluster_body(groups: Sequence[Group], n: int, thumb: Thumb) -> str:
    """A contact sheet for each group."""
    sheets = []
    for i, group in enumerate(groups):
        facts = f"{group.size:,} rows ({percent(group.size, n)}) · mean cosine to the centre {group.tightness:.2f}"
        if group.duplicates:
            facts += f" · {group.duplicates:,} with a near-duplicate"
        edge = "".join(map(thumb, group.edge))
        sheets.append(
            f'<article class="cluster"><header><i class="dot" style="--c:{group.colour}"></i>'
            f'<h3>{escape(group.name)}</h3><a href="#map" data-group="{i}">on the map</a><p>{facts}</p></header>'
            f'<div class="sheet">{"".join(map(thumb, group.central))}</div>'
            + (f'<h4>At its edge</h4><div class="sheet edges">{edge}</div>' if edge else "")
            + "</article>"
        )
    return f'<div class="clusters">{"".join(sheets)}</div>'


def scores_body(health: Mapping[str, Any]) -> str:
    head = "<thead><tr><th>Score</th><th>Value</th><th>What it says</th><th>What is good</th></tr></thead>"
    return f'<div class="scroll"><table class="scores">{head}<tbody>{score_rows(health)}</tbody></table></div>'


def skipped_body(skipped: Sequence[tuple[str, str]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(shortened(str(name)))}</td><td>{escape(shortened(str(reason), 300))}</td></tr>"
        for name, reason in skipped[:SKIPPED_SHOWN]
    )
    head = "<thead><tr><th>File</th><th>Why it was left out</th></tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div>'


def facts_body(summary: Mapping[str, str]) -> str:
    """Parameters as a table, the command to repeat the run below it."""
    rows = "".join(
        f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(shortened(figure(value), TEXT_LENGTH))}</td></tr>'
        for key, value in summary.items()
        if key != "command"
    )
    command = f"<pre>{escape(shortened(str(summary['command']), TEXT_LENGTH))}</pre>" if "command" in summary else ""
    return f'<table class="facts"><tbody>{rows}</tbody></table>{command}'


def assemble(parts: Mapping[str, str]) -> str:
    """Put the parts into the template, with the style, the script and the hash that lets only this script run."""
    folder = resources.files("nolabel.report")
    script = folder.joinpath("report.js").read_text(encoding="utf-8")
    style = folder.joinpath("report.css").read_text(encoding="utf-8")
    template = Template(folder.joinpath("template.html").read_text(encoding="utf-8"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return template.substitute(parts, script=script, style=style, hash=digest)
