"""One style for all pictures: a light sheet on which images lie pixel for pixel, with plain labels and small plots beside."""

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from matplotlib.transforms import IdentityTransform
from PIL import Image

DPI = 100
INK, SOFT, FAINT = "#222222", "#6b6b6b", "#d9d9d9"
BLUE, ORANGE, GREEN, PURPLE, RED = "#0072b2", "#d55e00", "#009e73", "#9467bd", "#c0392b"
#: Controls are grey, the system of the picture is blue.
CONTROLS = {"raw pixels": "#b5b5b5", "untrained": "#8a8a8a"}
LETTERS: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
TILE, GAP = 64, 4
LEVELS = 31  # of each colour: half the size of a file, and no difference to be seen


class Sheet:
    """A white sheet of `width` x `height` pixels; places are pixels from its left and top edge."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        with mpl.rc_context(LETTERS):
            self.figure = plt.figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")

    def tile(self, image: np.ndarray, x: float, y: float, side: int = TILE) -> None:
        """One image (h, w, 3), uint8, at its own size or enlarged to `side`."""
        if image.shape[0] != side:
            image = enlarged(image, side)
        self.figure.figimage(image, round(x), self.height - round(y) - side, origin="upper")

    def strip(
        self, images: Iterable[np.ndarray], x: float, y: float, marked: Sequence[bool] = (), side: int = TILE
    ) -> None:
        """Images side by side; under those that are `marked` lies a green line."""
        for place, image in enumerate(images):
            self.tile(image, x + place * (side + GAP), y, side)
            if len(marked) and marked[place]:
                self.block(x + place * (side + GAP), y + side + 1, side, 3, GREEN)

    def text(self, x: float, y: float, words: str, **look: Any) -> Any:
        settings: dict[Any, Any] = {
            "ha": "left",
            "va": "center",
            "fontsize": 9,
            "color": INK,
            "family": "DejaVu Sans",
        } | look
        return self.figure.text(x / self.width, 1 - y / self.height, words, **settings)

    def block(self, x: float, y: float, width: float, height: float, colour: str, *, filled: bool = True) -> None:
        """A rectangle, or its outline."""
        look: dict[str, Any] = {"facecolor": colour, "edgecolor": "none"}
        if not filled:
            look = {"facecolor": "none", "edgecolor": colour, "linewidth": 1.8}
        corner = (x, self.height - y - height)
        self.figure.add_artist(Rectangle(corner, width, height, transform=IdentityTransform(), **look))

    def plot(self, x: float, y: float, width: float, height: float, title: str = "") -> Any:
        """Axes whose frame fills the rectangle."""
        with mpl.rc_context(LETTERS):
            place = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
            axes = self.figure.add_axes(place)
        axes.set_title(title, fontsize=9, loc="left", color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=2)
        return axes

    def bars(self, axes: Any, values: dict[str, float], colours: Sequence[str], digits: int = 0) -> None:
        """Labelled horizontal bars, the first on top."""
        names = list(values)
        axes.barh(range(len(names)), list(values.values()), color=list(colours), height=0.68)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        for row, value in enumerate(values.values()):
            axes.annotate(
                f"{value:.{digits}f}", (value, row), (3, 0), textcoords="offset points", va="center", fontsize=8
            )

    def save(self, path: Path) -> None:
        """As a PNG, whole or not at all."""
        drawn = io.BytesIO()
        self.figure.savefig(drawn, dpi=DPI, format="png")
        plt.close(self.figure)
        levels = np.rint(np.asarray(Image.open(drawn).convert("RGB")) / 255 * LEVELS)
        partial = path.with_name(f".{path.name}")
        Image.fromarray(np.rint(levels * 255 / LEVELS).astype(np.uint8)).save(partial, format="PNG", optimize=True)
        os.replace(partial, path)


def enlarged(image: np.ndarray, side: int) -> np.ndarray:
    """An image (h, w, 3), uint8, at another size."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))


def heat(image: np.ndarray, values: np.ndarray, side: int) -> np.ndarray:
    """Values (h, w) in [0, 1] as a heat map over a grey image: (side, side, 3), uint8."""
    small = Image.fromarray(np.clip(values, 0, 1).astype(np.float32))
    level = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)
    colour = plt.get_cmap("magma")(level)[:, :, :3]
    grey = enlarged(image, side).mean(axis=2, keepdims=True) / 255
    return np.rint(255 * (0.7 * colour + 0.3 * grey)).astype(np.uint8)
