"""Deep adaptation network: make features of source and target alike under several Gaussian kernels.

    D = MMD ** 2 of source and target features, under a mean of kernels of several widths

Long, Cao, Wang & Jordan, "Learning transferable features with deep adaptation networks", ICML 2015, arXiv:1502.02791.
Differences: one layer, the features before the last, is adapted; kernels weigh the same.
"""

from typing import Any

from torch import Tensor

from nolabel.adapt.domain_adapter import DomainAdapter
from nolabel.objectives.domains import multi_kernel_mmd


class MMD(DomainAdapter):
    """Adapt an image classifier by matching the distributions of features (DAN).

    Use it where domains have the same classes in like shares: with other shares it pulls classes onto one another.

    Parameters and attributes are those of `DomainAdapter`.

    Examples
    --------
    >>> import numpy as np
    >>> from nolabel.data import load
    >>> from nolabel.training import Training
    >>> digits = load("digits")
    >>> pictures = [255 - np.asarray(image, np.uint8) // 2 for image in digits["image"]]  # paler, ink on paper
    >>> adapter = MMD("conv4-x0.25", training=Training(steps=2, batch_size=16))
    >>> adapter.fit({"source": digits, "target": np.stack(pictures)}).predict(pictures[:3]).shape
    (3,)
    """

    def adaptation(self, net: Any, source: Tensor, target: Tensor, logits: Tensor) -> Tensor:
        return multi_kernel_mmd(source, target)
