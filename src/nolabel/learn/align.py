"""ALIGN: images and their alt-texts in one space, however noisy the texts are.

Two encoders without anything between them and the loss but one linear layer, from the start token of a text to the width of the
image features. With cosines over a temperature t, N pairs in a batch and label smoothing e,

    L = -1/N sum_i log softmax_j( v_i.u_j / t )_i - 1/N sum_i log softmax_j( v_j.u_i / t )_i,

where each target spreads e over all candidates, and t is learned. Simple rules alone clean the pairs beforehand
(`nolabel.curate.NoisyTextFilter`). The space answers texts, images, and sums of both: v(image) + w u(text).

Jia, Yang, Xia, Chen, Parekh, Pham, Le, Sung, Li & Duerig, "Scaling up visual and vision-language representation learning
with noisy text supervision", ICML 2021, arXiv:2102.05918. Differences: small encoders, AdamW instead of LAMB, a temperature that
starts at 0.1, for from 1 short runs learn slowly, and stays within [0.01, 1].
"""

from typing import Any

from torch import Tensor, nn

from nolabel.encoders import LearnedTemperature
from nolabel.learn.dual_encoder import DualEncoder
from nolabel.objectives import image_text_contrast
from nolabel.training import Clock, Training, gather
from nolabel.training.pairs import IMAGE, TEXT
from nolabel.views.recipes import Recipe


class ALIGN(DualEncoder):
    """Learn from many images with noisy texts to search by text, by image or by both, and to classify by names alone.

    Use it with alt-texts, captions or titles; more noisy pairs beat fewer clean ones once there are several times as many.
    For reports of several sentences see `ConVIRT`; for results that say which words carried them, `CrossModalVDR`.

    Parameters
    ----------
    encoder : of images, a name or ``nn.Module`` (the paper: EfficientNet-L2); ``-signed`` leaves features both signs
    text_encoder : ``bert-tiny``, ``bert-1x128``, ... from random weights, or ``hf:`` / ``st:`` and a name
    temperature : at first; it is learned
    label_smoothing : share of a target that is spread over all candidates, in [0, 1)
    augment : recipe of the views of images: a name or a callable ``(images, generator) -> images``
    vocabulary_size : word pieces learned from the texts (paper: 100,000); of no effect where the encoder brings a tokeniser
    max_length : tokens a text is cut to
    image_size : side of the images the network sees; ``None`` chooses by the data
    training : how long and on what to train

    Attributes
    ----------
    temperature_ : what was learned

    Notes
    -----
    `fit` takes a table with the columns ``image`` and ``text``, such as ``{"image": images, "text": captions}``; a cell may
    hold several texts, of which each epoch draws one.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).random((32, 3, 24, 24))
    >>> captions = ["a red shoe", "a blue bag", "one green shirt", "the black dress"] * 8
    >>> settings = Training(steps=2, batch_size=16)
    >>> model = ALIGN("conv4", text_encoder="bert-1x32", vocabulary_size=120, training=settings)
    >>> model = model.fit({"image": images, "text": captions})
    >>> model.zero_shot(images, ["shoe", "bag", "shirt"], ["a {}", "one {}"]).shape
    (32, 3)
    >>> ids, cosines = model.search(model.compose(images[:2], "blue", weight=0.5), images, k=3)
    """

    recipe = {"optimiser": "adamw", "lr": 1e-3, "weight_decay": 1e-5, "batch_size": 256}  # noqa: RUF012

    # from random weights the start token says so little about a text at first that dropout would drown it
    text_dropout = 0.0

    temperature_: float

    def __init__(
        self,
        encoder: str | nn.Module = "resnet10-x0.5-signed",
        *,
        text_encoder: str = "bert-2x128",
        temperature: float = 0.1,
        label_smoothing: float = 0.1,
        augment: Recipe | str = "align",
        vocabulary_size: int = 8000,
        max_length: int = 64,
        image_size: int | None = None,
        training: Training | None = None,
    ) -> None:
        self.encoder = encoder
        self.text_encoder = text_encoder
        self.temperature = temperature
        self.label_smoothing = label_smoothing
        self.augment = augment
        self.vocabulary_size = vocabulary_size
        self.max_length = max_length
        self.image_size = image_size
        self.training = training

    @property
    def text_pooling(self) -> str:
        return "start"

    def check(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing!r}")
        LearnedTemperature(self.temperature)

    def build(self, example: dict[str, Any]) -> nn.Module:
        net = self.make_towers(example)
        net.head = nn.Identity()
        net.text_head = nn.Linear(net.text_encoder.dim, net.encoder.dim)
        net.temperature = LearnedTemperature(self.temperature)
        return net

    def loss(self, net: Any, views: dict[str, Any]) -> dict[str, Tensor]:
        return image_text_contrast(
            gather(self.image_vectors(net, views[IMAGE])),
            gather(self.text_vectors(net, views[TEXT])),
            temperature=net.temperature(),
            weights=(1.0, 1.0),
            label_smoothing=self.label_smoothing,
        )

    def after_step(self, net: Any, clock: Clock) -> None:
        net.temperature.clamp_()

    def finish(self, source: Any) -> None:
        net: Any = self.net_
        self.temperature_ = net.temperature().item()
