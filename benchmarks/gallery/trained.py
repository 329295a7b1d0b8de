"""The systems of the gallery, all trained on the same images: PACS at 64 pixels, photographs to sketches, no labels.

A run is kept under ``runs/gallery`` and loaded the next time, so that pictures can be made anew without training.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.data import load, open_images
from nolabel.data.poses import rotated_images
from nolabel.learn import (
    BECLR,
    SIE,
    InstanceDiscrimination,
    OBoW,
    PixPro,
    RawPixels,
    SepCLR,
    SimCLR,
    SwAV,
    Untrained,
)
from nolabel.training import Training
from nolabel.training import load as load_run

RUNS = Path("runs/gallery")
ROWS, SIDE, STEPS, BATCH = 4000, 48, 400, 128
TURNED = 1000  # images that are turned for SIE


@cache
def table() -> Any:
    """Images with their hidden class and domain."""
    whole = load("pacs64", split="train")
    return whole.select(np.sort(np.random.default_rng(0).permutation(len(whole))[:ROWS]))


@cache
def images() -> Any:
    return table().select_columns(["image"])


def pixels(rows: Any, side: int = SIDE) -> np.ndarray:
    """Images as uint8 (n, side, side, 3), as the networks see them."""
    source = open_images(images(), size=side)
    return source.batch(np.asarray(rows))["image"].permute(0, 2, 3, 1).numpy()


@cache
def collections() -> dict[str, np.ndarray]:
    """Half-bright images without a digit (background) and others with one (target), uint8 (n, 48, 48, 3)."""
    digits = load("mnist", split="train").select(range(ROWS // 2))
    strokes = open_images(digits.select_columns(["image"]), size=28).batch(np.arange(len(digits)))["image"]
    half = pixels(np.arange(ROWS)) // 2
    target = half[ROWS // 2 :].copy()
    target[:, 10:38, 10:38] += strokes.permute(0, 2, 3, 1).numpy()[: len(target)] // 2
    return {"background": half[: ROWS // 2], "target": target, "digit": np.asarray(digits["label"])}


def turned(count: int = TURNED, views: int = 4) -> Any:
    """Views of images turned in the plane by known angles."""
    return rotated_images(pixels(np.arange(count)), views=views, random_state=0)


def settings(**more: Any) -> Training:
    return Training(**{"steps": STEPS, "batch_size": BATCH, **more})


LEARNERS: dict[str, Any] = {
    "raw pixels": lambda: RawPixels(image_size=SIDE),
    "untrained": lambda: Untrained(image_size=SIDE),
    "SimCLR": lambda: SimCLR(image_size=SIDE, training=settings()),
    "SimCLR, 128": lambda: SimCLR(projection=(256, 128), image_size=SIDE, training=settings()),
    "SimCLR, BSS": lambda: SimCLR(augment="bss", negatives="same_view", image_size=SIDE, training=settings()),
    "SwAV": lambda: SwAV(prototypes=60, image_size=SIDE, training=settings()),
    "instance discrimination": lambda: InstanceDiscrimination(image_size=SIDE, training=settings()),
    "hard contrastive": lambda: InstanceDiscrimination(
        temperature=1.0, hard_fraction=0.08, image_size=SIDE, training=settings()
    ),
    "BECLR": lambda: BECLR(image_size=SIDE, training=settings()),
    "OBoW": lambda: OBoW(momentum=0.97, image_size=SIDE, training=settings()),
    "PixPro": lambda: PixPro(ema_momentum=0.98, image_size=SIDE, training=settings(lr=2e-3)),
    "PixContrast": lambda: PixPro(objective="contrast", ema_momentum=0.98, image_size=SIDE, training=settings(lr=2e-3)),
    "nested": lambda: SimCLR(nested=(8, 16, 32, 64, 128), image_size=SIDE, training=settings()),
    "SIE": lambda: SIE(group="so2", image_size=SIDE, training=settings(batch_size=256)),
    "SepCLR": lambda: SepCLR(image_size=SIDE, training=settings()),
}


@cache
def learner(name: str) -> Any:
    """The trained system, from its run folder if it is there."""
    folder = RUNS / name.replace(", ", "-").replace(" ", "-")
    if (folder / "config.json").exists():
        return load_run(folder)
    made = LEARNERS[name]()
    if name == "SIE":
        return made.fit(turned(), run=folder)
    if name == "SepCLR":
        return made.fit({part: collections()[part] for part in ("background", "target")}, run=folder)
    return made.fit(images(), run=folder)


@cache
def features(name: str) -> np.ndarray:
    """Its representation of all images (n, d)."""
    return learner(name).transform(images())
