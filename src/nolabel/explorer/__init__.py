"""Floor 4: a page on this machine where a person looks at a run, searches it and marks what is in it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"app": ["create_app"], "opened": ["OpenRun"], "serving": ["serve"]},
)
