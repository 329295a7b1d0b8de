"""Five systems at toy size, each so that two processes and one see the same views; also a program, run on two processes."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nolabel.learn import ALIGN, Contriever, PixPro, SimCLR, SwAV
from nolabel.training import Training, gather
from nolabel.training.loop import _mix

STEPS, BATCH, LAST = 10, 16, 6


class InShares:
    """On one process, the views are those of the two halves of the batch, each drawn as its rank would draw them."""

    chunks = 1  # views that lie behind each other in one tensor

    def build(self, example):
        net = super().build(example)
        for part in net.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        return net

    def before_step(self, net, clock):
        super().before_step(net, clock)
        self.now = clock.step

    def views(self, batch, generator):
        if self.training_.devices == 2:
            return super().views(batch, generator)
        seen = []
        for rank in (0, 1):
            seed = _mix(self.training_.random_state, self.now, rank)
            seen.append(super().views(half(batch, rank), torch.Generator().manual_seed(seed)))
        return joined(*seen, self.chunks)


def half(batch, rank):
    """One rank's rows; of texts without the padding that only the other's need."""
    if isinstance(batch, dict) and "tokens" in batch:
        mask = batch["mask"].chunk(2)[rank]
        kept = mask.any(dim=0)
        return {"tokens": batch["tokens"].chunk(2)[rank][:, kept], "mask": mask[:, kept]}
    return {k: half(v, rank) for k, v in batch.items()} if isinstance(batch, dict) else batch.chunk(2)[rank]


def joined(first, second, chunks=1):
    """What two ranks see as what one would see."""
    if isinstance(first, torch.Tensor):
        if first.ndim == 2 and not first.is_floating_point():  # tokens
            width = max(first.shape[1], second.shape[1])
            first, second = (nn.functional.pad(part, (0, width - part.shape[1])) for part in (first, second))
        pieces = zip(first.chunk(chunks), second.chunk(chunks), strict=True)
        return torch.cat([part for pair in pieces for part in pair])
    if isinstance(first, dict):
        return {k: joined(first[k], second[k]) for k in first}
    if isinstance(first, list | tuple):
        parts = [joined(a, b) for a, b in zip(first, second, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    assert first == second
    return first


class SharedSimCLR(InShares, SimCLR):
    chunks = 2


class SharedSwAV(InShares, SwAV):
    pass


class SharedPixPro(InShares, PixPro):
    pass


class SharedContriever(InShares, Contriever):
    pass


class SharedALIGN(InShares, ALIGN):
    pass


def settings(devices, **more):
    shared = {"accelerator": "cpu", "precision": "32-true", "stop_on_collapse": False}
    return Training(steps=STEPS, batch_size=BATCH, devices=devices, **shared, **more)


TINY = {"encoder": "resnet8-x0.125", "image_size": 16, "projection": (16, 8)}


def systems(devices):
    """The learners by name. Plain descent: Adam makes a step of full length out of the rounding of a gradient that is 0."""
    text = {"encoder": "bert-1x16", "vocabulary_size": 200, "chunk": 16}
    adam, plain = settings(devices), settings(devices, optimiser="sgd", lr=0.02, weight_decay=1e-4)
    slow = settings(devices, optimiser="sgd", lr=1e-3, weight_decay=1e-4)  # what it looks at changes much in a step
    pair = {"text_encoder": "bert-1x16", "vocabulary_size": 200, "max_length": 16}
    return {
        "simclr": SharedSimCLR(**TINY, training=plain),
        "swav": SharedSwAV(**TINY, prototypes=8, queue_length=32, freeze_prototypes_epochs=0.5, training=adam),
        "pixpro": SharedPixPro(**TINY | {"encoder": "resnet8-x0.125-map6"}, instance_weight=1.0, training=slow),
        "contriever": SharedContriever(**text, training=adam),
        "contriever with a queue": SharedContriever(**text, contrast="moco", queue_size=32, training=adam),
        "align": SharedALIGN(TINY["encoder"], image_size=16, **pair, training=adam),
    }


def fitted(devices, images, texts):
    """What each learner ends with: losses of every step, and all weights and buffers."""
    found = {}
    for name, learner in systems(devices).items():
        data = {"align": {"image": images, "text": texts[: len(images)]}}.get(name)
        learner.fit(data or (texts if "contriever" in name else images))
        found |= ended_with(name, learner)
    return found


def ended_with(name, learner):
    losses = [row["loss"] for row in learner.history_ if "loss" in row]
    return {f"{name}/losses": torch.tensor(losses)} | {f"{name}/{k}": v for k, v in learner.net_.state_dict().items()}


def once(learner, rank, wanted):
    """Send the process of a rank a signal in the middle of a step."""
    loss, steps = learner.loss, iter(range(STEPS))

    def struck(net, views):
        if next(steps) == LAST and torch.distributed.get_rank() == rank:
            os.kill(os.getpid(), wanted)
        return loss(net, views)

    learner.loss = struck
    return learner


def gathered():
    """Rows of this rank and the slope of a loss of all rows, which every rank computes and which is then averaged."""
    rows = torch.arange(4.0).view(2, 2) + 10 * torch.distributed.get_rank()
    rows.requires_grad_()
    (gather(rows) * torch.arange(8.0).view(4, 2)).pow(2).sum().backward()
    return {"gathered/rows": rows.detach(), "gathered/slopes": rows.grad / 2}


def in_shards(images, folder):
    """SimCLR with its weights in shards; Ctrl-C reaches one process, both stop at that step and go on later."""
    made = [systems(2)["simclr"].set_params(training__strategy="fsdp") for _ in range(2)]
    try:
        once(made[0], 1, signal.SIGINT).fit(images, run=folder / "shards")
    except KeyboardInterrupt:
        learner = made[1].fit(images, run=folder / "shards", resume=True)
        return ended_with("simclr in shards", learner)
    raise AssertionError("nothing was interrupted")


def pairs_in_shards(images, texts):
    """ALIGN with its weights in shards, its temperature among them, which lies with one process alone."""
    learner = systems(2)["align"].set_params(training__strategy="fsdp")
    return ended_with("align in shards", learner.fit({"image": images, "text": texts[: len(images)]}))


def by_command(path):
    """A run that ``nolabel learn`` can go on with."""
    training = Training(3, batch_size=BATCH, lr=0.02, precision="32-true", devices=2, checkpoint_seconds=0.0)
    return SimCLR(**TINY, training=training), str(path)


def main(folder):
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell runs in the background
    images, texts = np.load(folder / "images.npy"), (folder / "texts.txt").read_text().splitlines()
    found = fitted(2, images, texts) | in_shards(images, folder) | pairs_in_shards(images, texts)
    learner, data = by_command(folder / "images.npy")
    found |= ended_with("unbroken", learner.fit(data))
    torch.save(found | gathered(), folder / f"{torch.distributed.get_rank()}.pt")
    once(by_command(data)[0], 1, signal.SIGKILL).fit(data, run=folder / "run")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
