"""`nolabel adapt` without a source: a segmenter or a classifier whose batch norm is taken to another site; what is left of it."""

import colorsys
import csv
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.data.replacing import replacing

#: Files of the run folder.
LAYERS, PICTURE, SHEET, MASKS, LISTED = (
    "transferability.csv", "transferability.png", "overlay.png", "masks", "masks.csv",
)  # fmt: skip
#: Images of a chunk whose masks are written, and images on the sheet of overlays.
CHUNK, SHOWN = 16, 16


def adapt_segmenter(
    model: Any,
    table: Any,
    folder: Path,
    *,
    run: Any,
    site: Any,
    label: Any,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int,
    as_json: bool,
    trainable: Any = "bn",
) -> None:
    """Adapt a fitted `ImageSegmenter` or `ImageClassifier` to the images of a table, write the run folder and tell it.

    Parameters
    ----------
    model, run : the model and the folder that it came from
    table, site : images of the new site, and where they came from
    folder : where the adapted model goes, with what is told of it
    label : column of masks (of a classifier: labels) of the new site, told at the end and never looked at before
    epochs, batch_size, lr, seed : of the training; ``None`` leaves them to `SourceFreeAdapter`
    trainable : ``bn``, ``all`` or ``none``, as in `SourceFreeAdapter`
    """
    from nolabel.adapt import SourceFreeAdapter
    from nolabel.cli.output import answer
    from nolabel.learn.image_classifier import ImageClassifier
    from nolabel.learn.image_segmenter import ImageSegmenter
    from nolabel.training import Training
    from nolabel.training.estimator import write_text

    if not isinstance(model, ImageSegmenter | ImageClassifier):
        raise ValueError(
            f"{run} holds a {type(model).__name__}; without --source a segmenter or an image classifier is adapted"
        )
    segmenter = isinstance(model, ImageSegmenter)
    truth = _masked(table, label, site) if segmenter else _labels(table, label, site, model)
    training = Training(epochs, batch_size=batch_size, lr=lr, random_state=seed)
    adapter = SourceFreeAdapter(model, trainable=trainable, training=training).fit(table)
    adapted = adapter.model_
    folder.mkdir(parents=True, exist_ok=True)
    adapted.save(folder)
    layers = _layers(adapter)
    write_rows(folder / LAYERS, list(layers[0]), [list(row.values()) for row in layers])
    picture = draw(folder / PICTURE, adapter)
    write = _segmented if segmenter else _classified
    files, scores, images = write(model, adapted, adapter, table, truth, label, folder, str(run), site)
    classes = [
        {"class": name, "before": before, "after": after}
        for name, before, after in zip(adapter.classes_.tolist(), adapter.shares_before_, adapter.shares_, strict=True)
    ]
    lines = [
        *(f"{name:12} {value:.4f} {who} (from --label, not used to adapt)" for name, pair in scores.items()
          for who, value in pair.items()),
        f"layers       {folder / LAYERS}",
        f"picture      {picture or 'left out: it needs matplotlib'}",
        *(f"{name:12} {path}" for name, path in files.items()),
        f"model        {folder}",
    ]  # fmt: skip
    summary = {
        "run": str(run), "site": site, "out": str(folder), "images": images, "skipped": len(table) - images,
        "trainable": trainable, "seconds": round(adapter.seconds_, 1), "classes": classes, "scores": scores or None,
        "layers": layers, "picture": picture, "files": files, "next": lines,
    }  # fmt: skip
    write_text(folder / "report.json", json.dumps(summary, indent=1, default=_plain) + "\n")
    answer(summary, as_json, *_tables(classes, layers), lines=lines)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _masked(table: Any, label: str | None, site: str) -> Any:
    """The table with its column of masks as `mask`; None without one."""
    from nolabel.data import read

    if label is None:
        return None
    if label not in table.column_names:
        raise ValueError(
            f"{site} has no column {label!r} among {', '.join(table.column_names)}: --label names its masks"
        )
    return read(table, columns={"mask": label})


def _labels(table: Any, label: str | None, site: str, model: Any) -> list[Any]:
    from nolabel.cli.adapt import _truth

    return _truth(table, label, site, model)


def _layers(adapter: Any) -> list[dict[str, Any]]:
    """What is told of each batch norm layer, in the order of the network."""
    return [
        {
            "layer": name,
            "channels": len(values),
            "transferability": float(values.mean()),
            "lowest": float(values.min()),
            "highest": float(values.max()),
        }
        for name, values in adapter.transferability_.items()
    ]


def _tables(classes: list[dict[str, Any]], layers: list[dict[str, Any]]) -> list[Any]:
    from nolabel.cli.output import grid

    shares = [[str(row["class"]), f"{row['before']:.2%}", f"{row['after']:.2%}"] for row in classes]
    least = sorted(layers, key=lambda row: row["transferability"])[:5]
    return [
        grid("Share of each class in what the model says of the new site", ["class", "before", "after"], shares),
        grid(
            "Layers whose statistics differ most between the sites (1 is the mean of all)",
            list(layers[0]),
            [list(row.values()) for row in least],
        ),
    ]


def _segmented(
    model: Any, adapted: Any, adapter: Any, table: Any, truth: Any, label: str | None, folder: Path, run: str, site: str
) -> tuple[dict[str, str], dict[str, dict[str, float]], int]:
    """Write masks and overlays; their files, the scores before and after, and the number of images."""
    opened = adapted.open_one(table, None)
    names = write_masks(adapted, opened, table, folder)
    scores: dict[str, dict[str, float]] = {}
    if truth is not None:
        found = {"before": model.judged(truth), "after": adapted.judged(truth)}
        scores["mean IoU"] = {who: one.mean_iou for who, one in found.items()}
        scores["mean Dice"] = {who: one.mean_dice for who, one in found.items()}
        for name in sorted({name for one in found.values() for name in one.iou}):
            scores[f"IoU of {name}"] = {who: one.iou.get(name, 0.0) for who, one in found.items()}
    sheet = overlay_sheet(model, adapted, opened, truth, adapter)
    with replacing(folder / SHEET) as partial:
        sheet.save(partial)
    files = {"masks": str(folder / MASKS), "listed": str(folder / LISTED), "overlays": str(folder / SHEET)}
    return files, scores, len(names)


def _classified(
    model: Any,
    adapted: Any,
    adapter: Any,
    table: Any,
    truth: list[Any],
    label: Any,
    folder: Path,
    run: str,
    site: Any,
) -> tuple[dict[str, str], dict[str, dict[str, float]], int]:
    """Write predictions, index and report; as `_segmented`."""
    from nolabel.cli.adapt import _accuracy
    from nolabel.cli.classified import PREDICTIONS, Done, write_predictions
    from nolabel.cli.classify_images import labelled
    from nolabel.cli.run import complete

    name = label or "label"
    result, rows = labelled(table, name, truth, adapted, None)
    done = complete(adapted, table, folder, site, " ".join(["nolabel", *sys.argv[1:]]))
    paths = table["path"] if "path" in table.column_names else None
    items = [f"row {row}" if paths is None else str(paths[row]) for row in rows]
    write_predictions(folder / PREDICTIONS, Done(result, "image" if paths is None else "path", rows, items, {}))
    scores = {}
    if result.scores:
        before = labelled(table, name, truth, model, None)[0].scores[name]
        scores["accuracy"] = {"before": _accuracy(before), "after": _accuracy(result.scores[name])}
    return {"predictions": str(folder / PREDICTIONS), "report": done["report"]}, scores, len(rows)


# Masks ----------------------------------------------------------------------------------------------------------------


def write_masks(model: Any, opened: Any, table: Any, folder: Path) -> list[str]:
    """A mask of each image, as large as the image, in the folder ``masks``, and ``masks.csv`` beside it; their names.

    Class numbers are the values of the pictures: in a palette of colours, or where they are above 255 in 16 bits of grey.
    """
    from nolabel.training.batches import Some

    partial, final = folder / f".{MASKS}.partial", folder / MASKS
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    classes, colours = model.classes_, _colours(model.classes_)
    names, rows = _mask_names(table, opened.rows), []
    paths = table["path"] if "path" in table.column_names else None
    with _bar(len(opened)) as told:
        for start in range(0, len(opened), CHUNK):
            positions = np.arange(start, min(start + CHUNK, len(opened)))
            logits = model.transform_source(Some(opened, positions), layer="logits")
            for at, scores in zip(positions, logits, strict=True):
                mask = classes[_enlarged(scores, *opened.sizes[at])]
                place = partial / names[at]
                place.parent.mkdir(parents=True, exist_ok=True)
                _picture_of(mask, classes, colours).save(place)
                shares = [f"{np.mean(mask == name):.6f}" for name in classes]
                row = int(opened.rows[at])
                rows.append([row, f"row {row}" if paths is None else paths[row], f"{MASKS}/{names[at]}", *shares])
            told(len(positions))
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    header = ["row", "image" if paths is None else "path", "mask", *(f"share of {name}" for name in classes)]
    write_rows(folder / LISTED, header, rows)
    return names


def _mask_names(table: Any, rows: np.ndarray) -> list[str]:
    """Where each mask goes below the folder: as its image, with .png; by the number of its row where that is not unique."""
    numbered = [f"{row:06d}.png" for row in rows.tolist()]
    if "path" not in table.column_names:
        return numbered
    paths = [Path(str(table["path"][row])) for row in rows.tolist()]
    inside = all(not path.is_absolute() and ".." not in path.parts for path in paths)
    named = [path.with_suffix(".png").as_posix() for path in paths]
    return named if inside and len(set(named)) == len(named) else numbered


def _enlarged(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """The best class (height, width) of scores (k, h, w), enlarged smoothly, class by class to spare memory."""
    import torch
    from torch.nn.functional import interpolate

    best = torch.full((height, width), -torch.inf)
    codes = torch.zeros((height, width), dtype=torch.int64)
    for code, plane in enumerate(torch.from_numpy(scores)):
        large = interpolate(plane[None, None], size=(height, width), mode="bilinear")[0, 0]
        codes[large > best] = code
        best = torch.maximum(best, large)
    found: np.ndarray = codes.numpy()
    return found


def _colours(classes: np.ndarray) -> np.ndarray:
    """A colour uint8 (k, 3) a class: hues all round the circle, light and dark in turn."""
    k = len(classes)
    made = [colorsys.hsv_to_rgb(code / k, 0.85, (1.0, 0.7)[code % 2]) for code in range(k)]
    return np.round(255 * np.array(made)).astype(np.uint8)


def _picture_of(mask: np.ndarray, classes: np.ndarray, colours: np.ndarray) -> Any:
    from PIL import Image

    if classes.max() > 255:
        return Image.fromarray(mask.astype(np.uint16))
    palette = np.zeros((256, 3), np.uint8)
    palette[classes] = colours
    picture = Image.fromarray(mask.astype(np.uint8))
    picture.putpalette(palette.reshape(-1).tolist())
    return picture


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    """A progress bar on standard error, as a function that counts images."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("writing masks", total=total)
        yield lambda count: bar.advance(task, count)


# Pictures -------------------------------------------------------------------------------------------------------------


def overlay_sheet(model: Any, adapted: Any, opened: Any, truth: Any, adapter: Any) -> Any:
    """Images with the masks of both models in colour over them, in pairs; with true masks in fours, and what each colour is."""
    from PIL import Image, ImageDraw, ImageFont

    from nolabel.report.sheets import contact_sheet
    from nolabel.training.batches import Some

    source = opened if truth is None else adapted.open_table(truth, None, ("image", "mask"))
    tiles: list[np.ndarray] = []
    captions: list[str] = []
    count = min(len(source), SHOWN if truth is None else SHOWN // 2)
    chosen = np.unique(np.linspace(0, len(source) - 1, count).astype(int))
    batch = source.batch(chosen)
    images = batch["image"].permute(0, 2, 3, 1).numpy()
    images = np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images
    colours = _colours(adapted.classes_)
    codes = {who: one.transform_source(Some(source, chosen), layer="codes").astype(int)
             for who, one in (("before", model), ("after", adapted))}  # fmt: skip
    given = adapted.codes(batch["mask"]).numpy() if truth is not None else None
    for at, row in enumerate(source.rows[chosen].tolist()):
        over = {who: _over(images[at], found[at], colours) for who, found in codes.items()}
        if given is not None:
            over = {"image": images[at], **over, "truth": _over(images[at], given[at], colours)}
        tiles += over.values()
        captions += [f"{row} {who}" for who in over]
    sheet = contact_sheet("Masks of the new site before and after adaptation", np.stack(tiles), captions)
    entries = [
        f"{name}: {before:.1%} to {after:.1%}"
        for name, before, after in zip(adapted.classes_, adapter.shares_before_, adapter.shares_, strict=True)
    ]
    font = ImageFont.load_default(12)
    widest = 30 + max(round(font.getlength(entry)) for entry in entries)
    columns = max(1, sheet.width // widest)
    whole = Image.new("RGB", (max(sheet.width, widest), sheet.height + 8 + 18 * -(-len(entries) // columns)), "white")
    whole.paste(sheet, (0, 0))
    draw = ImageDraw.Draw(whole)
    for number, (entry, colour) in enumerate(zip(entries, colours.tolist(), strict=True)):
        x, y = 6 + number % columns * widest, sheet.height + 18 * (number // columns)
        draw.rectangle((x, y + 1, x + 12, y + 13), fill=tuple(colour))
        draw.text((x + 17, y), entry, fill="black", font=font)
    return whole


def _over(image: np.ndarray, codes: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """An image (h, w, 3) half seen through the colours of its mask; bare where a pixel does not count."""
    coloured = np.round(0.5 * image + 0.5 * colours[np.maximum(codes, 0)]).astype(np.uint8)
    return np.where((codes >= 0)[..., None], coloured, image)


def draw(path: Path, adapter: Any) -> str | None:
    """Transferability layer by layer, and what share each class had and has; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    found = adapter.transferability_
    names = [str(name) for name in adapter.classes_]
    figure = Figure(figsize=(9.5, max(3.0, 1.2 + 0.22 * max(len(found), len(names)))), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    places = np.arange(len(found))
    left.hlines(places, [v.min() for v in found.values()], [v.max() for v in found.values()], color="0.75", linewidth=4)
    left.plot([v.mean() for v in found.values()], places, "o", color="C0", markersize=4)
    left.axvline(1.0, color="0.4", linewidth=0.8, linestyle=":")
    left.set_yticks(places, list(found), fontsize=7)
    left.invert_yaxis()
    left.set(xlabel="transferability: mean and range over channels", title="Layers, from input to output")
    rows = np.arange(len(names))
    right.barh(rows - 0.2, adapter.shares_before_, height=0.38, color="0.7", label="before")
    right.barh(rows + 0.2, adapter.shares_, height=0.38, color="C0", label="after")
    right.set_yticks(rows, names)
    right.invert_yaxis()
    right.set(xlabel="share of the new site", title="Classes")
    right.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as partial:
        figure.savefig(partial)
    return str(path)


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table of values as CSV, under a temporary name, then renamed."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([[f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row] for row in rows])
