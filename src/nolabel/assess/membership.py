"""Membership inference: can one tell from a model's answers which rows it learned from?

A model that remembers rows answers them more surely than rows of the same kind that it never saw. An attack learns this
difference from rows whose membership is known; at 0.5 it finds none.

Protocol, on which everything hangs:

* `strangers` must be drawn like the members and differ from them in nothing but that the model never learned from them. Cats
  as members and dogs as strangers measure what tells cats from dogs.
* The attack sees probabilities sorted from the largest down: how sure the model is, not of which class.
* Accuracy is that on rows kept out of the attack's own training (stratified folds), and balanced, so that 0.5 is chance
  however many rows there are of each.
* Whether `suspects` were forgotten is read against the strangers: the share of them that is called members should be the
  strangers' share. It should not be 0: rows that are suspiciously unlike everything betray that they were there.
* An attack that fails on the members themselves (accuracy near 0.5) says nothing about suspects.

Shokri et al., "Membership inference attacks against machine learning models", IEEE S&P 2017, arXiv:1610.05820; on sorted
probabilities Salem et al., "ML-Leaks", NDSS 2019, arXiv:1806.01246; by loss alone Yeom et al., CSF 2018, arXiv:1709.01604.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nolabel.assess.inputs import as_count, as_embeddings, as_labels

LEAST = 1e-12  # probability below which a logarithm says nothing more


@dataclass(frozen=True)
class MembershipReport:
    """What an attack finds.

    Attributes
    ----------
    accuracy : balanced, of telling members from strangers, on rows that the attack did not learn from; 0.5 is chance
    auc : area under the ROC curve of the same
    confidence_auc : of the largest probability alone
    members_called, strangers_called : shares that the attack calls members, on rows that it did not learn from
    suspects_called : share of the suspects; None without suspects
    """

    accuracy: float
    auc: float
    confidence_auc: float
    members_called: float
    strangers_called: float
    suspects_called: float | None

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


def membership_inference(
    members: Any,
    strangers: Any,
    suspects: Any = None,
    *,
    folds: int = 5,
    most: int = 5000,
    random_state: int = 0,
) -> MembershipReport:
    """Attack a model through its class probabilities; gradient-boosted trees on the sorted ones.

    Parameters
    ----------
    members : (n, k) probabilities of rows that the model learned from.
    strangers : (m, k) of rows of the same kind that it did not.
    suspects : (s, k) of rows of which one asks; none of them may be among the others.
    folds : parts of which each is once kept out; at least 2, and at most the rows of either set.
    most : rows taken of members and of strangers, drawn at random where there are more.
    random_state : seed of the draw, the folds and the trees.

    Returns
    -------
    MembershipReport

    Raises
    ------
    ValueError
        Not matrices of one width, values that are no probabilities, or fewer rows than folds.

    >>> rng = np.random.default_rng(0)
    >>> sure, unsure = rng.uniform(0.9, 1.0, 200), rng.uniform(0.5, 0.8, 200)
    >>> found = membership_inference(np.c_[sure, 1 - sure], np.c_[1 - unsure, unsure], np.c_[unsure, 1 - unsure])
    >>> round(found.accuracy, 1), found.confidence_auc, found.suspects_called
    (1.0, 1.0, 0.0)
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rng = np.random.default_rng(random_state)
    inside, outside = (
        _drawn(_sorted(p, name), most, rng) for p, name in ((members, "members"), (strangers, "strangers"))
    )
    asked = None if suspects is None else _sorted(suspects, "suspects")
    widths = {part.shape[1] for part in (inside, outside, asked) if part is not None}
    if len(widths) > 1:
        raise ValueError(
            f"members, strangers and suspects: the same number of classes was expected, got {sorted(widths)}"
        )
    fewest = min(len(inside), len(outside))
    as_count(folds, "folds", low=2, high=fewest, why=f"there are {len(inside)} members and {len(outside)} strangers")
    seen, truth = np.concatenate([inside, outside]), np.repeat([1, 0], [len(inside), len(outside)])
    attack = HistGradientBoostingClassifier(
        max_iter=40,
        max_leaf_nodes=8,
        min_samples_leaf=max(2, min(20, fewest // 10)),
        random_state=random_state,
    )
    kept_out = StratifiedKFold(folds, shuffle=True, random_state=random_state)
    told = cross_val_predict(attack, seen, truth, cv=kept_out, method="predict_proba")[:, 1]
    even = truth.mean()  # the probability at which odds are even, had there been as many strangers as members
    called = [float(np.mean(told[truth == kind] > even)) for kind in (1, 0)]
    return MembershipReport(
        accuracy=(called[0] + 1 - called[1]) / 2,
        auc=float(roc_auc_score(truth, told)),
        confidence_auc=float(roc_auc_score(truth, seen[:, 0])),
        members_called=called[0],
        strangers_called=called[1],
        suspects_called=None
        if asked is None
        else float(np.mean(attack.fit(seen, truth).predict_proba(asked)[:, 1] > even)),
    )


def loss_auc(members: Any, member_codes: Any, strangers: Any, stranger_codes: Any) -> float:
    """How well the loss alone tells members from strangers: the share of pairs in which the member's is the smaller one.

    Parameters
    ----------
    members, strangers : (n, k) and (m, k) probabilities, at least one row each.
    member_codes, stranger_codes : (n,) and (m,) true classes, from 0 to k - 1.

    Returns
    -------
    float in [0, 1]; 0.5 is chance.

    Raises
    ------
    ValueError
        Shapes that do not fit, or codes that are no columns of the probabilities.

    >>> loss_auc([[0.9, 0.1], [0.2, 0.8]], [0, 1], [[0.6, 0.4], [0.6, 0.4]], [0, 1])
    1.0
    """
    from sklearn.metrics import roc_auc_score

    losses = []
    for name, p, codes in (("member", members, member_codes), ("stranger", strangers, stranger_codes)):
        given = _probabilities(p, f"{name}s")
        own = as_labels(codes, len(given), f"{name}_codes")
        if own.dtype.kind not in "iu" or own.min() < 0 or own.max() >= given.shape[1]:
            raise ValueError(
                f"{name}_codes: classes from 0 to {given.shape[1] - 1} were expected, got {np.unique(own)[:5]}"
            )
        losses.append(-np.log(np.maximum(given[np.arange(len(given)), own], LEAST)))
    return float(roc_auc_score(np.repeat([0, 1], [len(part) for part in losses]), np.concatenate(losses)))


def _probabilities(values: Any, name: str) -> np.ndarray:
    p = as_embeddings(values, name, at_least=1)
    sums = p.sum(axis=1)
    if p.min() < -1e-6 or np.abs(sums - 1).max() > 1e-3:
        raise ValueError(
            f"{name}: probabilities that sum to 1 were expected, got sums from {sums.min():.3g} to {sums.max():.3g}"
        )
    return p


def _sorted(values: Any, name: str) -> np.ndarray:
    """Probabilities from the largest down."""
    return np.sort(_probabilities(values, name), axis=1)[:, ::-1]


def _drawn(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    as_count(most, "most", low=2)
    return rows if len(rows) <= most else rows[np.sort(rng.permutation(len(rows))[:most])]
