"""Deep CORAL: bring the covariance of target features to that of source features.

    D = |C_source - C_target|_F ** 2 / (4 d ** 2)

Sun & Saenko, "Deep CORAL: correlation alignment for deep domain adaptation", ECCV 2016 workshops, arXiv:1607.01719.
Difference: the features before the last layer are aligned, not its outputs.
"""

from typing import Any

from torch import Tensor

from nolabel.adapt.domain_adapter import DomainAdapter
from nolabel.objectives.domains import coral


class CORAL(DomainAdapter):
    """Adapt an image classifier by aligning the covariances of features.

    Use it where domains differ in style or sensor and have the same classes in like shares. It is the mildest of the
    adapters: it hardly harms, and does little where the difference is not one of second moments.

    Parameters and attributes are those of `DomainAdapter`. The term is small for wide features, since it is divided by
    4 dim ** 2; trade-offs far above 1 are common.

    Examples
    --------
    >>> import numpy as np
    >>> from nolabel.data import load
    >>> from nolabel.training import Training
    >>> digits = load("digits")
    >>> pictures = [255 - np.asarray(image, np.uint8) // 2 for image in digits["image"]]  # paler, ink on paper
    >>> adapter = CORAL("conv4-x0.25", training=Training(steps=2, batch_size=16))
    >>> adapter.fit({"source": digits, "target": np.stack(pictures)}).predict(pictures[:3]).shape
    (3,)
    """

    def adaptation(self, net: Any, source: Tensor, target: Tensor, logits: Tensor) -> Tensor:
        return coral(source, target)
