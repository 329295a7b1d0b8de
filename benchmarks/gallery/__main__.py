"""What each system learns from the same images, as pictures: ``python -m benchmarks.gallery``.

Writes ``docs/learning-from-images.md`` and its pictures. NOLABEL_DATA names the folder of the public data sets. Trained runs
are kept in ``runs/gallery``: what is there is not trained again.
"""

import argparse
import os
from pathlib import Path

from benchmarks.gallery import pictures, trained

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = DOCS / "images" / "gallery"
TEXTS = {
    "neighbours": (
        "Which images are alike",
        "Four queries (first of each six) and what each system finds nearest to them.",
    ),
    "maps": (
        "What a map of the embedding shows",
        "The same embeddings in two dimensions (t-SNE), coloured by what was hidden: seven classes, four domains (photographs, "
        "paintings, cartoons, sketches). Batch styles standardisation (`--views bss`) is there to mix the domains.",
    ),
    "pixel_similarity": (
        "What a location of the map is like",
        "The cosine of one location (red) with every other, over the image: PixPro and PixContrast learn at the level of "
        "locations, SimCLR at the level of the whole image.",
    ),
    "words": (
        "Visual words",
        "Where in the images some words of OBoW's vocabulary occur: the nearest places, one an image.",
    ),
    "rotations": (
        "An image that turns",
        "SIE keeps what turns in one half of the representation and what stays in the other. Three images turn through a full "
        "circle (colour: angle); the predictor is told the angle and says where the equivariant half goes.",
    ),
    "separation": (
        "What two collections share, and what one has beyond",
        "Half-bright images are the background; the target has a handwritten digit on them. SepCLR was told which image is of "
        "which collection, nothing else. Neighbours by its common part (the picture) and its salient part (the digit).",
    ),
    "prefixes": (
        "An embedding that can be cut",
        "SimCLR with `--nested 8,16,32,64,128` and without, cut to their first coordinates.",
    ),
    "temperatures": (
        "What the temperature does",
        "Short runs of SimCLR at five temperatures, judged without labels (`TemperatureAdvisor`).",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which pictures: {', '.join(TEXTS)}; all by default")
    names = parser.parse_args().names or list(TEXTS)
    unknown = sorted(set(names) - set(TEXTS))
    if unknown:
        parser.error(f"no picture called {', '.join(unknown)}: there are {', '.join(TEXTS)}")
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in names:
        figure, figures = getattr(pictures, name)()
        partial = PICTURES / f".{name}.partial.png"
        figure.savefig(partial, dpi=110)
        os.replace(partial, PICTURES / f"{name}.png")
        (PICTURES / f"{name}.txt").write_text(figures + "\n")
        print(name, figures, flush=True)
    (DOCS / "learning-from-images.md").write_text(page())


def page() -> str:
    lines = ["# Learning from images", ""]
    lines += [
        f"What each system learns from the same {trained.ROWS:,} images (PACS, {trained.SIDE} pixels a side, {trained.STEPS} "
        f"steps of {trained.BATCH}), without a label. Labels only colour the pictures and make the figures. Runs this short "
        "show what a system looks for, not how good it gets: for that see [the claims](claims.md). Made by `make gallery`.",
        "",
    ]
    for name, (title, text) in TEXTS.items():
        figures = (PICTURES / f"{name}.txt").read_text().strip()
        lines += [f"## {title}", "", text, "", f"![{title}](images/gallery/{name}.png)", "", f"*{figures}*", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
