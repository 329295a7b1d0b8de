"""Sort documents into topics that nobody labelled: one published system a file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "latent_label_shift": ["DomainsLookAlike", "LatentLabelShift"],
        "lbl2transformervec": ["Lbl2TransformerVec"],
        "lbl2vec": ["Lbl2Vec"],
    },
)
