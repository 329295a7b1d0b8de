"""Clips of known motion made of real images: a garment of Fashion-MNIST moves over a picture of CIFAR-10.

Six ways to move are the classes; how fast, where, in which colour and over what are drawn for each clip.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from nolabel.data import load, open_images

MOTIONS = ("line", "circle", "zigzag", "bounce", "zoom", "rotation")
SIDE, GARMENT = 32, 18  # pixels
#: Bounds of the factor on the speed of a motion; how much of the picture is left, so that what moves stands out.
PACE, DIM = (0.7, 1.4), 0.4


def triangle(x: Tensor) -> Tensor:
    """A wave of period 1 between -1 and 1, of straight lines."""
    return 1 - 4 * ((x % 1) - 0.5).abs()


def trajectory(motion: str, time: Tensor, pace: float, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Across and down in pixels from the middle, scale, and angle in radians, over the frames."""
    phase, heading, sense = rng.random(), 2 * math.pi * rng.random(), rng.choice([-1.0, 1.0])
    t, rest, one = time * pace, torch.zeros_like(time), torch.ones_like(time)
    if motion in ("line", "zigzag"):
        along = 9 * triangle(t / (18 if motion == "line" else 40) + phase)
        aside = 5 * triangle(t / 7 + rng.random()) if motion == "zigzag" else rng.uniform(-4, 4) + rest
        x = along * math.cos(heading) - aside * math.sin(heading)
        y = along * math.sin(heading) + aside * math.cos(heading)
        return x, y, one, rest
    if motion == "circle":
        angle = sense * 2 * math.pi * t / 13 + heading
        radius = rng.uniform(5, 7)
        return radius * angle.cos(), radius * angle.sin(), one, rest
    if motion == "bounce":
        height = 14 * (math.pi * (t / 9 + phase)).sin().abs()
        return 7 * triangle(t / 60 + rng.random()), 7 - height, one, rest
    x, y = (rng.uniform(-5, 5) + rest for _ in range(2))
    if motion == "zoom":
        return x, y, 1 + 0.5 * (2 * math.pi * (t / 11 + phase)).sin(), rest
    return x, y, one, sense * 2 * math.pi * t / 13 + heading


def moving(split: str, clips: int, frames: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips uint8 (n, frames, SIDE, SIDE, 3), the motion (n,) of each, all equally often, and the kind of its garment (n,).

    Garments and pictures are those of the sets' own ``train`` or ``test`` part, so that none is in both.
    """
    rng = np.random.default_rng([seed, split == "test"])
    pictures = open_images(load("cifar10", split=split), size=SIDE, channels=3)
    wardrobe = load("fashion_mnist", split=split)
    garments, kinds = open_images(wardrobe, size=28, channels=1), np.asarray(wardrobe["label"])
    of, worn = np.arange(clips) % len(MOTIONS), rng.integers(len(garments), size=clips)
    time = torch.arange(frames).float()
    result = np.empty((clips, frames, SIDE, SIDE, 3), np.uint8)
    for i in range(clips):
        picture = pictures.batch([rng.integers(len(pictures))])["image"].float() / 255  # (1, 3, SIDE, SIDE)
        garment = garments.batch(worn[i : i + 1])["image"].float() / 255  # (1, 1, 28, 28)
        x, y, scale, angle = trajectory(MOTIONS[of[i]], time, rng.uniform(*PACE), rng)
        zoom = SIDE / (GARMENT * scale)  # pixels of the view per side of the garment
        cosine, sine = angle.cos() * zoom, angle.sin() * zoom
        x, y = x * 2 / SIDE, y * 2 / SIDE
        rows = [
            torch.stack(r, 1) for r in ((cosine, sine, -cosine * x - sine * y), (-sine, cosine, sine * x - cosine * y))
        ]
        grid = affine_grid(torch.stack(rows, 1), [frames, 1, SIDE, SIDE], align_corners=False)
        seen = grid_sample(garment.expand(frames, 1, 28, 28), grid, "bilinear", "zeros", align_corners=False)
        colour = torch.from_numpy(rng.uniform(0.5, 1.0, 3)).float().view(1, 3, 1, 1)
        cover = (3 * seen).clamp(max=1)
        views = DIM * picture * (1 - cover) + colour * seen * cover
        result[i] = (255 * views).round().byte().permute(0, 2, 3, 1).numpy()
    return result, of, kinds[garments.rows[worn]]
