"""The ways of searching an index: which of them it has data for, and which one a query asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from nolabel.search.batches import as_payload
from nolabel.search.binary import Binary
from nolabel.search.bm25 import BM25
from nolabel.search.dense import Dense
from nolabel.search.derived import Kind
from nolabel.search.fields import METRICS, Fields, as_vocabulary
from nolabel.search.funnel import whole
from nolabel.search.sparse import Sparse
from nolabel.search.words import languages

# What an index needs for each: the argument of Index.create, and what every row brings.
NEEDS = {
    "dense": ("dim=", "vectors= in add"),
    "binary": ("bits=", "codes= in add"),
    "sparse": ("vocabulary=", "sparse= in add"),
    "bm25": ("text=", "that column in payload="),
}
HYBRID = "hybrid"


def as_fields(
    dim: int | None,
    metric: str,
    bits: int | None,
    vocabulary: int | Sequence[str] | None,
    text: str | None,
    language: str | None,
) -> tuple[Fields, list[str] | None]:
    """What `Index.create` was asked for, checked, and the words of the vocabulary where they were given."""
    if dim is None and bits is None and vocabulary is None and text is None:
        said = ", ".join(f"{argument} for {mode}" for mode, (argument, _) in NEEDS.items())
        raise ValueError(f"dim: an index holds at least one thing to search by: {said}")
    if metric == "hamming":
        raise ValueError(
            "metric: vectors are compared by cosine, dot or l2; codes by Hamming distance, made with bits="
        )
    if metric not in METRICS:
        raise ValueError(f"metric: expected one of {', '.join(METRICS)}, got {metric!r}")
    if bits is not None and whole("bits", bits, 8) % 8:
        raise ValueError(f"bits: expected a multiple of 8, since codes are packed into bytes, got {bits}")
    if text is not None and not isinstance(text, str):
        raise TypeError(f"text: expected the name of a payload column, got {type(text).__name__}")
    if language is not None and language not in languages():
        raise ValueError(f"language: expected one of {', '.join(languages())} or None, got {language!r}")
    words, names = (0, None) if vocabulary is None else as_vocabulary(vocabulary)
    fields = Fields(0 if dim is None else whole("dim", dim, 1), metric, bits or 0, words, text, language)
    if text is not None:
        as_payload({text: [""]}, 1, fields.columns)
    return fields, names


def kinds(fields: Fields) -> dict[str, Kind]:
    """How each kind of search that the fields allow holds its rows."""
    found: dict[str, Kind] = {}
    if fields.dim:
        found["dense"] = Dense(fields.dim, fields.metric)
    if fields.bits:
        found["binary"] = Binary(fields.bits)
    if fields.words:
        found["sparse"] = Sparse(fields.words)
    if fields.text is not None:
        found["bm25"] = BM25(fields.text, fields.language)
    return found


def resolve(mode: str | None, query: Any, have: Mapping[str, Kind]) -> str:
    """The mode that is asked for, by name or by what the query is."""
    modes = [*have, HYBRID] if len(have) > 1 else list(have)
    if mode is None:
        mode = implied(query, have)
    if mode == HYBRID and len(have) == 1:
        raise ValueError(f"mode: hybrid fuses two ways of searching, and this index answers {modes[0]} only")
    if mode not in (*NEEDS, HYBRID):
        raise ValueError(f"mode: expected one of {', '.join((*NEEDS, HYBRID))}, got {mode!r}")
    if mode not in modes:
        argument, rows = NEEDS[mode]
        raise ValueError(
            f"mode: this index answers {', '.join(modes)}; {mode} needs one made by Index.create with {argument} "
            f"and {rows}"
        )
    return mode


def implied(query: Any, have: Mapping[str, Kind]) -> str:
    """A dict is hybrid, a text bm25, a sparse matrix sparse; an array is what the index has first."""
    if isinstance(query, Mapping):
        return HYBRID
    if isinstance(query, str) or (isinstance(query, list | tuple) and query and isinstance(query[0], str)):
        return "bm25"
    if sparse.issparse(query):
        return "sparse"
    return next(iter(have))


def rows_of(query: Any, mode: str, fields: Fields) -> tuple[Any, bool]:
    """The queries of one mode as rows that its field can check, and whether it was a single one."""
    if mode == "bm25":
        return ([query], True) if isinstance(query, str) else (list(query), False)
    if sparse.issparse(query):
        return (query.reshape(1, -1), True) if query.ndim == 1 else (query, False)
    array = np.asarray(query.detach().float().cpu() if mode == "dense" and hasattr(query, "detach") else query)
    return (array[None], True) if array.ndim == 1 else (array, False)
