"""Where an interrupted run goes on: network, optimisers and position in one safetensors file."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.optim import Optimizer

from nolabel.training.estimator import write_tensors
from nolabel.training.sharding import load_whole, shared_out, whole

CHECKPOINT = "checkpoint.safetensors"


def save_checkpoint(
    folder: Path | None,
    net: nn.Module,
    optimisers: dict[str, Optimizer],
    position: dict[str, Any],
    extra: dict[str, torch.Tensor],
) -> None:
    """Write everything an exact resume needs. Random states are not among it: they follow from seed and step.

    Where the weights are in shards all ranks must call this, those that do not write without a folder.
    """
    tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
    tensors |= {f"extra.{k}": v for k, v in extra.items()}
    scalars: dict[str, dict[str, Any]] = {}
    for name, optimiser in optimisers.items():
        scalars[name] = {}
        for index, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimiser.{name}.{index}.{key}"] = value
                elif value is not None:
                    scalars[name][f"{index}.{key}"] = value
    flat = {k: whole(v.detach()).cpu().contiguous() for k, v in tensors.items()}
    if folder is None:
        return
    write_tensors(folder / CHECKPOINT, flat, {"position": json.dumps(position), "optimisers": json.dumps(scalars)})


def read_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, torch.Tensor]]:
    """Position, scalar optimiser state and tensors of the checkpoint in `folder`."""
    path = folder / CHECKPOINT
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        return json.loads(metadata["position"]), json.loads(metadata["optimisers"]), tensors
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and learn again") from None


def restore(
    net: nn.Module,
    optimisers: dict[str, Optimizer],
    scalars: dict[str, dict[str, Any]],
    tensors: dict[str, torch.Tensor],
) -> None:
    """Put a checkpoint back into a freshly built network and its optimisers."""
    load_whole(net, {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
    for name, optimiser in optimisers.items():
        state: dict[int, dict[str, Any]] = {}
        prefix = f"optimiser.{name}."
        for key, value in tensors.items():
            if key.startswith(prefix):
                index, _, field = key.removeprefix(prefix).partition(".")
                state.setdefault(int(index), {})[field] = value
        for key, value in scalars.get(name, {}).items():
            index, _, field = key.partition(".")
            state.setdefault(int(index), {})[field] = value
        whole = optimiser.state_dict()
        optimiser.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
        for weight in (weight for group in optimiser.param_groups for weight in group["params"]):
            for key, value in optimiser.state[weight].items():
                if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                    # fused kernels walk through memory: momenta must lie in it as their weights do
                    optimiser.state[weight][key] = torch.empty_like(weight).copy_(shared_out(value, weight))


def extras(tensors: dict[str, torch.Tensor], group: str) -> dict[str, torch.Tensor]:
    """The extra tensors saved under ``group.``."""
    prefix = f"extra.{group}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
