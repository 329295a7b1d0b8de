"""What is fine-tuned with labels on top of a learned representation."""

import os
from typing import Any, Self

from sklearn.base import clone

from nolabel.training import Learner, Training


class Head(Learner):
    """The base of such systems: they train like any other, but are never stopped for a collapse."""

    training: Training | None

    def fit_source(self, source: Any, *, run: str | os.PathLike[str] | None = None, resume: bool = False) -> Self:
        """As `Learner.fit_source`, but never stopped for a collapse: labels may well ask for states that are alike."""
        given = self.training
        self.training = clone(given or Training()).set_params(stop_on_collapse=False)
        try:
            return super().fit_source(source, run=run, resume=resume)
        finally:
            self.training = given
