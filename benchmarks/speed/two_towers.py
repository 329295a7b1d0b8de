"""The two-way loss of image-text models against that of open_clip: value, gradients, time and memory, side by side in one run.

python -m benchmarks.speed two_towers [--quick]; the full run takes about 3 minutes on two cores and 3 GB of memory.

All arms start from raw vectors of both towers, scale them to length 1 and learn the temperature, forward and backward. The peer
is `ClipLoss` of open_clip as shipped; since `import open_clip` needs torchvision, which does not work next to the CPU build of
torch, its file ``loss.py`` is loaded by itself, from the environment of NOLABEL_PEERS. It knows no label smoothing: with ALIGN's,
the peer is PyTorch's cross entropy over the whole matrix. Goals for 8,192 pairs: values and gradients equal to 1e-5; at width 256
extra memory, the gradients among it, below an eighth of the similarity matrix (at 512 the gradients alone are an eighth).
"""

import functools
import importlib.util
import multiprocessing
import os
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from benchmarks.speed.harness import Line, Options, circumstances, line, spread
from benchmarks.speed.info_nce import resident_mib, seconds
from nolabel.objectives import image_text_contrast

TITLE = "Image-text losses"
TEMPERATURE, SMOOTHING = 0.07, 0.1
LARGE = 8192  # pairs that the goals are about
SIZES = ((1024, 256), (1024, 512), (2048, 512), (4096, 512), (LARGE, 512), (LARGE, 256))
ASK = "import importlib.util as i, importlib.metadata as m; print(i.find_spec('open_clip').origin, m.version('open_clip_torch'))"


@functools.cache
def open_clip() -> tuple[str, str]:
    """The file of open_clip's losses in the peers' environment, and its version."""
    python = os.environ.get("NOLABEL_PEERS")
    asked = subprocess.run([python, "-c", ASK], capture_output=True, text=True) if python else None
    if asked is None or asked.returncode:
        raise SystemExit(
            f"NOLABEL_PEERS must name the Python of an environment with open_clip_torch, got {python!r}: see "
            "benchmarks/speed/requirements.txt"
        )
    origin, number = asked.stdout.split()
    return str(Path(origin).with_name("loss.py")), number


@functools.cache
def clip_loss() -> Any:
    spec = importlib.util.spec_from_file_location("open_clip_loss", open_clip()[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ClipLoss()


def ours(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    terms = image_text_contrast(images, texts, temperature=torch.exp(-log_scale))
    return terms["image_to_text"] + terms["text_to_image"]


def ours_smoothed(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    terms = image_text_contrast(images, texts, temperature=torch.exp(-log_scale), label_smoothing=SMOOTHING)
    return terms["image_to_text"] + terms["text_to_image"]


def by_open_clip(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return clip_loss()(normalize(images, dim=1), normalize(texts, dim=1), log_scale.exp())


def whole_matrix(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    logits = log_scale.exp() * normalize(images, dim=1) @ normalize(texts, dim=1).T
    own = torch.arange(len(images))
    return sum(cross_entropy(each, own, label_smoothing=SMOOTHING) for each in (logits, logits.T)) / 2


#: By the peer's name: the peer, and what does the same here.
ARMS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "open_clip": (by_open_clip, ours),
    "whole matrix": (whole_matrix, ours_smoothed),
}


def inputs_of(n: int, d: int) -> list[Tensor]:
    """What two towers give after some training, and the logarithm of the inverse temperature."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, d, generator=generator)
    texts = images + 2.0 * torch.randn(n, d, generator=generator)
    log_scale = -torch.log(torch.tensor(TEMPERATURE))
    return [images.requires_grad_(), texts.requires_grad_(), log_scale.requires_grad_()]


def _peak_in_child(connection: Any, peer: str, arm: int, n: int, d: int) -> None:
    seconds(ARMS[peer][arm], inputs_of(64, d))  # libraries and thread pools come before the count
    inputs = inputs_of(n, d)
    Path("/proc/self/clear_refs").write_text("5")  # start a new peak
    before = resident_mib("VmRSS")
    seconds(ARMS[peer][arm], inputs)
    connection.send(resident_mib("VmHWM") - before)


def peak_mib(peer: str, arm: int, n: int, d: int) -> float:
    """Growth of the resident peak of a fresh process by one forward and backward pass, gradients included."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_peak_in_child, args=(there, peer, arm, n, d))
    child.start()
    child.join()
    return here.recv()


def outcome(loss: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """Its value and the three gradients."""
    value = loss(*inputs)
    return [value.detach(), *torch.autograd.grad(value, inputs)]


def measure(peer: str, n: int, d: int, rounds: int) -> dict[str, Any]:
    theirs, mine = ARMS[peer]
    inputs = inputs_of(n, d)
    expected, found = outcome(theirs, inputs), outcome(mine, inputs)
    names = ("value", "images", "texts", "temperature")
    differences = {name: float((a - b).abs().max() / a.abs().max()) for name, a, b in zip(names, expected, found)}
    pairs = [(seconds(theirs, inputs), seconds(mine, inputs)) for _ in range(rounds)]
    del expected, found
    return {
        "peer": peer,
        "n": n,
        "width": d,
        "rounds": rounds,
        "peer_seconds": statistics.median(p for p, _ in pairs),
        "seconds": statistics.median(t for _, t in pairs),
        "ratio": spread([t / p for p, t in pairs]),
        "matrix_mib": n * n * 4 / 2**20,
        "gradients_mib": 2 * n * d * 4 / 2**20,
        "peer_peak_mib": peak_mib(peer, 0, n, d),
        "peak_mib": peak_mib(peer, 1, n, d),
        "largest_difference": differences,  # over the largest entry
    }


def run(options: Options) -> dict[str, Any]:
    found = circumstances("torch")
    found["versions"]["open_clip_torch"] = open_clip()[1]
    sizes = ((256, 128),) if options.quick else SIZES
    cases = [("open_clip", n, d) for n, d in sizes] + [("whole matrix", *size) for size in sizes[-2:]]
    rows = [measure(*case, rounds=3 if options.quick else 15 if case[1] <= 2048 else 5) for case in cases]
    return {"name": "two_towers", **found, "rows": rows}


def lines(result: dict[str, Any]) -> list[Line]:
    found = []
    for row in result["rows"]:
        smoothed = "" if row["peer"] == "open_clip" else ", labels smoothed"
        found.append(line(f"{row['n']:,} pairs of width {row['width']}{smoothed}: time", row["peer"], row["ratio"]))
        memory, difference = row["peak_mib"], max(row["largest_difference"].values())
        large = row["n"] == LARGE
        found.append(
            Line(
                f"extra memory, {row['gradients_mib']:.0f} MiB of it the gradients",
                f"{row['peer']}: {row['peer_peak_mib']:,.0f} MiB",
                *[memory] * 3,
                unit="MiB",
                goal=row["matrix_mib"] / 8 if large and row["width"] == 256 else None,
                at_least=False,
            )
        )
        found.append(
            Line(
                "largest difference of value and gradients, over the largest entry",
                "",
                *[difference] * 3,
                unit="",
                goal=1e-5 if large else None,
                at_least=False,
            )
        )
    return found
