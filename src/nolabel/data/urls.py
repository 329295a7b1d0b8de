"""URLs as texts to learn from: one spelling for each, their hosts and registered domains, and splits that keep these together.

How a URL is spelled often tells which list it was taken from: whether it has a scheme, ``www.``, a slash at its end. A model of
labels from several lists learns that first. Two pages of one domain are near copies of each other, so a random split tests
what was learned by heart. `normalise_url` and `split_by_domain` take both away.

The registered domain is the public suffix of a host and the label before it (``a.b.example.co.uk``: ``example.co.uk``), by the
Public Suffix List (https://publicsuffix.org) that the library `tldextract` carries; nothing is fetched.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]*://|//", re.IGNORECASE)
_END_OF_HOST = re.compile(r"[/?#\\]")
_PORT = re.compile(r":\d*$")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]*")  # what no tokeniser makes anything of


def _parts(url: str) -> tuple[str, str, str]:
    """Scheme with its slashes, authority, and the rest."""
    url = url.strip()
    match = _SCHEME.match(url)
    scheme = match.group() if match else ""
    after = url[len(scheme) :]
    end = _END_OF_HOST.search(after)
    at = end.start() if end else len(after)
    return scheme, after[:at], after[at:]


def normalise_url(
    url: str,
    *,
    scheme: bool = False,
    www: bool = False,
    trailing_slash: bool = False,
    lowercase: bool = False,
    punycode: bool = False,
) -> str:
    """One spelling of a URL: host in lower case, without scheme, ``www.`` and slashes at the end unless they are to stay.

    A URL of which nothing would be left stays as it is.

    Parameters
    ----------
    url : with or without a scheme; white space around it goes
    scheme, www, trailing_slash : whether these stay
    lowercase : path and query in lower case too; servers may tell capitals apart
    punycode : a host with other letters than ASCII in its ASCII form (IDNA 2003, of the standard library)

    Raises
    ------
    ValueError
        With `punycode`, for a host that has no ASCII form.

    Examples
    --------
    >>> normalise_url("https://www.Example.com/Path/?q=1"), normalise_url("HTTP://example.com/")
    ('example.com/Path/?q=1', 'example.com')
    >>> normalise_url("http://müller.de/ä", punycode=True)
    'xn--mller-kva.de/ä'
    """
    start, authority, rest = _parts(url)
    user, at, host = authority.rpartition("@")
    host = host.lower()
    if not www:
        host = host.removeprefix("www.")
    if punycode and not host.isascii():
        host = _ascii(host)
    if not trailing_slash:
        rest = rest.rstrip("/")
    if lowercase:
        user, rest = user.lower(), rest.lower()
    found = f"{start.lower() if scheme else ''}{user}{at}{host}{rest}"
    return url.strip() if _BLANK.fullmatch(found) else found


def _ascii(host: str) -> str:
    try:
        return ".".join(label if label.isascii() else label.encode("idna").decode("ascii") for label in host.split("."))
    except UnicodeError:
        raise ValueError(f"url: the host {host!r} has no ASCII form") from None


def normalise_urls(urls: Iterable[str], **options: bool) -> list[str]:
    """`normalise_url` of each; a host without an ASCII form stays as it is, and one warning counts them.

    >>> normalise_urls(["http://a.de/", "www.a.de"])
    ['a.de', 'a.de']
    """
    found, kept = [], 0
    without = {**options, "punycode": False}
    for url in urls:
        try:
            found.append(normalise_url(url, **options))
        except ValueError:
            found.append(normalise_url(url, **without))
            kept += 1
    if kept:
        warnings.warn(
            f"{kept} of {len(found)} URLs have a host without an ASCII form, which stays as it is", stacklevel=2
        )
    return found


def require_urls(values: Iterable[Any], name: str = "url") -> list[str]:
    """The values as a list, checked.

    Raises
    ------
    TypeError
        For something that is not a text, with its row.
    ValueError
        For an empty list, or an empty URL, with its row.
    """
    urls = list(values)
    if not urls:
        raise ValueError(f"{name}: no URLs, expected at least one")
    for row, url in enumerate(urls):
        if not isinstance(url, str):
            raise TypeError(f"{name}[{row}]: expected a URL as a text, got {type(url).__name__}")
        if _BLANK.fullmatch(url):
            raise ValueError(f"{name}[{row}]: expected a URL, got {url!r}")
    return urls


def host_of(url: str) -> str:
    """The host in lower case, without user and port, with or without a scheme ahead of it.

    >>> host_of("http://me@Shop.Example.com:8080/a"), host_of("example.com/x"), host_of("http://[::1]:80/")
    ('shop.example.com', 'example.com', '[::1]')
    """
    authority = _parts(url)[1].rpartition("@")[2].lower()
    if authority.startswith("["):
        return authority[: authority.find("]") + 1] or authority
    return _PORT.sub("", authority).rstrip(".")


@functools.cache
def _extract() -> Callable[[str], Any]:
    try:
        import tldextract
    except ImportError:
        raise ImportError("registered domains need the library tldextract: pip install 'nolabel[url]'") from None
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


@functools.lru_cache(maxsize=2**16)
def _domain(host: str) -> str:
    found = _extract()(host)
    return f"{found.domain}.{found.suffix}" if found.domain and found.suffix else host


def registered_domain(url: str) -> str:
    """The registered domain of a URL; an address, or a host without public suffix, is its own.

    Raises
    ------
    ImportError
        Without the library `tldextract`.

    Examples
    --------
    >>> registered_domain("https://a.b.example.co.uk/x"), registered_domain("http://10.0.0.1/"), registered_domain("localhost")
    ('example.co.uk', '10.0.0.1', 'localhost')
    """
    return _domain(host_of(url).removeprefix("www."))


def split_by_domain(
    urls: Sequence[str], share: float, labels: Sequence[Hashable] | None = None, *, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to learn from, and row numbers held out: no registered domain has rows in both.

    Domains are drawn in random order and held out while they fit into `share` of the rows. With `labels`, a domain is not
    held out if a label would then have no rows to learn from.

    Parameters
    ----------
    urls : n
    share : of the rows to hold out at most, in (0, 1)
    labels : n labels, one a row
    random_state : seed of the order

    Returns
    -------
    int64 arrays in rising order

    Raises
    ------
    ValueError
        Where no domain can be held out, or `share` is out of range.

    Examples
    --------
    >>> urls = ["http://a.com/1", "a.com/2", "www.b.com", "c.com"]
    >>> learn, held = split_by_domain(urls, 0.5)
    >>> {registered_domain(urls[i]) for i in learn} & {registered_domain(urls[i]) for i in held}
    set()
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"share must lie in (0, 1), got {share!r}")
    if labels is not None and len(labels) != len(urls):
        raise ValueError(f"labels: expected {len(urls)}, one a URL, got {len(labels)}")
    domains, number = np.unique([registered_domain(url) for url in urls], return_inverse=True)
    codes = np.zeros(len(urls), np.int64)
    if labels is not None:
        known: dict[Hashable, int] = {}
        codes = np.array([known.setdefault(label, len(known)) for label in labels])
    counts = np.zeros((len(domains), int(codes.max()) + 1), np.int64)  # rows of each label in each domain
    np.add.at(counts, (number, codes), 1)
    room, left, held = max(1, round(share * len(urls))), counts.sum(axis=0), np.zeros(len(domains), bool)
    for domain in np.random.default_rng(random_state).permutation(len(domains)):
        own = counts[domain]
        if own.sum() <= room and not ((left == own) & (own > 0)).any():
            held[domain] = True
            room -= own.sum()
            left -= own
            if not room:
                break
    if not held.any():
        raise ValueError(
            f"urls: none of their {len(domains)} registered domains can be held out, with a share of {share} of {len(urls)} "
            "rows; expected several domains for each label"
        )
    return np.flatnonzero(~held[number]), np.flatnonzero(held[number])
