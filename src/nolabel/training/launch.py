"""The processes of a run on several devices: how they start, find each other, and end."""

import atexit
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from nolabel.training.place import MEETING
from nolabel.training.ranks import distributed

#: How long a process may say nothing before the others give it up. Short of it nothing is amiss: reading data takes time.
PATIENCE = timedelta(minutes=10)

_others: list[subprocess.Popen[bytes]] = []  # started by this process, by rank from 1
_failed: list[bool] = []  # whether a training ended before its time
_meeting: list[Any] = []  # the store through which this process knows the others


def join(environment: Any, devices: int, nodes: int, *, cuda: bool) -> None:
    """Make this process one of ``devices * nodes``; start the others of this machine unless somebody else has.

    Parameters
    ----------
    environment : Lightning's, which knows whether torchrun, SLURM or another started this process, and its place

    Raises
    ------
    ValueError : the number of processes is not what the training asks for, or they cannot be started
    ConnectionError : a process has ended before all were there
    """
    world = devices * nodes
    if distributed.is_initialized():
        if not _meeting:
            raise ValueError("this process has a torch.distributed group already: leave it to the training to make one")
        if distributed.get_world_size() != world:
            raise ValueError(_mismatch(world, distributed.get_world_size()))
        return
    if environment.creates_processes_externally:
        started = int(os.environ.get("WORLD_SIZE", world))
        if started != world:
            raise ValueError(_mismatch(world, started))
    else:
        _start_others(environment, devices, nodes)
    try:
        _meet(environment, devices, world, cuda)
    except BaseException:
        dismiss()
        raise


def _meet(environment: Any, devices: int, world: int, cuda: bool) -> None:
    """Find the other processes and form a group with them."""
    rank = environment.node_rank() * devices + environment.local_rank()
    if MEETING in os.environ:
        # on one machine a file will do: no port is opened, and what a lost process said stays readable
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if platform.system() == "Darwin" else "lo")
        store = distributed.FileStore(os.environ[MEETING], world)
        store.set(f"here/{rank}", "1")
        _await_others(store)
    else:
        os.environ["MASTER_ADDR"] = environment.main_address
        os.environ["MASTER_PORT"] = str(environment.main_port)
        store, _, _ = next(distributed.rendezvous("env://", rank, world, timeout=PATIENCE))
    if cuda:
        import torch

        torch.cuda.set_device(environment.local_rank())
    group = distributed.PrefixStore("group", store)
    distributed.init_process_group(
        "nccl" if cuda else "gloo", store=group, rank=rank, world_size=world, timeout=PATIENCE
    )
    _meeting.append(distributed.PrefixStore("ended", store))
    atexit.register(_leave)


def refuse_alone() -> None:
    """Raise `ValueError` where torchrun started several processes for a training that asks for one."""
    started = int(os.environ.get("WORLD_SIZE", 1))
    if distributed.is_torchelastic_launched() and started > 1 and not distributed.is_initialized():
        raise ValueError(_mismatch(1, started))


def ended() -> Any:
    """The store in which ranks leave word of why they ended."""
    return _meeting[0]


def fate(rank: int) -> str:
    """How a process that this one started has ended, in words; empty if that is not known."""
    if not 0 < rank <= len(_others) or _others[rank - 1].poll() is None:
        return ""
    code = _others[rank - 1].returncode
    return f"killed by signal {-code}" if code < 0 else f"it ended with code {code}"


def _mismatch(asked: int, there: int) -> str:
    return (
        f"training.devices x training.nodes is {asked}, but {there} process{'es were' if there > 1 else ' was'} started: "
        "make them equal (--devices: processes a machine, --nodes: machines)"
    )


def _start_others(environment: Any, devices: int, nodes: int) -> None:
    """Run this program again for every further device of this machine."""
    if nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= set(os.environ):
        raise ValueError(
            f"training.nodes={nodes}: start the program on every machine with torchrun or srun, or set MASTER_ADDR, "
            "MASTER_PORT and NODE_RANK there"
        )
    if hasattr(sys, "ps1") or not sys.orig_argv[1:] or sys.orig_argv[1] == "-":
        raise ValueError(
            f"training.devices={devices} runs the program once a device: put it into a file, or use torchrun"
        )
    os.environ.update(LOCAL_RANK="0", NODE_RANK=str(environment.node_rank()))
    if nodes == 1:
        os.environ[MEETING] = str(Path(tempfile.mkdtemp(prefix="nolabel-")) / "store")
    command = [sys.executable, *sys.orig_argv[1:]]
    for rank in range(1, devices):
        _others.append(subprocess.Popen(command, env=os.environ | {"LOCAL_RANK": str(rank)}, stdin=subprocess.DEVNULL))


def _await_others(store: Any) -> None:
    """Wait for the processes that were started here; one that ends before it is there will never come."""
    while _others and not store.check([f"here/{rank}" for rank in range(1, len(_others) + 1)]):
        for rank in range(1, len(_others) + 1):
            if word := fate(rank):
                raise ConnectionError(
                    f"process {rank} of {len(_others) + 1} was lost before the training began: {word}"
                )
        time.sleep(0.05)


def _leave() -> None:
    """At the end of the program: part from the others, and of those that were started here leave none behind."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
    if _failed or hasattr(sys, "last_value"):  # or with a traceback: the others would wait for this process in vain
        dismiss()
    for other in _others:
        other.wait()
    if _others and MEETING in os.environ:
        shutil.rmtree(Path(os.environ[MEETING]).parent, ignore_errors=True)


def failed() -> None:
    """Remember, for the end of the program, that the processes may not all end by themselves."""
    _failed.append(True)


def dismiss() -> None:
    """End the processes that were started here, after a failure: each has a moment to end by itself."""
    until = time.monotonic() + 5
    for other in _others:
        try:
            other.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            other.kill()
