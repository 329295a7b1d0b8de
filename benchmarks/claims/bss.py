"""Batch styles standardisation on PACS: learn from three drawing styles without labels, test on the fourth."""

from typing import Any

import numpy as np

from benchmarks.claims.engine import Claim, Gate, Measures
from benchmarks.claims.probes import untrained
from nolabel.assess import linear_probe, ridge_probe
from nolabel.assess.domains import domain_purity
from nolabel.data import load
from nolabel.learn import SimCLR
from nolabel.training import Training

ENCODER, SIDE = "resnet10-x0.5", 32
STEPS, BATCH = 200, 128
UNSEEN = ("sketch", "art_painting")
LABELLED = 0.1


def run(seed: int) -> Measures:
    table = load("pacs64")
    labels, domains = np.asarray(table["label"]), np.asarray(table["domain"])
    train_split = np.asarray(table["split"]) == "train"
    images = table.select_columns(["image"])
    settings = Training(steps=STEPS, batch_size=BATCH, warmup=0.12, random_state=seed)
    shared: dict[str, Any] = {"image_size": SIDE, "training": settings}

    def scores(learner: Any, unseen: str) -> dict[str, float]:
        z = learner.transform(images)
        seen = domains != unseen
        pool, held, new = (np.flatnonzero(rows) for rows in (seen & train_split, seen & ~train_split, ~seen))
        rng = np.random.default_rng([seed, 11])
        few = np.sort(rng.choice(pool, round(LABELLED * len(pool)), replace=False))

        def few_labels(test: np.ndarray) -> float:
            return 100 * linear_probe(z[few], labels[few], z[test], labels[test], inverse_penalty=0.05)

        return {
            f"{unseen}, 10 % of labels": few_labels(new),
            f"{unseen}, all labels": 100 * ridge_probe(z[pool], labels[pool], z[new], labels[new]),
            f"seen domains ({unseen} left out)": few_labels(held),
            f"domain purity ({unseen} left out)": 100 * domain_purity(z[held], domains[held]),
        }

    arms: Measures = {}
    for unseen in UNSEEN:
        pool = images.select(np.flatnonzero((domains != unseen) & train_split))
        learners = {
            "untrained": untrained(ENCODER, pool, seed, image_size=SIDE),
            "SimCLR": SimCLR(ENCODER, **shared).fit(pool),
            "SimCLR, Fourier augmentation": SimCLR(ENCODER, augment="fourier", **shared).fit(pool),
            "SimCLR, BSS, all negatives": SimCLR(ENCODER, augment="bss", **shared).fit(pool),
            "SimCLR, BSS": SimCLR(ENCODER, augment="bss", negatives="same_view", **shared).fit(pool),
        }
        for name, learner in learners.items():
            arms.setdefault(name, {}).update(scores(learner, unseen))
    return arms


def over_domains(values: Measures, arm: str, measure: str) -> float:
    """Mean over the domains left out; `measure` has a gap for the name of the domain."""
    return float(np.mean([values[arm][measure.format(unseen)] for unseen in UNSEEN]))


FEW, ALL, SEEN, PURITY = (
    "{}, 10 % of labels", "{}, all labels", "seen domains ({} left out)", "domain purity ({} left out)",
)  # fmt: skip


def better(arm: str, than: str, measure: str) -> Any:
    return lambda v: over_domains(v, arm, measure) - over_domains(v, than, measure)


def purer(arm: str, than: str) -> Any:
    return lambda v: over_domains(v, than, PURITY) - over_domains(v, arm, PURITY)


BSS, FOURIER, PLAIN = "SimCLR, BSS", "SimCLR, Fourier augmentation", "SimCLR"
CLAIM = Claim(
    name="bss",
    paper="Scalbert, Vakalopoulou & Couzinié-Devy, ICLR 2024, arXiv:2303.06088",
    claim="Giving each view of a batch one style makes contrastive features transfer to styles never seen.",
    data="PACS at 32 pixels, 9,991 images; trained on three domains without labels, sketch or art painting left out",
    metric="logistic regression with 10 % of the seen domains' labels (ridge with all), tested on the domain left out, per cent; "
    "share of the 10 nearest neighbours of one's own domain, per cent",
    run=run,
    gates=(
        Gate("BSS - SimCLR, unseen domain, points", 3.0, better(BSS, PLAIN, FEW)),
        Gate("domain purity, SimCLR - BSS, points", 3.0, purer(BSS, PLAIN)),
        Gate("share of seeds with that much less purity", 1.0, lambda v: float(purer(BSS, PLAIN)(v) > 3.0)),
        Gate("BSS - Fourier augmentation, unseen domain, points", -5.0, better(BSS, FOURIER, FEW)),
        Gate("BSS - SimCLR, seen domains, points", -3.0, better(BSS, PLAIN, SEEN)),
    ),
    reports=(
        Gate("BSS - SimCLR, unseen domain, all labels, points", 3.0, better(BSS, PLAIN, ALL)),
        Gate("Fourier augmentation - SimCLR, unseen domain, points", 0.0, better(FOURIER, PLAIN, FEW)),
        Gate("BSS with all negatives - SimCLR, unseen domain, points", 3.0, better("SimCLR, BSS, all negatives", PLAIN, FEW)),
        Gate("domain purity, BSS with all negatives - BSS, points", 0.0, purer(BSS, "SimCLR, BSS, all negatives")),
        Gate("SimCLR - untrained, unseen domain, points", 0.0, better(PLAIN, "untrained", FEW)),
    ),
    settings={"encoder": ENCODER, "side": SIDE, "steps": STEPS, "batch": BATCH, "area": (0.01, 0.25), "temperature": 0.2},
    note="Means over the two domains left out; margins were set before any run on this data. BSS has negatives of the anchor's "
    "own view alone, unless it says otherwise. Images of the domain left out are never seen in training.",
)  # fmt: skip
