"""Matryoshka representation learning: Omniglot's 964 characters with labels, CIFAR-10 without."""

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import nn

from benchmarks.claims.engine import Claim, Gate, Measures
from benchmarks.claims.probes import split
from nolabel.assess import knn_accuracy, mean_average_precision
from nolabel.data import load
from nolabel.learn import SimCLR
from nolabel.learn.matryoshka import AdaptiveClassifier, MatryoshkaClassifier
from nolabel.search import Index
from nolabel.training import Training

WIDTH, SIZES = 128, (8, 16, 32, 64, 128)
DRAWERS = {"train": range(1, 15), "thresholds": range(15, 18), "test": range(18, 21)}
STEPS, TRUNK_STEPS, BATCH = 1500, 400, 256
VIEW_STEPS, VIEW_BATCH = 300, 128


class Trunk(nn.Sequential):
    """Pixels of 28x28 as a vector (n, 784) to features (n, 576)."""

    def __init__(self) -> None:
        def block(before: int, after: int) -> list[nn.Module]:
            return [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

        super().__init__(
            nn.Unflatten(1, (1, 28, 28)), *block(1, 32), *block(32, 64), *block(64, 64), nn.AvgPool2d(2, 1)
        )
        self.append(nn.Flatten())


def pixels(part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors (n, 784) in [0, 1], characters and drawers of one part of Omniglot."""
    table = load("omniglot28", split=part)
    source = SimCLR().open(table.select_columns(["image"]), None)
    images = source.batch(np.arange(len(source)))["image"].numpy()
    return images.reshape(len(images), -1) / np.float32(255), np.asarray(table["label"]), np.asarray(table["drawer"])


def frozen_features(seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Features and labels of the background characters, by a trunk trained on the characters of other alphabets."""
    X, y, _ = pixels("evaluation")
    torch.manual_seed(seed)
    trunk = nn.Sequential(Trunk(), nn.Linear(576, WIDTH))
    settings = Training(steps=TRUNK_STEPS, batch_size=BATCH, random_state=seed)
    model = MatryoshkaClassifier(trunk, sizes=(WIDTH,), training=settings).fit(X, y)
    layers: Any = model.net_.encoder
    X, y, drawer = pixels("background")
    with torch.no_grad():
        parts = [layers[0](torch.from_numpy(X[start : start + 1024])).numpy() for start in range(0, len(X), 1024)]
    features = np.concatenate(parts)
    rows = {name: np.isin(drawer, list(drawers)) for name, drawers in DRAWERS.items()}
    return {name: features[r] for name, r in rows.items()}, {name: y[r] for name, r in rows.items()}


def neighbours(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, sizes: Any
) -> dict[str, float]:
    """k-NN accuracy (k = 5) of the first m coordinates, per cent."""
    return {f"k-NN @{m}": 100 * knn_accuracy(train[:, :m], labels, test[:, :m], truth, k=5) for m in sizes}


def rotated(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both on the principal axes of the training rows of unit length, the strongest first."""
    train, test = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (train, test))
    axes = PCA().fit(train)
    return axes.transform(train), axes.transform(test)


def retrieval(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """mAP@10 of exact search on whole vectors and of a prefix of D / 8 whose 200 best the whole vector ranks."""
    relevant = [set(np.flatnonzero(labels == name)) for name in truth]
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(folder, train.shape[1])
        index.add(train)
        whole = index.search(test, 10, exact=True)
        short = index.search(test, 10, dim=WIDTH // 8, rescore=200, exact=True)
    found = {"mAP, whole": 100 * mean_average_precision([hits.ids for hits in whole], relevant, k=10)}
    found["mAP, prefix"] = 100 * mean_average_precision([hits.ids for hits in short], relevant, k=10)
    return found | {"share of multiply-adds": short[0].multiply_adds / whole[0].multiply_adds}


def with_labels(seed: int) -> Measures:
    X, y = frozen_features(seed)
    train, test, truth = X["train"], X["test"], y["test"]
    arms: Measures = {}

    def fitted(sizes: Sequence[int], **options: Any) -> MatryoshkaClassifier:
        settings = Training(steps=STEPS, batch_size=BATCH, random_state=seed)
        return MatryoshkaClassifier(sizes=sizes, training=settings, **options).fit(train, y["train"])

    def scores(model: MatryoshkaClassifier) -> dict[str, float]:
        heads = {f"top-1 @{m}": 100 * float((model.predict(test, m) == truth).mean()) for m in model.sizes_}
        z, held = model.transform(train), model.transform(test)
        return neighbours(z, y["train"], held, truth, [m for m in SIZES if m <= model.sizes_[-1]]) | heads

    mrl = fitted(SIZES)
    arms["MRL"] = scores(mrl) | retrieval(mrl.transform(train), y["train"], mrl.transform(test), truth)
    arms["MRL-E"] = scores(fitted(SIZES, efficient=True))
    plain = fitted((WIDTH,))
    arms["FF, whole"] = scores(plain)
    for m in (8, 16):
        arms[f"FF at {m}"] = scores(fitted((m,)))
    z, held = plain.transform(train), plain.transform(test)
    axes, held_axes = rotated(z, held)
    arms["FF, principal axes"] = neighbours(axes, y["train"], held_axes, truth, SIZES)
    order = np.random.default_rng(seed).permutation(WIDTH)
    arms["FF, random coordinates"] = neighbours(z[:, order], y["train"], held[:, order], truth, SIZES)
    for name, sizes in (("cascade up to 32", (8, 16, 32)), ("cascade over all sizes", SIZES)):
        found, used = AdaptiveClassifier(mrl, sizes).fit(X["thresholds"], y["thresholds"]).predict(test)
        arms[name] = {"accuracy": 100 * float((found == truth).mean()), "dimension": float(used.mean())}
    return arms


def without_labels(seed: int) -> Measures:
    images, labels = split("cifar10", "train", small=True)
    test, truth = split("cifar10", "test", small=True)
    arms: Measures = {}

    def scores(train: np.ndarray, held: np.ndarray) -> dict[str, float]:
        return {f"k-NN @{m}": 100 * knn_accuracy(train[:, :m], labels, held[:, :m], truth) for m in SIZES}

    for name, nested in (("InfoNCE nested", SIZES), ("InfoNCE plain", (WIDTH,))):
        settings = Training(steps=VIEW_STEPS, batch_size=VIEW_BATCH, random_state=seed)
        learner = SimCLR(nested=nested, training=settings).fit(images)
        z, held = learner.transform(images), learner.transform(test)
        arms[name] = scores(z, held)
    arms["InfoNCE plain, principal axes"] = scores(*rotated(z, held))
    return arms


def run(seed: int) -> Measures:
    return with_labels(seed) | without_labels(seed)


def better(arm: str, over: str, measure: str) -> Any:
    return lambda values: values[arm][measure] - values[over][measure]


CLAIM = Claim(
    name="mrl",
    paper="Kusupati et al., NeurIPS 2022, arXiv:2205.13147",
    claim="One embedding trained at nested sizes works when cut to its first coordinates, classifies early and searches cheaply.",
    data="Omniglot, 964 characters, 14 drawers to train, 3 for thresholds, 3 to test; CIFAR-10, 20,000 + 5,000 images",
    metric="k-NN accuracy of the first m of 128 coordinates (k = 5; CIFAR-10: 20), top-1 of heads, mAP@10; per cent",
    run=run,
    seeds=(0, 1, 2, 3, 4),
    gates=(
        Gate("k-NN at 8: MRL - first 8 of FF(128), points", 5.0, better("MRL", "FF, whole", "k-NN @8")),
        Gate("k-NN at 8: MRL - FF trained at 8, points", -1.5, better("MRL", "FF at 8", "k-NN @8")),
        Gate("k-NN at 8: MRL - principal axes of FF(128), points", 0.0, better("MRL", "FF, principal axes", "k-NN @8")),
        Gate("k-NN at 128: MRL - FF(128), points", -1.5, better("MRL", "FF, whole", "k-NN @128")),
        Gate("cascade over all sizes - top-1 of FF(128), points", -0.5,
             lambda v: v["cascade over all sizes"]["accuracy"] - v["FF, whole"]["top-1 @128"]),
        Gate("32 - mean dimension of the cascade over all sizes", 0.0,
             lambda v: 32 - v["cascade over all sizes"]["dimension"]),
        Gate("mAP@10: prefix of 16, 200 ranked again - whole, points", -0.5,
             lambda v: v["MRL"]["mAP, prefix"] - v["MRL"]["mAP, whole"]),
        Gate("a quarter - its share of multiply-adds", 0.0, lambda v: 0.25 - v["MRL"]["share of multiply-adds"]),
        Gate("no labels, k-NN at 16: nested - plain cut, points", 0.0,
             better("InfoNCE nested", "InfoNCE plain", "k-NN @16")),
        Gate("no labels, k-NN at 8: nested - principal axes of plain, points", 0.0,
             better("InfoNCE nested", "InfoNCE plain, principal axes", "k-NN @8")),
        Gate("no labels, k-NN at 128: nested - plain, points", -2.0,
             better("InfoNCE nested", "InfoNCE plain", "k-NN @128")),
    ),
    reports=(
        Gate("no labels, k-NN at 16: nested - principal axes of plain, points", 0.0,
             better("InfoNCE nested", "InfoNCE plain, principal axes", "k-NN @16")),
        Gate("k-NN at 8: MRL-E - MRL, points", 0.0, better("MRL-E", "MRL", "k-NN @8")),
        Gate("k-NN at 8: MRL - random coordinates of FF(128), points", 0.0,
             better("MRL", "FF, random coordinates", "k-NN @8")),
        Gate("cascade up to 32 - top-1 of FF(128), points", 0.0,
             lambda v: v["cascade up to 32"]["accuracy"] - v["FF, whole"]["top-1 @128"]),
        Gate("k-NN at 16: MRL - FF trained at 16, points", 0.0, better("MRL", "FF at 16", "k-NN @16")),
    ),
    settings={"Omniglot": f"frozen convolutions trained on other alphabets, then one hidden layer, {STEPS} steps of {BATCH}",
              "CIFAR-10": f"SimCLR, resnet10-x0.5, linear head and batch norm, {VIEW_STEPS} steps of {VIEW_BATCH}",
              "sizes": str(SIZES)},
    note="FF is the same network trained at one size. Both arms without labels have the same head. The thresholds of a cascade "
    "maximise accuracy and not savings; one that ends at 32 coordinates keeps to them by construction and is only reported.",
)  # fmt: skip
