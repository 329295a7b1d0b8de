"""PixPro and PixContrast on mosaics of CIFAR-10: what a linear classifier reads at each location of the frozen map."""

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cosine_similarity, pad, unfold

from benchmarks.claims.engine import Claim, Gate, Measures
from benchmarks.claims.probes import split, untrained
from nolabel.assess.dense import dense_probe
from nolabel.data import load, open_images
from nolabel.encoders import projection_head
from nolabel.learn import SimCLR
from nolabel.learn.pixpro import PixPro
from nolabel.training import ImageLearner, Training, target_copy
from nolabel.views import Augment, crop_resize

ENCODER = "resnet8-x0.5-map6"
SIDE, THUMBNAIL, MAP = 48, 30, 6
VIEW = Augment(area=(0.2, 1.0), jitter=(0.4, 0.4, 0.2, 0.1))
STEPS, BATCH, MOMENTUM = 300, 64, 0.98
TRAIN, PROBED, TEST = 8_000, 2_000, 1_500
STREET_STEPS, STREET_BATCH, STREET_SIDE, VOID = 250, 32, 64, 11


class PooledBootstrap(PixPro):
    """The instance baseline: BYOL (Grill et al., NeurIPS 2020, arXiv:2006.07733) with the views and the target of PixPro.

    Minus twice the cosine between the prediction from one pooled view and the target's projection of the other, both ways.
    """

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = nn.Module()
        net.encoder = self.make_encoder(example)
        net.head = projection_head(net.encoder.dim, *self.projection)
        net.predictor = projection_head(self.projection[1], *self.projection)
        net.target = nn.ModuleDict({"encoder": target_copy(net.encoder), "head": target_copy(net.head)})
        net.warned = set()
        return net

    def loss(self, net: Any, views: Any) -> Tensor:
        images = [image for image, _ in views]
        projections = [net.head(net.encoder(x)).float() for x in images]
        with torch.no_grad():
            targets = [net.target["head"](net.target["encoder"](x)).float() for x in images]
        self._watch(net, projections[0][:, :, None, None], views[0][1], views[1][1])
        cosines = [cosine_similarity(net.predictor(p), t).mean() for p, t in zip(projections, reversed(targets))]
        return -2 * torch.stack(cosines).sum()

    encode = ImageLearner.encode  # its head takes pooled vectors


def mosaics(thumbnails: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
    """Canvases (count, 48, 48, 3) of four thumbnails (n, 30, 30, 3), each cut to its quadrant, and the class of every pixel."""
    canvases, classes = np.empty((count, SIDE, SIDE, 3), np.uint8), np.empty((count, SIDE, SIDE), np.int64)
    chosen, seams = rng.integers(len(labels), size=(count, 4)), SIDE // 2 + rng.integers(-5, 6, size=(count, 2))
    for canvas, pixels, four, (down, across) in zip(canvases, classes, chosen, seams):
        rows, columns = (slice(0, down), slice(down, SIDE)), (slice(0, across), slice(across, SIDE))
        for number, source in enumerate(four):
            place = rows[number // 2], columns[number % 2]
            height, width = pixels[place].shape
            top, left = (THUMBNAIL - height) // 2, (THUMBNAIL - width) // 2
            canvas[place] = thumbnails[source, top : top + height, left : left + width]
            pixels[place] = labels[source]
    return canvases, classes


def thumbnails(part: str) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10 at 30 pixels a side, channels last, and its classes."""
    table, labels = split("cifar10", part, small=True)
    images, parts = open_images(table), []
    for rows in np.array_split(np.arange(len(labels)), max(1, len(labels) // 2000)):
        whole = torch.tensor([[0.0, 0.0, 32.0, 32.0]]).expand(len(rows), -1)
        small = crop_resize(images.batch(rows)["image"], whole, THUMBNAIL)
        parts.append((small * 255).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts), labels


def patches(canvases: np.ndarray) -> np.ndarray:
    """The control without a network: 24 pixels around each location's centre, averaged to 6 x 6, (n, 108, 6, 6)."""
    images = torch.from_numpy(canvases).permute(0, 3, 1, 2).float() / 255
    cells = avg_pool2d(pad(images, (8, 8, 8, 8), mode="replicate"), 4)  # (n, 3, 16, 16)
    return unfold(cells, 6, stride=2).unflatten(2, (MAP, MAP)).numpy()


def streets(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Six crops of 64 pixels of each CamVid frame of 160 x 120, and their masks."""
    from PIL import Image

    table, crops, masks = load("camvid", split=part), [], []
    for row in table:
        frame, mask = (np.asarray(Image.open(io.BytesIO(row[name]["bytes"]))) for name in ("image", "mask"))
        for y in (0, 120 - STREET_SIDE):
            for x in (0, 48, 160 - STREET_SIDE):
                place = slice(y, y + STREET_SIDE), slice(x, x + STREET_SIDE)
                crops.append(frame[place])
                masks.append(mask[place])
    return np.stack(crops), np.stack(masks).astype(np.int64)


def on_mosaics(seed: int) -> Measures:
    rng = np.random.default_rng(seed)
    train, classes = mosaics(*thumbnails("train"), TRAIN, rng)
    test, test_classes = mosaics(*thumbnails("test"), TEST, rng)
    probed = train[:PROBED], classes[:PROBED]

    def accuracy(maps: Any) -> dict[str, float]:
        found = dense_probe(maps(probed[0]), probed[1], maps(test), test_classes)
        return {"location accuracy": 100 * found.accuracy, "mean IoU": 100 * found.mean_iou}

    def scores(learner: Any) -> dict[str, float]:
        last = next(row for row in reversed(learner.history_) if "loss" in row)
        return accuracy(learner.transform_maps) | {name: last[name] for name in ("loss", "spread") if name in last}

    training = Training(
        steps=STEPS, batch_size=BATCH, optimiser="adamw", lr=2e-3, weight_decay=1e-4, warmup=0.1, random_state=seed
    )
    options: dict[str, Any] = {"augment": VIEW, "ema_momentum": MOMENTUM, "training": training}
    return {
        "raw patch": accuracy(patches),
        "untrained": accuracy(untrained(ENCODER, train, seed).transform_maps),
        "SimCLR, pooled": scores(SimCLR(ENCODER, temperature=0.2, augment=VIEW, training=training).fit(train)),
        "BYOL-style instance loss": scores(PooledBootstrap(ENCODER, **options).fit(train)),
        "PixPro": scores(PixPro(ENCODER, **options).fit(train)),
        "PixContrast": scores(PixPro(ENCODER, objective="contrast", **options).fit(train)),
    }


def on_streets(seed: int) -> Measures:
    (train, masks), (test, test_masks) = streets("train"), streets("test")
    training = Training(
        steps=STREET_STEPS, batch_size=STREET_BATCH, optimiser="adamw", lr=2e-3, warmup=0.1, random_state=seed
    )
    learners = {
        "untrained": untrained(ENCODER, train, seed),
        "PixPro": PixPro(ENCODER, ema_momentum=MOMENTUM, training=training).fit(train),
    }
    found = {
        name: dense_probe(x.transform_maps(train), masks, x.transform_maps(test), test_masks, ignore=VOID)
        for name, x in learners.items()
    }
    return {
        f"{name}, CamVid": {"location accuracy": 100 * x.accuracy, "mean IoU": 100 * x.mean_iou}
        for name, x in found.items()
    }


def run(seed: int) -> Measures:
    return on_mosaics(seed) | on_streets(seed)


def better(arm: str, than: str, measure: str = "location accuracy") -> Any:
    return lambda values: values[arm][measure] - values[than][measure]


CLAIM = Claim(
    name="pixpro",
    paper="Xie et al., CVPR 2021, arXiv:2011.10043",
    claim="Agreement between the pixels of two views learns better feature maps for dense tasks than agreement of whole views.",
    data="2 x 2 mosaics of CIFAR-10, 8,000 train (2,000 probed) and 1,500 test; CamVid, 2,202 and 1,398 crops",
    metric="ridge classifier at each location of the last map (6x6; CamVid 8x8), accuracy and mean IoU, per cent",
    run=run,
    gates=(
        Gate("PixPro - untrained, points", 2.0, better("PixPro", "untrained")),
        Gate("PixPro - BYOL-style instance loss, points", 1.0, better("PixPro", "BYOL-style instance loss")),
        Gate("PixContrast - untrained, points", 3.5, better("PixContrast", "untrained")),
        Gate("PixPro, spread of the projections at the end", 0.4, lambda v: v["PixPro"]["spread"]),
        Gate("PixPro, last loss + 3.8", 0.0, lambda v: v["PixPro"]["loss"] + 3.8),
        Gate("-3.0 - last loss of PixPro", 0.0, lambda v: -3.0 - v["PixPro"]["loss"]),
    ),
    reports=(
        Gate("PixPro - raw patch, points", 0.0, better("PixPro", "raw patch")),
        Gate("PixPro - SimCLR on pooled vectors, points", 0.0, better("PixPro", "SimCLR, pooled")),
        Gate("PixPro - PixContrast, points", 0.0, better("PixPro", "PixContrast")),
        Gate("CamVid: PixPro - untrained, points", 0.0, better("PixPro, CamVid", "untrained, CamVid")),
        Gate("CamVid: PixPro - untrained, points of mean IoU", 0.0,
             better("PixPro, CamVid", "untrained, CamVid", "mean IoU")),
    ),
    settings={"encoder": ENCODER, "steps": STEPS, "batch": BATCH, "optimiser": "adamw 0.002", "ema_momentum": MOMENTUM,
              "CamVid": f"{STREET_STEPS} steps of {STREET_BATCH}"},
    note="300 steps instead of the paper's 100 to 400 epochs.",
)  # fmt: skip
