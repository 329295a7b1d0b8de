"""Learn a representation: one published system a file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "autoencoder": ["DenoisingAutoencoder"],
        "beclr": ["BECLR"],
        "binary_paragraph_vector": ["BinaryParagraphVector"],
        "contriever": ["Contriever"],
        "controls": ["RawPixels", "Untrained"],
        "disambiguated_skip_gram": ["DisambiguatedSkipGram"],
        "g_simclr": ["GSimCLR"],
        "instance_discrimination": ["InstanceDiscrimination"],
        "matryoshka": ["AdaptiveClassifier", "MatryoshkaClassifier"],
        "msn": ["MSN"],
        "obow": ["OBoW"],
        "opta": ["OpTAClassifier"],
        "pixpro": ["PixPro"],
        "rotnet": ["RotNet"],
        "sepclr": ["SepCLR"],
        "sie": ["SIE"],
        "simclr": ["SimCLR"],
        "swav": ["SwAV"],
        "vdr": ["VDR"],
        "vdr_cross_modal": ["CrossModalVDR"],
    },
)
