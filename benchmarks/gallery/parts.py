"""Pictures of what turns, and of representations in two parts."""

from typing import Any

import numpy as np

from benchmarks.gallery.neighbours import found
from benchmarks.gallery.sheet import BLUE, GAP, INK, ORANGE, RED, SOFT, TILE, Sheet
from benchmarks.gallery.trained import class_names, collections, hidden, learner, pixels
from nolabel.assess.separation import separation_report
from nolabel.data import open_images
from nolabel.data.poses import rotated_images
from nolabel.ops import nearest

SPIN = 72  # views of a turning image
JUDGED = 300  # images that make the figures of what turns
MARKS = {"o": BLUE, "s": ORANGE, "^": SOFT}


def rotnet() -> tuple[Sheet, str, dict[str, float]]:
    """Images that stand turned, and turned back by the network's word."""
    model, rng = learner("rotnet"), np.random.default_rng(0)
    turns = rng.integers(0, 4, len(pixels()))
    turned = np.stack([np.rot90(image, turn) for image, turn in zip(pixels(), turns, strict=True)])
    answers = model.predict_rotation(turned)
    sheet = Sheet(980, 330)
    sheet.text(16, 16, "As the network saw them, and turned back by what it said (framed: wrong)", fontsize=11)
    for number, row in enumerate(rng.permutation(len(turns))[:18]):
        x, y = 16 + number % 9 * (TILE + GAP), 36 + number // 9 * (2 * TILE + GAP + 14)
        sheet.tile(turned[row], x, y)
        sheet.tile(np.rot90(turned[row], -int(answers[row])), x, y + TILE + GAP)
        if answers[row] != turns[row]:
            sheet.block(x + 1, y + TILE + GAP + 1, TILE - 2, TILE - 2, RED, filled=False)
    right = answers == turns
    by_class = {name: 100 * float(right[hidden() == number].mean()) for number, name in enumerate(class_names())}
    values = dict(sorted(by_class.items(), key=lambda item: -item[1])) | {"all": 100 * float(right.mean())}
    axes = sheet.plot(745, 40, 195, 250, "Turns named rightly, per cent")
    sheet.bars(axes, values, [BLUE] * len(by_class) + [INK])
    axes.axvline(25, color=ORANGE, linewidth=1)
    axes.text(26, len(values) - 0.2, "chance", color=ORANGE, fontsize=8, va="top")
    return (
        sheet,
        f"Every image once, in a random turn: {values['all']:.1f} % named rightly. Images drawn at random.",
        values,
    )


def spun(rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced turns of images without noise, uint8 (images * 72, 32, 32, 3), and their angles (72,)."""
    many = rotated_images(pixels()[rows], views=SPIN, contrast=(1.0, 1.0), noise=0.0, random_state=0)
    angles = np.array(many["pose"][:]).reshape(len(rows), SPIN)
    order = np.argsort(angles, axis=1) + np.arange(len(rows))[:, None] * SPIN
    shots = open_images(many).batch(order.ravel())["image"].permute(0, 2, 3, 1).numpy()
    return shots, np.sort(angles, axis=1)


def wrapped(angles: np.ndarray) -> np.ndarray:
    """Angles in radians from -pi to pi."""
    return (angles + np.pi) % (2 * np.pi) - np.pi


def by_turning(z: np.ndarray) -> float:
    """Share of the variance of representations (images, views, d) that lies within images, per cent."""
    return 100 * float(((z - z.mean(axis=1, keepdims=True)) ** 2).sum() / ((z - z.mean(axis=(0, 1))) ** 2).sum())


def meant(model: Any, embedded: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True turns from an image's first view, and those of the views that the predictor means: (71,) each."""
    turns = wrapped(angles[1:] - angles[0])
    moves = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    predicted = model.predict_equi(np.repeat(embedded[:1], len(turns), axis=0), moves)
    return turns, wrapped(angles - angles[0])[nearest(predicted, embedded, 1)[1][:, 0]]


def sie() -> tuple[Sheet, str, dict[str, Any]]:
    """What both halves do while images turn, and where the predictor expects them."""
    model = learner("sie")
    rows = np.random.default_rng(8).permutation(len(pixels()))[:JUDGED]
    shots, angles = spun(rows)
    halves = {part: model.transform(shots, part=part).reshape(JUDGED, SPIN, -1) for part in ("equi", "inv")}
    embedded = model.transform(shots, part="equi", layer="embedding").reshape(JUDGED, SPIN, -1)
    sheet = Sheet(980, 526)
    sheet.text(16, 16, "Three images turn through a full circle", fontsize=11)
    axes = [sheet.plot(50 + number * 320, 282, 255, 200) for number in range(3)]
    errors: list[float] = []
    for number, (z, turned) in enumerate(zip(embedded, angles, strict=True)):
        true, reached = meant(model, z, turned)
        errors += np.degrees(np.abs(wrapped(reached - true))).tolist()
        if number < len(MARKS):
            mark, colour = list(MARKS.items())[number]
            axes[2].scatter(np.degrees(true), np.degrees(reached), s=10, marker=mark, color=colour)
            y = 34 + number * (TILE + GAP)
            sheet.text(26, y + TILE / 2, {"o": "●", "s": "■", "^": "▲"}[mark], color=colour, ha="center")
            for place, image in enumerate(shots.reshape(JUDGED, SPIN, *shots.shape[1:])[number, :: SPIN // 12]):
                sheet.tile(image, 46 + place * (TILE + 12), y)
    values: dict[str, Any] = {f"variance by turning, {part}": by_turning(z) for part, z in halves.items()}
    titles = {"equi": "Equivariant half, while they turn", "inv": "Invariant half, at the same scale"}
    for axis, (part, z) in zip(axes, halves.items(), strict=False):
        scale = float(np.sqrt(((z - z.mean(axis=(0, 1))) ** 2).sum(axis=2).mean()))
        moved = ((z - z.mean(axis=1, keepdims=True)) / scale)[: len(MARKS)]
        main = np.linalg.svd(moved.reshape(-1, moved.shape[-1]), full_matrices=False)[2][:2].T
        for mark, place, angle in zip(MARKS, moved @ main, angles, strict=False):
            drawn = axis.scatter(
                *place.T, c=np.degrees(angle), cmap="twilight_shifted", vmin=-180, vmax=180, s=14, marker=mark
            )
        axis.set_title(titles[part], fontsize=9, loc="left")
        axis.set_xlim(-1.3, 1.3)
        axis.set_ylim(-1.15, 1.15)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[2].set_title("Turn that the predictor means\nagainst the true one, degrees", fontsize=9, loc="left")
    for set_ticks in (axes[2].set_xticks, axes[2].set_yticks):
        set_ticks([-180, -90, 0, 90, 180])
    bar = sheet.figure.colorbar(drawn, orientation="horizontal", cax=sheet.plot(50, 494, 575, 7))
    bar.set_ticks([-180, -90, 0, 90, 180], labels=["-180°", "-90°", "0°", "90°", "180°"])
    bar.outline.set_visible(False)
    values["median error"] = float(np.median(errors))
    return (
        sheet,
        f"Two main directions of each half, less the mean of the image, over its spread. Over {JUDGED} images, turning makes "
        f"{values['variance by turning, equi']:.0f} % of the variance of the equivariant half and "
        f"{values['variance by turning, inv']:.0f} % of that of the invariant half; the median error of the predictor, told one "
        f"view and the turn, is {values['median error']:.0f} degrees (chance 90).",
        values,
    )


def sepclr() -> tuple[Sheet, str, dict[str, float]]:
    """Neighbours by what both collections share, and by what the target alone has."""
    model, train, test = learner("sepclr"), collections("train"), collections("test")
    target, learned = test["target"], len(train["target"])
    everything = np.concatenate([train["target"], target])
    parts = {part: model.transform(everything, part=part) for part in ("common", "salient")}
    classes = np.concatenate([hidden("train")[-learned:], hidden()[-len(target) :]])
    digits = np.concatenate([train["digit"], test["digit"]])
    sheet = Sheet(980, 452)
    sheet.text(16, 16, "Background", fontsize=11)
    sheet.strip(test["background"][:5], 16, 28)
    sheet.text(383, 16, "Target", fontsize=11)
    sheet.strip(target[:5], 383, 28)
    sheet.text(16, 122, "Query (framed) and its nearest by either part", fontsize=11)
    queries = np.random.default_rng(3).permutation(len(target))[:4]
    for number, query in enumerate(queries):
        x, y = 16 + number % 2 * 367, 142 + number // 2 * (2 * (TILE + 6) + 16)
        sheet.tile(target[query], x, y)
        sheet.block(x - 2, y - 2, TILE + 4, TILE + 4, INK, filled=False)
        for row, (part, z) in enumerate(parts.items()):
            level = y + row * (TILE + 6)
            sheet.text(x + TILE + 72, level + TILE / 2, part, ha="right")
            sheet.strip(target[found(z[learned:], [query], 3)[0]], x + TILE + 80, level)
    held = np.arange(learned, len(everything))
    values = separation_report(parts["common"], parts["salient"], classes, digits, test_rows=held).to_dict()
    for place, (title, attribute) in enumerate((("Digit", "salient"), ("Class of the picture", "common"))):
        axes = sheet.plot(815, 168 + place * 140, 125, 56, f"{title} read\nfrom, per cent")
        read = {part: 100 * values[f"{attribute}_from_{part}"] for part in parts}
        sheet.bars(axes, read, [BLUE if part == attribute else "#b5b5b5" for part in parts])
        axes.axvline(10, color=ORANGE, linewidth=1)
    return (
        sheet,
        "A linear classifier, tested on images not learned from, reads the digit from the salient part with "
        f"{100 * values['salient_from_salient']:.0f} % and from the common one with {100 * values['salient_from_common']:.0f} %, "
        f"the class of the picture behind with {100 * values['common_from_salient']:.0f} % and "
        f"{100 * values['common_from_common']:.0f} % (chance 10, orange).",
        values,
    )
