"""Which rows a step sees: a function of seed, epoch and step alone, so that a resumed run repeats it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from nolabel.data.parts import Parts, Whole

Rows = np.ndarray | dict[str, np.ndarray]


def shuffled(rows: int, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Whole batches of a random order of `rows` rows; the incomplete last one is left out.

    >>> [len(b) for b in shuffled(10, 4, np.random.default_rng(0))]
    [4, 4]
    """
    order = rng.permutation(rows)
    return [order[i : i + batch_size] for i in range(0, rows - batch_size + 1, batch_size)]


def bucketed(lengths: np.ndarray, batch_size: int, rng: np.random.Generator, pool: int = 32) -> list[np.ndarray]:
    """Whole batches of rows of like length, in random order; the incomplete last one is left out.

    The rows are shuffled, sorted by length within pools of `pool` batches, cut into batches, and these are shuffled: little
    padding, and no two epochs alike.

    >>> sorted(len(b) for b in bucketed(np.array([5, 1, 9, 2, 7]), 2, np.random.default_rng(0)))
    [2, 2]
    """
    order = rng.permutation(len(lengths))
    batches: list[np.ndarray] = []
    whole = len(order) // batch_size * batch_size
    for start in range(0, whole, pool * batch_size):
        part = order[start : min(start + pool * batch_size, whole)]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def within_budget(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """All rows by rising length, in batches that stay within `budget` tokens with their padding (a longer row stands alone).

    >>> [b.tolist() for b in within_budget(np.array([4, 1, 2, 9]), 8)]
    [[1, 2], [0], [3]]
    """
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or (stop + 1 - start) * lengths[order[stop]] > budget:
            batches.append(order[start:stop])
            start = stop
    return batches


def cycled(rows: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """`wanted` row numbers in which every row comes once before any comes again."""
    return np.concatenate([rng.permutation(rows) for _ in range(-(-wanted // rows))])[:wanted]


def epoch_plan(source: Any, batch_size: int, rng: np.random.Generator) -> list[Rows]:
    """The batches of one epoch over a source of any kind."""
    if isinstance(source, Whole):
        return [np.zeros(1, dtype=np.int64)]
    if isinstance(source, Parts):
        steps = len(source) // batch_size
        streams = {name: cycled(len(part), steps * batch_size, rng) for name, part in source.parts.items()}
        return [{name: s[i * batch_size : (i + 1) * batch_size] for name, s in streams.items()} for i in range(steps)]
    return list(shuffled(len(source), batch_size, rng))


def share_of_rank(rows: Rows, rank: int, world: int) -> Rows:
    """The contiguous piece of a global batch that one rank works on; all are equally large, so that each row counts alike.

    >>> share_of_rank(np.arange(6), rank=1, world=2).tolist()
    [3, 4, 5]
    """
    if world == 1:
        return rows
    if isinstance(rows, dict):
        return {name: _piece(part, rank, world) for name, part in rows.items()}
    return _piece(rows, rank, world)


def _piece(rows: np.ndarray, rank: int, world: int) -> np.ndarray:
    size, rest = divmod(len(rows), world)
    if rest:
        raise ValueError(
            f"a batch of {len(rows)} rows cannot be shared equally by {world} processes: give a batch_size (--batch-size) "
            f"that is a multiple of {world}"
        )
    return rows[rank * size : (rank + 1) * size]


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor (or object with ``.to``) of a nested batch; texts and numbers stay."""
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    return batch.to(device) if hasattr(batch, "to") else batch


def prefetched(source: Any, plan: Iterator[Rows]) -> Iterator[Any]:
    """Batches in the order of the plan, the next one read while the present one is worked on."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="nolabel-batches") as reader:
        ahead = None
        for rows in plan:
            following = reader.submit(source.batch, rows)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()


def held_out_rows(rows: int, seed: int) -> np.ndarray:
    """Rows kept out of training to see whether it generalises: 5 %, at least 1 and at most 1,000, fixed by the seed."""
    order = np.random.default_rng([seed % 2**32, 5]).permutation(rows)
    return np.sort(order[: min(max(rows // 20, 1), 1000)])


class Some:
    """Some rows of a source, under new row numbers."""

    def __init__(self, source: Any, rows: np.ndarray) -> None:
        self.source, self.rows = source, rows
        self.fingerprint = f"{source.fingerprint}[{len(rows)} rows]"
        self.skipped: list[Any] = []

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        batch: dict[str, Any] = self.source.batch(self.rows[rows])
        return batch
