"""Search by binary codes: the fewest differing bits, ranked again by real vectors where these are kept too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, UInt8

from nolabel.search.codes import Codes, Kept
from nolabel.search.fields import matrix_of
from nolabel.search.found import Found
from nolabel.search.snapshot import Snapshot, joined
from nolabel.search.structure import prepare

RESCORED_ROWS = 8192  # vectors read at a time


class Binary:
    """Packed codes in a `Codes`."""

    name = "binary"
    columns: tuple[str, ...] = ("code",)

    def __init__(self, bits: int) -> None:
        self.width = bits // 8

    def build(self, folder: Path, pieces: Callable[[], Iterator[pa.RecordBatch]], rows: int) -> None:
        Codes.build(folder, (matrix_of(piece["code"]) for piece in pieces()), rows, self.width)

    def load(self, folder: Path) -> Codes:
        codes = Codes.load(folder)
        if codes.width != self.width:
            raise ValueError(f"it is for codes of {8 * codes.width} bits")
        return codes

    def read(self, rows: pa.Table) -> UInt8[np.ndarray, "n b"]:
        return matrix_of(rows["code"])

    def stack(self, parts: Sequence[np.ndarray]) -> UInt8[np.ndarray, "n b"]:
        return np.concatenate(parts)

    def hold(self, contents: np.ndarray) -> Codes:
        return Codes(contents)

    def contents(self, structure: Codes) -> UInt8[np.ndarray, "n b"]:
        return structure.matrix


def search(
    snapshot: Snapshot, queries: UInt8[np.ndarray, "q b"], k: int, where: str | None, exact: bool
) -> list[Found]:
    """The k codes with the fewest bits unlike each query's, ties by id; scores are negated distances."""
    found = []
    for (codes, start), kept in zip(snapshot.parts, snapshot.filtered(where, None, Kept)):
        if codes.rows and (kept is None or len(kept.rows)):
            distances, rows = codes.search(queries, k, kept, exact=exact)
            found.append((-distances.astype(np.float32), rows + start))
    scores, positions = snapshot.best(*joined(found, len(queries)), k)
    return [Found(*row) for row in zip(scores, positions)]


def rescored(
    snapshot: Snapshot, found: Sequence[Found], vectors: Float32[np.ndarray, "q d"], k: int, metric: str
) -> list[Found]:
    """What the codes found, ranked by the real vectors of the same rows, which are read from the store."""
    answers: list[Found] = []
    each = max(1, RESCORED_ROWS // max(1, max(len(hits.positions) for hits in found)))
    for first in range(0, len(found), each):
        some = found[first : first + each]
        wanted = np.unique(np.concatenate([hits.positions for hits in some]))
        rows = np.empty((0, vectors.shape[1]), np.float32)
        if len(wanted):
            taken = snapshot.store.take(snapshot.table, snapshot.addresses[wanted], ["vector"])
            rows = prepare(matrix_of(taken["vector"]), metric)
        for query, hits in zip(prepare(vectors[first : first + each], metric), some):
            near = rows[np.searchsorted(wanted, hits.positions)]
            scores = -np.linalg.norm(near - query, axis=1) if metric == "l2" else near @ query
            best = snapshot.best(scores[None].astype(np.float32), hits.positions[None], k)
            answers.append(Found(best[0][0], best[1][0], hits.multiply_adds + near.size))
    return answers
