"""Domain-adversarial training: learn features from which a discriminator cannot tell source from target.

    D = logistic loss of a discriminator on features whose gradient is turned round on its way to the encoder

so that the discriminator descends it and the encoder climbs it. The turned gradient grows with the share p of the run that
is done: its strength is ``2 / (1 + exp(-10 p)) - 1``.

Ganin et al., "Domain-adversarial training of neural networks", JMLR 2016, arXiv:1505.07818.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from nolabel.adapt.domain_adapter import DomainAdapter
from nolabel.encoders import projection_head
from nolabel.objectives.domains import domain_adversarial, reverse_gradient
from nolabel.training.clock import Clock

#: Width of the discriminator's hidden layers.
HIDDEN = 256


class DANN(DomainAdapter):
    """Adapt an image classifier against a discriminator of domains.

    Use it where domains differ more than covariances say. It is the least steady of the adapters: compare several trade-offs
    and epochs.

    Parameters and attributes are those of `DomainAdapter`; the trade-off scales the discriminator's own loss as well.

    Examples
    --------
    >>> import numpy as np
    >>> from nolabel.data import load
    >>> from nolabel.training import Training
    >>> digits = load("digits")
    >>> pictures = [255 - np.asarray(image, np.uint8) // 2 for image in digits["image"]]  # paler, ink on paper
    >>> adapter = DANN("conv4-x0.25", training=Training(steps=2, batch_size=16))
    >>> adapter.fit({"source": digits, "target": np.stack(pictures)}).predict(pictures[:3]).shape
    (3,)
    """

    def build(self, example: dict[str, Any]) -> nn.Module:
        net: Any = super().build(example)
        net.discriminator = projection_head(net.encoder.dim, HIDDEN, 1, layers=3)
        return net

    def before_step(self, net: Any, clock: Clock) -> None:
        net.reversal = 2 / (1 + math.exp(-10 * clock.fraction)) - 1

    def adaptation(self, net: Any, source: Tensor, target: Tensor, logits: Tensor) -> Tensor:
        both = reverse_gradient(torch.cat([source, target]), net.reversal)
        told = net.discriminator(both).float()
        return domain_adversarial(told[: len(source)], told[len(source) :])
