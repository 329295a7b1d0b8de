"""Networks that turn images into vectors and maps: small ones to train, pre-trained ones by name, and any module."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "build": ["build"],
        "conv4": ["Conv4"],
        "encoder": ["Encoder"],
        "heads": ["LearnedTemperature", "Prototypes", "projection_head"],
        "maps": ["map_head"],
        "nin": ["NIN"],
        "pretrained": ["HuggingFace", "Timm", "Wrapped"],
        "resnet": ["ResNet"],
        "vector_vae": ["VectorVAE"],
        "vit": ["ViT"],
    },
)
