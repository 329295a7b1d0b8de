"""The two-way loss of image-text models against that of open_clip: value, gradients, time and memory, side by side in one run.

python -m benchmarks.speed two_towers [--quick]; the full run takes about 3 minutes on two cores and 3 GB of memory.

All arms start from raw vectors of both towers, scale them to length 1 and learn the temperature, forward and backward. The peer
is `ClipLoss` of open_clip as shipped, from the environment of NOLABEL_PEERS. It knows no label smoothing: with ALIGN's, the peer
is PyTorch's cross entropy over the whole matrix. Goals for 8,192 pairs: values and gradients equal to 1e-5; at width 256
extra memory, the gradients among it, below an eighth of the similarity matrix (at 512 the gradients alone are an eighth).
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from benchmarks.speed import open_clip_loss
from benchmarks.speed.harness import Line, Options, circumstances, in_child, inverse, line, seconds, spread, times_less
from benchmarks.speed.info_nce import backward
from nolabel.objectives import image_text_contrast

TITLE = "Image-text losses"
TEMPERATURE, SMOOTHING = 0.07, 0.1
LARGE = 8192  # pairs that the goals are about
SIZES = ((1024, 256), (1024, 512), (2048, 512), (4096, 512), (LARGE, 512), (LARGE, 256))


def ours(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    terms = image_text_contrast(images, texts, temperature=torch.exp(-log_scale))
    return terms["image_to_text"] + terms["text_to_image"]


def ours_smoothed(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    terms = image_text_contrast(images, texts, temperature=torch.exp(-log_scale), label_smoothing=SMOOTHING)
    return terms["image_to_text"] + terms["text_to_image"]


def by_open_clip(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return open_clip_loss.clip_loss()(normalize(images, dim=1), normalize(texts, dim=1), log_scale.exp())


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


def prepared(peer: str, arm: int, n: int, d: int) -> Callable[[], None]:
    """One forward and backward pass, libraries and thread pools awake."""
    backward(ARMS[peer][arm], inputs_of(64, d))
    inputs = inputs_of(n, d)
    return lambda: backward(ARMS[peer][arm], inputs)


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
    pairs = [tuple(seconds(lambda arm=arm: backward(arm, inputs)) for arm in (theirs, mine)) for _ in range(rounds)]
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
        "peer_peak_mib": in_child(prepared, peer, 0, n, d)["mib"],
        "peak_mib": in_child(prepared, peer, 1, n, d)["mib"],
        "largest_difference": differences,  # over the largest entry
    }


def run(options: Options) -> dict[str, Any]:
    found = circumstances("torch")
    found["versions"]["open_clip_torch"] = open_clip_loss.version()
    sizes = ((256, 128),) if options.quick else SIZES
    cases = [("open_clip", n, d) for n, d in sizes] + [("whole matrix", *size) for size in sizes[-2:]]
    rows = [measure(*case, rounds=3 if options.quick else 15 if case[1] <= 2048 else 5) for case in cases]
    return {"name": "two_towers", **found, "rows": rows}


def lines(result: dict[str, Any]) -> list[Line]:
    found = []
    for row in result["rows"]:
        smoothed = "" if row["peer"] == "open_clip" else ", labels smoothed"
        case = f"image-text loss, {row['n']:,} pairs of width {row['width']}{smoothed}"
        found.append(line(f"{case}: time", row["peer"], inverse(row["ratio"])))
        found.append(line(f"{case}: memory", row["peer"], times_less(row["peer_peak_mib"], row["peak_mib"])))
        memory, difference = row["peak_mib"], max(row["largest_difference"].values())
        large = row["n"] == LARGE
        found.append(
            Line(
                f"extra memory, {row['gradients_mib']:.0f} MiB of it the gradients",
                "",
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
