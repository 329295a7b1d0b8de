"""The authors' own code of SwAV and PixPro, timed on request: the other side of `peer.Peer`.

NOLABEL_AUTHORS names a folder with two checkouts (see requirements.txt). Their networks, data sets, views, losses, optimisers
and training loops are called as they stand, in float32, by one process of a group of one. What does not run without CUDA is
replaced: ``Tensor.cuda`` gives the tensor itself, batch norm is not synchronised, and the packages apex, pycocotools and
tensorboard, of which nothing is used here, are empty. Two settings differ from theirs, so that both sides train a ResNet-18:
SwAV's network is put together out of its file's own basic blocks, with the heads of the other arms, and PixPro's heads read 512
channels where they have 2048 written in. SwAV takes plain SGD, as its LARC belongs to apex.
"""

import argparse
import importlib
import os
import sys
import types
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torchvision.datasets.folder import pil_loader

from benchmarks.speed.slots import Slot, serve

ABSENT = ("apex", "apex.parallel", "apex.parallel.LARC", "pycocotools", "pycocotools.coco", "torch.utils.tensorboard")


def on_the_cpu():
    torch.Tensor.cuda = lambda tensor, *args, **options: tensor
    torch.nn.SyncBatchNorm.convert_sync_batchnorm = lambda module: module
    for name in ABSENT:
        module = sys.modules[name] = types.ModuleType(name)
        module.amp = module.LARC = module.COCO = module.SummaryWriter = None
    if not dist.is_initialized():
        dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)


def checkout(name):
    folder = Path(os.environ["NOLABEL_AUTHORS"]) / name
    sys.path.insert(0, str(folder))
    return folder


class SwAV:
    def __init__(self, *, photos, batch_size, side):
        checkout("swav")
        self.code, resnet = (importlib.import_module(name) for name in ("main_swav", "src.resnet50"))
        crops = {"size_crops": [side, side // 2], "nmb_crops": [2, 6]}
        crops |= {"min_scale_crops": [0.14, 0.05], "max_scale_crops": [1.0, 0.14]}
        self.code.args = self.code.parser.parse_args([])
        vars(self.code.args).update(
            crops, use_fp16=False, rank=1, world_size=1, freeze_prototypes_niters=0
        )  # rank 0 logs
        self.batch_size = batch_size
        multi_crop = importlib.import_module("src.multicropdataset").MultiCropDataset
        self.data = multi_crop(str(Path(photos).parent), *crops.values())
        net = resnet.ResNet(
            resnet.BasicBlock, [2, 2, 2, 2], normalize=True, hidden_mlp=512, output_dim=128, nmb_prototypes=512
        )
        self.net = DistributedDataParallel(net)
        self.optimiser = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-6)

    def loader(self, workers):
        sampler = torch.utils.data.distributed.DistributedSampler(self.data)
        return torch.utils.data.DataLoader(
            self.data, sampler=sampler, batch_size=self.batch_size, num_workers=workers, drop_last=True
        )

    def train(self, slot):
        self.code.train(slot, self.net, self.optimiser, 0, [0.01] * len(slot), None)


class PixPro:
    def __init__(self, *, photos, batch_size, side):
        checkout("PixPro")
        sys.argv = [
            *("main_pretrain.py", "--model", "PixPro", "--arch", "resnet18", "--head-type", "early_return"),
            *("--aug", "BYOL", "--crop", "0.08", "--image-size", str(side), "--batch-size", str(batch_size)),
            *("--pixpro-p", "2", "--pixpro-transform-layer", "1", "--optimizer", "lars", "--base-lr", "1.0"),
            *("--weight-decay", "1e-5", "--amp-opt-level", "O0", "--local_rank", "0"),
            *("--data-dir", str(Path(photos).parents[1]), "--print-freq", "1000000"),
        ]
        self.code = importlib.import_module("main_pretrain")
        self.args = self.code.parse_option(stage="pre-train")
        self.code.logger = self.code.setup_logger(output=None, distributed_rank=1, name="contrast")  # 1: says nothing
        self.args.num_instances = len(list(Path(photos).iterdir()))
        written = importlib.import_module("contrast.models.PixPro")
        written.Proj_Head.__defaults__ = (512, 4096, 256)
        net = written.PixPro(self.code.resnet.resnet18, self.args)
        self.optimiser = torch.optim.SGD(
            self.code.add_weight_decay(net, self.args.weight_decay), lr=batch_size / 256, momentum=self.args.momentum
        )
        self.optimiser = self.code.LARS(self.optimiser)
        self.net = DistributedDataParallel(net, broadcast_buffers=False)

    def loader(self, workers):
        self.args.num_workers = workers
        loader = self.code.get_loader(self.args.aug, self.args, two_crop=True, prefix="train", return_coord=True)
        loader.dataset.loader = pil_loader  # theirs closes the file too early for today's Pillow
        return loader

    def train(self, slot):
        unscheduled = argparse.Namespace(step=lambda: None)
        self.code.train(1, slot, self.net, self.optimiser, unscheduled, self.args, None)


class Jobs:
    def __init__(self):
        on_the_cpu()
        self.job, self.made = None, None

    def answer(self, do, method, photos, batch_size, side, workers, warm, seconds):
        made = (method, photos, batch_size, side)
        if made != self.made:
            torch.manual_seed(0)
            self.job = {"swav": SwAV, "pixpro": PixPro}[method](photos=photos, batch_size=batch_size, side=side)
            self.made = made
        slot = Slot(self.job.loader(workers), warm=warm, seconds=seconds)
        self.job.train(slot)
        return {**slot.measured, "images": slot.measured["steps"] * batch_size}


if __name__ == "__main__":
    serve(Jobs().answer)
