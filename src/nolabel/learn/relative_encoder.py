"""Relative representations: an encoder's vectors told by their similarity to anchors.

    r_ij = cos(z_i, a_j)                                                                    (n, m)

with a_j the vectors of m anchor samples by the same encoder. Angles hardly change from one training to the next, so that
encoders which learned apart give nearly the same r: a head trained on one's answers for the other's, and an index searched
by the one takes queries of the other.

Moschella, Maiorca, Fumero, Norelli, Locatello & Rodolà, "Relative representations enable zero-shot latent space
communication", ICLR 2023, arXiv:2209.15430.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from sklearn.pipeline import Pipeline, make_pipeline

from nolabel.assess.inputs import as_count, as_embeddings
from nolabel.assess.spaces import as_anchor_rows, relative_rows
from nolabel.ops.relative import Similarity, choose_anchors
from nolabel.training.estimator import Estimator


class RelativeEncoder(Estimator):
    """Tell items by their similarity to anchor items: vectors that agree between encoders which learned apart.

    Both encoders must have encoded the same anchor samples in the same order: `twin` sees to it. Do not standardise the
    spaces apart before: centring changes angles.

    Parameters
    ----------
    encoder : fitted estimator with `transform`; None: what is given are vectors already
    anchors : ``uniform`` draws them, ``kmeans`` takes samples near centres of clusters, ``farthest`` samples unlike one
        another; or row numbers
    n_anchors : how many; 300 to 500, and better not below the encoder's width
    similarity, bin_width, subspaces, norm : as in `nolabel.ops.relative.relative`; give what is trained on it
        ``norm="layer"``
    random_state : seed of the choice

    Attributes
    ----------
    anchor_rows_ : (m,) rows of the data that `fit` saw
    anchors_ : (m, d) their vectors

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(300, 6))
    >>> turned = 3 * z @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    >>> first = RelativeEncoder(n_anchors=20).fit(z)
    >>> np.allclose(first.transform(z), first.twin(None, turned).transform(turned), atol=1e-5)
    True
    """

    columns = ("vector",)
    anchor_rows_: np.ndarray
    anchors_: np.ndarray

    def __init__(
        self,
        encoder: Any = None,
        *,
        anchors: str | Sequence[int] = "uniform",
        n_anchors: int = 300,
        similarity: Similarity = "cosine",
        bin_width: float | None = None,
        subspaces: int = 1,
        norm: Literal["l2", "layer"] | None = None,
        random_state: int = 0,
    ) -> None:
        self.encoder = encoder
        self.anchors = anchors
        self.n_anchors = n_anchors
        self.similarity = similarity
        self.bin_width = bin_width
        self.subspaces = subspaces
        self.norm = norm
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose the anchors among X: data of the encoder, or vectors (n, d) where there is none."""
        z = self._vectors(X)
        if isinstance(self.anchors, str):
            as_count(self.n_anchors, "n_anchors", high=len(z), why=f"there are {len(z)} rows")
            self.anchor_rows_ = choose_anchors(z, self.n_anchors, self.anchors, self.random_state)
        else:
            self.anchor_rows_ = as_anchor_rows(self.anchors, len(z))
        self.anchors_ = z[self.anchor_rows_]
        self._told(self.anchors_[:1])  # refuses bad options here
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Similarities (n, m) to the anchors, float32; with `subspaces` (n, subspaces * m)."""
        self.require_fitted()
        return self._told(self._vectors(X))

    def twin(self, encoder: Any, X: Any) -> "RelativeEncoder":
        """The same for another encoder: X is the same data, of which the same rows become anchors."""
        options = self.get_params(deep=False) | {"encoder": encoder, "anchors": self.anchor_rows_.tolist()}
        return RelativeEncoder(**options).fit(X)

    def _vectors(self, X: Any) -> np.ndarray:
        return as_embeddings(X if self.encoder is None else self.encoder.transform(X), "X", at_least=1)

    def _told(self, z: np.ndarray) -> np.ndarray:
        return relative_rows(
            z,
            self.anchors_,
            similarity=self.similarity,
            bin_width=self.bin_width,
            subspaces=self.subspaces,
            norm=self.norm,
        )


def stitch(relative: RelativeEncoder, head: Any) -> Pipeline:
    """Put a head that was trained on one encoder's relative representations behind another encoder, without training.

    Parameters
    ----------
    relative : fitted, of the encoder that is to be used
    head : scikit-learn estimator fitted on ``other.transform(X)``, `other` with the same anchors as `relative`

    Raises
    ------
    ValueError : the head was fitted on another number of anchors

    >>> from sklearn.linear_model import LogisticRegression
    >>> z, y = np.random.default_rng(0).normal(size=(200, 4)), np.arange(200) % 2
    >>> z[y == 1, 0] += 6
    >>> first = RelativeEncoder(n_anchors=10, norm="layer").fit(z)
    >>> head = LogisticRegression().fit(first.transform(z), y)
    >>> stitch(first.twin(None, z[:, ::-1]), head).score(z[:, ::-1], y) > 0.95
    True
    """
    width = len(relative.anchors_) * relative.subspaces
    wanted = getattr(head, "n_features_in_", width)
    if wanted != width:
        raise ValueError(f"head was fitted on {wanted} similarities, and relative gives {width}")
    return make_pipeline(relative, head)
