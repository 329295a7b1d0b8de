"""OSUDA on CamVid: a segmenter of daylight streets taken to dusk, without labels and without its daylight images."""

import io
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.claims.engine import Claim, Gate, Measures
from nolabel.adapt import SourceFreeAdapter, adapt_bn_statistics
from nolabel.data import load, read
from nolabel.learn.image_segmenter import ImageSegmenter
from nolabel.training import Training

#: Of the twelve classes of the masks: sky 0; building, pole, sign, fence 1; road, pavement 2; tree 3; vehicle, person 4; void 9.
COARSE = np.array([0, 1, 1, 2, 2, 3, 1, 1, 4, 4, 4, 9], np.uint8)
VOID, VEHICLE = 9, 4
SHAPE = (60, 80)
DUSK = "0001TP"
WIDTHS = (16, 32, 64, 96)
STEPS, BATCH, RATE = 300, 8, 2e-3
ADAPT_STEPS, ADAPT_BATCH = 60, 12


def coarse(table: Any) -> Any:
    """The table with masks of five classes and void."""
    masks = []
    for cell in table["mask"]:
        with Image.open(io.BytesIO(cell["bytes"])) as mask:
            masks.append(Image.fromarray(COARSE[np.minimum(np.asarray(mask), 11)]))
    images = [Image.open(io.BytesIO(cell["bytes"])) for cell in table["image"]]
    return read({"image": images, "mask": masks})


def streets() -> tuple[Any, Any, Any]:
    """Daylight to learn from and to test on, and the frames at dusk in their order."""
    table = load("camvid")
    split, sequence, frame = (np.asarray(table[name]) for name in ("split", "sequence", "frame"))
    dusk = np.flatnonzero(sequence == DUSK)
    dusk = dusk[np.argsort(frame[dusk], kind="stable")]
    parts = [(sequence != DUSK) & (split == "train"), (sequence != DUSK) & (split != "train")]
    day, test = (coarse(table.select(np.flatnonzero(part))) for part in parts)
    return day, test, coarse(table.select(dusk))


def adapters(model: Any, seed: int, shift: bool = True) -> dict[str, Any]:
    """Arms that take the same steps; without a shift only those whose harm is asked for."""

    def training(rate: float = 1e-3, optimiser: str = "adam") -> Training:
        return Training(steps=ADAPT_STEPS, batch_size=ADAPT_BATCH, lr=rate, optimiser=optimiser, random_state=seed)

    made = {
        "full": SourceFreeAdapter(model, training=training()),
        "full, all weights": SourceFreeAdapter(model, trainable="all", training=training(1e-4)),
    }
    if shift:
        # the weight drowns the term that holds scales and shifts, and Adam takes no notice of it otherwise
        made["Tent-like"] = SourceFreeAdapter(model, source_share=0.0, entropy_weight=1e4, training=training())
        made["full, without alpha"] = SourceFreeAdapter(model, weigh_channels=False, training=training())
        made["full, all weights by SGD"] = SourceFreeAdapter(model, trainable="all", training=training(1e-3, "sgd"))
    return made


def scores(model: Any, test: Any) -> dict[str, float]:
    found = model.judged(test)
    return {
        "IoU": 100 * found.mean_iou,
        "vehicle IoU": 100 * found.iou.get(VEHICLE, 0.0),
        "Dice": 100 * found.mean_dice,
    }


def run(seed: int) -> Measures:
    day, day_test, dusk = streets()
    model = ImageSegmenter(
        WIDTHS,
        ignore=VOID,
        image_size=SHAPE,
        training=Training(steps=STEPS, batch_size=BATCH, lr=RATE, random_state=seed),
    ).fit(day)
    half = len(dusk) // 2
    first, last = dusk.select(range(half)), dusk.select(range(half, len(dusk)))
    found: Measures = {}
    for place, site, test, shift in (
        ("dusk", first, last, True),
        ("dusk, halves swapped", last, first, True),
        ("day", day, day_test, False),
    ):
        images = site.select_columns(["image"])
        made = {"source only": model}
        made["AdaBN"] = adapt_bn_statistics(model, images, batch_size=ADAPT_BATCH, random_state=seed)
        made |= {name: adapter.fit(images).model_ for name, adapter in adapters(model, seed, shift).items()}
        for arm, one in made.items():
            for measure, value in scores(one, test).items():
                if measure == "IoU" or place == "dusk":
                    found.setdefault(arm, {})[f"{place}, {measure}"] = value
    return found


def gain(values: Measures, arm: str, over: str, place: str = "dusk") -> float:
    return values[arm][f"{place}, IoU"] - values[over][f"{place}, IoU"]


def mean_gain(values: Measures, arm: str, over: str) -> float:
    return (gain(values, arm, over) + gain(values, arm, over, "dusk, halves swapped")) / 2


CLAIM = Claim(
    name="osuda",
    paper="Liu, Xing, Yang, El Fakhri & Woo, MICCAI 2021, arXiv:2106.12497",
    claim="A segmenter is adapted to another site from unlabelled images and its batch norm alone, without its training data.",
    data="CamVid at 80x60: 305 frames by day to learn from, 272 to test; 124 at dusk, one half to adapt to, the other to test",
    metric="intersection over union, mean over five classes (sky, building, road, tree, vehicle or person); per cent",
    run=run,
    gates=(
        Gate("AdaBN - source only", 5.0, lambda v: gain(v, "AdaBN", "source only")),
        Gate("full - source only", 5.0, lambda v: gain(v, "full", "source only")),
        Gate("full - AdaBN", -1.0, lambda v: gain(v, "full", "AdaBN")),
        Gate(
            "by day, where nothing differs: full - source only", -1.0, lambda v: gain(v, "full", "source only", "day")
        ),
    ),
    reports=(
        Gate("full - AdaBN, mean of both ways to halve the dusk", 0.0, lambda v: mean_gain(v, "full", "AdaBN")),
        Gate("full - Tent-like", 0.0, lambda v: gain(v, "full", "Tent-like")),
        Gate("full - full, without alpha", 0.0, lambda v: gain(v, "full", "full, without alpha")),
        Gate("full - full, all weights", 0.0, lambda v: gain(v, "full", "full, all weights")),
        Gate("by day: AdaBN - source only", -1.0, lambda v: gain(v, "AdaBN", "source only", "day")),
        Gate(
            "by day: full, all weights - source only",
            -1.0,
            lambda v: gain(v, "full, all weights", "source only", "day"),
        ),
    ),
    seeds=(1, 2, 3),
    settings={
        "widths": list(WIDTHS),
        "steps": STEPS,
        "batch": BATCH,
        "adapted": f"{ADAPT_STEPS} steps of {ADAPT_BATCH}",
    },
)
