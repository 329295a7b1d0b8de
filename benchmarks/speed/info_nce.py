"""Time and memory of tiled contrastive losses against the plain formula and open_clip's, side by side in one run.

python -m benchmarks.speed info_nce [--quick]; the full run takes about 8 minutes on two cores and, for the peers at 32,768
pairs, 17 GB of memory; where less is free, these peers are left out and the line says so. Forward and backward, width 128.
Symmetric pairs from 1,024 to 32,768, where open_clip's `ClipLoss` computes the same, views of one batch and a queue. Goals from
1,024 pairs on: not slower than a peer; for 16,384 symmetric pairs extra memory below an eighth of the similarity matrix and
gradients equal to 1e-5. At 256 pairs the matrix is small and tiles cost.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from benchmarks.speed import open_clip_loss
from benchmarks.speed.harness import Line, Options, circumstances, free_mib, in_child, line, seconds, spread, times_less
from nolabel.ops import info_nce_losses

TITLE = "Contrastive losses"
TEMPERATURE = 0.1
SIZES = (256, 1024, 2048, 4096, 8192, 16_384, 32_768)  # symmetric pairs
LARGE = 16_384  # pairs that the goals of memory and gradients are about
MATRICES = 4.2  # of similarities that a peer keeps at once


def plain_symmetric(queries, keys):
    logits, labels = queries @ keys.T / TEMPERATURE, torch.arange(len(queries))
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2


def plain_views(z1, z2):
    z, n = torch.cat([z1, z2]), len(z1)
    logits = (z @ z.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    return cross_entropy(logits, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))


def plain_queue(queries, keys, queue):
    logits = torch.cat([(queries * keys).sum(dim=1, keepdim=True), queries @ queue.T], dim=1) / TEMPERATURE
    return cross_entropy(logits, torch.zeros(len(queries), dtype=torch.int64))


def tiled_symmetric(queries, keys):
    return info_nce_losses(queries, keys, temperature=TEMPERATURE, symmetric=True).mean()


def tiled_views(z1, z2):
    return info_nce_losses(torch.cat([z1, z2]), temperature=TEMPERATURE).mean()


def tiled_queue(queries, keys, queue):
    return info_nce_losses(queries, keys, temperature=TEMPERATURE, negatives=queue).mean()


def clip_symmetric(queries, keys):
    return open_clip_loss.clip_loss()(queries, keys, torch.tensor(1 / TEMPERATURE))


PLAIN, CLIP = "the plain formula", "open_clip"
#: By form: the tiled loss, and its peers.
ARMS: dict[str, tuple[Callable[..., Tensor], dict[str, Callable[..., Tensor]]]] = {
    "symmetric": (tiled_symmetric, {PLAIN: plain_symmetric, CLIP: clip_symmetric}),
    "views": (tiled_views, {PLAIN: plain_views}),
    "queue": (tiled_queue, {PLAIN: plain_queue}),
}


def inputs_of(form: str, n: int, m: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = normalize(torch.randn(n, 128, generator=generator), dim=1)
    second = normalize(first + 0.1 * torch.randn(n, 128, generator=generator), dim=1)
    live = [first.requires_grad_(), second.requires_grad_()]
    return [*live, normalize(torch.randn(m, 128, generator=generator), dim=1)] if form == "queue" else live


def backward(loss: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    for x in inputs:
        x.grad = None
    loss(*inputs).backward()


def arm_of(form: str, peer: str | None) -> Callable[..., Tensor]:
    tiled, peers = ARMS[form]
    return tiled if peer is None else peers[peer]


def prepared(form: str, peer: str | None, n: int, m: int) -> Callable[[], None]:
    """One forward and backward pass, libraries and thread pools awake."""
    arm = arm_of(form, peer)
    backward(arm, inputs_of(form, 64, 64))
    inputs = inputs_of(form, n, m)
    return lambda: backward(arm, inputs)


def gradients(loss: Callable[..., Tensor], inputs: list[Tensor]) -> Tensor:
    backward(loss, inputs)
    return torch.cat([x.grad for x in inputs[:2] if x.grad is not None])


def measure(form: str, n: int, m: int, rounds: int) -> dict[str, Any]:
    matrix = {"symmetric": n * n, "views": 4 * n * n, "queue": n * (m + 1)}[form] * 4 / 2**20
    fits = MATRICES * matrix < free_mib()
    peers = list(ARMS[form][1]) if fits else []
    inputs = inputs_of(form, n, m)
    got = gradients(arm_of(form, None), inputs)
    wanted = gradients(arm_of(form, PLAIN), inputs) if fits else got
    taken = [
        {peer: seconds(lambda peer=peer: backward(arm_of(form, peer), inputs)) for peer in (*peers, None)}
        for _ in range(rounds)
    ]
    mib = {peer: in_child(prepared, form, peer, n, m)["mib"] for peer in (*peers, None)}
    return {
        "form": form,
        "n": n,
        "queue": m if form == "queue" else 0,
        "width": 128,
        "rounds": rounds,
        "seconds": statistics.median(row[None] for row in taken),
        "matrix_mib": matrix,
        "mib": mib[None],
        "gradient_difference": float((got - wanted).norm() / wanted.norm()),
        "peers": {
            peer: {
                "seconds": statistics.median(row[peer] for row in taken),
                "mib": mib[peer],
                "times_faster": spread([row[peer] / row[None] for row in taken]),
            }
            for peer in peers
        },
    }


def run(options: Options) -> dict[str, Any]:
    sizes = [("symmetric", n, 0) for n in SIZES]
    sizes += [("views", 256, 0), ("views", 4096, 0), ("queue", 1024, 65536)]
    if options.quick:
        sizes = [("symmetric", 256, 0), ("symmetric", 1024, 0), ("views", 512, 0), ("queue", 256, 4096)]
    found = circumstances("torch")
    found["versions"]["open_clip_torch"] = open_clip_loss.version()
    rows = []
    for form, n, m in sizes:
        rows.append(measure(form, n, m, rounds=3 if options.quick or n > LARGE else 5 if n > 2048 else 15))
        print(f"  {form}, {n:,} pairs: {rows[-1]['seconds']:.4f} s", flush=True)
    return {"name": "info_nce", **found, "rows": rows}


def lines(result: dict[str, Any]) -> list[Line]:
    found = []
    for row in result["rows"]:
        large = row["form"] == "symmetric" and row["n"] == LARGE
        queue = f" and a queue of {row['queue']:,}" if row["queue"] else ""
        case = f"{row['form']} InfoNCE, {row['n']:,} pairs{queue}"
        without = "" if row["peers"] else "none: 4 matrices of similarities did not fit into memory"
        for peer, theirs in row["peers"].items():
            goal = 1.0 if row["n"] >= 1024 else None
            found.append(line(f"{case}: time", f"{peer}, {theirs['seconds']:.3g} s", theirs["times_faster"], goal=goal))
            less = times_less(theirs["mib"], row["mib"])
            found.append(line(f"{case}: memory", f"{peer}, {theirs['mib']:,.0f} MiB", less, goal=goal))
        for what, value, unit, limit in (
            ("time", row["seconds"], "s", None),
            ("extra memory", row["mib"], "MiB", row["matrix_mib"] / 8),
            ("difference of the gradients", row["gradient_difference"], "", 1e-5),
        ):
            goal = limit if large else None
            found.append(Line(f"{case}: {what}", without, *[value] * 3, unit=unit, goal=goal, at_least=False))
    return found
