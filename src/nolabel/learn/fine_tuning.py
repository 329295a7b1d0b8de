"""Fine-tuning a dense retriever on pairs of queries and passages, with negatives that it mines itself."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn
from torch.nn.functional import normalize

from nolabel.data import read
from nolabel.data.text_pairs import PASSAGE, QUERY, PairSource
from nolabel.data.tokenisers import read_tokeniser
from nolabel.objectives.in_batch import false_negatives, in_batch_softmax
from nolabel.ops.neighbours import nearest
from nolabel.training import Learner, Training, gather
from nolabel.training.batches import Rows, bucketed

#: Highest-ranked wrong passages of a query among which its hard negative is drawn.
MINED = 10
#: Rows of a batch that is only encoded.
ENCODED = 64


class PairTuning(Learner):
    """One round of fine-tuning; the encoder and its tokeniser come from a fitted retriever.

    Parameters
    ----------
    encoder : `nolabel.encoders.text.TextEncoder`, which stays as it is: ``net_.encoder`` is a copy
    temperature, normalise : as in the retriever
    hard_ratio : probability that a query's extra negative is a hard one
    training : how long and on what to train
    """

    columns = (QUERY, PASSAGE)
    recipe = {  # noqa: RUF012
        "optimiser": "adamw", "lr": 2e-4, "weight_decay": 0.01, "warmup": 0.1, "clip": 1.0, "batch_size": 64, "epochs": 10,
    }  # fmt: skip

    def __init__(
        self, encoder: Any, *, temperature: float, normalise: bool, hard_ratio: float, training: Training | None = None
    ) -> None:
        self.encoder = encoder
        self.temperature = temperature
        self.normalise = normalise
        self.hard_ratio = hard_ratio
        self.training = training

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = nn.Module()
        net.encoder = copy.deepcopy(self.encoder).requires_grad_(True)
        return net

    def plan(self, source: PairSource, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        batches = bucketed(source.lengths[PASSAGE], batch_size, rng)
        return [source.with_negatives(rows, rng, hard_ratio=self.hard_ratio) for rows in batches]

    def loss(self, net: Any, batch: dict[str, Any]) -> Tensor:
        b = len(batch["row"])
        queries, passages, numbers = (
            self.vectors(net, batch[QUERY]),
            self.vectors(net, batch[PASSAGE]),
            batch["passages"],
        )
        # of all ranks first the answers, then the extra negatives
        passages, numbers = (torch.cat([gather(rows[:b]), gather(rows[b:])]) for rows in (passages, numbers))
        ignored = false_negatives(gather(batch["queries"]), numbers)
        return in_batch_softmax(gather(queries), passages, temperature=self.temperature, ignored=ignored)

    def vectors(self, net: Any, text: dict[str, Tensor]) -> Tensor:
        found: Tensor = net.encoder(text["tokens"], text["mask"]).float()
        return normalize(found, dim=1) if self.normalise else found

    def encode(self, net: nn.Module, batch: dict[str, Any]) -> Tensor:
        """Vectors of the queries of a batch."""
        return self.vectors(net, batch[QUERY])


@torch.no_grad()
def _encoded(learner: PairTuning, texts: Any, column: str) -> np.ndarray:
    """Vectors (n, d) of all texts of a TokenSource."""
    order = np.argsort(texts.lengths[column], kind="stable")
    device = next(learner.net_.parameters()).device
    parts = []
    for start in range(0, len(order), ENCODED):
        text = texts.batch(order[start : start + ENCODED])[column]
        parts.append(learner.vectors(learner.net_, {name: value.to(device) for name, value in text.items()}).cpu())
    found = torch.cat(parts).numpy()
    return found[np.argsort(order)]


def mined(learner: PairTuning, source: PairSource, most: int = MINED) -> list[np.ndarray]:
    """For each query of `source` the numbers of the passages that rank highest and do not answer it, best first.

    What answers the same query in another pair answers it here too.
    """
    answers: dict[int, set[int]] = {}
    for query, passage in zip(source.query.tolist(), source.positive.tolist()):
        answers.setdefault(query, set()).add(passage)
    queries, passages = _encoded(learner, source.queries, QUERY), _encoded(learner, source.passages, PASSAGE)
    k = min(len(passages), most + max(map(len, answers.values())))
    _, ranked = nearest(queries, passages, k, metric="dot")
    return [
        np.array([number for number in row if number not in answers[query]][:most], np.int64)
        for query, row in zip(source.query.tolist(), ranked.tolist())
    ]


def fine_tuned(
    retriever: Any, columns: dict[str, list[Any]], corpus: Sequence[str], hard_ratio: float, training: Training | None
) -> tuple[dict[str, Tensor], list[list[float]]]:
    """Weights of the retriever's encoder after fine-tuning, and the losses of each round.

    With hard negatives in `columns` there is one round; else a second one on mined negatives, from the same start as the
    first, if `hard_ratio` is above 0.
    """
    limit = retriever.limits(retriever.columns)[0]
    source = PairSource(read(columns), read_tokeniser(retriever.tokeniser_), (limit, limit), corpus=corpus)
    settings = Training() if training is None else clone(training)
    if settings.lr is None:
        settings.set_params(lr=retriever.recipe["lr"] / 5)

    def tuned(ratio: float) -> PairTuning:
        return PairTuning(
            retriever.net_.encoder,
            temperature=retriever.temperature,
            normalise=retriever.normalise,
            hard_ratio=ratio,
            training=settings,
        ).fit_source(source)

    given = any(len(found) for found in source.hard)
    rounds = [tuned(hard_ratio if given else 0.0)]
    if hard_ratio and not given:
        source.hard = mined(rounds[0], source)
        rounds.append(tuned(hard_ratio))
    net: Any = rounds[-1].net_
    return net.encoder.state_dict(), [[row["loss"] for row in one.history_ if "loss" in row] for one in rounds]
