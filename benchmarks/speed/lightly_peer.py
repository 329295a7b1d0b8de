"""lightly's SimCLR, SwAV and BYOL as its examples run them, timed on request: the other side of `peer.Peer`.

Run by the peer's Python, with nothing of nolabel. Requests and answers are lines of JSON on standard input and output.
``time``: whole steps over a slot of time, with data loading and views. ``train``: a budget of minutes, then features.

As in examples/pytorch/simclr.py, swav.py and byol.py: torchvision's ResNet-18, one forward pass a view and network,
SGD(0.06) and batch 256 or Adam(0.001), default colour jitter, no blur for 32 x 32. ``equal`` names a
precision, bfloat16 or float32, and adds what nolabel also uses: that precision (by autocast) and channels-last; it is empty for
the example as it is. ``stem="small"`` is the usual change for CIFAR: a 3 x 3 convolution with stride 1 and no pooling.
"""

import contextlib
import copy
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models.modules import (
    BYOLPredictionHead,
    BYOLProjectionHead,
    SimCLRProjectionHead,
    SwaVProjectionHead,
    SwaVPrototypes,
)
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform, SimCLRTransform, SwaVTransform
from lightly.transforms.utils import IMAGENET_NORMALIZE
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from benchmarks.speed.slots import Slot, serve

KEYS = ("method", "stem", "equal", "photos", "batch_size", "seed")  # of a request, what makes the job
MOMENTUM = 0.996  # of BYOL's target, where its schedule starts


class Net(nn.Module):
    def __init__(self, method, stem):
        super().__init__()
        resnet = torchvision.models.resnet18()
        if stem == "small":
            resnet.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            resnet.maxpool = nn.Identity()
        self.backbone = nn.Sequential(*list(resnet.children())[:-1])
        if method == "simclr":
            self.head = SimCLRProjectionHead(512, 512, 128)
        elif method == "swav":
            self.head, self.prototypes = SwaVProjectionHead(512, 512, 128), SwaVPrototypes(128, n_prototypes=512)
        else:
            self.head, self.predictor = BYOLProjectionHead(512, 1024, 256), BYOLPredictionHead(256, 1024, 256)
            self.target = copy.deepcopy(nn.ModuleList([self.backbone, self.head]))
            deactivate_requires_grad(self.target)
        self.method = method

    def forward(self, x):
        z = self.head(self.backbone(x).flatten(start_dim=1))
        if self.method == "swav":
            return self.prototypes(nn.functional.normalize(z, dim=1))
        return self.predictor(z) if self.method == "byol" else z

    @torch.no_grad()
    def momentum(self, x):
        backbone, head = self.target
        return head(backbone(x).flatten(start_dim=1))


class Job:
    """One method with its data, network, loss and optimiser."""

    def __init__(self, *, method, stem, equal, photos, batch_size, seed=0):
        torch.manual_seed(seed)
        self.method, self.equal, self.batch_size = method, equal, batch_size
        if method == "swav":
            transform = SwaVTransform(crop_sizes=(32, 16), crop_counts=(2, 6), gaussian_blur=0.0)
        elif method == "simclr":
            transform = SimCLRTransform(input_size=32, gaussian_blur=0.0)
        else:
            views = (view(input_size=32, gaussian_blur=0.0) for view in (BYOLView1Transform, BYOLView2Transform))
            transform = BYOLTransform(*views)
        self.data = LightlyDataset(photos, transform=transform)
        self.net = Net(method, stem)
        if equal:
            self.net.to(memory_format=torch.channels_last)
        self.criterion = {"simclr": NTXentLoss, "swav": SwaVLoss, "byol": NegativeCosineSimilarity}[method]()
        parameters = self.net.parameters()
        if method == "swav":
            self.optimiser = torch.optim.Adam(parameters, lr=0.001)
        else:
            self.optimiser = torch.optim.SGD(parameters, lr=0.06)
        self.total = 0.0

    def loader(self, workers):
        return torch.utils.data.DataLoader(
            self.data, batch_size=self.batch_size, shuffle=True, drop_last=True, num_workers=workers
        )

    def outputs(self, net, views):
        if not self.equal:
            return [net(view) for view in views]
        views = [view.to(memory_format=torch.channels_last) for view in views]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.equal == "bfloat16"):
            found = [net(view) for view in views]
        return [z.float() for z in found]

    def step(self, batch):
        views = batch[0]
        if self.method == "swav":
            self.net.prototypes.normalize()
            z = self.outputs(self.net, views)
            loss = self.criterion(z[:2], z[2:])
        elif self.method == "simclr":
            loss = self.criterion(*self.outputs(self.net, views[:2]))
        else:
            for own, target in zip((self.net.backbone, self.net.head), self.net.target):
                update_momentum(own, target, m=MOMENTUM)
            p = self.outputs(self.net, views)
            z = self.outputs(self.net.momentum, views)
            loss = 0.5 * (self.criterion(p[0], z[1]) + self.criterion(p[1], z[0]))
        self.total += loss.detach()
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()


def time_slot(job, *, workers, warm, seconds):
    """Steps over at least `seconds`, after at least `warm` seconds and one step that do not count."""
    slot = Slot(job.loader(workers), warm=warm, seconds=seconds)
    for batch in slot:
        job.step(batch)
    return {**slot.measured, "images": slot.measured["steps"] * job.batch_size}


def train(job, *, workers, minutes):
    """As many steps as fit into the minutes."""
    begun, steps, loader = time.perf_counter(), 0, job.loader(workers)
    with contextlib.closing(batch for _ in iter(int, 1) for batch in loader) as batches:
        while time.perf_counter() - begun < 60 * minutes:
            job.step(next(batches))
            steps += 1
    return {"steps": steps, "images": steps * job.batch_size, "seconds": time.perf_counter() - begun}


@torch.no_grad()
def features(net, folder):
    """(n, 512): what the head is given, for the images of a folder in the order of their names."""
    prepare = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(**IMAGENET_NORMALIZE)],
    )
    net.eval()
    files, found = sorted(Path(folder).iterdir()), []
    for start in range(0, len(files), 500):
        images = [prepare(Image.open(file).convert("RGB")) for file in files[start : start + 500]]
        found.append(net.backbone(torch.stack(images)).flatten(start_dim=1).numpy())
    return np.concatenate(found)


class Jobs:
    """The job of the last request: a timed network goes on, a trained one starts afresh."""

    def __init__(self):
        self.job, self.made = None, None

    def answer(self, do, **request):
        wanted = {key: request.pop(key) for key in KEYS if key in request}
        if wanted != self.made or do == "train":
            self.job, self.made = Job(**wanted), wanted
        if do == "time":
            return time_slot(self.job, **request)
        folders = request.pop("encode")
        answer = train(self.job, **request)
        for folder, file in folders.items():
            np.save(file, features(self.job.net, folder))
        self.made = None
        return answer


if __name__ == "__main__":
    serve(Jobs().answer)
