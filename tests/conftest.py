"""What many tests learn from."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's digits: uint8 (1797, 8, 8) and their labels, in random order."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[order]
    images.flags.writeable = False
    return images, data.target[order]


@pytest.fixture(scope="session")
def docstrings():
    """What some modules of the standard library say of themselves: some hundred texts that are always there."""
    from nolabel.data import load

    packages = (
        "asyncio",
        "unittest",
        "email",
        "http",
        "logging",
        "urllib",
        "pathlib",
        "threading",
        "datetime",
        "statistics",
    )
    table = load("docstrings")
    chosen = (text for module, text in zip(table["module"], table["text"]) if module.split(".")[0] in packages)
    texts = dict.fromkeys(" ".join(text.split()) for text in chosen)
    return [text for text in texts if len(text.split()) > 5][:800]
