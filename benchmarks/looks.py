"""Digits in made looks: smooth fields of colour, contrast and coarse texture, unevenly spread over the classes."""

import colorsys
from dataclasses import dataclass

import numpy as np

#: P(look | class) of the look that goes with the class, and of each of the two others.
OWN, OTHER = 0.7, 0.15


@dataclass(frozen=True)
class Look:
    """How images of one look are taken. Where shade and grain lie is drawn for each image; how much of each is the look's."""

    ground: np.ndarray  # (3,) colour of the background
    ink: np.ndarray  # (3,) colour of the strokes, lighter than the ground in every channel
    contrast: float  # share of the ink where a stroke is
    shade: float  # standard deviation of a smooth field of light, up to 1 cycle an image
    grain: tuple[float, float]  # cycles an image, standard deviation of a texture

    def render(self, strokes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Strokes (n, h, w) in [0, 1] as uint8 pixels (n, h, w, 3)."""
        cycles, amount = self.grain
        light = (
            waves(strokes.shape, 0.3, 1.0, rng) * self.shade + waves(strokes.shape, cycles, cycles + 1, rng) * amount
        )
        cover = self.contrast * strokes[..., None]
        pixels = (1 - cover) * self.ground + cover * self.ink + light[..., None]
        return np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)


def waves(shape: tuple[int, ...], least: float, most: float, rng: np.random.Generator, count: int = 4) -> np.ndarray:
    """Sums of cosines of random direction and phase, of `least` to `most` cycles an image, with unit variance: (n, h, w)."""
    n, height, width = shape
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    total = np.zeros(shape)
    for _ in range(count):
        angle, phase = 2 * np.pi * rng.uniform(size=(2, n, 1, 1))
        cycles = rng.uniform(least, most, size=(n, 1, 1))
        total += np.cos(2 * np.pi * cycles * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    return total * (2 / count) ** 0.5


def draw_looks(count: int, rng: np.random.Generator) -> list[Look]:
    """Looks whose hues lie evenly around the circle, all else drawn."""
    looks = []
    for number in range(count):
        hue = (rng.uniform(-0.06, 0.06) + number / count) % 1
        ground = colorsys.hsv_to_rgb(hue, rng.uniform(0.4, 0.8), rng.uniform(0.25, 0.45))
        ink = colorsys.hsv_to_rgb((hue + rng.uniform(0.3, 0.7)) % 1, rng.uniform(0.1, 0.4), rng.uniform(0.85, 1.0))
        grain = (rng.uniform(1, 4), rng.uniform(0.02, 0.08))
        looks.append(Look(np.array(ground), np.array(ink), rng.uniform(0.7, 1.0), rng.uniform(0.03, 0.1), grain))
    return looks


def by_class(labels: np.ndarray, looks: int, rng: np.random.Generator) -> np.ndarray:
    """A look for each image, which tells much of its class: (n,) integers."""
    shares = np.full((looks, looks), OTHER)
    np.fill_diagonal(shares, OWN)
    shares /= shares.sum(axis=1, keepdims=True)
    return np.array([rng.choice(looks, p=shares[label % looks]) for label in labels])


def recoloured(strokes: np.ndarray, chosen: np.ndarray, looks: list[Look], rng: np.random.Generator) -> np.ndarray:
    """Strokes (n, h, w) in [0, 1], each in its chosen look: uint8 (n, h, w, 3)."""
    pixels = np.empty((*strokes.shape, 3), np.uint8)
    for number in np.unique(chosen):
        rows = chosen == number
        pixels[rows] = looks[number].render(strokes[rows], rng)
    return pixels
