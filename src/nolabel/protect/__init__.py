"""Take data back out of a learned model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"laf": ["LabelAgnosticForgetting"]})
