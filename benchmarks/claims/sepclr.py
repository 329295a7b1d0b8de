"""SepCLR on CIFAR-10 with MNIST digits laid over the target collection: objects are common, digits salient."""

from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.claims.engine import Claim, Gate, Measures
from nolabel.assess.separation import separation_report
from nolabel.data import load, open_images
from nolabel.encoders import build
from nolabel.learn import SimCLR
from nolabel.learn.sepclr import SepCLR
from nolabel.training import Training
from nolabel.views import Augment

ENCODER, SINGLE = "resnet8-x0.25", "resnet8-x0.35"  # two networks against one of about their cost
COMMON, SALIENT = 32, 16
ROWS, TEST_ROWS = 4000, 1000
STEPS, BATCH, RATE = 1250, 64, 5e-3  # 20 epochs; images of each collection
VIEW = Augment(24, area=(0.4, 1.0))


def pixels(name: str, split: str, channels: int, **filters: Any) -> tuple[np.ndarray, np.ndarray]:
    """All images of a part as (n, h, w, c) floats in [0, 1], and their labels."""
    table = load(name, split=split, **filters)
    cache = open_images(table, channels=channels)
    return cache.images(np.arange(len(cache))) / np.float32(255), np.asarray(table["label"])


def overlaid(objects: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """Half an object and half a digit, (n, 32, 32, 3) uint8; without digits half an object."""
    mixed = 0.5 * objects
    if len(digits):
        mixed = mixed + 0.5 * np.pad(digits, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return np.rint(255 * mixed).astype(np.uint8)


def run(seed: int) -> Measures:
    rng = np.random.default_rng([seed, 5])
    objects, object_names = pixels("cifar10", "train", 3, small=True)
    digits, digit_names = pixels("mnist", "train", 1)
    alone, under = rng.permutation(len(objects))[: 2 * ROWS].reshape(2, ROWS)
    over = rng.permutation(len(digits))[:ROWS]
    background = overlaid(objects[alone], digits[:0])
    target = overlaid(objects[under], digits[over])
    held_objects, held_object_names = pixels("cifar10", "test", 3, small=True)
    held_digits, held_digit_names = pixels("mnist", "test", 1)
    below, above = rng.permutation(len(held_objects))[:TEST_ROWS], rng.permutation(len(held_digits))[:TEST_ROWS]
    everything = np.concatenate([target, overlaid(held_objects[below], held_digits[above])])
    labels = {
        "common_labels": np.concatenate([object_names[under], held_object_names[below]]),
        "salient_labels": np.concatenate([digit_names[over], held_digit_names[above]]),
    }

    def scores(common: np.ndarray, salient: np.ndarray, where: str) -> dict[str, float]:
        report = separation_report(common, salient, **labels, test_rows=np.arange(ROWS, ROWS + TEST_ROWS))
        found = {
            "digit from salient": report.salient_from_salient,
            "digit from common": report.salient_from_common,
            "object from common": report.common_from_common,
            "object from salient": report.common_from_salient,
        }
        return {f"{name}{where}": 100 * value for name, value in found.items()}

    def sepclr(weight: float) -> dict[str, float]:
        settings = Training(steps=STEPS, batch_size=BATCH, lr=RATE, random_state=seed)
        options: dict[str, Any] = {"common_dim": COMMON, "salient_dim": SALIENT, "augment": VIEW, "training": settings}
        learner = SepCLR(ENCODER, independence_weight=weight, **options).fit(
            {"background": background, "target": target}
        )
        found: dict[str, float] = {}
        for layer, where in (("representation", ""), ("embedding", ", heads")):
            parts = [learner.transform(everything, layer=layer, part=part) for part in ("common", "salient")]
            found |= scores(*parts, where)
        return found

    torch.manual_seed(seed)
    one = build(SINGLE, channels=3, image_size=32)
    settings = Training(
        steps=STEPS, batch_size=2 * BATCH, lr=RATE, optimiser="adam", weight_decay=0.0, random_state=seed
    )
    simclr = SimCLR(
        nn.Sequential(one, nn.Linear(one.dim, COMMON + SALIENT)),
        temperature=0.5, projection=(128, 32), augment=VIEW, training=settings,
    ).fit(np.concatenate([background, target]))  # fmt: skip
    z = simclr.transform(everything)[:, rng.permutation(COMMON + SALIENT)]
    return {
        "SimCLR, one space halved at random": scores(z[:, :COMMON], z[:, COMMON:], ""),
        "SepCLR without independence": sepclr(0.0),
        "SepCLR": sepclr(10.0),
    }


def measure(arm: str, name: str) -> Any:
    return lambda v: v[arm][name]


def gap(arm: str, high: str, low: str, where: str = "") -> Any:
    return lambda v: v[arm][high + where] - v[arm][low + where]


FULL, LOOSE, SINGLE_SPACE = "SepCLR", "SepCLR without independence", "SimCLR, one space halved at random"
DIGITS = ("digit from salient", "digit from common")
OBJECTS = ("object from common", "object from salient")

CLAIM = Claim(
    name="sepclr",
    paper="Louiset, Duchesnay, Grigis & Gori, ICLR 2024, arXiv:2402.11928",
    claim="From two collections alone, what both share and what only one has are learned into separate parts.",
    data="4,000 halved CIFAR-10 images and 4,000 others with halved MNIST digits over them; probed on 1,000 held-out targets",
    metric="logistic regression within the target collection, per cent (chance 10); on representations unless it says heads",
    run=run,
    gates=(
        Gate("digit from the salient part", 50.0, measure(FULL, DIGITS[0])),
        Gate("digit, salient - common part, points", 20.0, gap(FULL, *DIGITS)),
        Gate("digit, salient - common head, points", 20.0, gap(FULL, *DIGITS, ", heads")),
        Gate("digit from the common head, without - with independence, points", 10.0,
             lambda v: v[LOOSE][DIGITS[1] + ", heads"] - v[FULL][DIGITS[1] + ", heads"]),
        Gate("digit from the common part, without - with independence, points", 10.0,
             lambda v: v[LOOSE][DIGITS[1]] - v[FULL][DIGITS[1]]),
        Gate("digit from the salient part, with - without independence, points", -3.0,
             lambda v: v[FULL][DIGITS[0]] - v[LOOSE][DIGITS[0]]),
        Gate("object, common - salient part, points", 0.0, gap(FULL, *OBJECTS)),
    ),
    reports=(
        Gate("object, common - salient head, points", 0.0, gap(FULL, *OBJECTS, ", heads")),
        Gate("SimCLR: digit, salient - common half, points", 20.0, gap(SINGLE_SPACE, *DIGITS)),
        Gate("object from the common part, SepCLR - SimCLR, points", 0.0,
             lambda v: v[FULL][OBJECTS[0]] - v[SINGLE_SPACE][OBJECTS[0]]),
    ),
    settings={"encoder": f"two {ENCODER}; SimCLR one {SINGLE}", "steps": STEPS, "batch": f"{BATCH} + {BATCH}",
              "lr": RATE, "crops": "24 px of at least 40 % of the image", "independence_weight": 10, "widths": (COMMON, SALIENT)},
    seeds=(1, 2, 3),
    note="Margins were set before any run on this data. Rate, crops and number of steps were chosen with another seed on images "
    "held out of the training part: with the paper's crops, from 20 % of the image, and a rate of 1e-3, 450 steps of 128 + 128 "
    "told a digit from the salient part in 31 of 100. Of 1e-3 and 5e-3 the rate is SimCLR's better one too. The salient part may "
    "keep what is common: its weight of 1,000 leaves the independence term next to no pull on its network.",
)  # fmt: skip
