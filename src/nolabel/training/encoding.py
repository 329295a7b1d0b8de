"""The representations of a whole source, whatever order its batches come in."""

from typing import Any

import numpy as np
import torch

from nolabel.data.parts import Parts, Whole
from nolabel.ops.cpu_encoding import CpuEncoding
from nolabel.training.batches import prefetched, to_device
from nolabel.training.devices import launched
from nolabel.training.learner import Learner
from nolabel.training.memory import give_back
from nolabel.training.settings import Training


@torch.no_grad()
def encode_all(learner: Learner, source: Any, **encode: Any) -> np.ndarray:
    """`learner.encode` over every row of `source`, in order: (n, ...) float32."""
    net = learner.net_.eval()
    fabric = launched(getattr(learner, "training_", None) or Training().resolve({}), single=True)
    net.to(fabric.device)
    if isinstance(source, Parts):
        raise ValueError(f"transform takes one data set; this system is fitted on {', '.join(source.parts)}")
    whole = isinstance(source, Whole)
    plan = [np.zeros(1, dtype=np.int64)] if whole else learner.encode_plan(source)
    result: np.ndarray | None = None
    with fabric.autocast(), CpuEncoding():
        for rows, batch in zip(plan, prefetched(source, iter(plan)), strict=True):
            part = learner.encode(net, to_device(batch, fabric.device), **encode).float().cpu().numpy()
            if whole:
                result = part
                break
            if result is None:
                result = np.empty((len(source), *part.shape[1:]), np.float32)
            result[rows] = part
    give_back()
    assert result is not None
    return result
