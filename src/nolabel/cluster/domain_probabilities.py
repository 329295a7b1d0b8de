"""Where an input may come from: q(domain | x), learned, calibrated, and freed of how large the domains are."""

import os
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import clone
from torch import nn

from nolabel.assess.inputs import as_count
from nolabel.cluster.calibration import balancing_weights, fitted_temperature, logarithm
from nolabel.cluster.domain_classifiers import ImageDomains, VectorDomains
from nolabel.cluster.domain_sources import HashedTexts, open_vectors
from nolabel.cluster.domains import as_domains, as_probabilities, domain_codes, held_out, known_codes
from nolabel.training import Training
from nolabel.training.checkpoint import CHECKPOINT
from nolabel.training.estimator import CONFIG, Estimator, load

NETWORKS, PRIORS = ("cnn", "mlp"), ("empirical", "uniform")
FOLDS = 5


class Opened(NamedTuple):
    """What a domain classifier takes, domains as they were given, rows that can be read, and how many there are."""

    source: Any
    domains: Any
    rows: np.ndarray
    total: int


class DomainProbabilities(Estimator):
    """Tell how likely an input comes from each domain, all domains counting alike.

    Parameters
    ----------
    discriminator, encoder, representation, domain_prior, validation, patience, dropout, precomputed, training : as in
        `LatentLabelShift`

    Attributes
    ----------
    domain_names_ : the domains, sorted
    shares_ : (r,) how large they are
    rows_ : (n,) rows that were learned from: all but those that cannot be read
    codes_ : (n,) numbers of their domains
    fitted_ : the network or estimator; None for `precomputed`
    temperature_ : that divides its logits
    held_ : (h,) positions in `rows_` that it did not learn from

    Examples
    --------
    >>> X = np.repeat([[0.0], [0.0], [9.0]], 40, axis=0)  # domain "b" holds both kinds
    >>> model = DomainProbabilities(training=Training(30)).fit(X, ["a"] * 40 + ["b"] * 80)
    >>> model.transform(X)[[0, -1]].round(1).tolist()  # two thirds of "a" and "b": 40 / 40 to 40 / 80
    [[0.7, 0.3], [0.0, 1.0]]
    """

    columns = ("image", "domain")
    domain_names_: list[Any]
    shares_: np.ndarray
    rows_: np.ndarray
    codes_: np.ndarray
    held_: np.ndarray
    fitted_: Any
    temperature_: float

    def __init__(
        self,
        discriminator: Any = None,
        *,
        encoder: str | nn.Module = "conv4",
        representation: Estimator | None = None,
        domain_prior: str = "empirical",
        validation: float = 0.2,
        patience: int = 5,
        dropout: float = 0.3,
        precomputed: bool = False,
        training: Training | None = None,
    ) -> None:
        self.discriminator = discriminator
        self.encoder = encoder
        self.representation = representation
        self.domain_prior = domain_prior
        self.validation = validation
        self.patience = patience
        self.dropout = dropout
        self.precomputed = precomputed
        self.training = training

    def fit(
        self,
        X: Any,
        domain: Any,
        *,
        columns: dict[str, str] | None = None,
        run: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Self:
        """Learn from rows and the domain of each; arguments and errors as in `LatentLabelShift.fit`."""
        self.fit_probabilities(X, domain, columns=columns, run=run, resume=resume)
        return self

    def fit_probabilities(
        self,
        X: Any,
        domain: Any,
        *,
        columns: dict[str, str] | None = None,
        run: str | os.PathLike[str] | None = None,
        resume: bool = False,
        n_classes: int = 2,
    ) -> np.ndarray:
        """`fit`; q(domain | x) (n, r) of the rows learned from, each told by a user's estimator that did not learn from it."""
        self._check()
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)  # of an earlier fit
        source, domains, self.rows_, total = self._opened(X, domain, columns)
        self.domain_names_, self.codes_ = domain_codes(as_domains(domains, total)[self.rows_])
        if len(self.domain_names_) < n_classes:
            raise ValueError(f"need at least n_classes domains: got {len(self.domain_names_)}, {n_classes}")
        self.shares_ = np.bincount(self.codes_) / len(self.codes_)
        self.held_ = np.arange(len(self.codes_))
        if self.precomputed:
            self._require_width(source)
            self.fitted_, self.temperature_ = None, 1.0
            return self._balanced(logarithm(source))
        if self._own:
            logits = self._out_of_fold(source)
        else:
            self.held_ = held_out(self.codes_, self.validation, (self.training or Training()).random_state)
            self.fitted_ = self._learned_network(source, run, resume)
            logits = self.fitted_.transform_source(source, layer="logits")
        held = self.codes_[self.held_]
        weights = balancing_weights(held) if self.domain_prior == "uniform" else np.ones(len(self.domain_names_))
        self.temperature_ = fitted_temperature(logits[self.held_], held, weights)
        return self._balanced(logits / self.temperature_)

    def transform(self, X: Any, *, columns: dict[str, str] | None = None) -> np.ndarray:
        """q(domain | x) (n, r), all domains counting alike; rows that cannot be read are left out."""
        return self.located(X, None, columns)[0]

    def located(
        self, X: Any, domain: Any, columns: dict[str, str] | None
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """q(domain | x) of the rows that can be read, the numbers of their given domains, if any, and which rows these are."""
        self.require_fitted()
        source, domains, rows, total = self._opened(X, domain, columns)
        codes = None if domains is None else known_codes(as_domains(domains, total), self.domain_names_)[rows]
        if self.precomputed:
            self._require_width(source)
            return self._balanced(logarithm(source)), codes, rows
        if self._own:
            logits = logarithm(self.fitted_.predict_proba(source))
        else:
            logits = self.fitted_.transform_source(source, layer="logits")
        return self._balanced(logits / self.temperature_), codes, rows

    def _check(self) -> None:
        own = self.discriminator
        if not (own is None or self._own or (isinstance(own, str) and own in NETWORKS)):
            raise ValueError(
                f"discriminator must be {', '.join(NETWORKS)}, None or an estimator with fit and predict_proba, got {own!r}"
            )
        if self.domain_prior not in PRIORS:
            raise ValueError(f"domain_prior must be one of {', '.join(PRIORS)}, got {self.domain_prior!r}")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation must be a share in (0, 1), got {self.validation!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a share in [0, 1), got {self.dropout!r}")
        as_count(self.patience, "patience")

    @property
    def _own(self) -> bool:
        """Whether the domain classifier is an estimator of the user's."""
        own = self.discriminator
        return hasattr(own, "fit") and hasattr(own, "predict_proba") and not isinstance(own, type)

    def _learned(self) -> dict[str, Any]:
        learned = super()._learned()
        return learned if "temperature_" in learned else {}  # what was learned last

    # What X holds ---------------------------------------------------------------------------------------------------

    def _opened(self, X: Any, domain: Any, columns: dict[str, str] | None) -> Opened:
        if self.precomputed or self._own:
            if isinstance(domain, str):
                raise TypeError(f"domain: one for each row of X was expected, got {domain!r}: X is no table here")
            given = as_probabilities(X) if self.precomputed else X
            return Opened(given, domain, np.arange(len(given)), len(given))
        from nolabel.data import read
        from nolabel.data.columns import require_column

        table = read(X, columns=columns)
        if isinstance(domain, str):
            require_column(table, domain, "domain")
            domain = list(table[domain])
        if self._network("image" in table.column_names) == "mlp":
            source, rows = open_vectors(table, self.representation)
        else:
            network = getattr(self, "fitted_", None) or ImageDomains(self.encoder, representation=self.representation)
            source = network.open_one(table, None)
            rows = source.rows
        return Opened(source, domain, np.asarray(rows), len(table))

    def _network(self, images: bool) -> str:
        """Which network tells the domains."""
        frozen = self.representation is not None
        chosen = self.discriminator or ("cnn" if images and not frozen else "mlp")
        if chosen == "cnn" and not images:
            raise ValueError("discriminator: 'cnn' is for images, X holds none")
        if chosen == "mlp" and images and not frozen:
            raise ValueError("discriminator: 'mlp' is for vectors and texts; for images it needs a representation")
        return str(chosen)

    # Learning -------------------------------------------------------------------------------------------------------

    def _learned_network(self, source: Any, run: str | os.PathLike[str] | None, resume: bool) -> Any:
        """The network that tells domains: learned here, gone on with, or finished in `run` before."""
        shared: dict[str, Any] = {"dropout": self.dropout, "patience": self.patience, "training": self.training}
        shared["balanced"] = self.domain_prior == "uniform"
        network: Any
        if hasattr(source, "images"):
            network = ImageDomains(self.encoder, representation=self.representation, **shared)
        else:
            network = VectorDomains(standardise=not isinstance(source, HashedTexts), **shared)
        if run is not None and resume:
            if (Path(run) / CONFIG).exists():
                return load(run)
            resume = (Path(run) / CHECKPOINT).exists()
        return network.fit_domains(source, self.codes_, self.held_, run=run, resume=resume)

    def _out_of_fold(self, X: Any) -> np.ndarray:
        """Log-probabilities of each row by an estimator that did not learn from it; the one kept learned from all."""
        from sklearn.model_selection import StratifiedKFold, cross_val_predict

        seed = (self.training or Training()).random_state
        folds = StratifiedKFold(min(FOLDS, int(np.bincount(self.codes_).min())), shuffle=True, random_state=seed)
        unseen = cross_val_predict(clone(self.discriminator), X, self.codes_, cv=folds, method="predict_proba")
        self.fitted_ = clone(self.discriminator).fit(X, self.codes_)
        return logarithm(unseen)

    def _balanced(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities (n, r) as if all domains were equally large."""
        exact = np.asarray(logits, dtype=np.float64)
        balanced: np.ndarray = softmax(
            exact - np.log(self.shares_) if self.domain_prior == "empirical" else exact, axis=1
        )
        return balanced

    def _require_width(self, probabilities: np.ndarray) -> None:
        if probabilities.shape[1] != len(self.domain_names_):
            expected = f"a column for each of {len(self.domain_names_)} domains was expected"
            raise ValueError(f"X: {expected}, got shape {probabilities.shape}")
