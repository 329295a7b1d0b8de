"""One function over many items: in this process, or on a Ray cluster through Ray Data.

Both engines call the same function and give one attempt an item, in whatever order they end. On Ray a worker that dies is
replaced and what it had in hand is done again, so a function that writes must be content to be called twice for an item.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Attempt:
    """What came of one item: its value, or why there is none."""

    item: Any
    value: Any
    error: str | None = None


def each(
    items: Sequence[Any], function: Callable[[Any], Any], *, engine: str = "local", address: str | None = None
) -> Iterator[Attempt]:
    """Call `function` on every item.

    Parameters
    ----------
    items : things that can be pickled, such as shards
    function : can be pickled; on Ray each worker has a copy of its own, which it keeps from item to item
    engine : ``local``, or ``ray``
    address : of a running Ray cluster, ``HOST:PORT``; by default Ray is started on this machine, for this call

    Yields
    ------
    An `Attempt` an item. A ValueError, TypeError or OSError of the function is the item's; everything else ends the run.

    >>> [attempt.value for attempt in each([4, 9], float)]
    [4.0, 9.0]
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if address is not None and engine != "ray":
        raise ValueError(f"an address is of a Ray cluster: {address!r} needs engine='ray'")
    if engine == "local":
        return (_attempt(function, item) for item in items)
    return _on_ray(items, function, address)


def _attempt(function: Callable[[Any], Any], item: Any) -> Attempt:
    try:
        return Attempt(item, function(item))
    except (ValueError, TypeError, OSError) as error:
        return Attempt(item, None, " ".join(str(error).split()) or type(error).__name__)


class _Worker:
    """The function in a process of the cluster. Items and attempts are pickled, as everything is between Ray's processes."""

    def __init__(self, parcel: Any) -> None:
        import ray

        self.function = ray.get(parcel)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"attempt": [pickle.dumps(_attempt(self.function, pickle.loads(item))) for item in batch["item"]]}


def _on_ray(items: Sequence[Any], function: Callable[[Any], Any], address: str | None) -> Iterator[Attempt]:
    if not items:
        return
    # Ray says on standard output which workers it lost, where answers are printed
    with redirect_stdout(sys.stderr), connected(address) as ray:
        parcel = ray.put(function)  # once for all workers; it lies with this process, whatever node is lost
        cluster = ray.cluster_resources()
        device = {"num_gpus": 1} if cluster.get("GPU", 0) >= 1 else {"num_cpus": 1}
        places = int(cluster.get("GPU", 0)) or int(cluster.get("CPU", 0))
        if not places:
            raise ValueError("the Ray cluster has neither a CPU nor a GPU to work on")
        workers = min(places, len(items))
        blocks = ray.data.from_items([{"item": pickle.dumps(item)} for item in items], override_num_blocks=len(items))
        results = blocks.map_batches(
            _Worker,
            fn_constructor_args=(parcel,),
            batch_size=1,
            zero_copy_batch=True,
            # A lost node's worker cannot come back while the others fill the cluster: they have to give way at the end.
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=2
            ),
            **device,
        )
        results.context.enable_progress_bars = False
        results.context.print_on_execution_start = False
        for row in results.iter_rows():
            yield pickle.loads(row["attempt"])


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster; one that is started here is on the loopback interface alone, and ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong is raised as well
    try:
        import ray
        import ray.data
    except ImportError:
        raise ImportError("engine='ray' needs Ray: pip install 'nolabel[corpus]'") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it says at length that its progress bars are off
    if ray.is_initialized():
        known = ray.get_runtime_context().gcs_address
        if address not in (None, known):
            raise ValueError(f"this process is connected to the Ray cluster {known} already, not to {address}")
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        with loopback():
            ray.init(address="local", include_dashboard=False, **quiet)
    else:
        with loopback() if address.startswith(("127.0.0.1:", "localhost:")) else nullcontext():
            ray.init(address=address, **quiet)
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def loopback() -> Iterator[None]:
    """Within the block Ray takes 127.0.0.1 for what it is; else it stands there for the address that others see."""
    from ray._private import ray_constants

    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # of the systems where Ray keeps to the loopback by default
    before, meant = os.environ.get(name), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = meant
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
