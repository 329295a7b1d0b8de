"""Learn a representation: one published system a file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "autoencoder": ["DenoisingAutoencoder"],
        "beclr": ["BECLR"],
        "controls": ["RawPixels", "Untrained"],
        "g_simclr": ["GSimCLR"],
        "instance_discrimination": ["InstanceDiscrimination"],
        "matryoshka": ["AdaptiveClassifier", "MatryoshkaClassifier"],
        "obow": ["OBoW"],
        "opta": ["OpTAClassifier"],
        "pixpro": ["PixPro"],
        "rotnet": ["RotNet"],
        "sepclr": ["SepCLR"],
        "sie": ["SIE"],
        "simclr": ["SimCLR"],
        "swav": ["SwAV"],
    },
)
