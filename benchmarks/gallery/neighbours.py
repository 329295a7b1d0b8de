"""Pictures of whole images: what lies near what, and by what the neighbourhoods are ordered."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.gallery import trained
from benchmarks.gallery.sheet import BLUE, CONTROLS, GAP, INK, SOFT, TILE, Sheet
from benchmarks.gallery.trained import LOOKS, NESTED, ROWS, features, hidden, images, learner, pixels
from nolabel.assess import knn_accuracy, rankme
from nolabel.assess.domains import domain_purity
from nolabel.ops import nearest

#: What the overview compares, by its name on the page.
COMPARED = {
    "raw pixels": "raw pixels",
    "untrained": "untrained network",
    "simclr": "SimCLR",
    "nested": "SimCLR, nested",
    "swav": "SwAV",
    "rotnet": "RotNet",
    "g-simclr": "G-SimCLR",
    "instance-discrimination": "instance discrimination",
    "beclr": "BECLR",
    "obow": "OBoW",
}
#: Where a name may stand: pixels from its point, and the share of its width that lies left of there.
SIDES = ((11, 0, 0), (-11, 0, 1), (0, 16, 0.5), (0, -16, 0.5), (9, 12, 0), (9, -12, 0), (-9, 12, 1), (-9, -12, 1))
NEAR, OF_ALIKE_COLOURS = 10, 100
ENOUGH = 4  # images for each dimension, below which RankMe says little
QUERIES = tuple(int(row) for row in np.random.default_rng(0).permutation(ROWS["test"])[:4])


def found(z: np.ndarray, queries: Sequence[int], count: int) -> np.ndarray:
    """Rows of the images nearest to some of them: (queries, count)."""
    rows = nearest(z[list(queries)], z, count + 1)[1]
    return np.stack([[row for row in near if row != query][:count] for query, near in zip(queries, rows, strict=True)])


def of_the_class(z: np.ndarray) -> float:
    """Share of the ten nearest neighbours that have an image's own hidden class, per cent."""
    return 100 * domain_purity(z, hidden(), NEAR)


def of_the_colours(z: np.ndarray) -> float:
    """Share of the ten nearest neighbours that are among the hundred images of most alike mean colour, per cent."""
    colours = pixels().mean(axis=(1, 2)).astype(np.float32)
    alike = nearest(colours, colours, OF_ALIKE_COLOURS, metric="euclidean", exclude_self=True)[1]
    near = nearest(z, z, NEAR, exclude_self=True)[1]
    return 100 * float(np.mean([np.isin(a, b).mean() for a, b in zip(near, alike, strict=True)]))


def measures(name: str) -> dict[str, float]:
    """What the overview says of a system."""
    z, from_training = features(name), learner(name).transform(images("train"))
    return {
        "k-NN": 100 * knn_accuracy(from_training, hidden("train"), z, hidden()),
        "same class": of_the_class(z),
        "same colours": of_the_colours(z),
        "RankMe": rankme(from_training) if ENOUGH * z.shape[1] <= ROWS["train"] else math.nan,
        "width": z.shape[1],
    }


def overview() -> tuple[Sheet, str, dict[str, dict[str, float]]]:
    """By what each system orders the images: by what they show, or by their colours."""
    values = {name: measures(name) for name in COMPARED}
    sheet = Sheet(960, 480)
    sheet.text(16, 18, "The same images, ten representations: what do the ten nearest neighbours share?", fontsize=11)
    axes = sheet.plot(70, 48, 860, 375)
    points = {COMPARED[name]: (value["same colours"], value["same class"]) for name, value in values.items()}
    for name, point in zip(values, points.values(), strict=True):
        axes.scatter(*point, s=46, color=CONTROLS.get(name, BLUE), zorder=3)
    axes.set_xlabel("neighbours among the hundred images of most alike mean colour, per cent")
    axes.set_ylabel("neighbours of the same hidden class, per cent")
    axes.grid(color="#eeeeee")
    axes.margins(0.12, 0.1)
    label(sheet, axes, points)
    chance = 100 * OF_ALIKE_COLOURS / ROWS["test"]
    return (
        sheet,
        f"Up: neighbours show the same thing. Right: they have the same colours. By chance 10 and {chance:.0f} %.",
        values,
    )


def label(sheet: Sheet, axes: Any, points: dict[str, tuple[float, float]]) -> None:
    """Names beside points, each where it covers least of other points and names."""
    sheet.figure.canvas.draw()
    places = {name: axes.transData.transform(point) for name, point in points.items()}  # pixels
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places.values()]
    for name, (x, y) in sorted(places.items(), key=lambda item: -len(item[0])):
        drawn = sheet.text(0, 0, name)
        width, height = drawn.get_window_extent().width, 15
        corners = [(x + dx - width * left_of, y + dy - height / 2) for dx, dy, left_of in SIDES]
        boxes = [(left, low, left + width, low + height) for left, low in corners]
        best = min(boxes, key=lambda box: sum(overlap(box, other) for other in taken))
        taken.append(best)
        drawn.set_position((best[0] / sheet.width, (best[1] + best[3]) / 2 / sheet.height))


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Area that two boxes (left, low, right, high) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def strips(sheet: Sheet, top: int, names: dict[str, np.ndarray], shown: np.ndarray, marks: np.ndarray) -> None:
    """For each query a block: the query, and a row of its nearest images by each representation."""
    block = TILE + 3 * GAP + 5 * (TILE + GAP) + 28, len(names) * (TILE + 10) + 16
    for number, query in enumerate(QUERIES):
        x, y = 106 + number % 2 * block[0], top + number // 2 * block[1]
        sheet.tile(shown[query], x, y)
        sheet.block(x - 2, y - 2, TILE + 4, TILE + 4, INK, filled=False)
        for row, (name, z) in enumerate(names.items()):
            level, near = y + row * (TILE + 10), found(z, [query], 5)[0]
            sheet.strip(shown[near], x + TILE + 3 * GAP, level, marks[near] == marks[query])
            if number % 2 == 0:
                sheet.text(94, level + TILE / 2, name, ha="right")


SHARE = "Ten nearest neighbours of a hidden class with the query, over 2,000 images, per cent"


def simclr() -> tuple[Sheet, str, dict[str, float]]:
    """Nearest neighbours by pixels, by an untrained network and after learning."""
    names = {"raw pixels": "raw pixels", "untrained": "untrained", "SimCLR": "simclr"}
    sheet = Sheet(980, 516)
    sheet.text(106, 16, "Query (framed) and the five images nearest to it", fontsize=11)
    strips(sheet, 38, {name: features(key) for name, key in names.items()}, pixels(), hidden())
    values = {name: of_the_class(features(key)) for name, key in names.items()}
    told = ", ".join(f"{name} {value:.1f}" for name, value in values.items())
    return sheet, f"Queries drawn at random. Green line: same hidden class. {SHARE}: {told} (chance 10).", values


def bss() -> tuple[Sheet, str, dict[str, float]]:
    """What one style a view looks like, and what the neighbours become."""
    shown, which = trained.looks()
    views = torch.from_numpy(shown[: trained.BATCH]).permute(0, 3, 1, 2)
    sheet = Sheet(980, 626)
    sheet.text(106, 16, "Two views of one batch: each has the colours and contrasts of one of its images", fontsize=11)
    for row, seed in enumerate((None, 1, 5)):
        y, seen = 36 + row * (TILE + GAP), shown
        if seed is not None:
            made = trained.ONE_STYLE(views, torch.Generator().manual_seed(seed))
            seen = np.rint(255 * made.permute(0, 2, 3, 1).numpy()).astype(np.uint8)
        sheet.strip(seen[:12], 106, y)
        sheet.text(94, y + TILE / 2, f"view {row}" if row else "images", ha="right")
    sheet.text(106, 268, "Query (framed) and the five images nearest to it", fontsize=11)
    names = {"SimCLR": "simclr, looks", "BSS": "bss"}
    vectors = {
        name: learner(key).transform(shown)
        for name, key in (names | {"untrained": "untrained", "raw pixels": "raw pixels"}).items()
    }
    strips(sheet, 290, {name: vectors[name] for name in names}, shown, which)
    values = {name: 100 * domain_purity(z, which, NEAR) for name, z in vectors.items()}
    values |= {f"{name}, same class": of_the_class(vectors[name]) for name in names}
    told = ", ".join(f"{name} {values[name]:.1f}" for name in ("raw pixels", "untrained", *names))
    return (
        sheet,
        f"Every image was given one of three looks at random ({', '.join(LOOKS)}). Green line: same look. Ten nearest neighbours "
        f"of the query's look, per cent: {told} (chance 33). Of its hidden class: SimCLR {values['SimCLR, same class']:.1f}, "
        f"BSS {values['BSS, same class']:.1f}.",
        values,
    )


def matryoshka() -> tuple[Sheet, str, dict[str, list[float]]]:
    """Neighbours by the first coordinates of an embedding, and how often they are of the class."""
    nested = features("nested")
    plain = learner("simclr").transform(images(), layer="embedding")
    sheet = Sheet(980, 366)
    sheet.text(16, 16, "Cut to its first coordinates", fontsize=11)
    axes = sheet.plot(62, 52, 250, 260)
    values: dict[str, list[float]] = {}
    for name, z, colour in (("nested", nested, BLUE), ("not nested", plain, SOFT)):
        values[name] = [of_the_class(z[:, :size]) for size in NESTED]
        axes.plot(NESTED, values[name], "o-", color=colour, markersize=5)
        below = -17 if colour == SOFT else 8
        axes.annotate(
            name,
            (NESTED[-1], values[name][-1]),
            (0, below),
            textcoords="offset points",
            fontsize=9,
            color=colour,
            ha="right",
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(NESTED, [str(size) for size in NESTED])
    axes.minorticks_off()
    axes.margins(0.06, 0.2)
    axes.set_xlabel("coordinates kept")
    axes.set_ylabel("neighbours of the same class, %")
    sheet.text(370, 16, "Query (framed) and its nearest by the nested embedding", fontsize=11)
    for number, query in enumerate(QUERIES[:2]):
        top = 40 + number * 164
        sheet.tile(pixels()[query], 370, top + 36)
        sheet.block(368, top + 34, TILE + 4, TILE + 4, INK, filled=False)
        for row, size in enumerate((NESTED[0], NESTED[-1])):
            near, level = found(nested[:, :size], [query], 6)[0], top + row * (TILE + 10)
            sheet.text(512, level + TILE / 2, f"first {size}" if size < NESTED[-1] else f"all {size}", ha="right")
            sheet.strip(pixels()[near], 524, level, hidden()[near] == hidden()[query])
    listed = "; ".join(f"{name} {' / '.join(f'{v:.1f}' for v in curve)}" for name, curve in values.items())
    return (
        sheet,
        f"Green line: same hidden class. Share at {' / '.join(map(str, NESTED))} coordinates, per cent: {listed}.",
        values,
    )
