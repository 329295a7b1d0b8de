"""A learned text encoder as a model of the ``mteb`` evaluator, whose tasks then run on it as they are."""

import inspect
import warnings
from typing import Any

import numpy as np


def mteb_encoder(learner: Any, *, name: str | None = None) -> Any:
    """Wrap a fitted system for texts as an encoder that ``mteb.evaluate`` takes.

    Texts are encoded by `transform`, queries and documents alike and without instructions; similarity is the cosine. A text
    that the system cannot use, such as an empty one, is a row of zeros, with a warning that counts them.

    Parameters
    ----------
    learner : fitted system whose `transform` makes dense vectors of texts
    name : under which results are filed, ``organisation/model``; ``nolabel/`` and the class by default

    Returns
    -------
    An object with ``encode``, ``similarity``, ``similarity_pairwise`` and ``mteb_model_meta``.

    Raises
    ------
    TypeError
        For a system that makes no vectors of texts, or vectors of queries and passages apart.
    NotFittedError
        For one that has not learned yet.
    ImportError
        mteb is not installed.

    Examples
    --------
    >>> import mteb  # doctest: +SKIP
    >>> mteb.evaluate(mteb_encoder(learner), mteb.get_task("STSBenchmark"), cache=None)  # doctest: +SKIP
    """
    from nolabel.training.learner import Learner

    if not isinstance(learner, Learner) or (learner.transform_columns or learner.columns) != ("text",):
        raise TypeError(f"learner must be a fitted system that makes vectors of texts, got {type(learner).__name__}")
    if "side" in inspect.signature(learner.transform).parameters:
        raise TypeError(f"{type(learner).__name__} encodes queries and passages apart, which this adapter does not")
    learner.require_fitted()
    try:
        from mteb.models import ModelMeta
        from mteb.models.abs_encoder import AbsEncoder
        from mteb.models.model_meta import ScoringFunction
    except ImportError as error:
        raise ImportError(f"evaluation by mteb needs it: pip install mteb ({error})") from None
    filed = name or f"nolabel/{type(learner).__name__}"
    if filed.count("/") != 1 or not all(filed.split("/")):
        raise ValueError(f"name must be organisation/model, got {name!r}")

    class Encoder(AbsEncoder):
        """The learner by the evaluator's names; similarities are the base class's cosines."""

        def __init__(self) -> None:
            self.mteb_model_meta = ModelMeta.create_empty(
                {
                    "name": filed,
                    "revision": str(learner.fingerprint_),
                    "similarity_fn_name": ScoringFunction.COSINE,
                    "n_parameters": sum(p.numel() for p in learner.net_.parameters()),
                    "framework": ["PyTorch"],
                }
            )

        def encode(self, inputs: Any, **how: Any) -> np.ndarray:
            """Vectors (n, d) of the texts of a loader, in its order."""
            return _encoded(learner, [text for batch in inputs for text in batch["text"]])

    return Encoder()


def _encoded(learner: Any, texts: list[str]) -> np.ndarray:
    """A row of vectors for every text; of zeros for those that cannot be used."""
    usable = [row for row, text in enumerate(texts) if text.strip()]
    if not usable:
        raise ValueError(f"text: none of {len(texts)} texts holds a word")
    vectors = learner.transform([texts[row] for row in usable])
    if len(vectors) != len(usable):
        raise ValueError(
            f"{type(learner).__name__} made {len(vectors)} vectors of {len(usable)} texts: the evaluator needs one for each"
        )
    if len(usable) == len(texts):
        return np.asarray(vectors)
    warnings.warn(f"{len(texts) - len(usable)} of {len(texts)} texts are empty: rows of zeros", stacklevel=3)
    rows = np.zeros((len(texts), vectors.shape[1]), vectors.dtype)
    rows[usable] = vectors
    return rows
