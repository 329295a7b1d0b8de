"""What a query means, for runs of each kind of data: the number of an item, a file, or words."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.data.thumbnails import jpeg, strips

SHORTLIST = 200  # the paper's
MODES = ("dense", "binary", "sparse", "bm25", "hybrid")


@dataclass(frozen=True)
class Query:
    """What the index takes, and a thumbnail where the query is a picture or a video."""

    asked: Any
    picture: bytes | None = None


@dataclass(frozen=True)
class Reads:
    """Which queries a run takes beside its own items: words, and files of its kind of data."""

    words: bool
    file: bool


def reads(learner: Any) -> Reads:
    """What queries of a run may be."""
    words, file = _of(learner)
    return Reads(words is not None, file is not None)


def read_query(learner: Any, index: Any, query: str, mode: str) -> Query:
    """A query as it is typed: ``id:NUMBER``, a path, or words."""
    if query.startswith("id:"):
        number = query.removeprefix("id:")
        if not number.isdigit():
            raise ValueError(f"query: expected id:NUMBER, got {query!r}")
        return item_query(learner, index, int(number), mode)
    words, file = _of(learner)
    if file is not None and (Path(query).is_file() or (file is _video_file and Path(query).is_dir())):
        return file(learner, query, mode)
    from nolabel.data.decoding import ENDINGS

    if words is None or (words is _words_of_pair and query.lower().endswith(ENDINGS)):
        kind = "video" if file is _video_file else "image"
        raise FileNotFoundError(f"no {kind} file at {query} (id:NUMBER asks for a row of the index)")
    return words(learner, index, query, mode)


def item_query(learner: Any, index: Any, number: int, mode: str) -> Query:
    """More like an item of the run."""
    item: dict[str, Any] = index.rows([number]).to_pylist()[0]
    picture = item.get("thumbnail")
    if mode == "sparse" and "image" in learner.columns:
        return Query(_weights(item["sparse_indices"], item["sparse_values"], len(learner.words_)), picture)
    if learner.columns == ("html",):
        asked = {"dense": _vector(item["vector"]), "bm25": item["text"]}
        return Query(asked if mode == "hybrid" else asked[mode])
    if {"image", "video", "graph"} & set(learner.columns):
        return Query(_vector(item["vector"]), picture)
    return Query(asked_by(learner, item["text"], mode))


def words_query(learner: Any, index: Any, words: str, mode: str) -> Query:
    """Words; nothing in them is taken for a path."""
    read, _ = _of(learner)
    if read is None:
        raise ValueError(f"words: a {type(learner).__name__} learned without texts; ask by a file or an item")
    return read(learner, index, words, mode)


def file_query(learner: Any, data: Any, mode: str) -> Query:
    """A file of the run's kind of data: a path, or for images a table ``{"image": [PIL image]}`` of one row."""
    _, read = _of(learner)
    if read is None:
        raise ValueError(f"file: a {type(learner).__name__} is asked by words or by an item, not by a file")
    return read(learner, data, mode)


def asked_by(learner: Any, text: str, mode: str) -> Any:
    """What an index of texts takes for the query `text`."""
    if not text.strip():
        raise ValueError("query: expected words to search by, got an empty text")
    if mode == "bm25":
        return text
    table = {"url" if learner.columns == ("url",) else "text": [text]}
    if hasattr(learner, "search_rows"):
        found = learner.search_rows(table, query=True)
    else:
        found = {"dense": learner.transform(table)}
    asked = {name: rows[0] for name, rows in found.items()}
    return asked | {"bm25": text} if mode == "hybrid" else asked[mode]


def usual_mode(learner: Any, words: bool) -> str | None:
    """How a run of whole pages is searched: pages by their vectors, words by words; None for other runs."""
    if learner.columns != ("html",):
        return None
    return "bm25" if words else "dense"


def chosen_mode(mode: str | None, index: Any, dims: int | None) -> str:
    """The way of searching, checked against what the run has."""
    if mode is None:
        return "hybrid" if "hybrid" in index.modes and dims is None else str(index.modes[0])
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode not in index.modes:
        raise ValueError(f"mode {mode}: this run can be searched by {', '.join(index.modes)}")
    return mode


def stages(
    width: int, k: int, dims: int | None, rerank: int | None, shortlist: int | None
) -> list[tuple[int, int]] | None:
    """The funnel in which `dims` coordinates find `shortlist` rows and `rerank` of them rank these; None: the whole vector."""
    if dims is None:
        for name, value in (("rerank", rerank), ("shortlist", shortlist)):
            if value is not None:
                raise ValueError(f"{name} {value} ranks what a prefix found: give dims too")
        return None
    if not 1 <= dims <= width:
        raise ValueError(f"dims must lie between 1 and {width}, the width of the index, got {dims}")
    if rerank is None and shortlist is None:
        return [(dims, k)]
    rerank = width if rerank is None else rerank
    if not dims < rerank <= width:
        raise ValueError(
            f"rerank must lie above dims {dims} and not above {width}, the width of the index, got {rerank}"
        )
    shortlist = max(SHORTLIST, k) if shortlist is None else shortlist
    if shortlist < k:
        raise ValueError(f"shortlist must be at least k {k}, got {shortlist}")
    return [(dims, shortlist), (rerank, k)]


def added_words(learner: Any, plus: str | None, weight: float | None) -> tuple[str, float] | None:
    """Words that are added to an image, and their weight."""
    if plus is None:
        if weight is not None:
            raise ValueError(f"weight {weight:g} is that of the words of plus: give plus too")
        return None
    if not hasattr(learner, "compose"):
        raise ValueError(f"plus: {type(learner).__name__} has no sums of images and words; align and convirt have")
    if not plus.strip():
        raise ValueError("plus: expected words, got an empty text")
    weight = 1.0 if weight is None else weight
    if not math.isfinite(weight):
        raise ValueError(f"weight must be a finite number, got {weight}")
    return plus, weight


def _text_words(learner: Any, index: Any, words: str, mode: str) -> Query:
    return Query(asked_by(learner, words, mode))


def _words_of_pair(learner: Any, index: Any, words: str, mode: str) -> Query:
    """Words that describe an image."""
    return Query(asked_by(learner, words, mode))


def _page_words(learner: Any, index: Any, words: str, mode: str) -> Query:
    """Compared with words alone, for a page's vector is of its tree as much as of its words."""
    if not words.strip():
        raise ValueError("query: expected words to search by, got an empty text")
    if mode != "bm25":
        raise ValueError(
            f"mode {mode}: this run compares whole pages, and {words[:40]!r} is no page: give a file such as page.html or "
            "id:NUMBER, or search by words with mode bm25"
        )
    return Query(words)


def _node_words(learner: Any, index: Any, words: str, mode: str) -> Query:
    """The name of a node of the graph."""
    table = index.rows(columns=["node", "vector"])
    names = table["node"].to_pylist()
    if words not in names:
        import difflib

        near = difflib.get_close_matches(words, names, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"query: no node {words!r} among the {len(names):,} of this run{hint}")
    return Query(_vector(table["vector"][names.index(words)].as_py()))


def _image_file(learner: Any, data: Any, mode: str) -> Query:
    opened = learner.open_one(data, None)
    return Query(learner.transform_source(opened)[0], jpeg(opened.images([0])[0]))


def _image_of_pair(learner: Any, data: Any, mode: str) -> Query:
    pixels = learner.open_one(data, None).images([0])[0]
    return Query(learner.search_rows(data)[mode][0], jpeg(pixels))


def _video_file(learner: Any, data: Any, mode: str) -> Query:
    """A video file, or a folder of frames."""
    opened = learner.open_one(data, None)
    return Query(learner.transform_source(opened)[0], strips(opened, [0])[0])


def _page_file(learner: Any, data: Any, mode: str) -> Query:
    (page,) = learner.pages([Path(data).read_bytes()])
    asked = {"dense": learner.transform([page])[0], "bm25": page.text}
    return Query(asked if mode == "hybrid" else asked[mode])


Readers = tuple[Callable[[Any, Any, str, str], Query] | None, Callable[[Any, Any, str], Query] | None]
#: How words and files are read, by the columns that a run learned from; others hold images or texts.
_READERS: dict[tuple[str, ...], Readers] = {
    ("video",): (None, _video_file),
    ("image", "text"): (_words_of_pair, _image_of_pair),
    ("html",): (_page_words, _page_file),
    ("graph",): (_node_words, None),
}


def _of(learner: Any) -> Readers:
    return _READERS.get(learner.columns, (None, _image_file) if "image" in learner.columns else (_text_words, None))


def _vector(values: Any) -> np.ndarray:
    """A vector as the index gave it, float32 (d,)."""
    return np.asarray(values, dtype=np.float32)


def _weights(indices: Any, values: Any, width: int) -> Any:
    """A sparse vector as the index gave it, as an array (width,)."""
    from scipy.sparse import csr_array

    kept = (_vector(values), (np.zeros(len(indices), np.int64), np.asarray(indices, dtype=np.int64)))
    return csr_array(kept, shape=(1, width))[0]
