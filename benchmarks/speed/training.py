"""Images a second of a whole SimCLR or SwAV training step, decoding and views included, against lightly's.

ResNet-18 on CIFAR-10, batch 256, equal heads and crops; lightly as its examples run it with the best of 0, 1 and 2
loader processes, and lightly with nolabel's precision and memory format. The three take turns in one run, round after
round, and ratios are taken within a round; a full run takes one to two hours on two cores. NOLABEL_PEERS names the Python
of lightly's environment and NOLABEL_DATA the folder with ``cifar10.parquet``.

nolabel's steps are those of one `fit`: a subclass looks at the clock in `after_step` and lets the others have their turn.
Building the network and judging its health are outside the slots; reading batches from the cache, views, both passes, the
optimiser and the loop's own work are inside. Decoding happens once; its time is spread over one epoch of the images.
"""

import contextlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.speed import harness
from benchmarks.speed.harness import Line, Options, Peer, circumstances, line, scratch, spread, write_photos
from nolabel.data import load, open_images
from nolabel.encoders import build
from nolabel.learn import SimCLR, SwAV
from nolabel.training import Training

TITLE = "Training steps"
BATCH, LEAST_STEPS = 256, 2
CASES = [(method, stem) for stem in ("small", "large") for method in ("simclr", "swav")]
STEMS = {"small": "3x3 stem", "large": "7x7 stem and pooling"}
CROPS = ((2, 32, (0.14, 1.0)), (6, 16, (0.05, 0.14)))
GOALS = {"example": 2.5, "equal": 1.2}
PEERS = {
    "example": "lightly 1.6 as its example runs it (fp32, channels first)",
    "equal": "lightly 1.6 with bf16 and channels last",
}


class Finished(Exception):
    """Enough rounds: leaves `fit` between two steps."""


class Stopwatch:
    """Cuts a running fit into slots: some steps to warm up, then steps that count, then the others' turn."""

    def __init__(self, warm: float, seconds: float, turn: Callable[[dict[str, float]], None]) -> None:
        self.warm, self.seconds, self.turn = warm, seconds, turn
        self.restart()

    def restart(self) -> None:
        """Drop the present slot."""
        self.resumed: float | None = None  # the end of the step before the warm-up
        self.started: float | None = None
        self.steps, self.views = 0, 0.0

    def tick(self) -> None:
        """A step has ended."""
        now = time.perf_counter()
        if self.resumed is None:
            self.resumed = now
        elif self.started is None:
            if now - self.resumed >= self.warm:
                self.started, self.steps, self.views = now, 0, 0.0
        else:
            self.steps += 1
            if self.steps >= LEAST_STEPS and now - self.started >= self.seconds:
                self.turn({"steps": self.steps, "seconds": now - self.started, "views": self.views})
                self.restart()


class Timed:
    """A learner whose steps a stopwatch follows."""

    stopwatch: Stopwatch

    def views(self, batch: Any, generator: torch.Generator) -> Any:
        begun = time.perf_counter()
        views = super().views(batch, generator)  # type: ignore[misc]
        self.stopwatch.views += time.perf_counter() - begun
        return views

    def after_step(self, net: Any, clock: Any) -> None:
        super().after_step(net, clock)  # type: ignore[misc]
        self.stopwatch.tick()

    def enough(self, net: Any, source: Any, epoch: int) -> bool:
        self.stopwatch.restart()  # the health of the network is judged now, and that is no step
        return bool(super().enough(net, source, epoch))  # type: ignore[misc]


class TimedSimCLR(Timed, SimCLR):
    pass


class TimedSwAV(Timed, SwAV):
    pass


def learner_of(method: str, stem: str, batch_size: int) -> Any:
    """nolabel's side of a case, with the peer's heads, crops and kind of optimiser."""
    encoder = build("resnet18", channels=3, image_size=32, stem=stem)
    settings: dict[str, Any] = {"batch_size": batch_size, "steps": 10**6, "progress": False, "stop_on_collapse": False}
    if method == "simclr":
        sgd = Training(optimiser="sgd", lr=0.06, weight_decay=5e-4, **settings)
        return TimedSimCLR(encoder, temperature=0.5, projection=(512, 128), training=sgd)
    training = Training(optimiser="adam", lr=0.001, weight_decay=0.0, **settings)
    return TimedSwAV(
        encoder, prototypes=512, crops=CROPS, projection=(512, 128), freeze_prototypes_epochs=0.0, training=training
    )


def decode_seconds(images: Any, folder: Any, rounds: int) -> list[float]:
    """Time of decoding all images once, each round into a cache of its own."""
    found = []
    for number in range(rounds):
        begun = time.perf_counter()
        open_images(images, folder=folder / f"decode{number}")
        found.append(time.perf_counter() - begun)
    return found


def measure(case: tuple[str, str], images: Any, photos: Any, peer: Peer, decode: float, sizes: dict[str, Any]) -> dict:
    """All rounds of one method and stem."""
    method, stem = case
    request = {"method": method, "stem": stem, "photos": str(photos), "batch_size": sizes["batch"]}
    slot = {"warm": sizes["warm"], "seconds": sizes["seconds"]}
    arms = {"example": {**request, "equal": False}, "equal": {**request, "equal": True}}
    calibrated = {arm: peer.best_workers(**arms[arm], **slot) for arm in arms}
    rounds: list[dict[str, float]] = []

    def turn(own: dict[str, float]) -> None:
        an_image = own["seconds"] / (own["steps"] * sizes["batch"])
        row = {
            "nolabel": 1 / (an_image + decode / len(images)),
            "nolabel_decoded": 1 / an_image,
            "views_share": own["views"] / own["seconds"],
        }
        for arm, what in arms.items():
            theirs = peer.ask(do="time", workers=calibrated[arm][0], **what, **slot)
            row[arm] = theirs["images"] / theirs["seconds"]
            row[f"{arm}_waited_share"] = theirs["waited"] / theirs["seconds"]
        rounds.append({key: round(value, 4) for key, value in row.items()})
        rates = ", ".join(f"{arm} {row[arm]:.1f}" for arm in ("nolabel", *arms))
        print(f"  {method}, {stem} stem, round {len(rounds)}: images a second: {rates}", flush=True)
        if len(rounds) == sizes["rounds"]:
            raise Finished

    learner = learner_of(method, stem, sizes["batch"])
    learner.stopwatch = Stopwatch(**slot, turn=turn)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="codes cannot use every prototype")  # 512, as in the peer's example
        with contextlib.suppress(Finished):
            learner.fit(images)
    return {
        "method": method,
        "stem": stem,
        "workers": {arm: workers for arm, (workers, _) in calibrated.items()},
        "images_per_second_by_workers": {arm: rates for arm, (_, rates) in calibrated.items()},
        "rounds": rounds,
        "ratio": {arm: spread([row["nolabel"] / row[arm] for row in rounds]) for arm in arms},
        "views_share": spread([row["views_share"] for row in rounds]),
    }


def run(options: Options) -> dict[str, Any]:
    sizes = {"batch": BATCH, "rounds": 5, "warm": 4.0, "seconds": 15.0}
    if options.quick:
        sizes = {"batch": 32, "rounds": 1, "warm": 0.0, "seconds": 0.0}
    found = circumstances("torch")
    images = load("cifar10", split="train", small=True).select_columns(["image"])
    if options.quick:
        images = images.select(range(512))
    known = None if options.quick else harness.unfinished("training", batch_size=sizes["batch"])
    result = {"name": "training", **found, "data": f"{len(images):,} training images of CIFAR-10"}
    result |= {"batch_size": sizes["batch"], "complete": False, "rows": known["rows"] if known else []}
    with scratch() as folder, Peer() as peer:
        write_photos(images, folder / "photos")
        decode = decode_seconds(images, folder, sizes["rounds"])
        result["decode_seconds"] = spread(decode)
        result["note"] = (
            f"Decoding {len(images):,} images took nolabel {spread(decode)['median']:.1f} s; it happens once and is counted "
            "as if training stopped after one epoch. lightly decodes and transforms image by image, with the number of "
            "loader processes that was fastest here. nolabel sends all views of a size through the network at once, "
            "lightly one after the other."
        )
        for case in CASES[2:] if options.quick else CASES:
            if case in [(row["method"], row["stem"]) for row in result["rows"]]:
                continue
            result["rows"].append(measure(case, images, folder / "photos", peer, spread(decode)["median"], sizes))
            if not options.quick:
                harness.write(result)
    return {**result, "complete": True}


def lines(result: dict[str, Any]) -> list[Line]:
    found = []
    for row in result["rows"]:
        case = f"{row['method']}, ResNet-18, {STEMS[row['stem']]}"
        for arm, goal in GOALS.items():
            ours, theirs = (spread([each[name] for each in row["rounds"]])["median"] for name in ("nolabel", arm))
            workers = f"{PEERS[arm]}, {row['workers'][arm]} loaders, {theirs:.0f} images/s"
            found.append(line(f"{case}: {ours:.0f} images/s", workers, row["ratio"][arm], goal=goal))
        share = {key: 100 * value for key, value in row["views_share"].items()}
        found.append(line(f"{case}: views' share of the step", "", share, unit="%", goal=10, at_least=False))
    return found
