"""How long and on what to train."""

from typing import Any

from sklearn.base import BaseEstimator

from nolabel.training.optimisers import OPTIMISERS

#: What a system's own recipe does not say.
HOUSE = {
    "epochs": 20,
    "batch_size": 256,
    "optimiser": "sgd",
    "lr": 0.12,
    "weight_decay": 5e-4,
    "warmup": 0.05,
    "clip": 0.0,
}

STRATEGIES = ("auto", "fsdp")


class Training(BaseEstimator):
    """How long, how fast and on what a `Learner` trains. ``None`` means: as the system's own recipe says.

    Parameters
    ----------
    epochs : passes over the data
    batch_size : rows a step, over all devices
    lr, weight_decay, optimiser : peak learning rate; L2 pull on matrices; ``sgd``, ``nesterov``, ``adamw``, ``adam``, ``lars``
    warmup : share of the run in which the rate rises; a cosine brings it down afterwards
    clip : largest norm of the gradient, over all weights of an optimiser; 0 leaves it as it is
    steps : optimisation steps, instead of `epochs`
    minutes : wall time, instead of `epochs`; the schedule then follows the wall clock, so two such runs are not equal bit by bit
    precision : ``auto`` (bfloat16 autocast where the hardware has it), ``32-true``, ``bf16-mixed``, ``16-mixed``
    accelerator : ``auto``, ``cpu``, ``cuda``, ..., as in Lightning Fabric
    devices, nodes : processes a machine, one a device, and machines; see ``docs/scale.md``
    strategy : with several processes: ``auto``, each holds all weights (DDP); ``fsdp``, each holds a part of them
    random_state : seed of initial weights, batches and views
    stop_on_collapse : stop a run whose representation collapses and keep its last healthy weights
    checkpoint_seconds : least time between two checkpoints of a run that has a folder
    logger : ``tensorboard``, ``mlflow`` or ``wandb`` beside the run's ``metrics.jsonl``
    progress : show a progress bar; ``None``: if standard error is a terminal

    >>> Training(epochs=5).resolve({"lr": 0.3}).lr
    0.3
    """

    def __init__(
        self,
        epochs: int | None = None,
        *,
        batch_size: int | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        optimiser: str | None = None,
        warmup: float | None = None,
        clip: float | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        precision: str = "auto",
        accelerator: str = "auto",
        devices: int = 1,
        nodes: int = 1,
        strategy: str = "auto",
        random_state: int = 0,
        stop_on_collapse: bool = True,
        checkpoint_seconds: float = 60.0,
        logger: str | None = None,
        progress: bool | None = None,
    ) -> None:
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.optimiser = optimiser
        self.warmup = warmup
        self.clip = clip
        self.steps = steps
        self.minutes = minutes
        self.precision = precision
        self.accelerator = accelerator
        self.devices = devices
        self.nodes = nodes
        self.strategy = strategy
        self.random_state = random_state
        self.stop_on_collapse = stop_on_collapse
        self.checkpoint_seconds = checkpoint_seconds
        self.logger = logger
        self.progress = progress

    def resolve(self, recipe: dict[str, Any]) -> "Training":
        """A checked copy in which every ``None`` of the recipe's settings is filled in."""
        unknown = sorted(set(recipe) - set(HOUSE))
        if unknown:
            raise ValueError(f"a recipe may set {', '.join(HOUSE)}; got {', '.join(unknown)}")
        params = self.get_params()
        budgets = [name for name in ("epochs", "steps", "minutes") if params[name] is not None]
        if len(budgets) > 1:
            raise ValueError(f"training.{' and training.'.join(budgets)} are two budgets: give one of them")
        params.update({k: v for k, v in {**HOUSE, **recipe}.items() if params[k] is None})
        filled = Training(**params)
        filled._check()
        return filled

    def _check(self) -> None:
        for name in ("epochs", "batch_size", "steps", "devices", "nodes"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"training.{name} must be a whole number of at least 1, got {value!r}")
        if isinstance(self.random_state, bool) or not isinstance(self.random_state, int) or self.random_state < 0:
            raise ValueError(f"training.random_state must be a whole number of at least 0, got {self.random_state!r}")
        for name, least, least_allowed in (
            ("lr", 0.0, False),
            ("weight_decay", 0.0, True),
            ("clip", 0.0, True),
            ("minutes", 0.0, False),
            ("checkpoint_seconds", 0.0, True),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int | float) or not (value > least or (least_allowed and value == least)):
                bound = "at least" if least_allowed else "above"
                raise ValueError(f"training.{name} must be {bound} {least:g}, got {value!r}")
        if self.warmup is not None and not 0.0 <= self.warmup < 1.0:
            raise ValueError(f"training.warmup is a share of the run and must lie in [0, 1), got {self.warmup!r}")
        if self.strategy not in STRATEGIES:
            raise ValueError(f"training.strategy must be one of {', '.join(STRATEGIES)}, got {self.strategy!r}")
        if self.optimiser is not None and self.optimiser not in OPTIMISERS:
            raise ValueError(f"training.optimiser must be one of {', '.join(OPTIMISERS)}, got {self.optimiser!r}")
