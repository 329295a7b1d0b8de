"""The pictures of the gallery; every function draws one and returns the sentence of figures that belongs to it."""

from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

import matplotlib.pyplot as plt
from sklearn.manifold import TSNE

from benchmarks.gallery import trained
from benchmarks.gallery.trained import SIDE, collections, features, images, learner, pixels, table
from nolabel.assess import domain_purity, knn_accuracy
from nolabel.assess.temperature import TemperatureAdvisor
from nolabel.data.poses import rotated_images
from nolabel.learn import SimCLR
from nolabel.ops import nearest

SEARCHED = (
    "raw pixels",
    "untrained",
    "SimCLR",
    "SimCLR, BSS",
    "SwAV",
    "hard contrastive",
    "BECLR",
    "OBoW",
    "PixPro",
    "PixContrast",
)
QUERIES, SHOWN = (11, 700, 1900, 3100), 5
POINTS = 1500


def classes() -> np.ndarray:
    return np.asarray(table()["label"])


def domains() -> np.ndarray:
    return np.unique(np.asarray(table()["domain"]), return_inverse=True)[1]


def accuracy(z: np.ndarray, labels: np.ndarray) -> float:
    """20-NN accuracy in per cent: the last quarter of the rows asks, the others answer."""
    cut = len(z) * 3 // 4
    return 100 * knn_accuracy(z[:cut], labels[:cut], z[cut:], labels[cut:])


def bare(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(False)


def neighbours() -> tuple[Any, str]:
    """Which images each system finds most like a query."""
    width = len(QUERIES) * (SHOWN + 1)
    figure, axes = plt.subplots(len(SEARCHED), width, figsize=(width * 0.55, len(SEARCHED) * 0.62))
    labels, found = classes(), []
    for row, name in zip(axes, SEARCHED, strict=True):
        z = features(name)
        _, rows = nearest(z[list(QUERIES)], z, SHOWN + 1)
        for number, (query, near) in enumerate(zip(QUERIES, rows, strict=True)):
            shown = [query, *[r for r in near if r != query][:SHOWN]]
            for place, image in enumerate(pixels(shown)):
                axis = row[number * (SHOWN + 1) + place]
                axis.imshow(image)
                bare(axis)
                if place == 0:
                    axis.patch.set_edgecolor("black")
                    axis.patch.set_linewidth(3)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        found.append(f"{name} {accuracy(z, labels):.1f}")
    figure.subplots_adjust(0.16, 0.01, 0.995, 0.99, 0.04, 0.04)
    return figure, "20-NN accuracy on the hidden classes, per cent: " + ", ".join(found) + "."


def maps() -> tuple[Any, str]:
    """Two-dimensional maps of the embeddings, coloured by hidden class and by hidden domain."""
    names = ("raw pixels", "SimCLR", "SimCLR, BSS", "OBoW")
    figure, axes = plt.subplots(2, len(names), figsize=(12, 6))
    rows = np.random.default_rng(0).permutation(len(table()))[:POINTS]
    found = []
    for column, name in zip(axes.T, names, strict=True):
        z = features(name)
        flat = TSNE(init="pca", random_state=0).fit_transform(z[rows])
        for axis, colours, what in zip(column, (classes(), domains()), ("class", "domain"), strict=True):
            axis.scatter(*flat.T, c=colours[rows], s=5, cmap="tab10")
            axis.set_title(f"{name}: hidden {what}", fontsize=9)
            bare(axis)
        found.append(f"{name} {100 * domain_purity(z, domains(), 10):.0f}")
    figure.tight_layout()
    return figure, "Share of the ten nearest neighbours that are of the same domain, per cent: " + ", ".join(
        found
    ) + "."


def pixel_similarity() -> tuple[Any, str]:
    """How like one location (red) all locations of the map are, in the image itself and in another view of it."""
    names = ("untrained", "SimCLR", "PixPro", "PixContrast")
    chosen = (11, 3100, 700)
    shots = pixels(chosen)
    mirrored = shots[:, :, ::-1]
    figure, axes = plt.subplots(len(chosen) * 2, len(names) + 1, figsize=(1.5 * (len(names) + 1), 3 * len(chosen)))
    for number, (own, other) in enumerate(zip(shots, mirrored, strict=True)):
        for half, image in enumerate((own, other)):
            axis = axes[2 * number + half][0]
            axis.imshow(image)
            bare(axis)
        for column, name in enumerate(names, start=1):
            first, second = unit_maps(name, own[None])[0], unit_maps(name, other[None])[0]  # (d, h, w)
            height, width = first.shape[1:]
            y, x = height // 2, width // 3
            for half, (seen, image) in enumerate(((first, own), (second, other))):
                axis = axes[2 * number + half][column]
                heat = np.einsum("d,dhw->hw", first[:, y, x], seen)
                axis.imshow(image, extent=(0, width, height, 0))
                axis.imshow(heat, cmap="magma", alpha=0.65, extent=(0, width, height, 0), interpolation="bilinear")
                if half == 0:
                    axis.plot(x + 0.5, y + 0.5, "o", color="red", markersize=4)
                if number == 0 and half == 0:
                    axis.set_title(name, fontsize=9)
                bare(axis)
    figure.tight_layout(pad=0.3)
    return (
        figure,
        f"Maps of {height} x {width} locations; second rows: the mirrored image, compared with the same red location.",
    )


def unit_maps(name: str, batch: np.ndarray) -> np.ndarray:
    """Feature maps about as fine for every system, less their mean, unit length at every location."""
    model = learner(name)
    found = model.transform_maps(batch, layer="stage3")
    found = found - found.mean(axis=(2, 3), keepdims=True)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def rotations() -> tuple[Any, str]:
    """What SIE's halves do while an image turns, and where its predictor expects it."""
    sie = learner("SIE")
    figure, axes = plt.subplots(1, 3, figsize=(12, 4))
    errors = []
    for number, row in enumerate((1500, 2300, 3100)):  # images it has not learned from
        views = rotated_images(pixels([row]), views=72, contrast=(1.0, 1.0), noise=0.0, random_state=row)
        angles = np.asarray(views["pose"])[:, 0]
        for axis, part in zip(axes, ("equi", "inv"), strict=False):
            z = sie.transform(views, part=part)
            z = z - z.mean(axis=0)
            u, s, _ = np.linalg.svd(z, full_matrices=False)
            axis.scatter(*(u[:, :2] * s[:2]).T, c=angles, cmap="twilight", s=12, marker="os^"[number])
            axis.set_title({"equi": "equivariant half", "inv": "invariant half"}[part] + ": two main directions")
        embedded = sie.transform(views, part="equi", layer="embedding")
        steps = (angles - angles[0] + np.pi) % (2 * np.pi) - np.pi
        moves = np.stack([np.cos(steps), np.sin(steps)], axis=1)
        predicted = sie.predict_equi(np.repeat(embedded[:1], len(angles), axis=0), moves)
        reached = steps[nearest(predicted, embedded, 1)[1][:, 0]]
        axes[2].scatter(np.degrees(steps), np.degrees(reached), s=12, marker="os^"[number])
        gap = np.abs((reached - steps + np.pi) % (2 * np.pi) - np.pi)
        errors.append(np.degrees(np.median(gap)))
    axes[2].set_title("predicted against true turn, degrees")
    figure.tight_layout()
    listed = ", ".join(f"{error:.0f}" for error in errors)
    return figure, f"Median error of the predicted turn on three images that were not learned from: {listed} degrees."


def prefixes() -> tuple[Any, str]:
    """Accuracy of the first coordinates of an embedding, learned nested or not."""
    sizes = (8, 16, 32, 64, 128)
    labels = classes()
    plain = learner("SimCLR, 128").transform(images(), layer="embedding")
    curves = {"nested": features("nested"), "not nested": plain}
    figure, axis = plt.subplots(figsize=(5.5, 3.6))
    found = []
    for name, z in curves.items():
        reached = [accuracy(z[:, :m], labels) for m in sizes]
        axis.plot(sizes, reached, "o-", label=name)
        found.append(f"{name} " + " / ".join(f"{a:.1f}" for a in reached))
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [str(m) for m in sizes])
    axis.set_xlabel("first coordinates")
    axis.set_ylabel("20-NN accuracy, %")
    axis.legend(frameon=False)
    figure.tight_layout()
    return figure, f"20-NN accuracy at {' / '.join(map(str, sizes))} coordinates: " + "; ".join(found) + "."


def separation() -> tuple[Any, str]:
    """Neighbours by the common and by the salient part: the picture behind, or the digit on it."""
    model, data = learner("SepCLR"), collections()
    target = data["target"]
    parts = {part: model.transform(target, part=part) for part in ("common", "salient")}
    queries = (5, 60, 300)
    figure, axes = plt.subplots(2, len(queries) * (SHOWN + 1), figsize=(len(queries) * (SHOWN + 1) * 0.62, 1.5))
    for row, (part, z) in zip(axes, parts.items(), strict=True):
        _, rows = nearest(z[list(queries)], z, SHOWN + 1)
        for axis, image in zip(row, target[rows.ravel()], strict=True):
            axis.imshow(image)
            bare(axis)
        row[0].set_ylabel(part, rotation=0, ha="right", va="center")
    figure.subplots_adjust(0.07, 0.01, 0.995, 0.99, 0.04, 0.04)
    behind = classes()[trained.ROWS // 2 :]
    scores = [
        f"{part}: digit {accuracy(z, data['digit'][: len(z)]):.0f}, picture {accuracy(z, behind):.0f}"
        for part, z in parts.items()
    ]
    return figure, "20-NN accuracy, per cent. " + "; ".join(scores) + "."


def words() -> tuple[Any, str]:
    """The places of images that lie nearest to some words of OBoW's vocabulary."""
    model = learner("OBoW")
    rows = np.arange(1000)
    maps = model.transform_maps(pixels(rows))[:, :, 1:-1, 1:-1]  # as the vocabulary sees them
    _, d, height, width = maps.shape
    places = maps.transpose(0, 2, 3, 1).reshape(-1, d)
    vocabulary = next(iter(model.vocabulary_.values()))
    chosen = np.random.default_rng(3).permutation(len(vocabulary))[:8]
    _, found = nearest(vocabulary[chosen], places, 60, metric="euclidean")
    figure, axes = plt.subplots(len(chosen), 10, figsize=(7, 5.6))
    step, reach = SIDE / (height + 2), 10
    padded = np.pad(pixels(rows), ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    for row, near in zip(axes, found, strict=True):
        first: dict[int, int] = {}
        for place in near.tolist():  # one place an image
            first.setdefault(place // (height * width), place)
        for axis, (image, place) in zip(row, first.items(), strict=False):
            y, x = divmod(place % (height * width), width)
            top, left = int((y + 1.5) * step), int((x + 1.5) * step)
            axis.imshow(padded[image, top : top + 2 * reach, left : left + 2 * reach])
        for axis in row:
            bare(axis)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99, 0.05, 0.05)
    level, counts = next(iter(model.perplexity_.items()))
    spread = f"{counts['image']:.0f} of {len(vocabulary)} words, a batch {counts['batch']:.0f}"
    return figure, f"A row a word of {level}; at the end the target of an image is spread over {spread}."


def temperatures() -> tuple[Any, str]:
    """What the temperature of a contrastive loss does to the embedding, without labels."""
    short = SimCLR(image_size=SIDE, training=trained.settings(steps=150))
    grid = (0.05, 0.1, 0.3, 1.0, 5.0)
    runs = TemperatureAdvisor(short, grid=grid, share=1.0).fit(images()).table_.runs
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    shown = {
        "uniformity (lower: more uniform)": [run.uniformity for run in runs],
        "cosine to the nearest tenth": [run.neighbour_tolerance for run in runs],
        "effective negatives, share of all": [run.effective_negatives / run.negatives for run in runs],
    }
    for axis, (name, values) in zip(axes, shown.items(), strict=True):
        axis.plot(grid, values, "o-")
        axis.set_xscale("log")
        axis.set_xticks(grid, [f"{t:g}" for t in grid])
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("temperature")
    figure.tight_layout()
    flagged = "; ".join(f"{run.temperature:g}: {', '.join(run.flags)}" for run in runs if run.flags) or "none"
    return figure, f"150 steps each. Flags of the adviser: {flagged}."
