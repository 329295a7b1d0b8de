"""Train several candidates, keep the best: without a label.

Successive halving (Jamieson & Talwalkar, AISTATS 2016, arXiv:1502.07943): every candidate is trained for a small share of its
budget, the better part is trained for more, and so on. A candidate is trained anew for each budget, since a learning-rate
schedule belongs to its length; the shares grow threefold, so this costs at most half as much again. Candidates that do not
train (raw pixels, untrained networks) compete in every round.

Which criterion decides was itself decided by a study over data sets with hidden labels: see ``docs/selection.md``.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sklearn.base import clone

from nolabel.assess.criteria import CRITERIA, score

logger = logging.getLogger(__name__)

#: What the committed study found to rank candidates most like hidden labels do.
TRUSTED = "neighbour_overlap"


@dataclass(frozen=True)
class Trial:
    """One candidate in one round."""

    name: str
    round: int
    share: float  #: of its budget
    score: float  #: by the criterion, higher is better; -inf for a collapsed run
    verdict: str
    kept: bool
    seconds: float


@dataclass(frozen=True)
class Selection:
    """What `select` found: the fitted winner, and every trial."""

    best: Any
    name: str
    criterion: str
    trials: list[Trial]

    def __str__(self) -> str:
        lines = [f"{'candidate':28}{'budget':>8}{self.criterion:>22}{'seconds':>10}"]
        for trial in sorted(self.trials, key=lambda t: (t.round, -t.score)):
            mark = "*" if trial.kept else " "
            lines.append(f"{trial.name:28}{trial.share:>8.0%}{trial.score:>22.4f}{trial.seconds:>10.1f} {mark}")
        return "\n".join([*lines, f"chosen without labels: {self.name}"])

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {"name": self.name, "criterion": self.criterion, "trials": [asdict(trial) for trial in self.trials]}


def select(
    candidates: Mapping[str, Any],
    X: Any,
    *,
    columns: dict[str, str] | None = None,
    criterion: str = TRUSTED,
    rounds: int = 3,
    rows: int = 2000,
    random_state: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Selection:
    """Train candidates with successive halving and keep the best by a label-free criterion.

    Parameters
    ----------
    candidates : unfitted estimators by name, with ``fit`` and ``pairs`` (every image learner has them); those with a
        training budget say it in ``training`` as steps, minutes or epochs
    X, columns : as in `fit`
    criterion : one of `CRITERIA`; the default is what the committed study supports
    rounds : budgets grow threefold from round to round up to the whole; a third of the candidates goes on
    rows : rows that the criterion looks at
    random_state : seed of those rows and their views
    progress : called with a line for each trial

    Returns
    -------
    Selection, whose ``best`` is fitted on all of `X` with its whole budget

    Raises
    ------
    ValueError
        No candidates, an unknown criterion, or every candidate collapsed.
    """
    if not candidates:
        raise ValueError("candidates is empty: expected at least one estimator by name")
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, got {criterion!r}")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    trials: list[Trial] = []
    alive = list(candidates)
    fitted: dict[str, Any] = {}
    for number in range(rounds):
        share = 3.0 ** (number + 1 - rounds)
        scores: dict[str, tuple[float, str, float]] = {}
        for name in alive:
            begun = time.monotonic()
            if number == 0 or trains(candidates[name]):
                fitted[name] = _trained(candidates[name], share, X, columns)
            verdict = fitted[name].health_["verdict"]
            value = -math.inf
            if verdict != "collapsed":
                value = score(criterion, *fitted[name].pairs(X, columns=columns, rows=rows, random_state=random_state))
            scores[name] = (value, verdict, time.monotonic() - begun)
            if progress is not None:
                progress(f"{name}: {criterion} {value:.4f} after {share:.0%} of its budget")
        ranked = sorted(alive, key=lambda name: -scores[name][0])
        survivors = ranked[: 1 if number == rounds - 1 else max(2, -(-len(ranked) // 3))]
        if number < rounds - 1:  # controls cost nothing: they stay in the race
            survivors += [name for name in ranked if name not in survivors and not trains(candidates[name])]
        trials += [Trial(name, number, share, *scores[name][:2], name in survivors, scores[name][2]) for name in ranked]
        alive = survivors
    winner = alive[0]
    if math.isinf(max(trial.score for trial in trials if trial.round == rounds - 1)):
        raise ValueError("every candidate collapsed: look at the data (are the images all alike?)")
    return Selection(fitted[winner], winner, criterion, trials)


def trains(candidate: Any) -> bool:
    """Whether a candidate has a budget; controls have none."""
    return getattr(candidate, "trains", True)


def _trained(candidate: Any, share: float, X: Any, columns: dict[str, str] | None) -> Any:
    """A copy of the candidate, fitted with a share of its budget."""
    learner = clone(candidate)
    if trains(candidate) and share < 1.0:
        learner.set_params(**shortened(learner, share))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        learner.fit(X, columns=columns)
    for warning in caught:
        logger.info("%s: %s", type(candidate).__name__, warning.message)
    return learner


def shortened(learner: Any, share: float) -> dict[str, Any]:
    """The training parameter that a share of the budget changes."""
    training = learner.training
    if training is not None and training.minutes is not None:
        return {"training__minutes": training.minutes * share}
    if training is not None and training.steps is not None:
        return {"training__steps": max(1, round(training.steps * share))}
    epochs = (
        training.epochs if training is not None and training.epochs is not None else learner.recipe.get("epochs", 20)
    )
    return {"training__epochs": max(1, round(epochs * share))}
