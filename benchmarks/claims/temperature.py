"""Temperature and hard negatives with a memory bank: what a contrastive loss does at low, middle and high temperature."""

from typing import Any

import numpy as np
import torch

from benchmarks.claims.engine import Claim, Gate, Measures
from benchmarks.claims.probes import judged, split, untrained
from nolabel.assess.contrastive import contrastive_diagnostics, neighbour_tolerance, tolerance
from nolabel.assess.geometry import uniformity
from nolabel.learn.instance_discrimination import InstanceDiscrimination
from nolabel.training import Training

ENCODER, SIZE = "resnet8-x0.25", 32
IMAGES, STEPS, BATCH = 5000, 300, 128
TEMPERATURES = (0.05, 0.1, 0.3, 1.0, 5.0)
HARD = 0.08  # of the bank: about 390 negatives


def learner(seed: int, **options: Any) -> InstanceDiscrimination:
    settings = Training(steps=STEPS, batch_size=BATCH, random_state=seed, stop_on_collapse=False)
    return InstanceDiscrimination(ENCODER, image_size=SIZE, projection=(128, 64), training=settings, **options)


def run(seed: int) -> Measures:
    images, labels = split("mnist", "train")
    test, test_labels = split("mnist", "test")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(labels))[:IMAGES])
    images, labels = images.select(chosen), labels[chosen]

    def scores(fitted: Any) -> dict[str, float]:
        return judged(fitted.transform(images), labels, fitted.transform(test), test_labels)

    def geometry(fitted: Any) -> dict[str, float]:
        z = fitted.transform(images, layer="embedding")
        return {
            "uniformity": uniformity(z),
            "tolerance": tolerance(z, labels),
            "neighbour tolerance": neighbour_tolerance(z[:1000], 100),
        }

    arms: Measures = {"untrained": scores(untrained(ENCODER, images, seed, image_size=SIZE))}
    settings: dict[str, dict[str, Any]] = {f"InfoNCE, {t:g}": {"temperature": t} for t in TEMPERATURES}
    settings["hard InfoNCE, 1"] = {"temperature": 1.0, "hard_fraction": HARD}
    settings["simple"] = {"objective": "simple"}
    settings["hard simple"] = {"objective": "simple", "hard_fraction": HARD}
    for arm, options in settings.items():
        fitted = learner(seed, **options).fit(images)
        arms[arm] = scores(fitted) | geometry(fitted)
        if arm == "InfoNCE, 0.3":
            bank = torch.nn.functional.normalize(fitted.net_.bank, dim=1).numpy()
            for t in TEMPERATURES:
                found = contrastive_diagnostics(bank[:2000], bank[:2000], t)
                arms[f"the bank of 0.3, seen at {t:g}"] = {"effective negatives": found.effective_negatives}
    return arms


def knn(arm: str, values: Measures) -> float:
    return values[arm]["k-NN"]


def best_interior(values: Measures) -> float:
    return max(knn(f"InfoNCE, {t:g}", values) for t in TEMPERATURES[1:-1])


def hardness_falls(values: Measures) -> float:
    effective = [values[f"the bank of 0.3, seen at {t:g}"]["effective negatives"] for t in TEMPERATURES]
    return float(all(low < high for low, high in zip(effective, effective[1:])))


def uniformity_is_lost(values: Measures) -> float:
    low, middle, high = (values[f"InfoNCE, {t:g}"]["uniformity"] for t in TEMPERATURES[2:])
    return float(low < middle < high)


CLAIM = Claim(
    name="temperature",
    paper="Wang & Liu, CVPR 2021, arXiv:2012.09740",
    claim="Low temperatures push the nearest negatives alone, high ones lose uniformity; the best lie between, and hard "
    "negatives make high temperatures, or none, work.",
    data=f"MNIST, {IMAGES} train images drawn by the seed, 2,500 test",
    metric="k-NN (k = 20) and ridge accuracy of the representation, per cent; uniformity and tolerance of the projector's "
    "output on train images (labels audit only)",
    run=run,
    gates=(
        Gate("share of seeds whose effective negatives rise with every temperature", 1.0, hardness_falls),
        Gate("share of seeds with uniformity at 0.3 < at 1 < at 5", 1.0, uniformity_is_lost),
        Gate("best of 0.1, 0.3, 1 - temperature 5, k-NN points", 1.5, lambda v: best_interior(v) - knn("InfoNCE, 5", v)),
        Gate("best of 0.1, 0.3, 1 - temperature 0.05, k-NN points", 0.0,
             lambda v: best_interior(v) - knn("InfoNCE, 0.05", v)),
        Gate("hard simple - simple, k-NN points", 1.5, lambda v: knn("hard simple", v) - knn("simple", v)),
        Gate("hard InfoNCE at 1 - InfoNCE at 1, k-NN points", -0.5,
             lambda v: knn("hard InfoNCE, 1", v) - knn("InfoNCE, 1", v)),
        Gate("0.95 - tolerance of hard InfoNCE at 1", 0.0, lambda v: 0.95 - v["hard InfoNCE, 1"]["tolerance"]),
    ),
    reports=(
        Gate("best of 0.1, 0.3, 1 - temperature 0.05, ridge points", 0.0,
             lambda v: max(v[f"InfoNCE, {t:g}"]["ridge"] for t in TEMPERATURES[1:-1]) - v["InfoNCE, 0.05"]["ridge"]),
        Gate("uniformity at 0.3 - uniformity at 0.05", 0.0,
             lambda v: v["InfoNCE, 0.3"]["uniformity"] - v["InfoNCE, 0.05"]["uniformity"]),
        Gate("tolerance at 0.3 - tolerance at 0.05", 0.0,
             lambda v: v["InfoNCE, 0.3"]["tolerance"] - v["InfoNCE, 0.05"]["tolerance"]),
        Gate("hard simple - untrained, k-NN points", 0.0, lambda v: knn("hard simple", v) - knn("untrained", v)),
    ),
    note="Eight epochs of MNIST instead of 200 of CIFAR-10, and AdamW instead of SGD, so that the step does not depend on "
    "1 / temperature.",
    settings={"encoder": ENCODER, "size": SIZE, "steps": STEPS, "batch": BATCH, "bank": IMAGES, "hard fraction": HARD,
              "optimiser": "AdamW 0.002"},
)  # fmt: skip
