"""Learn a representation: one published system a file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "align": ["ALIGN"],
        "attribute_extractor": ["AttributeExtractor"],
        "autoencoder": ["DenoisingAutoencoder"],
        "beclr": ["BECLR"],
        "binary_paragraph_vector": ["BinaryParagraphVector"],
        "contriever": ["Contriever"],
        "convirt": ["ConVIRT"],
        "controls": ["RawPixels", "Untrained"],
        "disambiguated_skip_gram": ["DisambiguatedSkipGram"],
        "dom_lm": ["DomLM"],
        "g_simclr": ["GSimCLR"],
        "html_qa": ["HtmlQA"],
        "infomgf": ["InfoMGF"],
        "instance_discrimination": ["InstanceDiscrimination"],
        "matryoshka": ["AdaptiveClassifier", "MatryoshkaClassifier"],
        "msn": ["MSN"],
        "obow": ["OBoW"],
        "open_ie": ["OpenIE"],
        "opta": ["OpTAClassifier"],
        "pixpro": ["PixPro"],
        "rotnet": ["RotNet"],
        "rspnet": ["RSPNet"],
        "sepclr": ["SepCLR"],
        "sie": ["SIE"],
        "simclr": ["SimCLR"],
        "swav": ["SwAV"],
        "url_heads": ["MultiTaskUrlClassifier", "UrlClassifier"],
        "urlbert": ["UrlEncoder"],
        "vdr": ["VDR"],
        "vdr_cross_modal": ["CrossModalVDR"],
    },
)
