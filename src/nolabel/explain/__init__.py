"""Say what a learned model looks at."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"concepts": ["ConceptExplainer"]})
