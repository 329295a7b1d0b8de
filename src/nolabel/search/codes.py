"""Nearest binary codes by Hamming distance in memory-mapped files: exact, or inverted lists when there are very many.

Bits that differ are counted exactly by faiss (popcount), ties go to the earlier row. Up to 64 MiB of codes (2 million of
256 bits) are compared one by one. More lie in inverted lists around k-majority centres that faiss trains; a query
compares the rows of the nearest lists, as many as find 98 % of the ten nearest distances among the rows themselves.
faiss' own binary lists take no filter, hence only its centres and its counting are used.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
from jaxtyping import Int32, Int64, UInt8

from nolabel.search.files import allocated, seal, sealed
from nolabel.search.structure import CALIBRATION_QUERIES, TARGET_RECALL, threads

faiss: Any = _faiss  # its type stubs know neither arrays nor keyword arguments
FLAT_BYTES = 64 * 2**20  # compared one by one in about 9 ms on one core
GATHERED_BYTES = 64 * 2**20  # a filter that keeps less is copied once
BLOCK_ROWS = 2**20
POINTS_PER_CENTRE, LEAST_LISTS = 32, 8
FORMAT = 1


def choose(rows: int, width: int) -> str:
    """`flat` or `lists` for so many codes of so many bytes."""
    return "flat" if rows * width <= FLAT_BYTES else "lists"


def nearest(
    queries: UInt8[np.ndarray, "q b"], codes: UInt8[np.ndarray, "n b"], k: int
) -> tuple[Int32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
    """Hamming distances and rows of the k nearest codes, by rising distance, ties by row.

    >>> nearest(np.array([[1]], np.uint8), np.array([[0], [3], [1]], np.uint8), 3)
    (array([[0, 1, 1]], dtype=int32), array([[2, 0, 1]]))
    """
    with threads(len(queries)):
        distances, rows = faiss.knn_hamming(queries, codes, min(k, len(codes)), variant="mc")  # counts, so ties by row
    return distances, rows


class Kept:
    """The codes that a filter lets through."""

    def __init__(self, codes: Codes, rows: Int64[np.ndarray, " m"]) -> None:
        self.rows = rows
        self.matrix = codes.matrix[rows] if len(rows) * codes.width <= GATHERED_BYTES else None
        if self.matrix is None and codes.order is not None:
            self.mask = np.zeros(codes.rows, dtype=bool)
            self.mask[rows] = True
            list_of = np.repeat(np.arange(len(codes.sizes)), codes.sizes)
            self.sizes = np.bincount(list_of[self.mask[codes.order]], minlength=len(codes.sizes))


class Codes:
    """Packed codes (n, bytes) and, when there are very many, inverted lists over them."""

    def __init__(
        self,
        matrix: UInt8[np.ndarray, "n b"],
        *,
        centres: UInt8[np.ndarray, "l b"] | None = None,
        order: Int32[np.ndarray, " n"] | None = None,
        starts: Int64[np.ndarray, " l+1"] | None = None,
        lists_visited: int | None = None,
    ) -> None:
        self.matrix, self.lists_visited = matrix, lists_visited
        self.rows, self.width = matrix.shape
        self.centres, self.order, self.starts = centres, order, starts if starts is not None else np.zeros(1, np.int64)
        self.sizes = np.diff(self.starts)

    @property
    def kind(self) -> str:
        return "flat" if self.order is None else "lists"

    @classmethod
    def build(cls, folder: Path, chunks: Iterable[np.ndarray], rows: int, width: int, kind: str | None = None) -> None:
        """Write the structure of `rows` codes of `width` bytes, read once from `chunks`, into an empty folder."""
        matrix = allocated(folder / "codes.npy", np.uint8, (rows, width))
        filled = 0
        for chunk in chunks:
            matrix[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        if filled != rows:
            raise RuntimeError(f"expected {rows} rows to build from, got {filled}")
        matrix.flush()
        notes: dict[str, Any] = {"format": FORMAT, "rows": rows, "width": width, "lists_visited": None}
        if (kind or choose(rows, width)) == "lists":
            with_lists = _in_lists(np.asarray(matrix))
            notes["lists_visited"] = _calibrate(with_lists)
            if notes["lists_visited"] is not None:
                for name in ("centres", "order", "starts"):
                    np.save(folder / f"{name}.npy", getattr(with_lists, name))
        seal(folder, notes)

    @classmethod
    def load(cls, folder: Path) -> Codes:
        """Map the files of a folder; OSError, ValueError or KeyError says what is wrong with them."""
        notes = sealed(folder, FORMAT)

        def mapped(name: str) -> np.ndarray:
            return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))

        matrix = mapped("codes")
        if matrix.shape != (notes["rows"], notes["width"]) or matrix.dtype != np.uint8:
            raise ValueError(f"codes.npy has shape {matrix.shape}")
        if notes["lists_visited"] is None:
            return cls(matrix)
        lists = {name: mapped(name) for name in ("centres", "order", "starts")}
        if len(lists["order"]) != len(matrix) or len(lists["starts"]) != len(lists["centres"]) + 1:
            raise ValueError("its lists do not belong to its codes")
        return cls(matrix, **lists, lists_visited=notes["lists_visited"])

    def search(
        self, queries: UInt8[np.ndarray, "q b"], k: int, kept: Kept | None = None, *, exact: bool = False
    ) -> tuple[Int32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """Hamming distances and rows of the k nearest (kept) codes, by rising distance, ties by row."""
        available = self.rows if kept is None else len(kept.rows)
        k = min(k, available)
        if kept is not None and kept.matrix is not None:
            distances, rows = nearest(queries, kept.matrix, k)
            return distances, kept.rows[rows]
        if self.order is None or exact or 20 * k > available:
            return nearest(queries, self.matrix, k) if kept is None else self._compare(queries, k, kept)
        found = [self._visit(query[None], k, kept) for query in queries]
        return np.concatenate([d for d, _ in found]), np.concatenate([r for _, r in found])

    def _compare(self, queries: np.ndarray, k: int, kept: Kept) -> tuple[np.ndarray, np.ndarray]:
        distances, rows = np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.int64)
        for start in range(0, len(kept.rows), BLOCK_ROWS):
            block = kept.rows[start : start + BLOCK_ROWS]
            near, at = nearest(queries, self.matrix[block], k)
            distances, rows = np.concatenate([distances, near], 1), np.concatenate([rows, block[at]], 1)
            best = np.argsort(distances, axis=1, kind="stable")[:, :k]  # earlier blocks hold earlier rows
            distances, rows = np.take_along_axis(distances, best, 1), np.take_along_axis(rows, best, 1)
        return distances, rows

    def _visit(self, query: np.ndarray, k: int, kept: Kept | None) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the nearest lists.

        A filter may thin out all lists or keep few of them whole, so further lists are visited until they held as many
        kept rows as the geometric mean of what a search without a filter sees and of its share of that.
        """
        assert self.order is not None
        assert self.lists_visited is not None
        assert self.centres is not None
        sizes = self.sizes if kept is None else kept.sizes
        share = 1.0 if kept is None else len(kept.rows) / self.rows
        by_distance = nearest(query, self.centres, len(sizes))[1][0]
        by_distance = by_distance[sizes[by_distance] > 0]
        enough = max(self.lists_visited * self.rows / len(self.sizes) * share**0.5, 16 * k)
        seen = np.cumsum(sizes[by_distance])
        visit = max(self.lists_visited, int(np.searchsorted(seen, enough)) + 1)
        rows = np.concatenate([self.order[self.starts[at] : self.starts[at + 1]] for at in by_distance[:visit]])
        if kept is not None:
            rows = rows[kept.mask[rows]]
        rows = np.sort(rows).astype(np.int64)
        distances, at = nearest(query, self.matrix[rows], k)
        return distances, rows[at]


def _in_lists(matrix: np.ndarray) -> Codes:
    rows, width = matrix.shape
    count = max(1, min(rows // POINTS_PER_CENTRE, round(rows**0.5)))
    sample = np.sort(np.random.default_rng(0).choice(rows, min(rows, count * POINTS_PER_CENTRE), replace=False))
    quantizer = faiss.IndexBinaryFlat(8 * width)
    trainer = faiss.IndexBinaryIVF(quantizer, 8 * width, count)
    trainer.cp.niter = 10
    trainer.cp.min_points_per_centroid = 1  # it would warn
    trainer.train(matrix[sample])
    centres = faiss.vector_to_array(quantizer.xb).reshape(count, width)
    lists = np.empty(rows, dtype=np.int32)
    for start in range(0, rows, BLOCK_ROWS):
        lists[start : start + BLOCK_ROWS] = nearest(matrix[start : start + BLOCK_ROWS], centres, 1)[1][:, 0]
    order = np.argsort(lists, kind="stable").astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(np.bincount(lists, minlength=count))])
    return Codes(matrix, centres=centres, order=order, starts=starts)


def _calibrate(codes: Codes) -> int | None:
    """Fewest lists in which rows, left out of their own answer, find 98 % of their ten nearest distances.

    None when that takes more than a quarter of all lists: then comparing every row is as fast.
    """
    rows = np.sort(np.random.default_rng(1).choice(codes.rows, min(codes.rows, CALIBRATION_QUERIES), replace=False))
    queries = codes.matrix[rows]
    truth = codes.search(queries, 11, exact=True)[0][:, 1:]
    steps = [n for power in range(32) for n in (2**power, 3 * 2**power // 2) if n <= len(codes.sizes) // 4]
    for lists_visited in sorted({step for step in steps if step >= LEAST_LISTS}):
        codes.lists_visited = lists_visited
        if (codes.search(queries, 11)[0][:, 1:] <= truth).mean() >= TARGET_RECALL:
            return lists_visited
    return None
