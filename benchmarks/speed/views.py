"""Time of batched views against one image at a time with Pillow, side by side in one run.

python -m benchmarks.speed views [--quick]; about a minute on two idle cores. Goals: two SimCLR views (crop, flip,
jitter, grey) of 256 images of 32 x 32 x 3 in at most 0.02 s with two threads; multi-crop 5 times faster than Pillow. Both
arms take the same uint8 images and give float32 batches; the Pillow arm does the same steps with the same bounds (its hue
turns in HSV, its steps round to bytes) and, as Python runs it, on one core. The arms alternate; ratios are taken within a
round.
"""

import random
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter

from benchmarks.speed.harness import Line, Options, circumstances, line
from nolabel.views import Augment, MultiCrop, rotate4, simclr

TITLE = "Views"
GOAL_SECONDS, GOAL_MULTI_CROP = 0.02, 5.0
IMAGES = 256


def pillow_view(image: Image.Image, recipe: Augment, rng: random.Random) -> np.ndarray:
    """The steps of one view on one picture."""
    pixels = image.width * image.height * rng.uniform(*recipe.area)
    lean = np.exp(rng.uniform(np.log(recipe.ratio[0]), np.log(recipe.ratio[1])))
    width, height = min((pixels * lean) ** 0.5, image.width), min((pixels / lean) ** 0.5, image.height)
    x, y = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    side = (recipe.size, recipe.size)
    image = image.resize(side, Image.Resampling.BILINEAR, box=(x, y, x + width, y + height))
    if rng.random() < recipe.flip_p:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < recipe.jitter_p:
        brightness, contrast, saturation, hue = recipe.jitter
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(1 - brightness, 1 + brightness))
        image = ImageEnhance.Contrast(image).enhance(rng.uniform(1 - contrast, 1 + contrast))
        image = ImageEnhance.Color(image).enhance(rng.uniform(1 - saturation, 1 + saturation))
        h, s, v = image.convert("HSV").split()
        turn = round(255 * rng.uniform(-hue, hue))
        h = h.point([(level + turn) % 256 for level in range(256)])
        image = Image.merge("HSV", (h, s, v)).convert("RGB")
    if rng.random() < recipe.grey_p:
        image = image.convert("L").convert("RGB")
    if recipe.blur_p and rng.random() < recipe.blur_p:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(*recipe.blur_sigma)))
    return np.asarray(image)


def pillow_batch(pictures: list[np.ndarray], recipes: list[Augment], rng: random.Random) -> list[torch.Tensor]:
    images = [Image.fromarray(picture) for picture in pictures]
    return [
        torch.from_numpy(np.stack([pillow_view(image, recipe, rng) for image in images])).permute(0, 3, 1, 2) / 255
        for recipe in recipes
    ]


def pillow_quarter_turns(pictures: list[np.ndarray]) -> torch.Tensor:
    turns = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    images = [Image.fromarray(picture) for picture in pictures]
    four = [np.asarray(view) for image in images for view in (image, *(image.transpose(turn) for turn in turns))]
    return torch.from_numpy(np.stack(four)).permute(0, 3, 1, 2) / 255


def tasks(side: int) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Name -> (this library, Pillow) on the same images."""
    generator, rng = torch.Generator().manual_seed(0), random.Random(0)
    batch = torch.randint(0, 256, (IMAGES, 3, side, side), dtype=torch.uint8, generator=generator)
    pictures = list(batch.permute(0, 2, 3, 1).contiguous().numpy())
    plain, published, small = Augment(side), simclr(side), side * 5 // 8
    crops = MultiCrop(((2, side, (0.3, 1.0)), (6, small, (0.1, 0.3))), plain)
    crop_recipes = [Augment(side, area=(0.3, 1.0))] * 2 + [Augment(small, area=(0.1, 0.3))] * 6
    found: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "two views: crop, flip, jitter, grey": (
            lambda: (plain(batch, generator), plain(batch, generator)),
            lambda: pillow_batch(pictures, [plain] * 2, rng),
        ),
        f"multi-crop 2 x {side} + 6 x {small}": (
            lambda: crops(batch, generator),
            lambda: pillow_batch(pictures, crop_recipes, rng),
        ),
        "four quarter turns": (lambda: rotate4(batch), lambda: pillow_quarter_turns(pictures)),
    }
    if published.blur_p:
        found["two views of SimCLR: full jitter and blur"] = (
            lambda: (published(batch, generator), published(batch, generator)),
            lambda: pillow_batch(pictures, [published] * 2, rng),
        )
    return found


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and seconds of processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(side: int, rounds: int) -> list[dict]:
    rows = []
    for name, (ours, pillow) in tasks(side).items():
        for warm_up in (ours, ours, pillow):
            warm_up()
        pairs = [(timed(ours), timed(pillow)) for _ in range(rounds)]
        ratios = sorted(theirs[0] / mine[0] for mine, theirs in pairs)
        rows.append(
            {
                "task": name,
                "images": IMAGES,
                "side": side,
                "rounds": rounds,
                "seconds": statistics.median(mine[0] for mine, _ in pairs),
                "seconds_best": min(mine[0] for mine, _ in pairs),
                "cpu_seconds": statistics.median(mine[1] for mine, _ in pairs),
                "pillow_seconds": statistics.median(theirs[0] for _, theirs in pairs),
                "pillow_seconds_best": min(theirs[0] for _, theirs in pairs),
                "times_faster": {
                    "median": statistics.median(ratios),
                    "quartiles": [ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]],
                    "min": ratios[0],
                    "max": ratios[-1],
                },
            }
        )
    return rows


def run(options: Options) -> dict:
    found = circumstances("torch", "pillow")
    rows = [row for side in (32, 96) for row in measure(side, 2 if options.quick else 15)]
    return {"name": "views", **found, "rows": rows}


def lines(result: dict) -> list[Line]:
    first = result["rows"][0]
    case = f"two views of {first['images']} images of {first['side']} x {first['side']} x 3"
    found = [Line(case, "", *[first["seconds"]] * 3, unit="s", goal=GOAL_SECONDS, at_least=False)]
    for row in result["rows"]:
        case = (
            f"{row['task']}, {row['images']} images of {row['side']} x {row['side']} x 3: {row['seconds'] * 1e3:.0f} ms"
        )
        goal = GOAL_MULTI_CROP if row["task"].startswith("multi-crop") else None
        found.append(line(case, "Pillow, image by image", row["times_faster"], goal=goal))
    return found
