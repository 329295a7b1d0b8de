"""Nearest neighbours over one matrix in memory-mapped files: exact, or faiss inverted lists when it is large.

A structure is derived from vectors and can be thrown away at any time. Up to 20 000 rows are compared one by one. More
rows are kept in inverted lists around k-means centres (Jégou et al., TPAMI 2011), as float32 or, where that would fill
more than a quarter of the memory, as 8-bit codes whose candidates are compared again with the exact rows. How many
lists a query visits is measured when the structure is built: enough for 98 % of the ten nearest neighbours of its rows.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
from jaxtyping import Float32, Int64

from nolabel.data.locks import exclusive
from nolabel.search.files import allocated, publishing, seal, sealed
from nolabel.search.funnel import Tally

faiss: Any = _faiss  # its type stubs know neither arrays nor keyword arguments
EXACT_ROWS = 20_000
MEMORY_SHARE = 0.25  # of the machine's memory, for float32 lists
POINTS_PER_CENTRE = 40  # k-means sample; faiss warns below 39
KMEANS_ROUNDS = 6  # ten find no more neighbours
TARGET_RECALL, CALIBRATION_QUERIES = 0.98, 256
LEAST_LISTS = 8  # hardly slower than fewer, and kinder to queries that are unlike the rows
WORTHWHILE = 1 / 3  # of float32 lists; visiting more takes longer than comparing every row
FILTER_WIDENING = 9  # a filter's nearest rows are farther away and over more lists: up to 1 + 9 times as many
GATHERED_BYTES = 4 * 2**20  # prefixes are copied in pieces of this size; a filter that keeps less is compared exactly
BLOCK_ROWS = 65_536
FORMAT = 2


def choose(rows: int, dim: int, memory: int | None = None) -> str:
    """`exact`, `ivf` (float32 lists) or `ivf-sq8` (8-bit lists) for a matrix of this size."""
    memory = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if rows <= EXACT_ROWS:
        return "exact"
    return "ivf" if rows * dim * 4 <= MEMORY_SHARE * memory else "ivf-sq8"


def prepare(vectors: np.ndarray, metric: str) -> Float32[np.ndarray, "n d"]:
    """Rows as they are compared: of unit length for cosine (a row of zeros stays zero), as they are otherwise."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if metric != "cosine":
        return rows
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    return (rows / np.where(length == 0, 1, length)[:, None]).astype(np.float32)


def best(scores: np.ndarray, positions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest scores a row, ties by position; both (q, m) -> (q, min(k, m))."""
    order = np.lexsort((positions, -scores), axis=-1)[:, :k]
    query = np.arange(len(order))[:, None]
    return scores[query, order], positions[query, order]


@contextmanager
def threads(queries: int) -> Iterator[None]:
    """One query is over before a second thread has woken up."""
    before = faiss.omp_get_max_threads()
    if queries > 1 or before == 1:
        yield
        return
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


class Chosen:
    """The rows of one structure that a filter lets through, in the forms that searching needs."""

    def __init__(self, structure: Structure, rows: Int64[np.ndarray, " m"]) -> None:
        self.rows = rows
        self.few = len(rows) * structure.dim * 4 <= GATHERED_BYTES
        if self.few:
            self.matrix = structure.matrix[rows]
        elif structure.ivf is not None:
            bits = np.zeros(structure.rows, dtype=bool)
            bits[rows] = True
            self.selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
            self.per_list = np.bincount(structure.lists[rows], minlength=structure.ivf.nlist)

    def blocks(self, structure: Structure) -> Iterator[tuple[int, np.ndarray]]:
        """Start and rows of each block, for comparing all of them."""
        if self.few:
            yield 0, self.matrix
        else:
            for start in range(0, len(self.rows), BLOCK_ROWS):
                yield start, structure.matrix[self.rows[start : start + BLOCK_ROWS]]


class Structure:
    """A matrix of prepared rows and, when large, inverted lists over it; `folder` is None when it lives in memory."""

    def __init__(
        self,
        matrix: Float32[np.ndarray, "n d"],
        metric: str,
        *,
        folder: Path | None = None,
        ivf: Any = None,
        lists: np.ndarray | None = None,
        nprobe: int = 1,
        kind: str = "exact",
        zeros: Int64[np.ndarray, " z"] | None = None,
    ) -> None:
        self.matrix, self.metric, self.folder, self.kind, self.nprobe = matrix, metric, folder, kind, nprobe
        self.rows, self.dim = matrix.shape
        self.zeros = np.zeros(0, np.int64) if zeros is None else zeros  # rows without a direction, for cosine
        self.ivf, self.lists = ivf, np.zeros(0, np.int32) if lists is None else lists
        self._prefixes: dict[int, Structure] = {}
        self._lock = threading.Lock()
        if ivf is not None:
            self._centres = ivf.quantizer.reconstruct_n(0, ivf.nlist)
            self._probe = {nprobe: faiss.SearchParametersIVF(nprobe=nprobe)}

    @classmethod
    def build(
        cls, folder: Path, chunks: Iterable[np.ndarray], rows: int, dim: int, metric: str, kind: str | None = None
    ) -> None:
        """Write the structure of `rows` vectors, read once from `chunks`, into an empty folder."""
        matrix = allocated(folder / "matrix.npy", np.float32, (rows, dim))
        filled = 0
        zeros = [np.zeros(0, np.int64)]
        for chunk in chunks:
            matrix[filled : filled + len(chunk)] = prepare(chunk, metric)
            zeros.append(filled + _zero_rows(chunk, metric))
            filled += len(chunk)
        if filled != rows:
            raise RuntimeError(f"expected {rows} rows to build from, got {filled}")
        matrix.flush()
        np.save(folder / "zeros.npy", np.concatenate(zeros))
        kind = kind or choose(rows, dim)
        notes: dict[str, Any] = {"format": FORMAT, "rows": rows, "dim": dim, "metric": metric, "kind": kind}
        if kind != "exact":
            ivf = _inverted_lists(np.asarray(matrix), metric, kind)
            np.save(folder / "lists.npy", _list_of_each_row(ivf, rows))
            notes["nprobe"] = _calibrate(np.asarray(matrix), ivf, metric, kind)
            try:
                faiss.write_index(ivf, str(folder / "ivf.faiss"))
            except RuntimeError as error:
                raise OSError(str(error)) from error
        seal(folder, notes)

    @classmethod
    def load(cls, folder: Path) -> Structure:
        """Map the files of a folder; OSError, ValueError or RuntimeError says what is wrong with them."""
        notes = sealed(folder, FORMAT)
        matrix = np.asarray(np.load(folder / "matrix.npy", mmap_mode="r", allow_pickle=False))
        if matrix.shape != (notes["rows"], notes["dim"]) or matrix.dtype != np.float32:
            raise ValueError(f"matrix.npy has shape {matrix.shape}")
        zeros = np.load(folder / "zeros.npy", allow_pickle=False)
        if notes["kind"] == "exact":
            return cls(matrix, notes["metric"], folder=folder, zeros=zeros)
        ivf = faiss.read_index(str(folder / "ivf.faiss"), faiss.IO_FLAG_MMAP)
        # Pages that are not in memory are read when touched; starting threads to fetch them costs more than the search.
        lists_on_disk = faiss.downcast_InvertedLists(ivf.invlists)
        lists_on_disk.prefetch_nthread = 0
        lists = np.asarray(np.load(folder / "lists.npy", mmap_mode="r", allow_pickle=False))
        if ivf.ntotal != len(matrix) or ivf.d != matrix.shape[1] or len(lists) != len(matrix):
            raise ValueError("ivf.faiss does not belong to matrix.npy")
        return cls(
            matrix,
            notes["metric"],
            folder=folder,
            ivf=ivf,
            lists=lists,
            nprobe=notes["nprobe"],
            kind=notes["kind"],
            zeros=zeros,
        )

    @property
    def lists_visited(self) -> int | None:
        return None if self.ivf is None else self.nprobe

    def prefix(self, dim: int) -> Structure:
        """The same rows cut to their first `dim` coordinates (unit length again for cosine), derived and kept."""
        if dim == self.dim:
            return self
        with self._lock:
            if dim not in self._prefixes:
                self._prefixes[dim] = self._derive_prefix(dim)
            return self._prefixes[dim]

    def _derive_prefix(self, dim: int) -> Structure:
        if self.folder is None:
            cut = prepare(self.matrix[:, :dim], self.metric)
            return Structure(cut, self.metric, zeros=_zero_rows(cut, self.metric))
        final = self.folder / f"prefix-{dim}"
        self.folder.mkdir(parents=True, exist_ok=True)  # somebody may have cleared it since it was mapped
        with exclusive(self.folder / "build.lock", str(self.folder), wait=True):
            try:
                return Structure.load(final)
            except (OSError, ValueError, RuntimeError, KeyError):
                with publishing(final) as folder:
                    chunks = (self.matrix[s : s + BLOCK_ROWS, :dim] for s in range(0, self.rows, BLOCK_ROWS))
                    Structure.build(folder, chunks, self.rows, dim, self.metric)
                return Structure.load(final)

    def scores(
        self, queries: np.ndarray, positions: np.ndarray, tally: Tally | None = None
    ) -> Float32[np.ndarray, "q k"]:
        """Exact scores of rows (q, k), larger is nearer: Euclidean distances come negated; -inf at position -1.

        Queries (q, m) narrower than the rows are compared with their first m coordinates (of unit length for cosine).
        """
        if tally is not None:
            tally.add(int(np.count_nonzero(positions >= 0)), queries.shape[1])
        narrow = queries.shape[1] < self.dim
        out = self._scores_of_prefixes(queries, positions) if narrow else self._scores_of_rows(queries, positions)
        out[positions < 0] = -np.inf
        return out

    def _scores_of_rows(self, queries: np.ndarray, positions: np.ndarray) -> Float32[np.ndarray, "q k"]:
        """Whole rows are compared where they lie: copying them first takes twice as long."""
        out = np.empty(positions.shape, dtype=np.float32)
        compare = faiss.fvec_L2sqr_by_idx if self.metric == "l2" else faiss.fvec_inner_products_by_idx
        arrays = out, np.ascontiguousarray(queries), self.matrix, np.ascontiguousarray(positions, dtype=np.int64)
        with threads(len(queries)):
            compare(*map(faiss.swig_ptr, arrays), self.dim, *positions.shape)
        return -np.sqrt(out) if self.metric == "l2" else out

    def _scores_of_prefixes(self, queries: np.ndarray, positions: np.ndarray) -> Float32[np.ndarray, "q k"]:
        dim = queries.shape[1]
        columns = self.matrix[:, :dim]
        out = np.empty(positions.shape, dtype=np.float32)
        step = max(1, GATHERED_BYTES // (4 * dim * max(1, positions.shape[1])))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            found = columns[positions[part]]  # (q, k, m); -1 takes the last row, masked by the caller
            if self.metric == "l2":
                out[part] = -np.sqrt(np.square(found - queries[part, None]).sum(-1))
            else:
                out[part] = np.matmul(found, queries[part, :, None])[..., 0]
            if self.metric == "cosine":
                out[part] /= np.maximum(np.sqrt(np.einsum("qkm,qkm->qk", found, found)), np.finfo(np.float32).tiny)
        return out

    def search(
        self,
        queries: np.ndarray,
        k: int,
        chosen: Chosen | None = None,
        *,
        exact: bool = False,
        tally: Tally | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best of the (chosen) rows for prepared queries (q, d): scores and positions (q, k), best first."""
        tally = Tally() if tally is None else tally
        available = self.rows if chosen is None else len(chosen.rows)
        k = min(k, available)
        hard = self.kind == "ivf" and self.nprobe == self.ivf.nlist  # few lists do not hold the neighbours
        compare_all = exact or self.ivf is None or 20 * k > available or (hard if chosen is None else chosen.few)
        with threads(len(queries)):
            if compare_all:
                positions = self._compare(queries, k, chosen, tally)
            else:
                positions = self._probe_lists(queries, k, chosen, tally)
                short = (positions >= 0).sum(1) < k  # the lists visited held fewer than k rows
                if short.any():
                    positions[short, :k] = self._compare(queries[short], k, chosen, tally)
            return best(self.scores(queries, positions, tally), positions, k)

    @cached_property
    def _rows_a_list(self) -> float:
        """Mean size of the lists that some of the rows would visit as queries, for the count of multiply-adds."""
        some = self.matrix[np.linspace(0, self.rows - 1, min(self.rows, CALIBRATION_QUERIES)).astype(np.int64)]
        visited = self.ivf.quantizer.search(np.ascontiguousarray(some), self.nprobe)[1]
        return float(np.bincount(self.lists, minlength=self.ivf.nlist)[visited].mean())

    def _compare(self, queries: np.ndarray, k: int, chosen: Chosen | None, tally: Tally) -> np.ndarray:
        tally.add(len(queries) * (self.rows if chosen is None else len(chosen.rows)), self.dim)
        metric = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        if chosen is None:
            return faiss.knn(queries, self.matrix, k, metric=metric)[1]
        scores = np.empty((len(queries), 0), np.float32)
        positions = np.empty((len(queries), 0), np.int64)
        for start, block in chosen.blocks(self):
            near, at = faiss.knn(queries, block, min(k, len(block)), metric=metric)
            near = -near if self.metric == "l2" else near
            scores, positions = best(
                np.concatenate([scores, near], 1), np.concatenate([positions, chosen.rows[start + at]], 1), k
            )
        return positions

    def _probe_lists(self, queries: np.ndarray, k: int, chosen: Chosen | None, tally: Tally) -> np.ndarray:
        count = k if self.kind == "ivf" else 4 * k + 32  # codes only propose; exact rows decide
        mean = self.rows / self.ivf.nlist
        nprobe = min(self.ivf.nlist, max(self.nprobe, int(np.ceil(16 * k / mean))))
        tally.add(len(queries) * self.ivf.nlist, self.dim)
        if chosen is None:
            tally.add(len(queries) * min(self.rows, nprobe * self._rows_a_list), self.dim)
            if nprobe not in self._probe:
                self._probe[nprobe] = faiss.SearchParametersIVF(nprobe=nprobe)
            return self.ivf.search(queries, count, params=self._probe[nprobe])[1]
        positions = np.empty((len(queries), count), dtype=np.int64)
        for number, query in enumerate(queries):
            positions[number] = self._probe_chosen(query[None], count, nprobe, chosen, tally)
        return positions

    def _probe_chosen(self, query: np.ndarray, count: int, nprobe: int, chosen: Chosen, tally: Tally) -> np.ndarray:
        """Visit the nearest lists that hold chosen rows.

        A filter may keep whole lists or thin out all of them. So more lists are visited than without one, and further
        lists until they held enough chosen rows: the geometric mean of the rows that a search without a filter sees
        and of what a filter that thins out all lists leaves of them.
        """
        share = len(chosen.rows) / self.rows
        least = round(nprobe * (1 + FILTER_WIDENING * (1 - share)))
        enough = max(nprobe * self.rows / self.ivf.nlist * share**0.5, 4 * count)
        near = self._centres @ query[0]
        if self.metric == "l2":
            near -= 0.5 * np.einsum("cd,cd->c", self._centres, self._centres)
        near[chosen.per_list == 0] = -np.inf
        order = np.argsort(-near)
        seen = np.cumsum(chosen.per_list[order])
        visit = max(least, int(np.searchsorted(seen, enough)) + 1)
        visit = min(visit, int(np.count_nonzero(chosen.per_list)))
        tally.add(int(seen[visit - 1]), self.dim)
        keys = np.ascontiguousarray(order[:visit], dtype=np.int64)
        # What faiss expects here is the quantiser's own distance of each centre: 8-bit residual codes start from it.
        centre_distances = np.ascontiguousarray(
            np.square(self._centres[keys] - query).sum(1) if self.metric == "l2" else near[keys], dtype=np.float32
        )
        distances, labels = np.empty((1, count), np.float32), np.empty((1, count), np.int64)
        self.ivf.search_preassigned_c(
            1,
            faiss.swig_ptr(query),
            count,
            faiss.swig_ptr(keys),
            faiss.swig_ptr(centre_distances),
            faiss.swig_ptr(distances),
            faiss.swig_ptr(labels),
            False,
            faiss.SearchParametersIVF(nprobe=visit, sel=chosen.selector),
        )
        return labels[0]


def _zero_rows(vectors: np.ndarray, metric: str) -> Int64[np.ndarray, " z"]:
    """Rows that are all zeros, where that matters: a prefix can be although the vector is not."""
    return np.flatnonzero(~np.any(vectors, axis=1)) if metric == "cosine" else np.zeros(0, np.int64)


def _inverted_lists(matrix: np.ndarray, metric: str, kind: str) -> Any:
    rows, dim = matrix.shape
    centres = max(1, min(rows // POINTS_PER_CENTRE, round(4 * rows**0.5)))
    measure = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    quantizer = faiss.IndexFlat(dim, measure)
    if kind == "ivf":
        ivf = faiss.IndexIVFFlat(quantizer, dim, centres, measure)
    else:
        ivf = faiss.IndexIVFScalarQuantizer(quantizer, dim, centres, faiss.ScalarQuantizer.QT_8bit, measure)
    ivf.cp.niter = KMEANS_ROUNDS
    sample = np.random.default_rng(0).choice(rows, min(rows, centres * POINTS_PER_CENTRE), replace=False)
    ivf.train(matrix[np.sort(sample)])
    for start in range(0, rows, BLOCK_ROWS):
        ivf.add(matrix[start : start + BLOCK_ROWS])
    return ivf


def _list_of_each_row(ivf: Any, rows: int) -> np.ndarray:
    lists = np.empty(rows, dtype=np.int32)
    for number in range(ivf.nlist):
        size = ivf.invlists.list_size(number)
        if size:
            lists[faiss.rev_swig_ptr(ivf.invlists.get_ids(number), size)] = number
    return lists


def _calibrate(matrix: np.ndarray, ivf: Any, metric: str, kind: str) -> int:
    """Fewest lists at which rows, left out of their own answer, find 98 % of their ten nearest.

    All of them where that takes more than a share that is worth it.
    """
    rows = np.sort(np.random.default_rng(1).choice(len(matrix), CALIBRATION_QUERIES, replace=False))
    queries = matrix[rows]
    trial = Structure(matrix, metric, ivf=ivf, kind=kind)
    truth = trial.search(queries, 11, exact=True)[1]
    most = WORTHWHILE * ivf.nlist if kind == "ivf" else ivf.nlist
    steps = [n for power in range(32) for n in (2**power, 3 * 2**power // 2)]
    for nprobe in sorted({step for step in steps if LEAST_LISTS <= step < most}):
        trial.nprobe = nprobe
        found = trial.search(queries, 11)[1]
        others = [(set(t) - {row}, set(f) - {row}) for row, t, f in zip(rows, truth.tolist(), found.tolist())]
        if sum(len(t & f) for t, f in others) >= TARGET_RECALL * sum(len(t) for t, _ in others):
            return nprobe
    return int(ivf.nlist)
