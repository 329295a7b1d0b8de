"""torchvision v2 and kornia, timed on request: the other side of `peer.Peer` for `photographs`.

Run by the peers' Python, with nothing of nolabel. Both make the two views of SimCLR at 96 pixels: crop of at least 8 %, flip,
jitter of 0.8, 0.8, 0.8, 0.2 with probability 0.8, grey with 0.2, blur with 0.5 and a width of 0.1 to 2 pixels of 224, carried
over.
"""

import time
from pathlib import Path

import kornia
import kornia.augmentation as K
import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from benchmarks.speed.slots import serve

KERNEL = 5  # pixels of the blur: three widths to both sides at 96


def v2_view(side):
    sigma = (0.1 * side / 224, 2.0 * side / 224)
    return v2.Compose(
        [
            v2.RandomResizedCrop(side, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(KERNEL, sigma)], p=0.5),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )


def kornia_view(side):
    sigma = (0.1 * side / 224, 2.0 * side / 224)
    return torch.nn.Sequential(
        K.RandomResizedCrop((side, side), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((KERNEL, KERNEL), sigma, p=0.5),
    )


class Photographs(torch.utils.data.Dataset):
    """uint8 tensors, or two views of each."""

    def __init__(self, folder, view=None):
        self.files, self.view, self.decode = sorted(Path(folder).iterdir()), view, v2.PILToTensor()

    def __len__(self):
        return len(self.files)

    def __getitem__(self, number):
        image = self.decode(Image.open(self.files[number]).convert("RGB"))
        return (self.view(image), self.view(image)) if self.view else image


@torch.no_grad()
def epoch(kind, photos, side, batch_size, workers):
    whole = 64 if kind == "kornia" else batch_size  # photographs of full size in floats: more at once is slower
    data = Photographs(photos, v2_view(side) if kind == "v2" else None)
    view, count = kornia_view(side), 0
    start = time.perf_counter()
    for batch in torch.utils.data.DataLoader(data, batch_size=whole, shuffle=True, num_workers=workers):
        if kind == "kornia":
            batch = batch.float() / 255
            batch = view(batch), view(batch)
        count += len(batch[0])
    return {"seconds": time.perf_counter() - start, "images": count}


@torch.no_grad()
def in_memory(kind, images, side):
    start = time.perf_counter()
    if kind == "v2":
        view = v2_view(side)
        for _ in range(2):
            torch.stack([view(image) for image in images])
    else:
        view = kornia_view(side)
        for _ in range(2):
            view(images.float() / 255)
    return {"seconds": time.perf_counter() - start}


def answer(do, photos, decoded, side, batch_size, kind=None, workers=0):
    if do == "versions":
        return {"torchvision": torchvision.__version__, "kornia": kornia.__version__}
    if do == "memory":
        return in_memory(kind, torch.from_numpy(np.load(decoded)), side)
    return epoch(kind, photos, side, batch_size, workers)


if __name__ == "__main__":
    serve(answer)
