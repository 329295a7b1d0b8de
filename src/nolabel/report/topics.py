"""The page of a sorting into topics: how large each is, its best documents, and which topics hardly differ."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np

from nolabel.data.replacing import replacing
from nolabel.report import page
from nolabel.report.groups import OTHER, PALETTE

TEXT_LENGTH = 320
#: Cosine of two topics' vectors from which the page points at them.
ALIKE = 0.9
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class TopicDocument:
    """One of the best documents of a topic."""

    name: str
    similarity: float
    text: str


@dataclass(frozen=True)
class Topic:
    """One topic: `size` documents were given to it; `unknown` keywords are not in the documents."""

    label: str
    keywords: Sequence[str]
    unknown: Sequence[str]
    size: int
    documents: Sequence[TopicDocument]
    near: Sequence[str] = ()


@dataclass(frozen=True)
class TopicsContents:
    """Everything that the page shows: topics in order, cosines (t, t) of their vectors, what was run, and how many rows."""

    title: str
    topics: Sequence[Topic]
    likeness: np.ndarray
    without: int = 0
    skipped: Sequence[tuple[str, str]] = ()
    summary: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()


def marked(text: str, keywords: Sequence[str]) -> str:
    """A text as HTML in which the words of the keywords are marked.

    >>> marked("Stocks & bonds", ["stocks"])
    '<mark>Stocks</mark> &amp; bonds'
    """
    wanted = {word for keyword in keywords for word in _WORD.findall(keyword.lower())}
    parts, end = [], 0
    for match in _WORD.finditer(text):
        if match.group().lower() in wanted:
            parts += [escape(text[end : match.start()]), f"<mark>{escape(match.group())}</mark>"]
            end = match.end()
    return "".join([*parts, escape(text[end:])])


def _beginning(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= TEXT_LENGTH else text[: TEXT_LENGTH - 1].rstrip() + "…"


def colour(number: int) -> str:
    """The colour of a topic."""
    return PALETTE[number % len(PALETTE)]


def sizes_body(contents: TopicsContents) -> str:
    """A bar a topic, as long as it has documents."""
    rows = [(topic.label, topic.size, colour(i), f"#topic-{i}") for i, topic in enumerate(contents.topics)]
    if contents.without:
        rows.append(("no topic", contents.without, OTHER, "#run"))
    total, largest = sum(row[1] for row in rows) or 1, max(row[1] for row in rows) or 1
    cells = (
        f'<a href="{href}">{escape(page.shortened(label))}</a>'
        f'<i style="--c:{shade};width:{100 * size / largest:.1f}%"></i><span>{size:,} · {page.percent(size, total)}</span>'
        for label, size, shade, href in rows
    )
    return f'<div class="bars">{"".join(cells)}</div>'


def topic_body(topic: Topic, number: int) -> str:
    """The card of a topic: its keywords, words near it, its best documents."""
    unknown = set(topic.unknown)
    words = ", ".join(
        f"<s>{escape(word)}</s>" if word in unknown else f"<b>{escape(word)}</b>" for word in topic.keywords
    )
    parts = [f'<p class="words">Keywords: {words}</p>']
    if topic.near:
        parts.append(f'<p class="words">Words near it: {escape(", ".join(topic.near))}</p>')
    items = "".join(
        f"<li><output>{document.similarity:.2f}</output><div>{marked(_beginning(document.text), topic.keywords)}"
        f"<small>{escape(page.shortened(document.name))}</small></div></li>"
        for document in topic.documents
    )
    shade = colour(number)
    return (
        f'<article class="cluster" id="topic-{number}" style="--c:{shade}"><header><i class="dot"></i>'
        f"<h3>{escape(page.shortened(topic.label))}</h3><p>{topic.size:,} documents</p></header>"
        f'{"".join(parts)}<ol class="documents">{items}</ol></article>'
    )


def likeness_body(contents: TopicsContents) -> str:
    """A table of the cosines between topics; those that hardly differ stand out."""
    names = [escape(page.shortened(topic.label, 24)) for topic in contents.topics]
    rows = []
    for i, name in enumerate(names):
        cells = "".join(
            f"<td>{_likeness(contents.likeness[i, j]) if j < i else ''}</td>" for j in range(len(names) - 1)
        )
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    head = "".join(f"<th>{name}</th>" for name in names[:-1])
    body = "".join(rows[1:])
    return f'<div class="scroll"><table class="close"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _likeness(value: float) -> str:
    return f"<b>{value:.2f}</b>" if value >= ALIKE else f"{value:.2f}"


def render(contents: TopicsContents) -> str:
    """The page as HTML."""
    sorted_in = sum(topic.size for topic in contents.topics)
    tiles = [
        page.tile("Documents", f"{sorted_in + contents.without:,}"),
        page.tile("Topics", f"{len(contents.topics)}"),
    ]
    if contents.without:
        tiles.append(page.tile("Without a topic", f"{contents.without:,}"))
    tiles.append(page.tile("Skipped", f"{len(contents.skipped):,}", "could not be read"))
    lead = "Similarity is the cosine between a document and its topic. Struck-out keywords are not in the documents."
    parts = [
        ("sizes", "Sizes", page.section("sizes", "How many documents each topic has", "", sizes_body(contents))),
        (
            "topics",
            "Topics",
            page.section(
                "topics",
                "Topics and their best documents",
                lead,
                f'<div class="clusters">{"".join(topic_body(topic, i) for i, topic in enumerate(contents.topics))}</div>',
            ),
        ),
    ]
    if len(contents.topics) > 1:
        lead = f"Cosine between the topics' vectors. From {ALIKE} on two are hard to tell apart: join them or change keywords."
        body = likeness_body(contents)
        parts.append(("likeness", "Likeness", page.section("likeness", "Which topics are alike", lead, body)))
    if contents.skipped:
        body = page.skipped_body(contents.skipped)
        parts.append(("skipped", "Skipped", page.section("skipped", "Skipped documents", "", body)))
    body = page.facts_body(contents.summary)
    parts.append(("run", "Run", page.section("run", "What was run", "", body)))
    folder = resources.files("nolabel.report")
    template = Template(folder.joinpath("topics.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(page.shortened(contents.title)),
        headline=f"{sorted_in:,} documents in {len(contents.topics)} topics",
        remarks=page.list_of(contents.remarks),
        tiles="".join(tiles),
        links="".join(f'<a href="#{identifier}">{word}</a>' for identifier, word, _ in parts),
        sections="\n".join(html for *_, html in parts),
        style=folder.joinpath("report.css").read_text(encoding="utf-8"),
    )


def write_topics(path: str | os.PathLike[str], contents: TopicsContents) -> Path:
    """Write `contents` as one HTML file that opens anywhere and loads nothing; replaces a file only once it is complete."""
    path = Path(path)
    with replacing(path) as partial:
        partial.write_text(render(contents), encoding="utf-8")
    return path
