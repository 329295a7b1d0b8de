"""Adapt a learned model to data of another domain that nobody labelled."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bn_statistics": ["adapt_bn_statistics"],
        "coral": ["CORAL"],
        "dann": ["DANN"],
        "entropy_minimisation": ["EntropyMinimisation"],
        "mmd": ["MMD"],
        "osuda": ["SourceFreeAdapter"],
    },
)
