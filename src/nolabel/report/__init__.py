"""The report of a run: one HTML file that opens anywhere, without a network."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "sheets": ["contact_sheet"],
        "layout": ["map_layout"],
        "report": ["ReportContents", "write_report"],
    },
)
