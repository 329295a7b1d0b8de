"""Pictures of clusters from several domains: the mix of each domain, the surest images of each cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.cli.clean import shortened
from nolabel.data.replacing import replacing

#: Domains drawn, at most; more lines than these cannot be read.
MOST = 60
TILE = 96
CAPTION = 15


def draw_mixes(path: Path, domains: Sequence[str], mix: np.ndarray) -> None:
    """Write a PNG of bars: a line a domain, cut into the shares of its clusters; domains of one mix stand together.

    Parameters
    ----------
    domains : r names
    mix : (r, k) shares, rows that sum to 1

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"the picture needs matplotlib: pip install matplotlib ({error})") from None
    order = np.lexsort((-mix.max(axis=1), mix.argmax(axis=1)))
    shown = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), MOST)).round().astype(int))]
    k = mix.shape[1]
    colours = [colormaps["tab20"](2 * (c % 10) + c // 10 % 2) for c in range(k)]
    figure = Figure(figsize=(7.6, 1.3 + 0.24 * len(shown)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(shown))
    for c in range(k):
        share = mix[shown, c]
        bars = axes.barh(range(len(shown)), share, left=left, color=colours[c], label=str(c), height=0.86)
        axes.bar_label(bars, [str(c) if one >= 0.05 else "" for one in share], label_type="center", fontsize=7)
        left += share
    axes.set_yticks(range(len(shown)), [shortened(domains[d], 28) for d in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of each cluster")
    some = f"{len(shown)} of {len(domains)} domains" if len(shown) < len(domains) else f"{len(domains)} domains"
    axes.set_title(f"Mix of {k} clusters in {some}", fontsize=10, loc="left")
    axes.spines[:].set_visible(False)
    with replacing(path) as partial:
        figure.savefig(partial)


def draw_sheet(path: Path, title: str, table: Any, captions: Sequence[str]) -> None:
    """Write a PNG of the images of a table, each over its caption."""
    from nolabel.data import open_images
    from nolabel.report.sheets import contact_sheet

    opened = open_images(table, size=TILE)
    sheet = contact_sheet(title, opened.images(range(len(opened))), [shortened(text, CAPTION) for text in captions])
    with replacing(path) as partial:
        sheet.save(partial)
