"""Wrong labels in a corpus of vectors that does not fit into memory.

The vectors come from an encoder that never saw the labels. Two linear classifiers learn from a sample of the labelled rows,
one from each half of the corpus, and each judges the other half, shard by shard: no row is judged by what learned its label.
The cross-entropies of all rows then go to the small-loss detector of `detection`. Only these, and the classes, are ever held
for all rows: 16 bytes each.

A network that learns from the images through the noise (`LSAClassifier`) finds more; this needs no training of one.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from nolabel.clean.detection import small_loss
from nolabel.clean.suspects import SURE
from nolabel.corpus import Corpus, Shard, each, summarise
from nolabel.corpus.reading import pieces
from nolabel.corpus.scores import matrix

SAMPLE = 20_000
#: Rows of a class that a half of the sample has to hold for the class to be judged.
ENOUGH = 2


class Judged(NamedTuple):
    """What was found.

    Attributes
    ----------
    suspects : id, given, suggested, kind, loss, loss_probability, confidence; by falling loss
    rows : rows of the corpus
    judged : of them, those whose label was judged; the others have none, or one too rare in the sample
    sample : rows that the classifiers learned from
    """

    suspects: pa.Table
    rows: int
    judged: int
    sample: int


def suspects_by_shards(
    corpus: Corpus,
    label: str,
    *,
    sample: int = SAMPLE,
    threshold: float = 0.95,
    random_state: int = 0,
    engine: str = "local",
    address: str | None = None,
) -> Judged:
    """Rows whose label is probably wrong, of a corpus with the columns ``vector``, ``id`` and `label`.

    Parameters
    ----------
    sample : rows that the classifiers learn from, at most
    threshold : probability above which the small-loss detector calls a label wrong
    random_state : seed of the sample and of the halves
    engine, address : as in `nolabel.corpus.each`

    Raises
    ------
    ValueError : no such column, or fewer than two classes that can be judged
    """
    drawn = summarise(
        corpus, sample=sample, columns=(label,), random_state=random_state, engine=engine, address=address
    )
    half = np.empty(len(drawn.sample), bool)
    for number in np.unique(drawn.places[:, 0]):
        own = drawn.places[:, 0] == number
        half[own] = _half(corpus.shards[number], random_state, drawn.places[own, 1])
    given = np.array([None if value is None else str(value) for value in drawn.columns[label]], object)
    classes = [
        name
        for name in sorted({name for name in given if name is not None})
        if min((given[half] == name).sum(), (given[~half] == name).sum()) >= ENOUGH
    ]
    if len(classes) < 2:
        raise ValueError(f"{label}: two classes of {2 * ENOUGH} rows or more were expected, got {len(classes)}")
    known = np.isin(given, classes)
    # whoever is of one half is judged by what the other has learned
    heads = [_learned(drawn.sample[known & part], given[known & part]) for part in (~half, half)]
    judging = _Judging(heads, classes, label, random_state)
    found: dict[str, np.ndarray] = {}
    for attempt in each(corpus.shards, judging, engine=engine, address=address):
        if attempt.error is not None:
            raise ValueError(f"{attempt.item.name}: {attempt.error}")
        found[attempt.item.name] = attempt.value
    verdicts = np.concatenate([found[shard.name] for shard in corpus.shards])
    shard_of = np.repeat(np.arange(len(corpus.shards)), [len(found[shard.name]) for shard in corpus.shards])
    detection = small_loss(verdicts["loss"].astype(np.float64), threshold)
    sure = verdicts["confidence"] > SURE
    chosen = np.flatnonzero(detection.noisy & ~(sure & (verdicts["suggested"] == verdicts["given"])))
    chosen = chosen[np.argsort(-verdicts["loss"][chosen], kind="stable")]
    top = verdicts[chosen]
    names = np.array(classes)
    columns = {
        "id": _ids(corpus, shard_of[chosen], top["row"], engine, address),
        "given": names[top["given"]],
        "suggested": names[top["suggested"]],
        "kind": np.where(sure[chosen], "wrong label", "stranger"),
        "loss": top["loss"],
        "loss_probability": detection.probability[chosen].astype(np.float32),
        "confidence": top["confidence"],
    }
    return Judged(pa.table(columns), drawn.moments.rows, len(verdicts), int(known.sum()))


def _half(shard: Shard, seed: int, rows: np.ndarray) -> np.ndarray:
    """Which half of the corpus rows of a shard belong to: by chance, but the same wherever it is asked."""
    rng = np.random.default_rng([seed, zlib.crc32(shard.name.encode())])
    return rng.random(int(rows.max(initial=-1)) + 1)[rows] < 0.5


def _learned(vectors: np.ndarray, given: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    return make_pipeline(Normalizer(), StandardScaler(), LogisticRegression(max_iter=1000)).fit(
        vectors, given.astype(str)
    )


_VERDICT = np.dtype([("row", "i8"), ("given", "i4"), ("suggested", "i4"), ("loss", "f4"), ("confidence", "f4")])


class _Judging:
    """Judge the labelled rows of one shard."""

    def __init__(self, heads: list[Any], classes: list[str], label: str, seed: int) -> None:
        self.heads, self.label, self.seed = heads, label, seed
        self.codes = {name: code for code, name in enumerate(classes)}

    def __call__(self, shard: Shard) -> np.ndarray:
        parts: list[np.ndarray] = []
        start = 0
        for piece in pieces(shard, ("vector", self.label)):
            given = np.array([self.codes.get(str(value), -1) for value in piece[self.label].to_pylist()])
            at = np.flatnonzero(given >= 0)
            z = matrix(piece["vector"], start)[at]
            half = _half(shard, self.seed, np.arange(start, start + len(piece)))[at]
            p = np.empty((len(at), len(self.codes)))
            for value, head in enumerate(self.heads):
                if (half == value).any():
                    p[half == value] = head.predict_proba(z[half == value])  # the classes are sorted, as in `codes`
            verdict = np.empty(len(at), _VERDICT)
            verdict["row"], verdict["given"] = at + start, given[at]
            verdict["suggested"], verdict["confidence"] = p.argmax(axis=1), p.max(axis=1, initial=0)
            verdict["loss"] = -np.log(p[np.arange(len(at)), given[at]].clip(1e-12))
            parts.append(verdict)
            start += len(piece)
        return np.concatenate(parts) if parts else np.empty(0, _VERDICT)


def _ids(corpus: Corpus, shards: np.ndarray, rows: np.ndarray, engine: str, address: str | None) -> pa.Array:
    """The column ``id`` of rows anywhere in the corpus, in this order."""
    wanted = [(corpus.shards[number], rows[shards == number]) for number in np.unique(shards)]
    parts = {}
    for attempt in each(wanted, _read_ids, engine=engine, address=address):
        if attempt.error is not None:
            raise ValueError(f"{attempt.item[0].name}: {attempt.error}")
        parts[attempt.item[0].name] = attempt.value
    joined = [cell for shard, _ in wanted for cell in parts[shard.name]]
    return pa.array(joined).take(np.argsort(np.argsort(shards, kind="stable"), kind="stable"))


def _read_ids(item: tuple[Shard, np.ndarray]) -> list[Any]:
    shard, rows = item
    ids = [cell for piece in pieces(shard, ("id",)) for cell in piece["id"].to_pylist()]
    return [ids[row] for row in rows]
