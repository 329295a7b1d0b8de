"""Corpora of many shards: read, mapped and judged shard by shard, on this machine or on a Ray cluster."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "embedding": ["Embedding"],
        "engine": ["each"],
        "mapping": ["Made", "map_corpus"],
        "scores": ["Summary", "summarise"],
        "shards": ["Corpus", "Shard", "is_corpus", "open_corpus"],
    },
)
