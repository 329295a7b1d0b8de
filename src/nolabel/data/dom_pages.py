"""Pages of a list or a table, parsed; those of a table that are no pages are left out and counted."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nolabel.data.dom import ATTRIBUTES, Page, parse_html, parse_pages, visible_text, warn_of_replaced
from nolabel.data.sources import NothingUsable, Skipped

if TYPE_CHECKING:
    from datasets import Dataset

    from nolabel.data.dom_tokens import WindowSource


class Pages(list[Page]):
    """Parsed pages.

    Attributes
    ----------
    rows : int64 (n,), the rows of the table, or positions in the list, that are here
    skipped : rows that hold no page, and why
    """

    def __init__(self, pages: Sequence[Page], rows: np.ndarray, skipped: list[Skipped]) -> None:
        super().__init__(pages)
        self.rows, self.skipped = rows, skipped

    def require_all(self) -> Pages:
        """The pages, if none was left out: where something else stands beside each."""
        if self.skipped:
            first = self.skipped[0]
            raise ValueError(f"html[{first.row}]: {first.reason}; leave such rows out of the table")
        return self


def open_pages(html: Any, columns: dict[str, str] | None = None, attributes: Sequence[str] = ATTRIBUTES) -> Pages:
    """The pages of anything a person has.

    Parameters
    ----------
    html : list of str, bytes or parsed pages; or what `nolabel.data.read` makes a table with the column ``html`` of
    columns : ``{"html": "body"}`` if it has another name
    attributes : those whose values are kept

    Raises
    ------
    ValueError
        For an empty list; ``html[i]: ...`` for what is no page in a list; a table without that column or without any page.
    TypeError
        For a single page.

    Examples
    --------
    >>> len(open_pages(["<p>one", "<p>two"]))
    2
    """
    from nolabel.data import read
    from nolabel.data.columns import require_column

    if isinstance(html, bytes) or (isinstance(html, str) and html.lstrip().startswith("<")):
        raise TypeError("html: expected a list of pages, got a single one")
    if isinstance(html, list | tuple):
        if not html:
            raise ValueError("html: the list is empty")
        return Pages(parse_pages(html, attributes=attributes), np.arange(len(html)), [])
    table = read(html, columns=columns)
    require_column(table, "html", "columns")
    return usable_pages(table, attributes)


def usable_pages(table: Dataset, attributes: Sequence[str] = ATTRIBUTES) -> Pages:
    """The pages in the column ``html`` of a table; one warning counts the rows that hold none."""
    paths = table["path"] if "path" in table.column_names else None
    pages: list[Page] = []
    rows: list[int] = []
    skipped: list[Skipped] = []
    for row, html in enumerate(table["html"]):
        try:
            pages.append(parse_html("" if html is None else html, attributes=attributes))
        except ValueError as error:
            reason = str(error).removeprefix("html: ")
            skipped.append(Skipped(row, None if paths is None else paths[row], reason))
        except TypeError:
            raise TypeError(
                f"columns: 'html' holds a {type(html).__name__} in row {row}; expected texts or bytes"
            ) from None
        else:
            rows.append(row)
    if not pages:
        raise NothingUsable(f"columns: none of the {len(table)} rows of 'html' is a page; {skipped[0]}", skipped)
    if skipped:
        warnings.warn(f"{len(skipped)} of {len(table)} pages were skipped, first {skipped[0]}", stacklevel=2)
    warn_of_replaced(pages)
    return Pages(pages, np.array(rows, np.int64), skipped)


class PageSource:
    """Pages as rows, over the windows in which a network reads them.

    Attributes
    ----------
    windows : the windows of all pages
    rows, skipped : as of `Pages`
    fingerprint : hash of the content
    """

    def __init__(self, windows: WindowSource, pages: Pages) -> None:
        self.windows, self.rows, self.skipped = windows, pages.rows, pages.skipped
        self.fingerprint = windows.fingerprint

    def __len__(self) -> int:
        return len(self.rows)


def with_text(table: Dataset) -> Dataset:
    """Of pages, their visible text as well; a page without any has an empty text, which is skipped and counted later."""
    if "html" not in table.column_names or "text" in table.column_names:
        return table

    def seen(html: str | None) -> str:
        try:
            return visible_text(html or "")
        except ValueError:  # no page, or nothing to see on it
            return ""

    return table.add_column("text", [seen(html) for html in table["html"]])
