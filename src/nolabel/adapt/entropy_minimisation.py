"""Entropy minimisation: make a classifier sure of what it says of the target.

    D = mean_i entropy(softmax(W f(z_i) + b)),   z target images

Grandvalet & Bengio, "Semi-supervised learning by entropy minimization", NeurIPS 2004; for domain adaptation e.g. in Vu et
al., "ADVENT", CVPR 2019, arXiv:1811.12833.
"""

from typing import Any

from torch import Tensor

from nolabel.adapt.domain_adapter import DomainAdapter
from nolabel.objectives.entropy import mean_entropy


class EntropyMinimisation(DomainAdapter):
    """Adapt an image classifier by making it certain on the target.

    Use it where most predictions are right already: it strengthens what the model believes, wrong or right. With a large
    trade-off it calls everything one class, at an entropy of 0.

    Parameters and attributes are those of `DomainAdapter`.

    Examples
    --------
    >>> import numpy as np
    >>> from nolabel.data import load
    >>> from nolabel.training import Training
    >>> digits = load("digits")
    >>> pictures = [255 - np.asarray(image, np.uint8) // 2 for image in digits["image"]]  # paler, ink on paper
    >>> adapter = EntropyMinimisation("conv4-x0.25", training=Training(steps=2, batch_size=16))
    >>> adapter.fit({"source": digits, "target": np.stack(pictures)}).predict(pictures[:3]).shape
    (3,)
    """

    def adaptation(self, net: Any, source: Tensor, target: Tensor, logits: Tensor) -> Tensor:
        return mean_entropy(logits.softmax(dim=1))
