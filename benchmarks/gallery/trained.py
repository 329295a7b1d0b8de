"""The systems of the gallery, all trained on the same images: CIFAR-10, no labels.

A run is kept under ``runs/gallery``, in a folder that names its parameters: what is there is loaded, what was cut off goes
on where it was, and a system whose parameters changed is trained anew.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims.pixpro import mosaics
from nolabel.data import load, open_images
from nolabel.data.poses import rotated_images
from nolabel.learn import (
    BECLR,
    SIE,
    DenoisingAutoencoder,
    GSimCLR,
    InstanceDiscrimination,
    OBoW,
    PixPro,
    RawPixels,
    RotNet,
    SepCLR,
    SimCLR,
    SwAV,
    Untrained,
)
from nolabel.training import Training
from nolabel.training import load as load_run
from nolabel.views import Augment

RUNS = Path(__file__).parents[2] / "runs" / "gallery"
ROWS = {"train": 6000, "test": 2000}
SIDE, STEPS, BATCH = 32, 300, 128
TURNED = 3000  # images that are turned for SIE
NESTED = (8, 16, 32, 64, 128)
FINE, MOSAICS = "resnet8-x0.25-map12", {"train": 4000, "test": 500}
#: Red, green and blue of each made look: what they are multiplied by, and what is added, of 255.
LOOKS = {
    "warm": ((1.0, 0.9, 0.7), (20, 5, 0)),
    "cold": ((0.7, 0.9, 1.0), (0, 5, 20)),
    "faded": ((0.6, 0.6, 0.6), (70, 70, 70)),
}
#: Batch styles standardisation on larger crops than `--views bss` has, which need a longer training.
ONE_STYLE = Augment(area=(0.4, 1.0), style="batch", shared_colour=True)


@cache
def table(split: str = "test") -> Any:
    """Images with their hidden class: what is shown (``test``), or what was learned from (``train``)."""
    whole = load("cifar10", split=split, small=True)
    return whole.select(np.random.default_rng(0).permutation(len(whole))[: ROWS[split]])


def images(split: str = "test") -> Any:
    return table(split).select_columns(["image"])


@cache
def hidden(split: str = "test") -> np.ndarray:
    """Hidden classes as numbers, in the order of `class_names`."""
    return np.asarray(table(split)["label"])


def class_names() -> list[str]:
    found = dict(zip(table()["label"], table()["label_name"], strict=True))
    return [str(found[number]) for number in sorted(found)]


@cache
def pixels(split: str = "test") -> np.ndarray:
    """All images of a part, uint8 (n, 32, 32, 3)."""
    source = open_images(images(split))
    return source.batch(np.arange(len(source)))["image"].permute(0, 2, 3, 1).numpy()


@cache
def four_in_one(split: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """Mosaics of four images, uint8 (n, 48, 48, 3), and of every pixel the row of its image (n, 48, 48)."""
    cut = pixels(split)[:, 1:-1, 1:-1]
    return mosaics(cut, np.arange(len(cut)), MOSAICS[split], np.random.default_rng(0))


@cache
def looks(split: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """The images in one of three made looks each, drawn at random, uint8 (n, 32, 32, 3), and which."""
    which = np.random.default_rng(1).integers(len(LOOKS), size=ROWS[split])
    gain, offset = (np.array([look[part] for look in LOOKS.values()])[which][:, None, None] for part in (0, 1))
    return np.rint(pixels(split) * gain + offset).clip(0, 255).astype(np.uint8), which


@cache
def collections(split: str = "train") -> dict[str, np.ndarray]:
    """Half-bright images without a digit (background), others with one (target), uint8 (n, 32, 32, 3), and the digits."""
    half = pixels(split) // 2
    cut = len(half) // 2
    digits = load("mnist", split=split).select(range(len(half) - cut))
    strokes = open_images(digits.select_columns(["image"]), size=28).batch(np.arange(len(digits)))["image"]
    target = half[cut:].copy()
    target[:, 2:-2, 2:-2] += strokes.permute(0, 2, 3, 1).numpy() // 2
    return {"background": half[:cut], "target": target, "digit": np.asarray(digits["label"])}


def settings(**more: Any) -> Training:
    return Training(**{"steps": STEPS, "batch_size": BATCH, **more})


def dense() -> dict[str, Any]:
    """What PixPro and PixContrast share."""
    return {"ema_momentum": 0.98, "training": settings(batch_size=BATCH // 4)}


def _plain() -> Any:
    return images("train")


def _in_looks() -> Any:
    return looks("train")[0]


def _in_mosaics() -> Any:
    return four_in_one("train")[0]


def _turned() -> Any:
    return rotated_images(pixels("train")[:TURNED], views=4, random_state=0)


def _collections() -> Any:
    return {part: collections()[part] for part in ("background", "target")}


#: What each kind of data is made by; a run that learned from other data is not taken for this one.
MADE_BY = {_plain: (), _in_looks: (LOOKS,), _in_mosaics: (MOSAICS,), _turned: (TURNED,), _collections: ()}

#: By name, the system unfitted and what it learns from.
SYSTEMS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "raw pixels": (RawPixels, _plain),
    "untrained": (Untrained, _plain),
    "simclr": (lambda: SimCLR(training=settings()), _plain),
    "swav": (lambda: SwAV(prototypes=60, crops=((2, SIDE, (0.3, 1.0)),), training=settings(lr=1e-3)), _plain),
    "rotnet": (lambda: RotNet(training=settings(batch_size=BATCH // 2)), _plain),
    "instance-discrimination": (lambda: InstanceDiscrimination(training=settings()), _plain),
    "g-simclr": (
        lambda: GSimCLR(features=DenoisingAutoencoder(training=Training(epochs=3)), training=settings(batch_size=32)),
        _plain,
    ),
    "beclr": (lambda: BECLR(augment="simclr", training=settings(lr=2e-3)), _plain),
    "nested": (lambda: SimCLR(nested=NESTED, training=settings()), _plain),
    "obow": (lambda: OBoW(momentum=0.97, training=settings()), _plain),
    "simclr, looks": (lambda: SimCLR(training=settings()), _in_looks),
    "bss": (
        lambda: SimCLR(augment=ONE_STYLE, negatives="same_view", training=settings(lr=0.05)),
        _in_looks,
    ),
    "untrained, mosaics": (lambda: Untrained(FINE), _in_mosaics),
    "simclr, mosaics": (lambda: SimCLR(FINE, training=settings(batch_size=BATCH // 4)), _in_mosaics),
    "pixpro": (lambda: PixPro(FINE, **dense()), _in_mosaics),
    "pixcontrast": (lambda: PixPro(FINE, objective="contrast", **dense()), _in_mosaics),
    "sie": (lambda: SIE(group="so2", training=settings()), _turned),
    "sepclr": (
        lambda: SepCLR("resnet8-x0.25", augment=Augment(area=(0.3, 1.0), flip_p=0.0), training=settings()),
        _collections,
    ),
}


#: Systems of the present picture that did not come out healthy, and the verdict.
faulty: dict[str, str] = {}


@cache
def _fitted(name: str) -> Any:
    """From its run folder if it is there, else trained."""
    make, data = SYSTEMS[name]
    made = make()
    described = f"{made.get_params()!r} {ROWS} {MADE_BY[data]}"
    folder = RUNS / f"{name.replace(', ', '-').replace(' ', '-')}-{hashlib.sha1(described.encode()).hexdigest()[:8]}"
    if (folder / "config.json").exists():
        return load_run(folder)
    return made.fit(data(), run=folder, resume=(folder / "checkpoint.safetensors").exists())


@cache
def _features(name: str) -> np.ndarray:
    return _fitted(name).transform(images())


def learner(name: str) -> Any:
    """The trained system; one in which its health report finds fault is noted in `faulty`."""
    found = _fitted(name)
    if found.health_["verdict"] != "healthy":
        faulty[name] = found.health_["verdict"]
    return found


def features(name: str) -> np.ndarray:
    """Its representation (n, d) of the images that are shown, which it has not learned from."""
    learner(name)
    return _features(name)
