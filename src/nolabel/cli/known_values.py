"""What is known of the fields of pages: values from a table, the nodes they label, what is held out, and scores."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Columns by which a file of values names a page.
NAMES = ("path", "page", "url")
#: With at least so many labelled sites, sites are held out; else pages.
SITES = 5


@dataclass(frozen=True)
class Value:
    """A value that was extracted."""

    field: str
    node: int
    text: str
    probability: float


@dataclass(frozen=True)
class Labels:
    """What is known of a page: the nodes its values label, and the values that stand on it as the whole text of a node."""

    known: bool
    nodes: Any
    expected: Mapping[str, set[str]] = field(default_factory=dict)


def known_values(table: Any, fields: list[str], values: Path | None, source: str) -> list[dict[str, list[str]]]:
    """The known values of every row, by field."""
    if values is None:
        given, where = table, source
        rows: list[int | None] = list(range(len(table)))
    else:
        from nolabel.data import read

        given, where = read(values), str(values)
        rows = _rows_of(given, table, where)
    missing = [name for name in fields if name not in given.column_names]
    if missing:
        there = ", ".join(name for name in given.column_names if name not in ("html", "text")) or "none"
        hint = "" if values else "; known values of a folder of pages come in a table: --values FILE.csv"
        raise ValueError(f"--fields {missing[0]}: {where} has no such column among {there}{hint}")
    known: list[dict[str, list[str]]] = [{} for _ in range(len(table))]
    for name in fields:
        for row, value in zip(rows, given[name], strict=True):
            if row is not None and (texts := _texts(value)):
                known[row].setdefault(name, []).extend(texts)
        if not any(name in one for one in known):
            raise ValueError(f"--fields {name}: {where} has no value of it for any page")
    return known


def _rows_of(values: Any, table: Any, where: str) -> list[int | None]:
    """The row of the page that each row of a table of values is about; None, counted, where there is no such page."""
    import warnings

    key = next((name for name in NAMES if name in values.column_names), None)
    if key is None:
        raise ValueError(
            f"--values: {where} needs a column {', '.join(NAMES[:-1])} or {NAMES[-1]} that names the pages"
        )
    own = next((name for name in (key, *NAMES) if name in table.column_names), None)
    place = {str(name): row for row, name in enumerate(table[own] if own else range(len(table)))}
    rows = [place.get(str(name)) for name in values[key]]
    lost = [str(name) for name, row in zip(values[key], rows) if row is None]
    if len(lost) == len(rows):
        raise ValueError(
            f"--values: none of the {len(rows)} pages of {where} is there; first {lost[0]!r}, expected such as "
            f"{next(iter(place))!r}"
        )
    if lost:
        text = f"{len(lost)} of {len(rows)} rows of {where} are about pages that are not there, first {lost[0]!r}"
        warnings.warn(text, stacklevel=2)
    return rows


def _texts(value: Any) -> list[str]:
    """The values in a cell: none, one, a list, or a JSON list."""
    if value is None or value != value:
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError):  # a text that begins with a bracket
            value = json.loads(value)
    items = value if isinstance(value, list | tuple) else [value]
    return [text for item in items if item is not None and (text := " ".join(str(item).split()))]


def match(pages: Sequence[Any], known: Sequence[Mapping[str, list[str]]], fields: Sequence[str]) -> list[Labels]:
    """The labels of every page; every field has to label some node."""
    from nolabel.data import match_nodes
    from nolabel.data.dom_labels import standing

    found = []
    for page, values in zip(pages, known, strict=True):
        nodes = match_nodes(page, values)
        found.append(Labels(bool(values), nodes, {name: standing(page, given) for name, given in values.items()}))
    for name in fields:
        tally = labels_of(found, name)
        if not tally["label a node"]:
            raise ValueError(
                f"--fields {name}: none of its {tally['known']} known values labels a node: {tally['ambiguous']} are the text of "
                f"several nodes or fields, {tally['not on the page']} of none"
            )
    return found


def labels_of(labels: Sequence[Labels], name: str) -> dict[str, int]:
    """What became of the known values of a field."""
    kinds = {"label a node": "found", "ambiguous": "unclear", "not on the page": "missing"}
    tally = {said: sum(getattr(one.nodes, kind).get(name, 0) for one in labels) for said, kind in kinds.items()}
    return {"known": sum(tally.values()), **tally}


def split(
    table: Any, labels: Sequence[Labels], fields: Sequence[str], share: float, seed: int
) -> tuple[list[int], list[int], str]:
    """Labelled pages to learn from, those held out, and what the latter are: of other sites, or only other pages."""
    import numpy as np

    rows = [i for i, one in enumerate(labels) if one.known]
    sites = sites_of(table)
    names = sorted({sites[i] for i in rows}) if sites else []
    by_site = len(names) >= SITES
    groups: list[Any] = names if by_site else rows
    order = np.random.default_rng(seed).permutation(len(groups))
    held = {groups[i] for i in order[: max(1, round(share * len(groups)))].tolist()}
    test = [i for i in rows if (sites[i] if by_site else i) in held]
    train = sorted(set(rows) - set(test))
    for name in fields:
        if not any(name in labels[i].nodes.labels.values() for i in train):
            raise ValueError(
                f"--fields {name}: too few pages have a node that one of its values labels: with {len(test)} of {len(rows)} "
                "pages held out none is left to learn from; give more values, or a smaller --held-out"
            )
    kind = f"pages of {len(held)} other sites" if by_site else "other pages, perhaps of the same sites"
    return train, test, kind


def sites_of(table: Any) -> list[str]:
    """The site of each page: the column ``site``, else the host of the column ``url``; empty if there is neither."""
    from nolabel.data.urls import host_of

    if "site" in table.column_names:
        return [str(site) for site in table["site"]]
    if "url" in table.column_names:
        return [host_of(str(url)).removeprefix("www.") for url in table["url"]]
    return []


def score(name: str, found: Sequence[Sequence[Value]], labels: Sequence[Labels]) -> dict[str, Any]:
    """Precision, recall and F1 of a field's texts, a page at a time, over the pages that have some of its known values."""
    import numpy as np

    each = []
    for values, one in zip(found, labels, strict=True):
        expected = one.expected.get(name, set())
        if expected:
            told = {value.text for value in values if value.field == name}
            right = len(told & expected)
            each.append(
                (right / len(told) if told else 0.0, right / len(expected), 2 * right / (len(told) + len(expected)))
            )
    means = np.mean(each, axis=0).tolist() if each else [None] * 3
    return {"pages": len(each), **dict(zip(("precision", "recall", "F1"), means))}
