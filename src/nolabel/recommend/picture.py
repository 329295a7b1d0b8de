"""A picture of how much of what users took is found again, by how popular the items are."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nolabel.data.replacing import replacing

COLOURS = ("#1f77b4", "#b0b0b0", "#ff7f0e", "#2ca02c")


def draw_recall(
    path: Path, groups: Sequence[str], counts: Sequence[int], recall: Mapping[str, Sequence[float]], title: str
) -> None:
    """Write a PNG of bars: a group of items on the x axis, recall on the y axis, a colour a method.

    Parameters
    ----------
    groups : what each group is called, such as ``6 to 20``
    counts : test interactions in each group
    recall : method to its recall in each group, in [0, 1]

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"the picture needs matplotlib: pip install matplotlib ({error})") from None
    figure = Figure(figsize=(7.2, 3.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / max(len(recall), 1)
    for number, (method, values) in enumerate(recall.items()):
        places = [group + (number - (len(recall) - 1) / 2) * width for group in range(len(groups))]
        bars = axes.bar(places, values, width * 0.95, label=method, color=COLOURS[number % len(COLOURS)])
        axes.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=8, padding=1)
    axes.set_xticks(
        range(len(groups)), [f"{name}\n{count:,} to find" for name, count in zip(groups, counts)], fontsize=8
    )
    axes.set_xlabel("training interactions of an item")
    axes.set_ylabel("recall")
    axes.set_title(title, fontsize=10, loc="left")
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    with replacing(path) as partial:
        figure.savefig(partial)
