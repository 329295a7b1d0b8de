"""What a query means, for runs of each kind of data: a file, words or the number of an item."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Query:
    """What the index takes, and a thumbnail where the query is a picture or a video."""

    asked: Any
    picture: bytes | None = None


def usual_mode(learner: Any, query: str) -> str | None:
    """How a run of whole pages is searched: pages by their vectors, words by words; None for other runs."""
    if learner.columns != ("html",):
        return None
    return "dense" if query.startswith("id:") or Path(query).is_file() else "bm25"


def read_query(learner: Any, index: Any, query: str, mode: str) -> Query:
    """A query in words, read as the run's kind of data."""
    item = _item(index, query) if query.startswith("id:") else None
    other = _of_images if "image" in learner.columns else _of_texts
    return _READERS.get(learner.columns, other)(learner, index, query, item, mode)


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


def _item(index: Any, query: str) -> dict[str, Any]:
    """The row that ``id:NUMBER`` asks for."""
    number = query.removeprefix("id:")
    if not number.isdigit():
        raise ValueError(f"query: expected id:NUMBER, got {query!r}")
    row: dict[str, Any] = index.rows([int(number)]).to_pylist()[0]
    return row


def _of_texts(learner: Any, index: Any, query: str, item: dict[str, Any] | None, mode: str) -> Query:
    """Words; an item stands for its text."""
    return Query(asked_by(learner, query if item is None else item["text"], mode))


def _of_images(learner: Any, index: Any, query: str, item: dict[str, Any] | None, mode: str) -> Query:
    """An image file."""
    from nolabel.data.thumbnails import jpeg

    if item is not None:
        return Query(_vector(item["vector"]), item.get("thumbnail"))
    if not Path(query).is_file():
        raise FileNotFoundError(f"no image file at {query} (id:NUMBER asks for a row of the index)")
    opened = learner.open_one(query, None)
    return Query(learner.transform_source(opened)[0], jpeg(opened.images([0])[0]))


def _of_videos(learner: Any, index: Any, query: str, item: dict[str, Any] | None, mode: str) -> Query:
    """A video file, or a folder of frames."""
    from nolabel.data.thumbnails import strips

    if item is not None:
        return Query(_vector(item["vector"]), item.get("thumbnail"))
    if not (Path(query).is_file() or Path(query).is_dir()):
        raise FileNotFoundError(f"no video file at {query} (id:NUMBER asks for a row of the index)")
    opened = learner.open_one(query, None)
    return Query(learner.transform_source(opened)[0], strips(opened, [0])[0])


def _of_pairs(learner: Any, index: Any, query: str, item: dict[str, Any] | None, mode: str) -> Query:
    """An image file, or words where the query is no file."""
    from nolabel.data.decoding import ENDINGS
    from nolabel.data.thumbnails import jpeg

    if item is not None and mode == "dense":
        return Query(_vector(item["vector"]), item["thumbnail"])
    if item is not None:
        return Query(_weights(item["sparse_indices"], item["sparse_values"], len(learner.words_)), item["thumbnail"])
    if Path(query).is_file():
        pixels = learner.open_one(query, None).images([0])[0]
        return Query(learner.search_rows(query)[mode][0], jpeg(pixels))
    if query.lower().endswith(ENDINGS):
        raise FileNotFoundError(f"no image file at {query} (id:NUMBER asks for a row of the index)")
    return Query(asked_by(learner, query, mode))


def _of_pages(learner: Any, index: Any, query: str, item: dict[str, Any] | None, mode: str) -> Query:
    """A page file; or words, compared with words alone, for a page's vector is of its tree as much as of its words."""
    if item is not None:
        vector, text = _vector(item["vector"]), item["text"]
    elif Path(query).is_file():
        (page,) = learner.pages([Path(query).read_bytes()])
        vector, text = learner.transform([page])[0], page.text
    elif not query.strip():
        raise ValueError("query: expected words to search by, got an empty text")
    elif mode == "bm25":
        return Query(query)
    else:
        raise ValueError(
            f"--mode {mode}: this run compares whole pages, and {query[:40]!r} is no page: give a file such as page.html or "
            "id:NUMBER, or search by words with --mode bm25"
        )
    asked = {"dense": vector, "bm25": text}
    return Query(asked if mode == "hybrid" else asked[mode])


def _of_nodes(learner: Any, index: Any, query: str, item: dict[str, Any] | None, mode: str) -> Query:
    """A node of the graph."""
    return Query(_node_vector(index, query) if item is None else _vector(item["vector"]))


def _node_vector(index: Any, query: str) -> Any:
    """The vector of the node that a query names."""
    table = index.rows()
    names = table["node"].to_pylist()
    if query not in names:
        import difflib

        near = difflib.get_close_matches(query, names, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"query: no node {query!r} among the {len(names):,} of this run{hint}")
    return np.asarray(table["vector"][names.index(query)].as_py(), dtype=np.float32)


#: How a query is read, by the columns that a run learned from; others hold images or texts.
_READERS: dict[tuple[str, ...], Callable[..., Query]] = {
    ("video",): _of_videos,
    ("image", "text"): _of_pairs,
    ("html",): _of_pages,
    ("graph",): _of_nodes,
}


def _vector(values: Any) -> np.ndarray:
    """A vector as the index gave it, float32 (d,)."""
    return np.asarray(values, dtype=np.float32)


def _weights(indices: Any, values: Any, width: int) -> Any:
    """A sparse vector as the index gave it, as an array (width,)."""
    from scipy.sparse import csr_array

    kept = (_vector(values), (np.zeros(len(indices), np.int64), np.asarray(indices, dtype=np.int64)))
    return csr_array(kept, shape=(1, width))[0]
