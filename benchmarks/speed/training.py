"""Images a second of a whole SimCLR, SwAV, BYOL or PixPro training step, decoding and views included, against peers.

ResNet-18 on CIFAR-10, batch 256, equal heads and crops; lightly as its examples run it with the best of 0, 1 and 2
loader processes, and lightly with nolabel's precision and memory format; the authors' own code of SwAV and of PixPro, the
latter with images enlarged to 128 pixels and batch 64, since its network ends in a map of 1/32 (lightly has no PixPro). BYOL
is no system of nolabel's: it is written in `steps.py` out of the library's blocks. All take turns in one run, round after
round, and ratios are taken within a round; a full run takes about an hour and a quarter on two cores. NOLABEL_PEERS names the
Python of the peers' environment, NOLABEL_AUTHORS the folder of the authors' checkouts (see ``requirements.txt``) and
NOLABEL_DATA the folder with ``cifar10.parquet``.

On a processor that multiplies bfloat16 the result is `training`, on any other `training_in_float32`: nolabel takes bfloat16 where
it is native, and so does the arm of equal precision.

nolabel's steps are those of one `fit`: a subclass looks at the clock in `after_step` and lets the others have their turn.
Building the network and judging its health are outside the slots; reading batches from the cache, views, both passes, the
optimiser and the loop's own work are inside. Decoding happens once; its time is spread over one epoch of the images.
"""

import contextlib
import os
import subprocess
import warnings
from pathlib import Path
from typing import Any

from benchmarks.speed import harness
from benchmarks.speed.harness import Line, Options, circumstances, line, scratch, seconds, spread, write_photos
from benchmarks.speed.peer import Peer
from benchmarks.speed.steps import Case, Stopwatch, learner_of
from nolabel.data import load, open_images
from nolabel.training import Training
from nolabel.training.devices import precision

TITLE = "Training steps"
LIGHTLY = ("example", "equal")
CASES = [
    Case("swav", "large", (*LIGHTLY, "authors")),
    Case("pixpro", "large", ("authors",), batch=64, side=128),
    *(Case(method, "large", LIGHTLY) for method in ("byol", "simclr")),
    *(Case(method, "small", LIGHTLY) for method in ("simclr", "swav")),
]
STEMS = {"small": "3x3 stem", "large": "7x7 stem and pooling"}
GOALS = {"example": 3.0, "equal": 1.2, "authors": 1.0}
PEERS = {
    "example": "lightly 1.6 as its example runs it (fp32, channels first)",
    "equal": "lightly 1.6 with {} and channels last",
    "authors": "the authors' code (fp32)",
}
CODE = {"swav": "https://github.com/facebookresearch/swav", "PixPro": "https://github.com/zdaxie/PixPro"}


class Finished(Exception):
    """Enough rounds: leaves `fit` between two steps."""


def checkouts() -> dict[str, str]:
    """The commits of the authors' code under NOLABEL_AUTHORS."""
    found, folder = {}, os.environ.get("NOLABEL_AUTHORS", "")
    for name, url in CODE.items():
        asked = subprocess.run(["git", "-C", f"{folder}/{name}", "rev-parse", "HEAD"], capture_output=True, text=True)
        if not folder or asked.returncode:
            raise SystemExit(
                f"NOLABEL_AUTHORS must name a folder with the authors' code, got {folder!r} without {name}: "
                f"`git clone {url} authors/{name}` and set NOLABEL_AUTHORS=authors"
            )
        found[f"{name} (authors)"] = asked.stdout[:12]
    return found


def decode_seconds(images: Any, size: int, folder: Path, rounds: int) -> float:
    """Time of decoding all images once to `size` pixels, the median of rounds with a cache of their own each."""
    found = [
        seconds(lambda number=number: open_images(images, size=size, folder=folder / f"decode{size}-{number}"))
        for number in range(rounds)
    ]
    return spread(found)["median"]


def measure(
    case: Case, images: Any, photos: Path, peers: dict[str, Peer], decode: float, sizes: dict[str, Any]
) -> dict:
    """All rounds of one case."""
    batch = case.batch // sizes["part"]
    slot = {"warm": sizes["warm"], "seconds": sizes["seconds"]}
    request = {"method": case.method, "photos": str(photos), "batch_size": batch}
    own: dict[str, Any] = {arm: {"stem": case.stem, "equal": ""} for arm in LIGHTLY}
    own["equal"]["equal"], own["authors"] = sizes["precision"], {"side": case.side}
    arms = {arm: {**request, **own[arm]} for arm in case.peers}
    calibrated = {arm: peers[arm].best_workers(**arms[arm], **slot) for arm in arms}
    rounds: list[dict[str, float]] = []

    def turn(own: dict[str, float]) -> None:
        an_image = own["seconds"] / (own["steps"] * batch)
        row = {
            "nolabel": 1 / (an_image + decode / len(images)),
            "nolabel_decoded": 1 / an_image,
            "views_share": own["views"] / own["seconds"],
        }
        for arm, what in arms.items():
            theirs = peers[arm].ask(do="time", workers=calibrated[arm][0], **what, **slot)
            row[arm] = theirs["images"] / theirs["seconds"]
            row[f"{arm}_waited_share"] = theirs["waited"] / theirs["seconds"]
        rounds.append({key: round(value, 4) for key, value in row.items()})
        rates = ", ".join(f"{arm} {row[arm]:.1f}" for arm in ("nolabel", *arms))
        print(f"  {case.method}, {case.stem} stem, round {len(rounds)}: images a second: {rates}", flush=True)
        if len(rounds) == sizes["rounds"]:
            raise Finished

    learner = learner_of(case, batch)
    learner.stopwatch = Stopwatch(**slot, turn=turn)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="codes cannot use every prototype")  # 512, as in the peer's example
        warnings.filterwarnings(
            "ignore", message="the projections collapse"
        )  # a rate for longer runs; speed is the same
        with contextlib.suppress(Finished):
            learner.fit(images)
    return {
        "method": case.method,
        "stem": case.stem,
        "batch_size": batch,
        "side": case.side,
        "decode_seconds": decode,
        "workers": {arm: workers for arm, (workers, _) in calibrated.items()},
        "images_per_second_by_workers": {arm: rates for arm, (_, rates) in calibrated.items()},
        "rounds": rounds,
        "ratio": {arm: spread([row["nolabel"] / row[arm] for row in rounds]) for arm in arms},
        "views_share": spread([row["views_share"] for row in rounds]),
    }


def run(options: Options) -> dict[str, Any]:
    native = precision(Training()) != "32-true"
    sizes = {"part": 1, "rounds": 5, "warm": 4.0, "seconds": 10.0}
    if options.quick:
        sizes = {"part": 8, "rounds": 1, "warm": 0.0, "seconds": 0.0}
    sizes["precision"] = "bfloat16" if native else "float32"
    found = circumstances("torch")
    found["versions"] |= checkouts()
    images = load("cifar10", split="train", small=True).select_columns(["image"])
    if options.quick:
        images = images.select(range(256))
    name = "training" if native else "training_in_float32"
    known = None if options.quick else harness.unfinished(name, seconds=sizes["seconds"])
    result = {
        "name": name,
        "benchmark": "training",
        "precision": sizes["precision"],
        **found,
        "data": f"{len(images):,} training images of CIFAR-10",
    }
    result |= {"seconds": sizes["seconds"], "complete": False, "rows": known["rows"] if known else []}
    result["note"] = (
        f"Decoding {len(images):,} images is counted as if training stopped after one epoch. lightly and the authors decode and "
        "transform image by image, with the number of loader processes that was fastest here. nolabel sends all views of a "
        "size through the network at once, lightly one after the other. BYOL is written out of the library's blocks."
    )
    with scratch() as folder, Peer("lightly_peer") as lightly, Peer("authors_peer") as authors:
        peers = {"example": lightly, "equal": lightly, "authors": authors}
        photos = folder / "peers" / "train" / "photos"
        write_photos(images, photos)
        decode = {side: decode_seconds(images, side, folder, 3) for side in sorted({case.side for case in CASES})}
        for case in CASES[:4] if options.quick else CASES:
            if (case.method, case.stem) in [(row["method"], row["stem"]) for row in result["rows"]]:
                continue
            result["rows"].append(measure(case, images, photos, peers, decode[case.side], sizes))
            if not options.quick:
                harness.write(result)
    return {**result, "complete": True}


def title(result: dict[str, Any]) -> str:
    return TITLE if result["name"] == "training" else f"{TITLE}, on a processor without bfloat16"


def lines(result: dict[str, Any]) -> list[Line]:
    found = []
    precision = result.get("precision", "bfloat16")
    for row in result["rows"]:
        case = f"{row['method']}, ResNet-18, {STEMS[row['stem']]}"
        for arm, ratio in row["ratio"].items():
            ours, theirs = (spread([each[name] for each in row["rounds"]])["median"] for name in ("nolabel", arm))
            workers = f"{PEERS[arm].format(precision)}, {row['workers'][arm]} loaders, {theirs:.0f} images/s"
            found.append(line(f"{case}: {ours:.0f} images/s", workers, ratio, goal=GOALS[arm]))
        share = {key: 100 * value for key, value in row["views_share"].items()}
        found.append(line(f"{case}: views' share of the step", "", share, unit="%", goal=10, at_least=False))
    return found
