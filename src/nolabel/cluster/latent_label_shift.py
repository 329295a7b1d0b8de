"""Latent label shift: classes that nobody named, from the fact that their members rise and fall together.

Data comes from several domains (shops, hospitals, months) whose mix of classes differs, while a class looks the same in all.
A classifier that tells the domain of an input then tells something of its class: q(d | x) is a mixture of as many columns
p(d | y) as there are classes.

    1. learn f(x) = q(d | x), under equal domains
    2. cut f into m cells by k-means, and count H[c, d] = q(cell c | domain d)
    3. factorise H = C Q, C[c, y] = q(cell | class), Q[y, d] = p(class | domain), both non-negative
    4. solve f(x) = M v with M[d, y] = p(d | y); then p_d(y | x) is proportional to M[d, y] v_y

Roberts, Mani, Garg & Lipton, "Unsupervised learning under latent label shift", NeurIPS 2022, arXiv:2207.13179 (their DDFA).
Differences: the domain classifier is calibrated on held-out rows; the factorisation is by anchors (cells that hold one class
alone) unless asked otherwise, for the non-negative one of the paper is not unique; weights are kept from falling below 0; the
learning rate follows a cosine.
"""

import math
import os
import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import ClusterMixin
from torch import nn

from nolabel.assess.clusters import clustering_accuracy
from nolabel.assess.inputs import as_count, as_labels
from nolabel.cluster.calibration import balancing_weights, log_loss, logarithm
from nolabel.cluster.domain_probabilities import DomainProbabilities
from nolabel.cluster.domains import as_domains, known_codes, matched_mix_error
from nolabel.cluster.mixes import SOLVERS, factorised
from nolabel.cluster.posterior import PROJECTIONS, class_posterior, domain_given_class
from nolabel.training import Training
from nolabel.training.estimator import Estimator

#: Condition number above which mixes are nearly collinear; standard errors by which the discriminator has to beat chance.
COLLINEAR, ERRORS = 100.0, 2.0


class DomainsLookAlike(UserWarning):
    """The domains cannot be told apart, so that nothing is known of their classes."""


class LatentLabelShift(ClusterMixin, Estimator):
    """Cluster data that comes from several domains by classes whose share differs between the domains.

    Use it where the same classes are mixed differently in several places and likeness alone would group them wrongly. It
    rests on assumptions that the data has to meet:

    * a class looks the same in all domains, p(x | y) is one; only its share moves. **If the domains differ in style (camera,
      light, wording), styles are found instead of classes, and nothing in the result says so.** Where two domains are known
      to have the same mix, fit them alone with ``n_classes=2``: there `DomainsLookAlike` is good news.
    * at least as many domains as classes, and no mix that is a blend of the others.
    * of each class some inputs that no other class could have produced.

    The more alike the mixes are, the less is known: the domain classifier is hardly better than chance, and the result is
    noise (see `diagnose`). Clustering q(domain | x), which `transform` returns, by k-means is a good rival where all classes
    are well apart; what it lacks are the mixes and p(class | x, domain).

    Parameters
    ----------
    n_classes : how many classes; compare the ``singular values`` of `diagnose`
    n_cells : cells that q(domain | x) is cut into; three times the classes by default
    discriminator : ``cnn`` for images, ``mlp`` for vectors and the words of texts, or an estimator with `fit` and
        `predict_proba`; ``None`` chooses by the data. An estimator of your own is fitted six times: the counts come from rows
        that it did not learn from
    encoder : name of the network for images, or ``nn.Module``
    representation : fitted learner whose vectors ``mlp`` learns from, or whose encoder ``cnn`` begins with
    solver : ``anchor``; ``nmf``, the paper's; ``anchor-nmf``, which begins with the former's result
    project : what keeps weights of classes from falling below 0: ``clip``, ``nnls``; ``pinv``, the paper's, does not
    domain_prior : ``empirical``: the domain classifier learns from the domains as large as they are, and their shares are
        divided out; ``uniform``: it counts all domains alike, by weights, or because it was made so
    validation : share of the rows of each domain kept out to choose the epoch and calibrate
    patience : epochs without a lower held-out loss after which training ends
    dropout : in training, of the domain classifier
    n_init : beginnings of k-means, and of the factorisation where these are random
    precomputed : X is q(domain | x) already, columns in the order of the sorted domains, and well calibrated
    training : how long and on what to train; its seed is that of all steps

    Attributes
    ----------
    domains_ : (r,) the domains, sorted
    class_mix_ : (r, k) p(class | domain), commonest class first
    domain_given_class_ : (r, k) p(domain | class) under equal domains, columns that sum to 1
    cell_given_class_ : (m, k) q(cell | class), columns that sum to 1
    labels_, probabilities_ : (n,) and (n, k) class of each row that was learned from, given its domain
    rows_ : (n,) these rows: all but those that cannot be read
    validation_loss_, chance_loss_ : of the domain classifier, all domains counting alike, and ln r
    condition_number_ : of `class_mix_`; how much it amplifies errors of q(domain | x)
    residual_ : part of the counts that the factorisation does not explain, in [0, 1]
    discriminator_ : what tells domains, calibrated; the network or estimator itself is its ``fitted_``

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> mix = np.array([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]])  # of two classes in three domains
    >>> domain = np.repeat([0, 1, 2], 400)
    >>> y = (rng.random(1200) < mix[domain, 1]).astype(int)
    >>> X = rng.normal(size=(1200, 2)) + 5.0 * y[:, None]
    >>> model = LatentLabelShift(2, training=Training(5)).fit(X, domain)
    >>> model.score(X, y, domain) > 0.95, model.mix_error(y, domain) < 0.05
    (True, True)
    """

    columns = ("image", "domain")
    discriminator_: DomainProbabilities
    class_mix_: np.ndarray
    domain_given_class_: np.ndarray
    cell_given_class_: np.ndarray
    labels_: np.ndarray
    probabilities_: np.ndarray
    cell_sizes_: np.ndarray
    singular_values_: np.ndarray
    notes_: list[str]

    def __init__(
        self,
        n_classes: int = 2,
        *,
        n_cells: int | None = None,
        discriminator: Any = None,
        encoder: str | nn.Module = "conv4",
        representation: Estimator | None = None,
        solver: str = "anchor",
        project: str = "clip",
        domain_prior: str = "empirical",
        validation: float = 0.2,
        patience: int = 5,
        dropout: float = 0.3,
        n_init: int = 5,
        precomputed: bool = False,
        training: Training | None = None,
    ) -> None:
        self.n_classes = n_classes
        self.n_cells = n_cells
        self.discriminator = discriminator
        self.encoder = encoder
        self.representation = representation
        self.solver = solver
        self.project = project
        self.domain_prior = domain_prior
        self.validation = validation
        self.patience = patience
        self.dropout = dropout
        self.n_init = n_init
        self.precomputed = precomputed
        self.training = training

    @property
    def domains_(self) -> np.ndarray:
        self.require_fitted()
        return np.asarray(self.discriminator_.domain_names_)

    @property
    def rows_(self) -> np.ndarray:
        self.require_fitted()
        return self.discriminator_.rows_

    @property
    def _seed(self) -> int:
        return (self.training or Training()).random_state

    # Learning -------------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        domain: Any,
        *,
        columns: dict[str, str] | None = None,
        run: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Self:
        """Learn from rows and the domain of each.

        Parameters
        ----------
        X : anything `nolabel.data.read` takes with a column `image`, `vector` or `text`; what an own `discriminator` takes;
            or with `precomputed` q(domain | x) (n, r)
        domain : (n,) integers or texts, or the name of a column of X
        columns : ``{"image": "photo"}`` if a column has another name
        run : folder for the checkpoints of the domain classifier
        resume : go on with the unfinished run in `run`

        Raises
        ------
        ValueError : a parameter or the data does not fit; fewer domains than classes, a domain with one row, a missing domain
        """
        self._check()
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)  # of an earlier fit
        self.notes_ = []
        own = DomainProbabilities().get_params(deep=False)
        tell = DomainProbabilities(**{name: getattr(self, name) for name in own})
        place = None if run is None else Path(run) / "discriminator"
        q = tell.fit_probabilities(X, domain, columns=columns, run=place, resume=resume, n_classes=self.n_classes)
        self._judge(q[tell.held_], tell.codes_[tell.held_])
        self._factorise(q, tell.codes_)
        self.probabilities_ = class_posterior(q, self.domain_given_class_, tell.codes_, self.project)
        self.labels_ = self.probabilities_.argmax(axis=1)
        self.discriminator_ = tell
        return self

    def _check(self) -> None:
        as_count(self.n_classes, "n_classes", low=2)
        if self.n_cells is not None:
            as_count(
                self.n_cells, "n_cells", low=self.n_classes, why=f"a class needs a cell, n_classes={self.n_classes}"
            )
        as_count(self.n_init, "n_init")
        for name, known in (("solver", SOLVERS), ("project", PROJECTIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    def _learned(self) -> dict[str, Any]:
        learned = super()._learned()
        return learned if "discriminator_" in learned else {}  # what was learned last

    def _judge(self, q: np.ndarray, codes: np.ndarray) -> None:
        """How far the domain classifier is better than chance, on rows that it did not learn from."""
        losses = log_loss(logarithm(q), codes, balancing_weights(codes))
        self.validation_loss_, self.chance_loss_ = float(losses.mean()), math.log(q.shape[1])
        self.loss_error_ = float(losses.std() / math.sqrt(len(losses)))
        gain = self.chance_loss_ - self.validation_loss_
        if gain < ERRORS * self.loss_error_:
            self._warn(
                f"the domains look alike: telling them apart gains {gain:.4f} ± {self.loss_error_:.4f} over chance, so their "
                "classes may be mixed equally; the clusters are noise",
                DomainsLookAlike,
            )

    def _factorise(self, q: np.ndarray, codes: np.ndarray) -> None:
        k = self.n_classes
        found = factorised(q, codes, k, self.n_cells or 3 * k, self.solver, n_init=self.n_init, random_state=self._seed)
        self.class_mix_, self.cell_given_class_, self.residual_ = found.mix.T, found.cells, found.residual
        self.cell_sizes_, self.singular_values_ = found.sizes, found.singular_values
        self.domain_given_class_ = domain_given_class(self.class_mix_)
        self.condition_number_ = float(np.linalg.cond(self.class_mix_))
        if not self.condition_number_ <= COLLINEAR:
            self._warn(
                f"the mixes of the domains are nearly collinear (condition number {self.condition_number_:.0f}): they hold "
                f"fewer than {k} classes, or too few domains differ",
                UserWarning,
            )

    def _warn(self, text: str, kind: type[Warning]) -> None:
        self.notes_.append(text)
        warnings.warn(text, kind, stacklevel=4)

    # Reading off ----------------------------------------------------------------------------------------------------

    def transform(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """q(domain | x) (n, r), calibrated, all domains counting alike; rows that cannot be read are left out."""
        self.require_fitted()
        return self.discriminator_.transform(X, columns=columns)

    def predict_proba(self, X: Any, domain: Any = None, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """p(class | x, domain) (n, k); rows that cannot be read are left out.

        Parameters
        ----------
        X, columns : as in `fit`
        domain : (n,) domains of `fit`, or the name of a column of X; ``None``: not known, then as in a domain with the mean mix
        """
        return self.located(X, domain, columns=columns)[0]

    def located(
        self, X: Any, domain: Any = None, *, columns: dict[str, str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """`predict_proba`, and which rows of X (n,) could be read."""
        self.require_fitted()
        q, codes, rows = self.discriminator_.located(X, domain, columns)
        return class_posterior(q, self.domain_given_class_, codes, self.project), rows

    def predict(self, X: Any, domain: Any = None, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """The most probable class (n,) of rows, from 0; arguments as in `predict_proba`."""
        return self.predict_proba(X, domain, columns=columns).argmax(axis=1)

    def score(self, X: Any, y: Any, domain: Any = None, *, columns: dict[str, str] | None = None) -> float:
        """Share of rows that are right under the best match of clusters to the true classes y (n,), which only this looks at."""
        found, rows = self.located(X, domain, columns=columns)
        return clustering_accuracy(as_labels(y, len(np.asarray(y)), "y")[rows], found.argmax(axis=1))

    def mix_error(self, y: Any, domain: Any) -> float:
        """Mean difference of `class_mix_` from the true mixes, given class and domain (n,) of the rows of `fit`.

        Clusters are matched to classes by the rows that they share.
        """
        self.require_fitted()
        truth = as_labels(y, len(np.asarray(y)), "y")
        if len(truth) <= self.rows_.max():
            raise ValueError(
                f"y: the classes of the rows of fit were expected, at least {self.rows_.max() + 1}, got {len(truth)}"
            )
        codes = known_codes(as_domains(domain, len(truth)), self.discriminator_.domain_names_)
        return matched_mix_error(self.class_mix_, self.labels_, truth[self.rows_], codes[self.rows_])

    def diagnose(self) -> dict[str, Any]:
        """Whether the result can be trusted, in plain types.

        * ``gain``: nats that the domain classifier is better than chance on held-out rows, with its standard error
        * ``condition number`` of the mixes: near 1 they are as different as can be
        * ``residual``: part of the counts that the factorisation leaves over; domains of different styles raise it
        * ``singular values`` of the counts: as many classes can be told as stand out
        * ``empty cells``, and the ``warnings`` of `fit`
        """
        self.require_fitted()
        return {
            "validation loss": self.validation_loss_,
            "chance loss": self.chance_loss_,
            "gain": self.chance_loss_ - self.validation_loss_,
            "gain error": self.loss_error_,
            "temperature": self.discriminator_.temperature_,
            "condition number": self.condition_number_,
            "residual": self.residual_,
            "singular values": self.singular_values_.tolist(),
            "cells": len(self.cell_sizes_),
            "empty cells": int((self.cell_sizes_ == 0).sum()),
            "warnings": list(self.notes_),
        }

    def save(self, path: str | os.PathLike[str]) -> Any:
        """As any estimator; TypeError if the network was given as ``nn.Module``."""
        if isinstance(self.encoder, nn.Module):
            raise TypeError(
                "encoder: a network of your own is not read again from here: save discriminator_.fitted_ instead"
            )
        return super().save(path)
