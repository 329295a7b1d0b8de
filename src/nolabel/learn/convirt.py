"""ConVIRT: images learn from the reports written about them.

A view v of an image and one sentence u of its text, drawn anew each time, go through an encoder and a head of two layers each.
With cosines s over a fixed temperature, and N pairs in a batch,

    L = 1/N sum_i [ w * -log softmax_j( s(v_i, u_j) )_i + (1 - w) * -log softmax_j( s(v_j, u_i) )_i ].

Images are told from images, and texts from texts, only through the other side. What is used afterwards is the encoder of
images; the space after the heads serves the search by text.

Zhang, Jiang, Miura, Manning & Langlotz, "Contrastive learning of medical visual representations from paired images and
text", MLHC 2022, arXiv:2010.00747. Differences: small encoders from random weights by default (the paper: ResNet-50 from ImageNet
and ClinicalBERT, whose first six layers stay as they are: `frozen_layers`); a fixed schedule instead of halving the rate when
validation stalls.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nolabel.encoders import projection_head
from nolabel.learn.dual_encoder import DualEncoder
from nolabel.objectives import image_text_contrast
from nolabel.training import Training, gather
from nolabel.training.pairs import IMAGE, TEXT
from nolabel.views.recipes import Recipe


class ConVIRT(DualEncoder):
    """Learn features of images from texts that describe them: few labels suffice afterwards.

    Use it where every image has a text of some sentences, such as a report or a description, and labels are few. For noisy
    alt-texts see `ALIGN`.

    Parameters
    ----------
    encoder : of images, a name or ``nn.Module``
    text_encoder : ``bert-tiny``, ``bert-1x128``, ... from random weights, or ``hf:`` / ``st:`` and a name
    dim : width of the shared space
    temperature : of the softmax
    image_weight : w above, in [0, 1], of images that single out their texts; texts have the rest
    sentences : draw one sentence of a text at a time; False: read texts whole
    equal_texts : whether another image with the very same sentence is a negative, as in the paper, or is left out
    frozen_layers : first layers of a pre-trained text encoder, with its table of words, that are not trained
    augment : recipe of the views of images: a name or a callable ``(images, generator) -> images``
    vocabulary_size : word pieces learned from the texts; of no effect where the encoder brings a tokeniser
    max_length : tokens a text is cut to
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Notes
    -----
    `fit` takes a table with the columns ``image`` and ``text``, such as ``{"image": images, "text": reports}``.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).random((32, 3, 24, 24))
    >>> reports = ["A red shoe. It is new.", "A blue bag. It has two handles.", "One green shirt.", "The black dress."] * 8
    >>> settings = Training(steps=2, batch_size=16)
    >>> model = ConVIRT("conv4", text_encoder="bert-1x32", vocabulary_size=120, training=settings)
    >>> model = model.fit({"image": images, "text": reports})
    >>> model.transform(images).shape, model.search(["a shoe"], images, k=3)[0].shape
    ((32, 64), (1, 3))
    """

    recipe = {"optimiser": "adamw", "lr": 1e-3, "weight_decay": 1e-6, "batch_size": 128}  # noqa: RUF012

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5",
        *,
        text_encoder: str = "bert-2x128",
        dim: int = 128,
        temperature: float = 0.1,
        image_weight: float = 0.75,
        sentences: bool = True,
        equal_texts: bool = True,
        frozen_layers: int = 0,
        augment: Recipe | str = "convirt",
        vocabulary_size: int = 8000,
        max_length: int = 64,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.text_encoder = text_encoder
        self.dim = dim
        self.temperature = temperature
        self.image_weight = image_weight
        self.sentences = sentences
        self.equal_texts = equal_texts
        self.frozen_layers = frozen_layers
        self.augment = augment
        self.vocabulary_size = vocabulary_size
        self.max_length = max_length
        self.image_size = image_size
        self.training = training

    @property
    def text_pooling(self) -> str:
        return "max"

    def check(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature!r}")
        if not 0 <= self.image_weight <= 1:
            raise ValueError(f"image_weight must lie in [0, 1], got {self.image_weight!r}")
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, got {self.dim!r}")

    def build(self, example: dict[str, Any]) -> nn.Module:
        net = self.make_towers(example)
        image, text = net.encoder.dim, net.text_encoder.dim
        net.head = projection_head(image, image, self.dim, norm=False)
        net.text_head = projection_head(text, text, self.dim, norm=False)
        if self.frozen_layers:
            net.text_encoder.freeze(self.frozen_layers)
        return net

    def loss(self, net: Any, views: dict[str, Any]) -> dict[str, Tensor]:
        v = gather(self.image_vectors(net, views[IMAGE]))  # (b, d)
        u = gather(self.text_vectors(net, views[TEXT]))
        texts = None if self.equal_texts else gather(fingerprints(views[TEXT]))
        return image_text_contrast(
            v,
            u,
            temperature=self.temperature,
            weights=(self.image_weight, 1 - self.image_weight),
            groups=texts,
        )


def fingerprints(text: dict[str, Tensor]) -> Tensor:
    """A number for each text that equal texts share, int64 (b,), whatever the padding: a polynomial modulo 2^64.

    >>> rows = {"tokens": torch.tensor([[2, 7, 3], [2, 8, 3], [2, 7, 3]]), "mask": torch.ones(3, 3, dtype=torch.bool)}
    >>> numbers = fingerprints(rows)
    >>> (numbers == numbers[0]).tolist()
    [True, False, True]
    """
    tokens = text["tokens"] * text["mask"]
    powers = torch.full((tokens.shape[1],), 6364136223846793005, device=tokens.device).cumprod(dim=0)
    return (tokens * powers).sum(dim=1)
