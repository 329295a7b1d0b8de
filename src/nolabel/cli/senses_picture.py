"""A picture of a word's occurrences: near each other where the words around are alike, coloured by sense."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nolabel.data.replacing import replacing

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")
#: More points than this hide each other.
MOST = 2000


def draw_senses(
    path: Path,
    word: str,
    vectors: Sequence[Any],
    senses: Sequence[int],
    legend: Mapping[int, Sequence[str]],
    *,
    seed: int,
) -> None:
    """Write a PNG of points, one an occurrence.

    Parameters
    ----------
    vectors : (n, d) mean vector of the words around each occurrence
    senses : of each
    legend : sense to the words that describe it, commonest sense first
    seed : of the layout, and of which occurrences are drawn where there are very many

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"the picture needs matplotlib: pip install matplotlib ({error})") from None
    import numpy as np

    from nolabel.report.layout import map_layout

    points, labels = np.asarray(vectors, np.float32), np.asarray(senses)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(points))[:MOST])
    points, labels = map_layout(points[drawn], random_state=seed), labels[drawn]
    figure = Figure(figsize=(7.6, 5.4), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    size = float(np.clip(6000 / max(len(points), 1), 5, 36))
    for number, (sense, words) in enumerate(legend.items()):
        own = points[labels == sense]
        if not len(own):
            continue
        colour, name = COLOURS[number % len(COLOURS)], f"{', '.join(words)}  ({np.mean(labels == sense):.0%})"
        axes.scatter(own[:, 0], own[:, 1], s=size, c=colour, alpha=0.65, linewidths=0, label=name)
    axes.set_title(f"{word}: {len(senses):,} occurrences by the words around them", fontsize=11, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower left", frameon=False, fontsize=9, markerscale=1.5
    )
    with replacing(path) as partial:
        figure.savefig(partial)
