"""k-NN accuracy after minutes of training on this machine: nolabel's SimCLR and SwAV as they come, and lightly's SimCLR.

CIFAR-10, 20,000 training and 5,000 test images, no labels while training; a weighted vote of 20 neighbours by cosine
(temperature 0.1) on frozen features, computed by the same function for all. Every arm gets the same wall time; nolabel's
includes decoding. A result holds the arms that are done: a run that was cut off goes on with the others. NOLABEL_PEERS names
the Python of lightly's environment and NOLABEL_DATA the folder with ``cifar10.parquet``.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import harness
from benchmarks.speed.harness import Line, Options, circumstances, scratch, write_photos
from benchmarks.speed.peer import Peer
from nolabel.assess import knn_accuracy
from nolabel.data import load, open_images
from nolabel.learn import SimCLR, SwAV
from nolabel.training import Training

TITLE = "Quality after the same time"
OURS = {"nolabel SimCLR": SimCLR, "nolabel SwAV": SwAV}
PEERS = {"lightly SimCLR": "", "lightly SimCLR, bf16 and channels last": "bfloat16"}
GOAL = 55.0


def ours(name: str, train: Any, test: Any, minutes: float) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """What the arm did, and the features of both parts."""
    begun = time.perf_counter()
    open_images(train)
    decode = time.perf_counter() - begun
    training = Training(minutes=minutes - decode / 60, progress=False)
    learner = OURS[name](training=training).fit(train)
    done = {"steps": learner.history_[-1]["step"], "seconds": round(learner.seconds_ + decode, 1)}
    return done, learner.transform(train), learner.transform(test)


def peers(
    name: str, folder: Path, minutes: float, slot: dict[str, float]
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    request = {"method": "simclr", "stem": "large", "equal": PEERS[name], "photos": str(folder / "train")}
    request["batch_size"] = 256
    files = {str(folder / part): str(folder / f"{part}.npy") for part in ("train", "test")}
    with Peer("lightly_peer") as peer:
        workers, _ = peer.best_workers(**request, **slot)
        done = peer.ask(do="train", workers=workers, minutes=minutes, encode=files, seed=0, **request)
    done = {"steps": done["steps"], "seconds": round(done["seconds"], 1), "loaders": workers}
    return done, *(np.load(file) for file in files.values())


def run(options: Options) -> dict[str, Any]:
    minutes, slot = (
        (0.05, {"warm": 0.0, "seconds": 0.0}) if options.quick else (options.minutes, {"warm": 4.0, "seconds": 10.0})
    )
    found = circumstances("torch")
    parts = {part: load("cifar10", split=part, small=True) for part in ("train", "test")}
    if options.quick:
        parts = {part: table.select(range(1024)) for part, table in parts.items()}
    images = {part: table.select_columns(["image"]) for part, table in parts.items()}
    labels = {part: np.asarray(table["label"]) for part, table in parts.items()}
    known = None if options.quick else harness.unfinished("quality", minutes=minutes)
    result = {"name": "quality", **found, "minutes": minutes, "rows": [len(y) for y in labels.values()]}
    result |= {"complete": False, "arms": known["arms"] if known else {}}
    for name in (*OURS, *PEERS):
        if name in result["arms"]:
            continue
        load_average = os.getloadavg()[0]
        with scratch() as folder:
            if name in OURS:
                done, train, test = ours(name, images["train"], images["test"], minutes)
            else:
                for part, table in images.items():
                    write_photos(table, folder / part)
                done, train, test = peers(name, folder, minutes, slot)
        accuracy = 100 * knn_accuracy(train, labels["train"], test, labels["test"])
        result["arms"][name] = {**done, "knn_accuracy": round(accuracy, 2), "load_average": load_average}
        print(f"  {name}: {accuracy:.1f} %, {done['steps']} steps", flush=True)
        if not options.quick:
            harness.write(result)
    return {**result, "complete": True}


def lines(result: dict[str, Any]) -> list[Line]:
    arms = {name: arm["knn_accuracy"] for name, arm in result["arms"].items()}
    found = []
    for name, accuracy in arms.items():
        what = f"{name}, {result['minutes']:g} minutes, {result['arms'][name]['steps']} steps: 20-NN accuracy"
        found.append(Line(what, "", accuracy, accuracy, accuracy, unit="%"))
    if set(arms) >= {*OURS, *PEERS}:
        best = max(arms[name] for name in OURS)
        found.append(Line("the better of nolabel's two", "", best, best, best, unit="%", goal=GOAL))
        for name in PEERS:
            above = best - arms[name]
            goal = 0.0 if name == "lightly SimCLR" else None
            found.append(Line("the same, above", name, above, above, above, unit="points", goal=goal))
    return found
