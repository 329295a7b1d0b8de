"""Find wrong labels and strangers, and learn in spite of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "by_shards": ["suspects_by_shards"],
        "detection": ["Detection", "detect_noise"],
        "lsa": ["LSAClassifier"],
    },
)
