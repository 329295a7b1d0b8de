"""Wrong labels found by LSA and its detectors against cleanlab's confident learning, on labels of people, in one run.

python -m benchmarks.speed label_errors [--quick]; the full run takes about 8 minutes on two cores.

The images are those of the claim `lsa`: 3,600 of CIFAR-10 with the label one person gave, 17 % wrong, and the same with 2,400
strangers among them. All arms stand on one SimCLR without labels. cleanlab gets what its documentation asks for:
out-of-sample probabilities, here of a logistic regression on the frozen features in five folds; of its three rankings the one
with the best AUROC counts. `detect_noise` gets the losses of the same probabilities, so that only the detectors differ; LSA
trains by itself. Precision and recall are of the first rows of each ranking, as many as cleanlab's list of issues is long.
Seconds are those of finding: the folds belong to cleanlab and `detect_noise` alike, the training to LSA, SimCLR to all.
Goals: `detect_noise` on losses takes no longer than cleanlab; LSA ranks at least as well.
"""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.claims.lsa import Crawl, crawl, learned
from benchmarks.speed.harness import Line, Options, circumstances, clocked, inverse, line, seconds, spread
from nolabel.clean import LSAClassifier, detect_noise
from nolabel.training import Training

TITLE = "Label errors"
SEED, ROUNDS = 11, 5  # a seed that no claim has
SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def peak_mib(work: Callable[[], Any]) -> float:
    """Most memory of Python and NumPy beyond what there was, traced in a run of its own for tracing slows it down."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def cleanlab(given: np.ndarray, probabilities: np.ndarray) -> tuple[int, dict[str, np.ndarray]]:
    """Length of cleanlab's list of label issues, and its three rankings, higher for worse."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    issues = find_label_issues(given, probabilities, n_jobs=1)
    return int(issues.sum()), {name: -get_label_quality_scores(given, probabilities, method=name) for name in SCORES}


def ranked(scores: np.ndarray, wrong: np.ndarray, length: int) -> dict[str, float]:
    """AUROC, and precision and recall of the `length` highest scores."""
    first = np.argsort(-scores, kind="stable")[:length]
    return {
        "AUROC": float(roc_auc_score(wrong, scores)),
        "precision": float(wrong[first].mean()),
        "recall": float(wrong[first].sum() / wrong.sum()),
    }


def measure(data: Crawl, representation: Any, epochs: int) -> dict[str, Any]:
    wrong = data.stranger | data.mislabelled
    features = representation.transform(data.images)
    early = representation.transform(data.images, layer="stage2")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.01))
    folds, probabilities = clocked(lambda: cross_val_predict(model, features, data.given, cv=5, method="predict_proba"))
    losses = -np.log(probabilities[np.arange(len(wrong)), data.given].clip(1e-12))
    _, (length, rankings) = clocked(lambda: cleanlab(data.given, probabilities))  # the first time imports it
    best = max(SCORES, key=lambda name: roc_auc_score(wrong, rankings[name]))
    peer, ours, linear = [], [], []
    for _ in range(ROUNDS):
        peer.append(seconds(lambda: cleanlab(data.given, probabilities)))
        ours.append(seconds(lambda: detect_noise(losses)))
        linear.append(seconds(lambda: detect_noise(losses, early)))
    lsa = LSAClassifier(
        representation=representation, training=Training(epochs, lr=0.05, batch_size=128, random_state=SEED)
    )
    training = seconds(lambda: lsa.fit(data.images, data.given))
    by_losses, by_features = detect_noise(losses), detect_noise(losses, early)
    arms = {
        f"cleanlab, {best}": rankings[best],
        "detect_noise, losses": losses,
        "detect_noise, features": by_features.probability,
        "LSAClassifier": lsa.losses_,
    }
    return {
        "rows": len(wrong),
        "wrong": int(wrong.sum()),
        "list": length,
        "arms": {name: ranked(scores, wrong, length) for name, scores in arms.items()},
        "own list of detect_noise": int(by_losses.noisy.sum()),
        "folds_seconds": folds,
        "training_seconds": training,
        "peer_seconds": spread(peer),
        "seconds": {"losses": spread(ours), "features": spread(linear)},
        "ratio": {
            "losses": spread([o / p for o, p in zip(ours, peer)]),
            "features": spread([o / p for o, p in zip(linear, peer)]),
        },
        "peer_peak_mib": peak_mib(lambda: cleanlab(data.given, probabilities)),
        "peak_mib": {
            "losses": peak_mib(lambda: detect_noise(losses)),
            "features": peak_mib(lambda: detect_noise(losses, early)),
        },
    }


def shortened(data: Crawl, rows: int) -> Crawl:
    return Crawl(*(part[:rows] for part in data))


def run(options: Options) -> dict[str, Any]:
    try:
        import cleanlab as peer
    except ImportError:
        raise SystemExit("the benchmark label_errors needs its peer: pip install cleanlab") from None
    found = circumstances("scikit-learn")
    found["versions"]["cleanlab"] = peer.__version__
    cases = []
    for strangers in (False, True):
        data = crawl(SEED, strangers)
        if options.quick:
            data = shortened(data, 600)
        representation = learned(data, SEED) if not options.quick else _hasty(data)
        cases.append({"strangers": strangers, **measure(data, representation, 2 if options.quick else 6)})
    return {"name": "label_errors", **found, "cases": cases}


def _hasty(data: Crawl) -> Any:
    from nolabel.learn import SimCLR

    return SimCLR("conv4", training=Training(steps=5, batch_size=64)).fit(data.images)


def lines(result: dict[str, Any]) -> list[Line]:
    found = []
    for case in result["cases"]:
        data = (
            f"{case['rows']:,} images, {case['wrong']:,} wrong{', strangers among them' if case['strangers'] else ''}"
        )
        peer, *others = case["arms"]
        for name in others:
            for measured in ("AUROC", "precision", "recall"):
                what = f"{data}: {measured} of {name}" + ("" if measured == "AUROC" else f", first {case['list']:,}")
                value, against = case["arms"][name][measured], case["arms"][peer][measured]
                goal = against if (name, measured) == ("LSAClassifier", "AUROC") else None
                found.append(Line(what, f"{peer}: {against:.3f}", *[value] * 3, unit="", goal=goal))
        for kind, ratio in case["ratio"].items():
            what = f"{data}: time of detect_noise, {kind}, without the folds"
            goal = 1.0 if kind == "losses" else None
            found.append(line(what, f"cleanlab: {case['peer_seconds']['median']:.2f} s", inverse(ratio), goal=goal))
            what = f"{data}: memory of detect_noise, {kind}"
            found.append(
                Line(what, f"cleanlab: {case['peer_peak_mib']:.0f} MiB", *[case["peak_mib"][kind]] * 3, unit="MiB")
            )
        what = f"{data}: training of LSAClassifier"
        found.append(
            Line(what, f"five folds: {case['folds_seconds']:.1f} s", *[case["training_seconds"]] * 3, unit="s")
        )
    return found
