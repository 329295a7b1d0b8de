"""The charts of the committed results: all ratios, and how cost grows."""

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.speed import growth
from benchmarks.speed.harness import Line

INK, SOFT, FAINT, AHEAD, BEHIND = "#222222", "#6b6b6b", "#d9d9d9", "#0072b2", "#d55e00"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#9467bd")
STYLE: dict[str, Any] = {
    "font.size": 8,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "svg.fonttype": "none",  # text stays text: small files, and words that can be found
    "svg.hashsalt": "nolabel",  # the same results give the same file
}


def save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    plt.close(figure)


def label_of(each: Line) -> str:
    """What, and the name of the peer without its circumstances, in a length that has room."""
    peer = re.split(r" \(|, |: ", each.peer)[0]
    label = f"{each.what} — {peer}".replace("`", "")
    return label if len(label) <= 110 else f"{label[:109]}…"


def draw_ratios(by_section: dict[str, list[Line]], folder: Path) -> None:
    """A dot a ratio with a bar from its least to its greatest, on a logarithmic axis, section under section."""
    count = sum(len(lines) + 1 for lines in by_section.values())
    height = 0.17 * count + 0.7
    with mpl.rc_context(STYLE):
        figure = plt.figure(figsize=(10.5, height))
        axes = figure.add_axes((0.62, 0.4 / height, 0.36, 1 - 0.7 / height))
        places, labels, place = [], [], 0
        for title, lines in by_section.items():
            axes.text(-1.72, place, title, transform=axes.get_yaxis_transform(), weight="bold", va="center")
            for at, each in enumerate(lines, start=place + 1):
                colour = AHEAD if each.median >= 1 else BEHIND
                axes.plot(
                    [each.low, each.high], [at, at], color=colour, linewidth=2, alpha=0.45, solid_capstyle="round"
                )
                axes.plot(each.median, at, "o", color=colour, markersize=3.5)
                if each.goal is not None:
                    axes.plot(each.goal, at, "|", color=INK, markersize=7)
                places.append(at)
                labels.append(label_of(each))
            place += len(lines) + 1
        axes.set_xscale("log")
        axes.axvline(1, color=SOFT, linewidth=0.8)
        axes.grid(axis="x", color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_yticks(places, labels, fontsize=6.5)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", top=True, labeltop=True)
        axes.set_ylim(place - 0.3, -0.7)
        axes.set_xlabel("peer / nolabel: right of the line nolabel is ahead; | is a goal")
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)
        save(figure, folder / "ratios.svg")


def draw_growth(result: dict[str, Any], folder: Path) -> None:
    """Time and memory against the number of items, both logarithmic, with the exponents in the legend."""
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(9, 4.8), layout="constrained")
        for axes, (label, of) in zip(panels, growth.MEASURES.items(), strict=True):
            for colour, (name, rows) in zip(COLOURS, growth.measured(result).items(), strict=False):
                overall, last = (
                    round(slope, 2) + 0.0 for slope in growth.exponents(rows, of)
                )  # no minus before a zero
                n, value = [row["n"] for row in rows], [of(row) for row in rows]
                axes.plot(
                    n,
                    value,
                    "o-",
                    color=colour,
                    markersize=3.5,
                    label=f"{name}: n^{overall:.2f}, at the end n^{last:.2f}",
                )
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel("items n")
            axes.set_title(label, fontsize=9, loc="left")
            axes.grid(color=FAINT, linewidth=0.5)
            axes.set_axisbelow(True)
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.14), frameon=False, fontsize=7.5)
            for side in ("right", "top"):
                axes.spines[side].set_visible(False)
        save(figure, folder / "growth.svg")
