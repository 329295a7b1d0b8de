"""Latent label shift on MNIST: digits found by how they rise and fall together, and where likeness groups them wrongly."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from benchmarks.claims.engine import Claim, Gate, Measures
from benchmarks.claims.probes import grey
from nolabel.assess import clustering_accuracy
from nolabel.cluster import LatentLabelShift
from nolabel.data import load
from nolabel.training import Training

ENCODER, EPOCHS = "conv4-x0.5", 15
CELLS = 3  # for each class


class Shifted(NamedTuple):
    """Rows of several domains: numbers of images, their classes, their domains."""

    rows: np.ndarray
    classes: np.ndarray
    domain: np.ndarray


def mixes(classes: int, domains: int, alpha: float, condition: float, rng: np.random.Generator) -> np.ndarray:
    """p(class | domain) (r, k) from a Dirichlet distribution; drawn again until well conditioned."""
    while True:
        drawn = rng.dirichlet([alpha / classes] * classes, size=domains)
        if np.isfinite(drawn).all() and np.linalg.cond(drawn) <= condition:
            return drawn


def shifted(labels: np.ndarray, mix: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> Shifted:
    """Domains of equal size, as large as the images last, each image at most once.

    Parameters
    ----------
    labels : (n,) digits
    mix : (r, k)
    groups : (10,) class of each digit; the digits of a class come in equal parts
    """
    digits, counts = np.unique(labels, return_counts=True)
    share = mix[:, groups] / np.bincount(groups)[groups]  # (r, 10)
    each = int((counts / np.maximum(share.sum(axis=0), 1e-9)).min())
    rows, domain = [], []
    pools = [list(rng.permutation(np.flatnonzero(labels == digit))) for digit in digits]
    for d, wanted in enumerate(np.floor(share * each).astype(int)):
        for pool, count in zip(pools, wanted, strict=True):
            rows += [pool.pop() for _ in range(count)]
        domain += [d] * int(wanted.sum())
    return Shifted(np.array(rows), groups[labels[rows]], np.array(domain))


def measured(model: LatentLabelShift, x: Any, test_x: Any, train: Shifted, test: Shifted) -> dict[str, float]:
    return {
        "accuracy": 100 * model.score(test_x, test.classes, test.domain),
        "mix error": 100 * model.mix_error(train.classes, train.domain),
    }


def setting(
    seed: int, domains: int, alpha: float, condition: float, groups: np.ndarray, images: Any, labels: Any
) -> dict[str, dict[str, float]]:
    """The arms of one way of mixing; `images` and `labels` of the training and of the test part."""
    k = int(groups.max()) + 1
    rng = np.random.default_rng([seed, round(10 * alpha), k])
    mix = mixes(k, domains, alpha, condition, rng)
    train, test = (shifted(part, mix, groups, rng) for part in labels)
    x, test_x = images[0][train.rows], images[1][test.rows]
    flat, test_flat = (part.reshape(len(part), -1) / 255 for part in (x, test_x))

    model = LatentLabelShift(
        k, n_cells=CELLS * k, encoder=ENCODER, training=Training(EPOCHS, random_state=seed, progress=False)
    ).fit(x, train.domain)
    found = {"DDFA, anchors": measured(model, x, test_x, train, test)}
    found["DDFA, anchors"] |= {
        "gain of the discriminator": 100 * model.diagnose()["gain"],
        "condition number": model.condition_number_,
        "residual": 100 * model.residual_,
        "rows": len(x),
    }
    q, test_q = model.transform(x), model.transform(test_x)
    others = {
        "DDFA, plain NMF": {"solver": "nmf"},
        "DDFA, plain NMF, unclipped": {"solver": "nmf", "project": "pinv"},
        "DDFA, NMF from anchors": {"solver": "anchor-nmf"},
        "DDFA, anchors, NNLS": {"project": "nnls"},
    }
    for name, how in others.items():
        again = LatentLabelShift(
            k, n_cells=CELLS * k, precomputed=True, domain_prior="uniform", **how, training=Training(random_state=seed)
        ).fit(q, train.domain)
        found[name] = measured(again, q, test_q, train, test)

    def clustered(name: str, told: np.ndarray) -> None:
        found[name] = {"accuracy": 100 * clustering_accuracy(test.classes, told)}

    means: dict[str, Any] = {"n_clusters": k, "n_init": 10, "random_state": seed}
    clustered("k-means on q(domain | x)", KMeans(**means).fit(q).predict(test_q))
    clustered("k-means on pixels", KMeans(**means).fit(flat).predict(test_flat))
    reduced = PCA(40, random_state=seed).fit(flat)
    mixture = GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit(reduced.transform(flat))
    clustered("Gaussian mixture on pixels", mixture.predict(reduced.transform(test_flat)))
    majority = mix.argmax(axis=1)[test.domain]
    found["commonest class of the domain (true mixes)"] = {"accuracy": 100 * float((majority == test.classes).mean())}
    if k < len(groups):
        centres = np.stack([flat[labels[0][train.rows] == digit].mean(axis=0) for digit in range(len(groups))])
        joined = AgglomerativeClustering(k).fit_predict(centres)
        clustered("true digits joined by likeness", joined[labels[1][test.rows]])
    return found


def run(seed: int) -> Measures:
    images, labels = [], []
    for part in ("train", "test"):
        table = load("mnist", split=part)
        images.append(grey(table))
        labels.append(np.asarray(table["label"]))
    digits, halves = np.arange(10), np.arange(10) // 2
    ways = {
        "0.5": (10, 0.5, 4.0, digits),
        "3": (15, 3.0, 4.0, digits),
        "10": (15, 10.0, 8.0, digits),
        "halves": (10, 0.5, 4.0, halves),
    }
    measures: Measures = {}
    for way, (domains, alpha, condition, groups) in ways.items():
        for arm, values in setting(seed, domains, alpha, condition, groups, images, labels).items():
            measures[f"{way}: {arm}"] = values
    return measures


def accuracy(values: Measures, way: str, arm: str) -> float:
    return values[f"{way}: {arm}"]["accuracy"]


def likeness(values: Measures, way: str) -> float:
    """The best of what groups by likeness."""
    arms = ("k-means on pixels", "Gaussian mixture on pixels", "true digits joined by likeness")
    return max(accuracy(values, way, arm) for arm in arms if f"{way}: {arm}" in values)


OURS = "DDFA, anchors"
CLAIM = Claim(
    name="latent_label_shift",
    paper="Roberts, Mani, Garg & Lipton, NeurIPS 2022, arXiv:2207.13179",
    claim="Classes are found from how their shares differ between domains, also where likeness groups them wrongly.",
    data="MNIST (8,000 train and 2,500 test images), drawn into 10 or 15 domains of equal size whose mixes are Dirichlet; "
    "'halves': five classes of two digits each",
    metric="test accuracy under the best match of clusters to classes; mean error of p(class | domain); per cent",
    run=run,
    gates=(
        Gate("0.5: anchors - k-means on pixels", 30.0,
             lambda v: accuracy(v, "0.5", OURS) - accuracy(v, "0.5", "k-means on pixels")),
        Gate("0.5: 2 - mean error of the mixes", 0.0, lambda v: 2.0 - v[f"0.5: {OURS}"]["mix error"]),
        Gate("0.5: anchors - plain NMF", 0.0, lambda v: accuracy(v, "0.5", OURS) - accuracy(v, "0.5", "DDFA, plain NMF")),
        Gate("halves: anchors - the best by likeness", 15.0, lambda v: accuracy(v, "halves", OURS) - likeness(v, "halves")),
    ),
    reports=(
        Gate("0.5: anchors - k-means on q(domain | x)", 0.0,
             lambda v: accuracy(v, "0.5", OURS) - accuracy(v, "0.5", "k-means on q(domain | x)")),
        Gate("3: anchors - k-means on q(domain | x)", 0.0,
             lambda v: accuracy(v, "3", OURS) - accuracy(v, "3", "k-means on q(domain | x)")),
        Gate("10: anchors - k-means on q(domain | x)", 0.0,
             lambda v: accuracy(v, "10", OURS) - accuracy(v, "10", "k-means on q(domain | x)")),
        Gate("accuracy lost from mixes of 0.5 to nearly equal ones of 10", 0.0,
             lambda v: accuracy(v, "0.5", OURS) - accuracy(v, "10", OURS)),
    ),
    seeds=(1, 2, 3),
    settings={"encoder": ENCODER, "epochs": EPOCHS, "cells": "3 a class", "domains": "10 (0.5, halves), 15 (3, 10)"},
    note="Numbers before a colon are the concentration of the Dirichlet mixes: the larger, the more alike the domains. All arms "
    "of a setting but those on pixels share one domain classifier. Where the mixes are nearly equal (10) the domain says little "
    "of the class and the method degrades; k-means on q(domain | x), which also uses the domains but knows no mixes, is then a "
    "strong rival.",
)  # fmt: skip
