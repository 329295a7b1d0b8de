"""The text of a page that came as bytes, whatever its encoding."""

import codecs
import re

_DECLARED = re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
_XML_DECLARED = re.compile(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w:.-]+)")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def decoded(data: bytes, encoding: str | None = None) -> tuple[str, str]:
    """The text of a page's bytes, and the encoding that was taken. Invalid bytes become U+FFFD.

    Taken is the first of: a byte-order mark; `encoding`; what the page declares in its first 2,048 bytes, if that is known;
    UTF-8, if more of the rest is valid than not; Windows-1252, as in browsers.

    >>> decoded(b'<meta charset="koi8-r"><p>' + "да".encode("koi8-r"))
    ('<meta charset="koi8-r"><p>да', 'koi8-r')
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace"), name
    if encoding is not None:
        known = _codec(encoding)
        if known is None:
            raise ValueError(f"encoding: expected the name of a text encoding, got {encoding!r}")
        return data.decode(known, "replace"), known
    declared = _XML_DECLARED.match(data[:2048]) or _DECLARED.search(data[:2048])
    known = _codec(declared[1].decode("ascii", "replace")) if declared else None
    if known is not None:
        # a declaration that could be read as ASCII is not in UTF-16, whatever it says
        known = "utf-8" if known.startswith(("utf-16", "utf-32")) else known
        return data.decode(known, "replace"), known
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    if broken and 2 * broken >= sum(not character.isascii() for character in text):
        return data.decode("cp1252", "replace"), "cp1252"
    return text, "utf-8"


def _codec(name: str) -> str | None:
    """Python's name of a text encoding, Latin-1 read as Windows-1252 as the HTML standard has it; None if unknown."""
    try:
        b" ".decode(name)  # codecs of no text refuse
        known = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    return "cp1252" if known in ("iso8859-1", "ascii") else known
