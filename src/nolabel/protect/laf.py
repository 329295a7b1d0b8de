"""Label-agnostic forgetting: take samples back out of a trained model without a single label.

With g the model's encoder as it was and f the one that forgets, both of which begin alike:

1. two small variational autoencoders learn where g puts the retained and where it puts the forgotten samples;
2. f descends  sum_retained rho(m) - sum_forgotten rho(m),  rho(m) = exp(m / (m + 1)),  with m the squared error with which
   the autoencoder of its own set gives back the embedding of a sample: the forgotten leave the place they had;
3. f descends  sum_retained [ a - log sum_forgotten exp(a / temperature) ]  with a = 1 - cos(f(x), g(x)): the retained keep
   their direction, the forgotten turn away;
4. 2 and 3 alternate on pairs of batches. The last layer stays; `repair` trains it on a few labelled samples, if there are any.

Shen, Zhang, Zhao, Bialkowski, Chen & Xu, "Label-agnostic forgetting: a supervision-free unlearning in deep models", ICLR 2024,
arXiv:2404.00506. Differences: embeddings are standardised and the decoder is linear, for rho is flat where errors are large
and a sigmoid cannot give back what lies outside (0, 1) (``decoder="sigmoid"`` is the authors' code); the first autoencoder
learns from the retained samples alone (``retain_only=False``: from all, as in the paper, where the forgotten are few); the
latent is not drawn but its mean (``sample_latent``); batch norm keeps its statistics.
"""

import copy
import os
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nolabel.assess.inputs import as_labels
from nolabel.data.labels import class_codes
from nolabel.data.parts import Parts
from nolabel.learn.heads import Head
from nolabel.objectives.forgetting import extractor_unlearning, representation_alignment, turned
from nolabel.protect.evidence import evidence, shared_rows
from nolabel.protect.splitting import Split, Tensors, copied, split_model, with_encoder
from nolabel.protect.vectors import LastLayer, VectorAutoencoder
from nolabel.training import ImageLearner, Training, target_copy
from nolabel.training.batches import Rows, cycled
from nolabel.training.encoding import encode_all
from nolabel.training.optimisers import optimiser

#: Steps for which the paper's rates were chosen: 20 epochs over one class of MNIST. Shorter runs take larger steps.
STEPS, HIGHEST = 1875, 1e-3
RATES = {"lr_unlearn": 5e-5, "lr_align": 1e-4}


class LabelAgnosticForgetting(Head):
    """Make a copy of a trained model that treats some samples as if it had never learned from them.

    Use it where retraining without them is too dear, and labels are gone. It is no proof: see `report` for what an attack
    still finds, and retrain where a guarantee is due. The goal for single samples is not that the model errs on them, but that
    it does as well as one which never saw them. Samples whose labels were wrong are a good use as well.

    Parameters
    ----------
    model : fitted image learner (`ImageClassifier`, `SimCLR`, `RotNet`, ...) or any ``nn.Module`` in float; stays as it is
    embedding_layer : of an ``nn.Module``, the layer whose output is the embedding; ``auto``: what goes into its last linear layer
    latent_dim, decoder : of the autoencoders; 8 suits small networks, 16 those such as ResNet-18
    vae_epochs, vae_lr, kl_weight : how the autoencoders learn, in at least 200 steps
    lr_unlearn, lr_align : mean rates of steps 2 and 3; 0 leaves a step out. ``None`` is the paper's 5e-5 and 1e-4, raised in
        proportion, up to 1e-3, where a run has fewer steps than the paper's
    temperature : of step 3; the paper's is 5 to 20
    retain_only : the first autoencoder learns from the retained samples alone
    sample_latent : draw the latent in step 2 instead of taking its mean
    training : how long and on what to train; an epoch sees each forgotten sample once. ``lr`` is not used

    Attributes
    ----------
    net_ : ``net_.encoder`` is the encoder that forgot
    rates_ : mean rates of the two steps

    Examples
    --------
    >>> from nolabel.data import load
    >>> from nolabel.learn import ImageClassifier
    >>> digits = load("digits")
    >>> model = ImageClassifier("conv4-x0.25", training=Training(steps=4)).fit(digits)
    >>> laf = LabelAgnosticForgetting(model, training=Training(steps=2))
    >>> forgotten = laf.forget(digits.select(range(40)), digits.select(range(40, 400)))
    >>> forgotten.predict(digits.select(range(3))).shape
    (3,)
    """

    parts = ("retain", "forget")
    columns = ("image",)
    recipe = {"optimiser": "adam", "lr": 1.0, "weight_decay": 0.0, "batch_size": 64, "epochs": 20, "warmup": 0.0}  # noqa: RUF012
    rates_: dict[str, float]
    retained_: VectorAutoencoder
    forgotten_: VectorAutoencoder
    centre_: np.ndarray
    scale_: np.ndarray

    def __init__(
        self,
        model: ImageLearner | nn.Module,
        *,
        embedding_layer: str = "auto",
        latent_dim: int = 8,
        decoder: str = "linear",
        vae_epochs: int = 10,
        vae_lr: float = 1e-3,
        kl_weight: float = 0.025,
        lr_unlearn: float | None = None,
        lr_align: float | None = None,
        temperature: float = 20.0,
        retain_only: bool = True,
        sample_latent: bool = False,
        training: Training | None = None,
    ) -> None:
        self.model = model
        self.embedding_layer = embedding_layer
        self.latent_dim = latent_dim
        self.decoder = decoder
        self.vae_epochs = vae_epochs
        self.vae_lr = vae_lr
        self.kl_weight = kl_weight
        self.lr_unlearn = lr_unlearn
        self.lr_align = lr_align
        self.temperature = temperature
        self.retain_only = retain_only
        self.sample_latent = sample_latent
        self.training = training

    # What is asked of it --------------------------------------------------------------------------------------------

    def forget(
        self,
        X_forget: Any,
        X_retain: Any,
        y: Any = None,
        *,
        columns: dict[str, str] | None = None,
        run: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Any:
        """A model of the same kind without what it learned from `X_forget`; the given one stays as it is.

        Parameters
        ----------
        X_forget, X_retain : images, or float arrays (n, ...) for an ``nn.Module``; no row may be in both
        y : refused, for it takes no labels
        columns, run, resume : as in `fit`. A run folder holds the old weights too: delete it once the new model is saved

        Raises
        ------
        ValueError : an empty set, a row in both, a model without a separable encoder, shapes that differ
        TypeError : labels
        """
        if y is not None:
            raise TypeError("forget takes no labels: give X_forget and X_retain alone; `repair` takes labels")
        self.fit({"retain": X_retain, "forget": X_forget}, columns=columns, run=run, resume=resume)
        return self.forgotten_model()

    def forgotten_model(self) -> Any:
        """The model after forgetting, of the kind that was given: an image learner to save, or an ``nn.Module``."""
        self.require_fitted()
        net: Any = self.net_
        made = with_encoder(self.model, net.encoder, net.head)
        if isinstance(made, ImageLearner):  # how it was made, and from what, without the old figures
            for name in ("history_", "health_", "seconds_", "fingerprint_", "training_"):
                setattr(made, name, getattr(self, name))
        return made

    def repair(self, X: Any, y: Any, *, epochs: int = 5, columns: dict[str, str] | None = None) -> Any:
        """Train the last layer on a few retained samples with their labels y (n,), and return the model; LAF+R in the paper.

        Raises
        ------
        ValueError : the model has no last layer of its own, or labels are none of its classes
        """
        self.require_fitted()
        net: Any = self.net_
        if net.head is None:
            raise ValueError(
                "repair: this model has no last layer that was told apart (an image classifier, or 'auto')"
            )
        embeddings = self.transform(X, columns=columns)
        labels = as_labels(y, len(embeddings), "y")
        names = getattr(self.model, "class_names_", None) or list(range(_outputs(net.head)))
        strange = sorted({str(value) for value in labels.tolist() if value not in names})
        if strange:
            raise ValueError(f"y: {strange[0]!r} is none of the classes {', '.join(map(str, names))}")
        codes = class_codes(labels, names).numpy()
        settings = self._settings(epochs=epochs, batch_size=min(64, len(codes)))
        layer = LastLayer(net.head, training=settings).fit({"vector": embeddings, "code": codes})
        net.head.load_state_dict(layer.net_.state_dict())
        return self.forgotten_model()

    def report(
        self,
        X_forget: Any,
        X_retain: Any,
        X_test: Any = None,
        y_test: Any = None,
        *,
        columns: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """What has changed, and whether one can still tell what was learned from; see `nolabel.protect.evidence`.

        Parameters
        ----------
        X_forget, X_retain : as in `forget`
        X_test : samples like these that the model never learned from, for the attacks. To judge the forgetting of a class they
            should hold that class too
        y_test : their labels (m,), for accuracies
        """
        self.require_fitted()
        given = {"retain": X_retain, "forget": X_forget} | ({} if X_test is None else {"test": X_test})
        return self.report_sources({k: self.open_one(v, columns) for k, v in given.items()}, y_test)

    def report_sources(self, sources: dict[str, Any], y_test: Any = None) -> dict[str, Any]:
        """`report` of opened sources by name: `retain`, `forget` and perhaps `test`."""
        old = split_model(self.model, self.embedding_layer)
        net: Any = self.net_
        before, after = (self._outputs(split, sources) for split in (old, Split(net.encoder, net.head)))
        codes = None
        if y_test is not None and "test" in sources:
            names = getattr(self.model, "class_names_", None)
            labels = as_labels(y_test, len(sources["test"]), "y_test")
            codes = labels if names is None else class_codes(labels, names).numpy()
        return evidence(before, after, codes, seed=self.training_.random_state)

    # How it learns --------------------------------------------------------------------------------------------------

    def open(self, data: Any, columns: dict[str, str] | None) -> Parts:
        found = {name: self.open_table(part, columns, (name,)) for name, part in self._split(data).items()}
        return Parts(found)

    def open_table(self, data: Any, columns: dict[str, str] | None, needed: tuple[str, ...] = ()) -> Any:
        name = f"X_{needed[0]}" if needed and needed[0] in self.parts else "X"
        if hasattr(data, "__len__") and not isinstance(data, str) and not len(data):
            raise ValueError(f"{name} is empty: expected at least one row")
        if isinstance(self.model, ImageLearner):
            return self.model.open_table(data, columns, ("image",))
        return Tensors(data, name)

    def prepare(self, source: Any, folder: os.PathLike[str] | None) -> None:
        self._check(source)
        steps = self.training_.steps or (self.training_.epochs or 0) * len(
            self.plan(source, self.training_.batch_size or 1, np.random.default_rng(0))
        )
        self.rates_ = {}
        for name, usual in RATES.items():
            own = getattr(self, name)
            raised = min(HIGHEST, usual * max(1.0, STEPS / steps)) if steps else usual
            self.rates_[name] = raised if own is None else float(own)
        found = self._outputs(split_model(self.model, self.embedding_layer), source.parts)
        vectors = {name: outputs["embeddings"] for name, outputs in found.items()}
        both = np.concatenate(list(vectors.values()))
        self.centre_, self.scale_ = np.zeros(both.shape[1], np.float32), np.ones(both.shape[1], np.float32)
        if self.decoder == "linear":
            spread = both.std(axis=0)
            self.centre_, self.scale_ = both.mean(axis=0), np.where(spread > 1e-6, spread, 1).astype(np.float32)
        self.retained_ = self._autoencoder(vectors["retain"] if self.retain_only else both)
        self.forgotten_ = self._autoencoder(vectors["forget"])

    def build(self, example: dict[str, Any]) -> nn.Module:
        split = split_model(self.model, self.embedding_layer)
        net: Any = nn.Module()
        net.encoder = copied(split.encoder).requires_grad_(True)
        net.teacher = target_copy(net.encoder)
        net.head = None if split.head is None else copied(split.head).requires_grad_(False)
        net.retained, net.forgotten = (target_copy(vae.net_) for vae in (self.retained_, self.forgotten_))
        net.register_buffer("centre", torch.from_numpy(self.centre_))
        net.register_buffer("scale", torch.from_numpy(self.scale_))
        return net

    def plan(self, source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
        """Pairs of batches until the shorter set has been seen; all batches of a set are equally large."""
        sizes = {name: min(batch_size, len(part)) for name, part in source.parts.items()}
        steps = min(len(part) // sizes[name] for name, part in source.parts.items())
        drawn = {name: cycled(len(part), steps * sizes[name], rng) for name, part in source.parts.items()}
        return [
            {name: rows[i * sizes[name] : (i + 1) * sizes[name]] for name, rows in drawn.items()} for i in range(steps)
        ]

    def optimisers(self, net: Any, settings: Training) -> dict[str, Optimizer]:
        """One for each step; the schedule's cosine halves a rate in the mean, so each begins at twice its own."""
        kind, decay = settings.optimiser or "adam", settings.weight_decay or 0.0
        return {name: optimiser(kind, net.encoder, 2 * rate, decay) for name, rate in self.rates_.items() if rate}

    def views(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, int]:
        """Inputs of both sets, the retained ones first, and how many these are."""
        retained, forgotten = (_inputs(batch[name]) for name in self.parts)
        return torch.cat([retained, forgotten]), len(retained)

    def step(self, run: Any, views: tuple[Tensor, int]) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for loss, name in ((self.unlearn, "lr_unlearn"), (self.align, "lr_align")):
            if self.rates_[name]:
                found = run.loss(views, loss.__name__)
                run.descend(found, name)
                terms |= found
        return terms

    def unlearn(self, net: Any, views: tuple[Tensor, int]) -> Tensor:
        """Step 2."""
        inputs, n = views
        net.eval()  # batch norm keeps its statistics: a batch of forgotten samples would shift them
        embeddings = net.encoder(inputs).float()
        with torch.autocast(embeddings.device.type, enabled=False):
            standard = (embeddings - net.centre) / net.scale
            retained, forgotten = (
                vae.errors(part, sample=self.sample_latent)
                for vae, part in ((net.retained, standard[:n]), (net.forgotten, standard[n:]))
            )
            return extractor_unlearning(retained, forgotten)

    def align(self, net: Any, views: tuple[Tensor, int]) -> Tensor:
        """Step 3."""
        inputs, n = views
        net.eval()
        with torch.no_grad():
            old = net.teacher(inputs).float()
        apart = turned(net.encoder(inputs).float(), old)
        return representation_alignment(apart[:n], apart[n:], self.temperature)

    def encode(self, net: Any, batch: dict[str, Any], layer: str = "representation") -> Tensor:
        """Embeddings (b, d) of the encoder that forgot, or ``logits`` (b, k)."""
        inputs = _inputs(batch)
        if layer == "representation":
            embeddings: Tensor = net.encoder(inputs)
            return embeddings
        logits: Tensor = net.head(net.encoder(inputs))
        return logits

    def _outputs(self, split: Split, sources: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
        """Of each source the `embeddings`, and with a last layer the `probabilities`."""
        seen = copy.copy(self)
        net: Any = nn.Module()
        net.encoder = copied(split.encoder)  # which leaves the mode and the device of the given model alone
        net.head = None if split.head is None else copied(split.head)
        seen.net_ = net
        found: dict[str, dict[str, np.ndarray]] = {}
        for name, source in sources.items():
            found[name] = {"embeddings": encode_all(seen, source)}
            if split.head is not None:
                logits = torch.from_numpy(encode_all(seen, source, layer="logits"))
                found[name]["probabilities"] = logits.double().softmax(dim=1).numpy()
        return found

    def _autoencoder(self, vectors: np.ndarray) -> VectorAutoencoder:
        made = VectorAutoencoder(self.latent_dim, decoder=self.decoder, kl_weight=self.kl_weight)
        settings = self._settings(epochs=self.vae_epochs, lr=self.vae_lr).set_params(precision="32-true")
        return made.fit_few((vectors - self.centre_) / self.scale_, settings)

    def _settings(self, **budget: Any) -> Training:
        """A short training on the same device."""
        own = self.training_
        return Training(
            **budget,
            random_state=own.random_state,
            accelerator=own.accelerator,
            precision=own.precision,
            progress=own.progress,
        )

    def _check(self, source: Any) -> None:
        if self.training is not None and self.training.lr is not None:
            raise ValueError("training.lr is not used: there are two rates, lr_unlearn and lr_align")
        for name in RATES:
            value = getattr(self, name)
            if value is not None and not (value >= 0 and np.isfinite(value)):
                raise ValueError(f"{name} must be at least 0, or None for the paper's, got {value}")
        if self.lr_unlearn == 0 and self.lr_align == 0:
            raise ValueError("lr_unlearn and lr_align are both 0: nothing would be learned")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if isinstance(self.vae_epochs, bool) or not isinstance(self.vae_epochs, int) or self.vae_epochs < 1:
            raise ValueError(f"vae_epochs must be a whole number of at least 1, got {self.vae_epochs!r}")
        retain, forget = source.parts["retain"], source.parts["forget"]
        shapes = [tuple(next(iter(part.batch(np.arange(1)).values())).shape[1:]) for part in (retain, forget)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"X_forget and X_retain: rows of one shape were expected, got {shapes[1]} and {shapes[0]}")
        both = len(shared_rows(retain, forget))
        if both:
            raise ValueError(
                f"X_forget and X_retain share rows: {both} of X_retain are also in X_forget; keep them in one"
            )
        if len(forget) >= len(retain):
            warnings.warn(
                f"{len(forget)} rows are to be forgotten and {len(retain)} to stay: retraining on these is cheaper and surer",
                stacklevel=2,
            )


def _inputs(batch: dict[str, Any]) -> Tensor:
    """What the encoder takes: pixels in [0, 1], or floats as they are."""
    if "image" not in batch:
        given: Tensor = batch["input"]
        return given
    images: Tensor = batch["image"].float() / 255.0
    return images.contiguous(memory_format=torch.channels_last)


def _outputs(layer: nn.Module) -> int:
    return int(layer.out_features)  # type: ignore[arg-type]
