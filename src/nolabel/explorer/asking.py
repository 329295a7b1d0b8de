"""Search as the page asks for it: words, an item or a picture in; items with scores out, near-duplicates folded."""

import base64
import io
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from nolabel.explorer.items import items_of
from nolabel.explorer.opened import OpenRun
from nolabel.search.queries import (
    Query,
    added_words,
    chosen_mode,
    file_query,
    item_query,
    reads,
    stages,
    usual_mode,
    words_query,
)

MOST = 500
UPLOAD_BYTES = 20 * 2**20
UPLOAD_PIXELS = 50_000_000
FOLDED = 0.01  # near-duplicates lie closer than this share of the typical distance
WORDS_SHOWN = 12


@dataclass(frozen=True)
class Question:
    """What is asked for, and how; one of `words`, `item` and `picture` is given."""

    words: str | None = None
    item: int | None = None
    picture: bytes | None = None
    mode: str | None = None
    k: int = 50
    where: str | None = None
    dims: int | None = None
    rerank: int | None = None
    shortlist: int | None = None
    exact: bool = False
    plus: str | None = None
    weight: float | None = None
    fold: bool = True


def opened_picture(data: bytes) -> Image.Image:
    """An uploaded picture, its size checked before its pixels are read.

    ValueError for what is no picture, or too large a one.
    """
    try:
        image = Image.open(io.BytesIO(data))
        large = image.width * image.height > UPLOAD_PIXELS
    except Image.DecompressionBombError:
        large = True
    except Exception:
        raise ValueError("file: no picture of a known format") from None
    if large:
        raise ValueError(f"file: more than {UPLOAD_PIXELS // 10**6} million pixels; send a smaller copy")
    try:
        return image.convert("RGB")
    except Exception:
        raise ValueError("file: the picture is damaged") from None


class Asker:
    """Answers questions about one run, one at a time through the encoder."""

    def __init__(self, run: OpenRun) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._typical: tuple[str, float] | None = None

    @property
    def asks(self) -> dict[str, bool]:
        """Which kinds of query the run takes; while its model is being read, those that its index speaks for."""
        index = self.run.index
        if not self.run.ready:
            words, pictures = "bm25" in index.modes, self.run.noun == "images"
            return {"words": words, "file": pictures, "item": True, "plus": False}
        if self.run.trouble is not None:
            return {"words": "bm25" in index.modes, "file": False, "item": bool(index.dim), "plus": False}
        learner = self.run.learner
        read = reads(learner)
        pictures = read.file and "image" in learner.columns
        return {"words": read.words, "file": pictures, "item": True, "plus": hasattr(learner, "compose")}

    @property
    def dims(self) -> list[int]:
        """Prefixes of the vectors that were trained to stand alone."""
        found = (self.run.config.get("params") or {}).get("nested") or []
        sizes = found["tuple"] if isinstance(found, dict) else found  # as an estimator saves a tuple
        return [int(dim) for dim in sizes if int(dim) < self.run.index.dim]

    def answer(self, question: Question) -> dict[str, Any]:
        """The answer of ``POST /search``; ValueError says what is wrong with the question."""
        given = [name for name in ("words", "item", "picture") if getattr(question, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of words, item and a file, got {' and '.join(given) or 'none'}")
        if not 1 <= question.k <= MOST:
            raise ValueError(f"k must lie between 1 and {MOST}, got {question.k}")
        begun = time.perf_counter()
        self.run.read()
        index, mode = self.run.index, question.mode
        if mode is None and self.run.trouble is not None:
            mode = "bm25" if question.words is not None else "dense"
        elif mode is None and question.dims is None:
            mode = usual_mode(self.run.learner, words=question.words is not None)
        mode = chosen_mode(mode, index, question.dims)
        funnel = stages(index.dim, question.k, question.dims, question.rerank, question.shortlist)
        read = self._read(question, mode)
        found = index.search(
            read.asked, question.k, mode=mode, where=question.where or None, exact=question.exact, funnel=funnel
        )
        ids = found.ids
        hits = items_of(self.run, ids)
        matches = found.matches
        for hit, score, words in zip(hits, found.scores.tolist(), matches, strict=True):
            hit["score"] = round(float(score), 6)
            hit["matched"] = [[str(word), round(float(part), 4)] for word, part in words[:WORDS_SHOWN]]
            hit["duplicates"] = []
        shown = self._folded(hits) if question.fold else hits
        answer = {
            "mode": mode,
            "seconds": round(time.perf_counter() - begun, 4),
            "multiply_adds": int(found.multiply_adds),
            "hits": shown,
            "folded": len(hits) - len(shown),
        }
        if question.picture is not None and read.picture is not None:
            answer["query"] = f"data:image/jpeg;base64,{base64.b64encode(read.picture).decode()}"
        return answer

    def _read(self, question: Question, mode: str) -> Query:
        """The question as the index takes it."""
        if self.run.trouble is not None:
            if question.words is not None and mode == "bm25":
                return Query(question.words)
            if question.item is not None and mode == "dense":
                items_of(self.run, [question.item])
                vector = self.run.index.rows([question.item], ["vector"])["vector"][0].as_py()
                return Query(np.asarray(vector, dtype=np.float32))
            raise ValueError(f"{self.run.trouble}: ask by an item with mode dense, or by words with mode bm25")
        learner = self.run.learner
        added = added_words(learner, question.plus, question.weight)
        with self._lock:
            if question.item is not None:
                items_of(self.run, [question.item])  # names an item that is not there
                read = item_query(learner, self.run.index, question.item, mode)
            elif question.words is not None:
                read = words_query(learner, self.run.index, question.words, mode)
            else:
                image = opened_picture(question.picture or b"")
                read = file_query(learner, {"image": [image]}, mode)
            if added is None:
                return read
            if read.picture is None:
                raise ValueError("plus adds words to an image: ask by a file or an item")
            return Query(learner.compose(np.asarray(read.asked)[None], *added)[0], read.picture)

    def _folded(self, hits: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The hits without those that are nearly the same as a better one, which lists them and says why."""
        if not hits:
            return hits
        rows = self.run.rows()
        at = rows.positions(np.array([hit["id"] for hit in hits]))
        cosines = rows.vectors[at] @ rows.vectors[at].T
        least = 1 - max(FOLDED * self._typical_distance(rows), 1e-6)
        kept: list[int] = []
        for place, hit in enumerate(hits):
            best = next(
                (first for first in kept if self._same(hits[first], hit, cosines[first, place], least, at)), None
            )
            if best is None:
                kept.append(place)
                continue
            equal = hit["text"] is not None and hit["text"] == hits[best]["text"]
            reason = "the same text" if equal else f"cosine {min(float(cosines[best, place]), 1.0):.4f}"
            hits[best]["duplicates"].append({"id": hit["id"], "reason": reason})
        return [hits[place] for place in kept]

    @staticmethod
    def _same(first: dict[str, Any], other: dict[str, Any], cosine: float, least: float, at: np.ndarray) -> bool:
        if first["text"] is not None and first["thumbnail"] is None:
            return bool(first["text"] == other["text"])
        return bool(cosine >= least and (at >= 0).all())

    def _typical_distance(self, rows: Any) -> float:
        """One minus the cosine of two items in the median."""
        if self._typical is None or self._typical[0] != rows.key:
            rng = np.random.default_rng(0)
            first, second = rng.integers(0, len(rows.ids), (2, 10_000))
            cosines = np.einsum("nd,nd->n", rows.vectors[first], rows.vectors[second])
            self._typical = (rows.key, float(np.median(1 - cosines)))
        return self._typical[1]
