"""Which label-free criterion ranks representations as hidden labels do?

Over several data sets, candidates of several methods, temperatures and lengths are trained without labels, raw pixels and an
untrained encoder among them. Every label-free criterion is computed on 2,000 training images; afterwards the hidden labels
say how good each candidate is (k-NN and ridge accuracy). A criterion is judged by its rank correlation with that accuracy and
by its regret: the accuracy that its pick loses against the best candidate.

``python -m benchmarks.studies.selection``; candidates that were measured before are not measured again.
"""

import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.studies import auto
from benchmarks.studies.data import DATA, sets
from nolabel.assess import CRITERIA, knn_accuracy, rankme, ridge_probe, score
from nolabel.learn import DenoisingAutoencoder, GSimCLR, RawPixels, RotNet, SimCLR, SwAV, Untrained
from nolabel.training import Training
from nolabel.training.image import GENTLE

RESULTS = Path(__file__).parent / "results" / "selection.json"
DOCS = Path(__file__).parents[2] / "docs" / "selection.md"
ENCODER, TRAIN, TEST, SEED = "resnet10-x0.5", 4000, 1500, 0
VERDICT = [
    "## What `select` trusts",
    "",
    "`neighbour_overlap`: do two views of an image have the same neighbours? Over all candidates RankMe has the least regret, "
    "but only because the widest representation, the autoencoder's map, happens to be the best one here: its rank "
    "correlation with ridge accuracy is near zero, and its regret grows where that candidate is missing. Neighbour overlap "
    "has the least regret over random sets of candidates, k-NN and ridge taken together, and by ridge accuracy its pick is "
    "never below raw pixels. By k-NN accuracy it is, on the grey data sets: after so short a training few candidates there "
    "beat raw pixels, and the criterion prefers learned ones. With the whole budget that `--method auto` gives its "
    "candidates it ends nowhere below them (next section).",
    "",
]
CONTROLS = ("raw pixels", "untrained")


def candidates() -> dict[str, Any]:
    """What a user might try: methods, temperatures, lengths; and two controls."""

    def training(steps: int, **more: Any) -> Training:
        return Training(steps=steps, random_state=SEED, stop_on_collapse=False, **{"batch_size": 128, **more})

    sgd = {"optimiser": "sgd", "lr": 0.12, "weight_decay": 5e-4}
    head: dict[str, Any] = {"projection": (256, 64), "image_size": 32}
    return {
        "raw pixels": RawPixels(image_size=32),
        "untrained": Untrained(ENCODER, image_size=32),
        **{
            f"simclr t={t:g}": SimCLR(ENCODER, temperature=t, **head, training=training(120, **sgd))
            for t in (0.05, 0.2, 0.5, 5.0)
        },
        "simclr t=0.2 short": SimCLR(ENCODER, temperature=0.2, **head, training=training(30, **sgd)),
        "g-simclr": GSimCLR(
            ENCODER,
            image_size=32,
            features=DenoisingAutoencoder(image_size=32, training=Training(steps=120)),
            training=training(120, batch_size=64),
        ),
        "swav": SwAV(ENCODER, prototypes=60, **head, training=training(100, **sgd)),
        "rotnet": RotNet(ENCODER, image_size=32, training=training(100, batch_size=64)),
        "rotnet short": RotNet(ENCODER, image_size=32, training=training(25, batch_size=64)),
        "autoencoder": DenoisingAutoencoder(image_size=32, training=training(150, batch_size=64)),
    }


def measure(name: str, learner: Any, data: tuple[Any, np.ndarray, Any, np.ndarray]) -> dict[str, Any]:
    """Label-free scores of one candidate on one data set, and what the labels say."""
    images, labels, test, test_labels = data
    begun = time.perf_counter()
    learner.fit(images)
    seconds = time.perf_counter() - begun
    scores = {}
    for strength, view in (("standard views", None), ("mild views", GENTLE)):
        triple = learner.pairs(images, rows=2000, random_state=SEED, view=view)
        for criterion in CRITERIA:
            if uses_views(criterion):
                scores[f"{criterion} ({strength})"] = score(criterion, *triple)
            elif criterion not in scores:
                scores[criterion] = score(criterion, *triple)
    if hasattr(learner.net_, "head"):
        scores["rankme of the embedding"] = rankme(learner.transform(images, layer="embedding"))
    train, held = learner.transform(images), learner.transform(test)
    truth = {
        "k-NN": 100 * knn_accuracy(train, labels, held, test_labels),
        "ridge": 100 * ridge_probe(train, labels, held, test_labels),
    }
    return {"scores": scores, "truth": truth, "verdict": learner.health_["verdict"], "seconds": round(seconds, 1)}


def uses_views(criterion: str) -> bool:
    return criterion in ("alignment", "alignment_and_uniformity", "self_consistency", "neighbour_overlap")


def judged(trials: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By criterion and measure of truth: Spearman and regret on every data set, their means, and whether raw pixels won."""
    verdicts: dict[str, dict[str, Any]] = {}
    first = next(iter(trials.values()))
    criteria = [c for c in next(iter(first.values()))["scores"] if all(c in m["scores"] for m in first.values())]
    for criterion in criteria:
        for truth in ("k-NN", "ridge"):
            row: dict[str, Any] = {"spearman": {}, "regret": {}, "over raw pixels": {}}
            for name, measured in trials.items():
                scores = np.array([m["scores"][criterion] for m in measured.values()])
                accuracy = np.array([m["truth"][truth] for m in measured.values()])
                pick = int(np.argmax(scores))
                row["spearman"][name] = round(float(spearmanr(scores, accuracy).statistic), 3)
                row["regret"][name] = round(float(accuracy.max() - accuracy[pick]), 2)
                row["over raw pixels"][name] = round(float(accuracy[pick] - measured["raw pixels"]["truth"][truth]), 2)
            row["mean spearman"] = round(statistics.fmean(row["spearman"].values()), 3)
            row["mean regret"] = round(statistics.fmean(row["regret"].values()), 2)
            row["worst against raw pixels"] = min(row["over raw pixels"].values())
            row |= among_some(trials, criterion, truth)
            verdicts[f"{criterion} | {truth}"] = row
    return verdicts


def among_some(trials: dict[str, dict[str, Any]], criterion: str, truth: str, draws: int = 200) -> dict[str, float]:
    """Regret and loss against raw pixels where only some candidates are there: both controls and four others, drawn often.

    Over all candidates one method can win on every data set; a criterion must also choose well where that one is missing.
    """
    regrets, gains = [], []
    for measured in trials.values():
        others = [name for name in measured if name not in CONTROLS]
        for seed in range(draws):
            names = [*CONTROLS, *np.random.default_rng(seed).choice(others, 4, replace=False)]
            accuracy = np.array([measured[name]["truth"][truth] for name in names])
            pick = accuracy[int(np.argmax([measured[name]["scores"][criterion] for name in names]))]
            regrets.append(accuracy.max() - pick)
            gains.append(pick - accuracy[0])
    return {
        "regret among some": round(float(np.mean(regrets)), 2),
        "share below raw pixels": round(float(np.mean(np.array(gains) < 0)), 3),
        "worst among some": round(float(np.min(gains)), 2),
    }


def write(trials: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    result = {"encoder": ENCODER, "train": TRAIN, "test": TEST, "seed": SEED, "trials": trials}
    if all(trials.values()):
        result["criteria"] = judged(trials)
    partial = RESULTS.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(partial, RESULTS)


def page(result: dict[str, Any]) -> str:
    """The study as Markdown."""
    names = list(result["trials"])
    lines = ["# Choosing without labels", ""]
    lines += [str(__doc__).split("``python")[0].strip(), ""]
    lines += ["Made by `make studies` from `benchmarks/studies/results/selection.json`.", ""]
    for truth in ("k-NN", "ridge"):
        rows = {k.split(" | ")[0]: v for k, v in result["criteria"].items() if k.endswith(f"| {truth}")}
        lines += [f"## Against hidden labels: {truth}", ""]
        heads = [
            "criterion",
            "Spearman",
            *names,
            "regret",
            "worst pick - raw pixels",
            "regret among some",
            "below raw pixels",
        ]
        lines += ["| " + " | ".join(heads) + " |"]
        lines += ["|---|---|" + "---|" * len(names) + "---|---|---|---|"]
        for criterion, row in sorted(rows.items(), key=lambda item: item[1]["regret among some"]):
            each = " | ".join(f"{row['spearman'][n]:.2f} / {row['regret'][n]:.1f}" for n in names)
            summary = (
                f"{row['mean regret']:.1f} | {row['worst against raw pixels']:+.1f} | {row['regret among some']:.1f} | "
            )
            summary += f"{row['share below raw pixels']:.0%}, worst {row['worst among some']:+.1f}"
            lines.append(f"| {criterion} | {row['mean spearman']:.2f} | {each} | {summary} |")
        lines += [
            "",
            "Each data set: Spearman / regret in points. Among some: 200 random sets of both controls and four others.",
            "",
        ]
    lines += VERDICT
    if auto.RESULTS.exists():
        lines += auto.section(json.loads(auto.RESULTS.read_text()))
    lines += ["## What the candidates reached", "", "k-NN / ridge accuracy on hidden test labels, per cent.", ""]
    lines += ["| candidate | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for candidate in next(iter(result["trials"].values())):
        cells = (result["trials"][n][candidate]["truth"] for n in names)
        lines.append(f"| {candidate} | " + " | ".join(f"{c['k-NN']:.1f} / {c['ridge']:.1f}" for c in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    known = json.loads(RESULTS.read_text())["trials"] if RESULTS.exists() else {}
    trials: dict[str, Any] = {
        name: {c: known[name][c] for c in candidates() if c in known.get(name, {})} for name in DATA
    }
    for name in DATA:
        missing = {c: learner for c, learner in candidates().items() if c not in trials[name]}
        data = sets(name, TRAIN, TEST) if missing else None
        for candidate, learner in missing.items():
            assert data is not None
            trials[name][candidate] = measure(candidate, learner, data)
            print(name, candidate, trials[name][candidate]["truth"], trials[name][candidate]["seconds"], flush=True)
            write({k: v for k, v in trials.items() if v})
    write(trials)
    DOCS.write_text(page(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
