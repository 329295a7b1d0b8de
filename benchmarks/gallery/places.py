"""Pictures of feature maps: what each place of an image is like."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from benchmarks.gallery.sheet import GAP, RED, TILE, Sheet, enlarged, heat
from benchmarks.gallery.trained import SIDE, four_in_one, hidden, learner, pixels
from nolabel.assess.dense import dense_probe
from nolabel.ops import nearest

DENSE = {
    "untrained": "untrained, mosaics",
    "SimCLR": "simclr, mosaics",
    "PixPro": "pixpro",
    "PixContrast": "pixcontrast",
}
LARGE, SHOWN, PROBED = 96, (0, 1, 2, 3), 600
WORDS, PATCHES, REACH = 7, 14, 6


@cache
def maps(name: str) -> np.ndarray:
    """Feature maps of all mosaics that are shown, less their mean location, of unit length: (n, d, h, w)."""
    found = learner(name).transform_maps(four_in_one()[0])
    return normalize(torch.from_numpy(found - found.mean(axis=(0, 2, 3), keepdims=True)), dim=1).numpy()


def colours(name: str) -> np.ndarray:
    """The three main directions of all locations as red, green and blue: (n, h, w, 3) in [0, 1]."""
    places = maps(name).transpose(0, 2, 3, 1)
    flat = places.reshape(-1, places.shape[-1])
    main = np.linalg.eigh(flat.T @ flat)[1][:, ::-1][:, :3]
    low, high = np.percentile(flat @ main, (2, 98), axis=0)
    return ((places @ main - low) / (high - low)).clip(0, 1)


def scores(name: str) -> dict[str, float]:
    """Class of each location by a linear probe; how often the most similar place, none beside it, is of the same image."""
    (train, train_rows), (test, test_rows) = four_in_one("train"), four_in_one()
    model = learner(name)
    probed = model.transform_maps(train[:PROBED]), hidden("train")[train_rows[:PROBED]]
    accuracy = dense_probe(*probed, model.transform_maps(test), hidden()[test_rows]).accuracy
    flat = torch.from_numpy(maps(name))
    height, width = flat.shape[2:]
    step = test.shape[1] // height
    owner = torch.from_numpy(test_rows[:, step // 2 :: step, step // 2 :: step].reshape(len(test), -1))
    place = torch.arange(height * width)
    down, across = (place[:, None] // width - place // width).abs(), (place[:, None] % width - place % width).abs()
    likeness = torch.einsum("ndp,ndq->npq", flat.flatten(2), flat.flatten(2)).masked_fill(
        (down <= 2) & (across <= 2), -2
    )
    same = owner.gather(1, likeness.argmax(dim=2)) == owner
    far = (owner[:, :, None] == owner[:, None, :]) & ~((down <= 2) & (across <= 2))
    return {
        "class of a place": 100 * accuracy,
        "most similar place": 100 * float(same.float().mean()),
        "by chance": 100 * float((far.sum(dim=2) / ((down > 2) | (across > 2)).sum(dim=1)).mean()),
    }


def pixpro() -> tuple[Sheet, str, dict[str, dict[str, float]]]:
    """Maps as colours, and how like one place all others are."""
    step, shots = LARGE + GAP, four_in_one()[0]
    right = 46 + (len(DENSE) + 1) * step
    sheet = Sheet(right + len(DENSE) * step + 12, 62 + len(SHOWN) * step)
    sheet.text(16 + step, 16, "Maps as colours", fontsize=11)
    sheet.text(right, 16, "How like the place framed red", fontsize=11)
    for column, (title, name) in enumerate(DENSE.items()):
        sheet.text(16 + (column + 1.5) * step, 42, title, ha="center")
        sheet.text(right + (column + 0.5) * step, 42, title, ha="center")
        flat, shown = maps(name), colours(name)
        height, width = flat.shape[2:]
        for row, mosaic in enumerate(SHOWN):
            x, y, spot = right + column * step, 56 + row * step, (height // 4, width // 4)
            sheet.tile(shots[mosaic], 16, y, LARGE)
            sheet.tile(
                enlarged(np.rint(255 * shown[mosaic]).astype(np.uint8), LARGE), 16 + (column + 1) * step, y, LARGE
            )
            likeness = np.einsum("d,dhw->hw", flat[mosaic][:, spot[0], spot[1]], flat[mosaic])
            sheet.tile(heat(shots[mosaic], likeness, LARGE), x, y, LARGE)
            cell = LARGE / width
            sheet.block(x + spot[1] * cell, y + spot[0] * cell, cell, cell, RED, filled=False)
    values = {title: scores(name) for title, name in DENSE.items()}
    told = "; ".join(
        f"{title} {value['class of a place']:.1f} and {value['most similar place']:.1f}"
        for title, value in values.items()
    )
    return (
        sheet,
        f"Mosaics of four images, maps of {height} x {width} places by one encoder trained in three ways. Left: the three main "
        "directions of all places as red, green and blue. Right: cosine, from dark to light. Hidden class of a place read by a "
        "linear classifier, and most similar other place of the mosaic in the same image, per cent (chance 10 and "
        f"{values['PixPro']['by chance']:.0f}): {told}.",
        values,
    )


def obow() -> tuple[Sheet, str, dict[str, float]]:
    """Where some words of the vocabulary occur."""
    model: Any = learner("obow")
    level, vocabulary = next(iter(model.vocabulary_.items()))
    inner = model.transform_maps(pixels())[:, :, 1:-1, 1:-1]  # the vocabulary never sees the border
    d, height, width = inner.shape[1:]
    places = np.ascontiguousarray(inner.transpose(0, 2, 3, 1)).reshape(-1, d)
    chosen = np.random.default_rng(4).permutation(len(vocabulary))[:WORDS]
    near = nearest(vocabulary[chosen], places, 400, metric="euclidean")[1]
    sheet = Sheet(16 + PATCHES * (TILE + GAP) + 12, 46 + WORDS * (TILE + GAP))
    sheet.text(16, 16, f"{WORDS} of {len(vocabulary)} words: the places nearest to each, one an image", fontsize=11)
    padded = np.pad(pixels(), ((0, 0), (REACH, REACH), (REACH, REACH), (0, 0)), mode="edge")
    step = SIDE / (height + 2)
    for row, found in enumerate(near):
        first: dict[int, int] = {}
        for place in found.tolist():
            first.setdefault(place // (height * width), place % (height * width))
        for column, (image, place) in enumerate(list(first.items())[:PATCHES]):
            top, left = (int((index + 1.5) * step) for index in divmod(place, width))
            patch = padded[image, top : top + 2 * REACH, left : left + 2 * REACH]
            sheet.tile(patch, 16 + column * (TILE + GAP), 38 + row * (TILE + GAP))
    seen = model.perplexity_[level]
    values = {"words of an image": seen["image"], "words of a batch": seen["batch"], "vocabulary": len(vocabulary)}
    return (
        sheet,
        f"Words drawn at random; {2 * REACH} of the image's {SIDE} pixels around each place. After training, the target "
        f"of an image is spread over {seen['image']:.0f} words, that of a batch over {seen['batch']:.0f} (perplexity).",
        values,
    )
