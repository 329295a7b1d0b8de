"""A trained model as an encoder and what stands on it, and the same model with another encoder."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nolabel.data import fingerprint
from nolabel.data.sources import Skipped, checked_rows
from nolabel.learn import ImageClassifier
from nolabel.training import Estimator, ImageLearner

#: Parts of a network that do not remember single images.
PLAIN = ("encoder", "head", "classifier")


class Extractor(nn.Module):
    """The part of a module that ends at one of its layers: what goes into the layer, or what comes out of it.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> Extractor(net, "2", before=True)(torch.rand(5, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(self, model: nn.Module, layer: str, *, before: bool) -> None:
        super().__init__()
        self.model, self.layer, self.before = model, layer, before

    def forward(self, inputs: Tensor) -> Tensor:
        """Embeddings (n, d)."""
        found: list[Tensor] = []
        layer = self.model.get_submodule(self.layer)
        hook = (
            layer.register_forward_pre_hook(lambda _, given: found.append(given[0]))
            if self.before
            else layer.register_forward_hook(lambda _, given, made: found.append(made))
        )
        try:
            self.model(inputs)
        finally:
            hook.remove()
        return found[-1].flatten(1)


@dataclass(frozen=True)
class Split:
    """A model's own encoder and last layer; without a last layer nothing is known of classes."""

    encoder: nn.Module
    head: nn.Module | None


class Tensors:
    """Rows of an array or tensor as a module takes them: a source of batches with the key `input`."""

    def __init__(self, rows: Any, name: str) -> None:
        values = torch.as_tensor(np.asarray(rows) if not isinstance(rows, Tensor) else rows)
        if not values.is_floating_point() or values.ndim < 2:
            shape = tuple(values.shape)
            raise ValueError(
                f"{name}: floats (n, ...) as the module takes them were expected, got {values.dtype} {shape}"
            )
        self.values, self.skipped = values.float(), list[Skipped]()
        self.fingerprint = fingerprint(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        return {"input": self.values[torch.from_numpy(checked_rows(rows, len(self)))]}


def split_model(model: Any, embedding_layer: str) -> Split:
    """The model's parts, not copied.

    Raises
    ------
    ValueError
        For a model whose encoder cannot be told from the rest, or one that remembers images elsewhere as well.
    TypeError
        For what is neither an `ImageLearner` nor a module.
    """
    if isinstance(model, ImageLearner):
        if embedding_layer != "auto":
            raise ValueError(
                f"embedding_layer is for an nn.Module, got {embedding_layer!r} for a {type(model).__name__}"
            )
        return _of_learner(model)
    if isinstance(model, nn.Module):
        return _of_module(model, embedding_layer)
    raise TypeError(f"model must be a fitted image learner or an nn.Module, got {type(model).__name__}")


def _of_learner(model: ImageLearner) -> Split:
    model.require_fitted()
    net: Any = model.net_
    kind = type(model).__name__
    beside = [name for name, _ in net.named_children() if name not in PLAIN]
    beside += list(net._buffers) + list(net._parameters)
    params = model.get_params(deep=False).items()
    beside += [k for k, v in params if isinstance(v, Estimator) and v._learned() and k != "representation"]
    beside += [k for k, v in model._learned().items() if isinstance(v, np.ndarray | Tensor | Estimator)]
    if beside or model.parts:
        what = ", ".join(beside or model.parts)
        raise ValueError(
            f"model: a {kind} holds more of its images than its encoder ({what}), so forgetting there is not enough: expected an "
            "encoder with at most a head, such as an ImageClassifier, SimCLR or RotNet"
        )
    return Split(net.encoder, net.classifier if isinstance(model, ImageClassifier) else None)


def _of_module(model: nn.Module, embedding_layer: str) -> Split:
    layers = dict(model.named_modules())
    named = [name for name in layers if name]
    if embedding_layer != "auto":
        if embedding_layer not in named:
            raise ValueError(f"embedding_layer: the model has no {embedding_layer!r} among {', '.join(named)}")
        return Split(Extractor(model, embedding_layer, before=False), None)
    linear = [name for name in named if isinstance(layers[name], nn.Linear)]
    inside = {id(p) for p in layers[linear[-1]].parameters()} if linear else set()
    if not linear or all(id(p) in inside for p in model.parameters()):
        raise ValueError(
            "model: no linear layer stands on an encoder here: name the layer whose output is the embedding by "
            f"embedding_layer=..., one of {', '.join(named) or 'none'}"
        )
    return Split(Extractor(model, linear[-1], before=True), layers[linear[-1]])


def copied(part: nn.Module) -> nn.Module:
    """A copy in float32; half precision loses steps as small as those of forgetting."""
    return copy.deepcopy(part).float()


def with_encoder(model: Any, encoder: nn.Module, head: nn.Module | None) -> Any:
    """A model like `model`, which stays as it is, with copies of this encoder and last layer."""
    if isinstance(model, nn.Module):
        assert isinstance(encoder, Extractor)
        made = copied(encoder.model)
        if head is not None:
            made.get_submodule(encoder.layer).load_state_dict(head.state_dict())
        return made.eval()
    other = copy.copy(model)
    net: Any = copy.deepcopy(model.net_)
    net.encoder = copy.deepcopy(encoder)
    if head is not None:
        net.classifier = copy.deepcopy(head)
    other.net_ = net.eval()
    learned = getattr(model, "representation", None)
    if learned is not None:  # it would bring the old weights along
        other.encoder, other.representation = learned.encoder, None
        if hasattr(learned, "encoder_description_"):
            other.encoder_description_ = learned.encoder_description_
    return other
