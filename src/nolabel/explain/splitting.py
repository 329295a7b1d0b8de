"""A network cut in two at a layer: images to activations, activations to outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nolabel.training import ImageLearner

#: Largest difference of the two halves in a row from the whole network, relative to its outputs.
TOLERANCE = 1e-3


class _Reached(Exception):
    """The layer was reached: what comes after it need not run."""


class Classified(nn.Module):
    """Pixels to the outputs of a head on an encoder's vectors; uint8 pixels are brought to [0, 1]."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        images = images if images.is_floating_point() else images.float() / 255.0
        outputs: Tensor = self.head(self.encoder(images.contiguous(memory_format=torch.channels_last)))
        return outputs


class Front(nn.Module):
    """The network up to a layer: images (n, ...) to activations (n, p) or (n, p, h, w), without gradients."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model = model
        self.name = name

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        found: list[Tensor] = []

        def stop(module: nn.Module, given: Any, output: Any) -> None:
            found.append(as_activations(output, self.name).clone())
            raise _Reached

        handle = self.model.get_submodule(self.name).register_forward_hook(stop)
        try:
            with evaluating(self.model):
                self.model(images.to(device_of(self.model)))
        except _Reached:
            return found[0]
        finally:
            handle.remove()
        raise ValueError(f"layer {self.name!r} plays no part in the model's forward pass")


class Back(nn.Module):
    """The rest of the network: activations of a layer to outputs (n, classes), differentiable.

    What lies before the layer sees one stored image, and the layer's output is replaced.
    """

    image: Tensor

    def __init__(self, model: nn.Module, name: str, image: Tensor, tokens: bool = False) -> None:
        super().__init__()
        self.model = model
        self.name = name
        self.tokens = tokens
        self.register_buffer("image", image[:1])

    def forward(self, activations: Tensor) -> Tensor:
        layer: Any = self.model.get_submodule(self.name)
        activations = activations.to(device_of(self.model))

        def replaced(*given: Any, **more: Any) -> Tensor:
            return activations.flatten(2).transpose(1, 2) if self.tokens else activations

        layer.forward = replaced  # unlike a hook it spares the layer's own work
        try:
            with evaluating(self.model):
                outputs: Tensor = self.model(self.image.to(activations.device))
        finally:
            del layer.forward
        return outputs


@dataclass(frozen=True)
class Split:
    """The two halves of a network.

    Attributes
    ----------
    encode : images to activations (n, p), or (n, p, h, w) at a map
    decode : activations to outputs (n, classes)
    layer : where it was cut
    layers : name to shape, without the first axis, of every layer that it can be cut at
    """

    encode: Front
    decode: Back
    layer: str
    layers: dict[str, tuple[int, ...]]

    def __iter__(self) -> Iterator[nn.Module]:
        yield self.encode
        yield self.decode


def split_model(
    model: Any, layer: str | None = None, *, example: Tensor | None = None, head: nn.Module | None = None
) -> Split:
    """Cut a network in two at a layer.

    Parameters
    ----------
    model : fitted `ImageClassifier` or other `ImageLearner`, or any ``nn.Module`` from images to outputs (n, classes)
    layer : a name of `Split.layers`. Of a learner ``representation`` (what its last layer sees) or a stage of its encoder;
        ``None`` takes the last map, so that concepts have a place in the image. Of a module, the name of any sub-module;
        ``None`` is an error that lists them.
    example : a few images as the module takes them; needed for a module
    head : of a learner that has no classifier: what stands on its representation, such as a linear layer

    Returns
    -------
    Split
        ``encode, decode = split_model(...)`` works as well. For a learner `encode` takes uint8 images (n, c, h, w) as its
        source holds them, or floats in [0, 1].

    Raises
    ------
    ValueError
        No such layer (the message lists those there are), or something of the network goes around it.
    TypeError
        Neither a learner of images nor a module.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> encode, decode = split_model(net, "2", example=torch.rand(5, 1, 2, 2))
    >>> images = torch.rand(7, 1, 2, 2)
    >>> bool(torch.allclose(decode(encode(images)), net(images)))
    True
    """
    if isinstance(model, ImageLearner):
        whole, names, example = _of_learner(model, head)
        layer = layer or [*names][-1 if len(names) == 1 else -2]
    elif isinstance(model, nn.Module):
        if example is None:
            raise ValueError("example: a module needs a few images to show the shapes of its layers, got None")
        whole, names = model, {name: name for name, _ in model.named_modules() if name}
    else:
        raise TypeError(f"model must be a fitted ImageLearner or an nn.Module, got {type(model).__name__}")
    seen = _outputs(whole, example)
    layers = {name: tuple(as_activations(seen[at]).shape[1:]) for name, at in names.items() if _fits(seen.get(at))}
    if layer not in layers:
        known = ", ".join(f"{name} ({' x '.join(map(str, shape))})" for name, shape in layers.items())
        raise ValueError(f"layer must be one of {known}; got {layer!r}")
    front, back = Front(whole, names[layer]), Back(whole, names[layer], example, seen[names[layer]].ndim == 3)
    _require_whole(whole, front, back, example, layer)
    return Split(front, back, layer, layers)


def _of_learner(learner: Any, head: nn.Module | None) -> tuple[nn.Module, dict[str, str], Tensor]:
    """The whole network of a learner, its layers by name and place, and an image that shows shapes."""
    learner.require_fitted()
    encoder = getattr(learner.net_, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise ValueError(f"this {type(learner).__name__} has no encoder to look into")
    head = head or getattr(learner.net_, "classifier", None) or nn.Identity()
    whole = Classified(encoder, head)
    described = learner.example_["batch"]
    shape = (described[learner.parts[0]]["batch"] if learner.parts else described)["image"]["shape"]
    noise = torch.rand((2, *shape[1:]), generator=torch.Generator().manual_seed(0))
    places: dict[str, str] = {}
    widths: Any = getattr(encoder, "channels", None)
    if isinstance(widths, dict) and widths:
        with torch.no_grad(), evaluating(whole):
            maps: dict[str, Tensor] = encoder.stages(noise.to(device_of(whole)))  # type: ignore[operator]
        seen = _outputs(whole, noise)
        for stage, found in maps.items():
            equal = [name for name, output in seen.items() if _fits(output) and _same(as_activations(output), found)]
            if equal:  # the last one: what follows it sees this very map
                places[stage] = equal[-1]
    return whole, {**places, "representation": "encoder"}, noise


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-4, atol=1e-5))


@torch.no_grad()
def _outputs(model: nn.Module, images: Tensor) -> dict[str, Any]:
    """What every sub-module gives out for some images, in the order in which they run."""
    seen: dict[str, Any] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            seen.pop(name, None)
            seen[name] = output.clone() if isinstance(output, Tensor) else output

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        with evaluating(model):
            model(images.to(device_of(model)))
    finally:
        for handle in handles:
            handle.remove()
    return seen


@torch.no_grad()
def _require_whole(model: nn.Module, front: Front, back: Back, example: Tensor, layer: str) -> None:
    """Refuse a cut that something goes around: the halves in a row then differ from the network."""
    with evaluating(model):
        whole = model(example.to(device_of(model)))
    if not isinstance(whole, Tensor) or whole.ndim != 2:
        came = f"shape {tuple(whole.shape)}" if isinstance(whole, Tensor) else type(whole).__name__
        raise ValueError(f"model must give outputs (n, classes), got {came}")
    try:
        found = back(front(example))
        scale = float(whole.abs().max()) or 1.0
        fits = found.shape == whole.shape and float((found - whole).abs().max()) <= TOLERANCE * scale
    except RuntimeError:  # sizes that do not match: something else of the images is still needed
        fits = False
    if not fits:
        raise ValueError(
            f"layer {layer!r} cannot be cut at: other parts of the network go around it, or it runs twice; choose the end "
            "of a block"
        )


def _fits(output: Any) -> bool:
    try:
        as_activations(output)
    except (TypeError, ValueError):
        return False
    return True


def as_activations(output: Any, layer: str = "layer") -> Tensor:
    """Activations (n, p) or (n, p, h, w) of a layer; tokens (n, side * side, p) become a map (n, p, side, side)."""
    if not isinstance(output, Tensor):
        raise TypeError(f"{layer}: one tensor of activations was expected, got {type(output).__name__}")
    if output.ndim == 3:
        side = round(output.shape[1] ** 0.5)
        if side**2 != output.shape[1]:
            raise ValueError(f"{layer}: tokens must be those of a square grid, got {output.shape[1]} of them")
        return output.transpose(1, 2).unflatten(2, (side, side))
    if output.ndim not in (2, 4):
        raise ValueError(f"{layer}: activations (n, p) or (n, p, h, w) were expected, got shape {tuple(output.shape)}")
    return output


def device_of(module: nn.Module) -> torch.device:
    """Where the weights of a module are."""
    first = next(module.parameters(), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model as it is used, not trained; afterwards every part is as before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
