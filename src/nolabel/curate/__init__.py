"""Take the noise out of crawled data before anything is learned from it: one published system a file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "noisy_text_filter": ["NoisyTextFilter"],
    },
)
