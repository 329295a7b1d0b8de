"""From photographs to two SimCLR views of 96 pixels: decoding and views together, against torchvision v2 and kornia, in one run.

python -m benchmarks.speed photographs [--quick]; the full run takes about 6 minutes on two cores.

1,024 JPEGs of 500 x 375, crop, flip, full jitter, grey, blur, batches of 256 as float32. nolabel decodes once into a cache of
96 pixels, as `nolabel learn` does, and makes views in batches; a first epoch pays for both, later ones for the views alone, so
that one epoch and ten are told apart. The peers have no cache. Each is run as its documentation says, by a data loader with the
best of 0, 1 and 2 processes: torchvision v2 image by image from Pillow's decoder, kornia on batches of decoded photographs, one
draw for each image. Their crops are cut out of whole photographs, nolabel's out of images of 96 pixels, which are less sharp.

`in memory`: the same views of 256 uint8 images of 96 x 96 that are decoded already; v2 again image by image, since it draws one
set of numbers a call. Goal: not slower than a peer.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.folder import photo, samples
from benchmarks.speed.harness import Line, Options, circumstances, line, scratch, seconds, spread
from benchmarks.speed.peer import Peer
from nolabel.data import open_images, read
from nolabel.views import simclr

TITLE = "From photographs to views"
SIDE, BATCH, EPOCHS = 96, 256, (1, 10)
PEERS = {"v2": "torchvision v2", "kornia": "kornia"}


def views_of(cache: Any, generator: torch.Generator) -> None:
    """Two views of every image, batch by batch."""
    recipe, order = simclr(SIDE), np.random.default_rng(0).permutation(len(cache))
    for start in range(0, len(order), BATCH):
        images = cache.batch(order[start : start + BATCH])["image"]
        recipe(images, generator), recipe(images, generator)


def run(options: Options) -> dict[str, Any]:
    count, rounds = (64, 1) if options.quick else (1024, 5)
    found = circumstances("torch", "pillow")
    generator = torch.Generator().manual_seed(0)
    decoded = torch.randint(0, 256, (min(count, BATCH), 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    recipe, rows = simclr(SIDE), []
    with scratch() as place, Peer("views_peer") as peer:
        photos, pictures = place / "photos", samples()
        photos.mkdir()
        for number in range(count):
            picture = photo(pictures, np.random.default_rng(number))
            picture.save(photos / f"{number:06d}.jpg", quality=80)
        np.save(place / "decoded.npy", decoded.numpy())
        request = {"photos": str(photos), "decoded": str(place / "decoded.npy"), "side": SIDE, "batch_size": BATCH}
        found["versions"] |= peer.ask(do="versions", **request)
        workers = {kind: peer.best_workers(kind=kind, **request)[0] for kind in PEERS}
        for number in range(rounds):
            rows.append(_round(peer, request, workers, photos, place / f"cache{number}", decoded, recipe, generator))
            print(f"  round {number + 1}: {rows[-1]}", flush=True)
    return {"name": "photographs", **found, "photos": count, "loaders": workers, "rounds": rows}


def _round(
    peer: Peer, request: dict, workers: dict, photos: Path, cache: Path, decoded: Any, recipe: Any, generator: Any
) -> dict[str, float]:
    """Seconds of every arm."""
    decode = seconds(lambda: open_images(read(photos), size=SIDE, channels=3, folder=cache))
    opened = open_images(read(photos), size=SIDE, channels=3, folder=cache)
    row = {
        "decode": decode,
        "views": seconds(lambda: views_of(opened, generator)),
        "in memory": seconds(lambda: (recipe(decoded, generator), recipe(decoded, generator))),
    }
    for kind in PEERS:
        row[kind] = peer.ask(do="time", kind=kind, workers=workers[kind], **request)["seconds"]
        row[f"{kind}, in memory"] = peer.ask(do="memory", kind=kind, **request)["seconds"]
    return row


def lines(result: dict[str, Any]) -> list[Line]:
    made, rounds = [], result["rounds"]
    for kind, name in PEERS.items():
        loaders = f"{name}, {result['loaders'][kind]} loaders"
        for epochs in EPOCHS:
            ratios = [epochs * row[kind] / (row["decode"] + epochs * row["views"]) for row in rounds]
            rate = spread([epochs * result["photos"] / (row["decode"] + epochs * row["views"]) for row in rounds])
            epoch = "one epoch" if epochs == 1 else f"{epochs} epochs"
            what = f"decoding and two views of {SIDE} pixels, {epoch}: {rate['median']:,.0f} photographs/s"
            made.append(line(what, loaders, spread(ratios), goal=1.0))
        ratios = [row[f"{kind}, in memory"] / row["in memory"] for row in rounds]
        made.append(line(f"two views of {SIDE} pixels, images in memory", name, spread(ratios), goal=1.0))
    return made
