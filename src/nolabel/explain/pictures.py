"""Pictures of concepts: where they are in the images that have most of them, how much they count, who is decided by which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from nolabel.data.replacing import replacing
from nolabel.explain.strategies import StrategyGraph, describe_clusters

#: Side of a tile, the gap between two, and the colours of a heat map from none to much.
TILE, GAP = 96, 4
HEAT = np.array([[10, 10, 30], [90, 20, 110], [200, 50, 80], [250, 150, 40], [252, 250, 180]], np.float64)
COLOURS = ("#3f7fc1", "#d9822b", "#3d9a5f", "#c8504f", "#8a6bbf", "#a07a4f", "#d070a8", "#2fa3b0", "#a5a02e", "#7d8590")
#: Shortest side of a crop around a place, as a share of the image, and how many cells of the map it spans at least.
LEAST, CELLS = 0.4, 1.5


def around(image: np.ndarray, y: int, x: int, height: int, width: int) -> np.ndarray:
    """The part of an image (H, W, 3) around a place of its map of height x width.

    >>> around(np.zeros((32, 32, 3), np.uint8), 0, 3, 4, 4).shape
    (13, 13, 3)
    """
    rows, columns = image.shape[:2]
    spans = []
    for at, cells, side in ((y, height, rows), (x, width, columns)):
        length = max(1, min(side, round(side * max(LEAST, CELLS / cells))))
        start = round((at + 0.5) / cells * side - length / 2)
        spans.append(slice(min(max(start, 0), side - length), min(max(start, 0), side - length) + length))
    return image[spans[0], spans[1]]


def scaled(image: np.ndarray) -> np.ndarray:
    """An image as a tile; small ones keep their pixels as squares."""
    how = Image.Resampling.NEAREST if max(image.shape[:2]) < 24 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), how))


def heated(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) in grey under the colours of a map (h, w) of values in [0, 1]: a tile."""
    grey = scaled(image).astype(np.float64).mean(axis=2, keepdims=True)
    fine = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((TILE, TILE), Image.Resampling.BICUBIC))
    fine = fine.clip(0, 1)[..., None]
    at = fine[..., 0] * (len(HEAT) - 1)
    colour = np.stack([np.interp(at, np.arange(len(HEAT)), channel) for channel in HEAT.T], axis=-1)
    share = 0.25 + 0.4 * fine
    mixed: np.ndarray = ((1 - share) * grey + share * colour).clip(0, 255).round().astype(np.uint8)
    return mixed


def concept_picture(
    images: np.ndarray, places: Sequence[tuple[int, int] | None], heat: np.ndarray | None = None
) -> np.ndarray:
    """A strip of the images that have most of a concept: the part where it is, below it where it is in the whole image.

    Parameters
    ----------
    images : uint8 (m, H, W, 1 or 3), best first
    places : row and column of the map's place with most of it; ``None`` where there is no map
    heat : coefficients (m, h, w) of the concept; without it the images are shown whole

    Returns
    -------
    uint8 (height, width, 3)
    """
    coloured = np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images
    rows: list[list[np.ndarray]] = []
    if heat is None:
        rows.append([scaled(image) for image in coloured])
    else:
        most = max(float(heat.max()), 1e-12)
        cut = [around(image, *at, *heat.shape[1:]) if at else image for image, at in zip(coloured, places, strict=True)]
        rows.append([scaled(part) for part in cut])
        rows.append([heated(image, map_ / most) for image, map_ in zip(coloured, heat, strict=True)])
    step = TILE + GAP
    canvas = np.full((len(rows) * step - GAP, len(coloured) * step - GAP, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            canvas[y * step : y * step + TILE, x * step : x * step + TILE] = tile
    return canvas


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write pixels (h, w, 3) under a temporary name, then rename."""
    with replacing(path) as partial:
        Image.fromarray(pixels).save(partial)


def draw_importances(path: Path, classes: Sequence[tuple[str, Sequence[str], Sequence[float]]]) -> None:
    """Write a PNG of bars, a panel a class: the importance of each concept, largest first.

    Parameters
    ----------
    classes : name, names of concepts, importances

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    figure_class = _figure()
    most = max(len(names) for _, names, _ in classes)
    figure = figure_class(figsize=(6.4, len(classes) * (0.9 + 0.26 * most)), dpi=120, layout="constrained")
    for axes, (name, concepts, values) in zip(figure.subplots(len(classes), 1, squeeze=False)[:, 0], classes):
        shades = [COLOURS[0] if value >= 0 else COLOURS[3] for value in values]
        bars = axes.barh(range(len(values)), values, color=shades, height=0.7)
        axes.bar_label(bars, [f"{value:.3g}" for value in values], fontsize=8, padding=3)
        axes.set_yticks(range(len(values)), concepts, fontsize=8)
        axes.invert_yaxis()
        axes.axvline(0, color="#888888", linewidth=0.8)
        axes.margins(x=0.14)
        axes.set_title(name, fontsize=10, loc="left", parse_math=False)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False, labelsize=8)
    axes.set_xlabel("what the class's output owes to a concept, mean over images", fontsize=8)
    _save(figure, path)


def draw_strategies(path: Path, graph: StrategyGraph, names: Sequence[str], title: str, right: np.ndarray) -> None:
    """Write a PNG of the graph: a point an image, coloured by cluster, hollow where the network is wrong.

    Parameters
    ----------
    names : of the concepts
    right : (n,) 1 where an image is what the network says, 0 where it is not, NaN where that is not known

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    from matplotlib.collections import LineCollection

    figure = _figure()(figsize=(7.6, 5.4), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    at = graph.positions
    axes.add_collection(LineCollection(list(at[strongest(graph)]), colors="#999999", linewidths=0.4, alpha=0.35))
    size = float(np.clip(6000 / len(at), 6, 40))
    for number, label in enumerate(describe_clusters(graph, names, right)):
        own = graph.labels == number
        shade = COLOURS[number % len(COLOURS)]
        wrong = own & (right == 0)
        axes.scatter(*at[own & ~wrong].T, s=size, c=shade, linewidths=0, zorder=2, label=label)
        axes.scatter(*at[wrong].T, s=size, facecolors="white", edgecolors=shade, linewidths=1, zorder=2)
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    _save(figure, path)


def strongest(graph: StrategyGraph, most: int = 3000) -> np.ndarray:
    """The pairs (m, 2) of the graph with the largest cosines; more lines than these make a blot."""
    order = np.argsort(-graph.weights, kind="stable")[:most]
    return graph.edges[np.sort(order)]


def _figure() -> type:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"the picture needs matplotlib: pip install matplotlib ({error})") from None
    return Figure


def _save(figure: object, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial)  # type: ignore[attr-defined]
