"""What ranks share, as it is on one; on two see ``test_distributed.py``."""

import signal
import sys

import pytest
import torch
from torch import nn

from nolabel.learn import SimCLR
from nolabel.training import Training, gather
from nolabel.training.interrupts import held_back
from nolabel.training.place import MEETING, first_rank
from nolabel.training.ranks import any_of, mean_of, of_first, total
from nolabel.training.sharding import shard


def test_one_rank_shares_nothing():
    rows = torch.ones(3, 2, requires_grad=True)
    assert gather(rows) is rows
    assert total(rows) is rows
    assert any_of(True)
    assert not any_of(False)
    assert mean_of([1.0, 2.0]) == [1.0, 2.0]
    assert of_first(lambda: "made") == "made"


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "4", "LOCAL_RANK": "0"}, False),  # first of its machine
        ({MEETING: "file", "LOCAL_RANK": "1"}, False),
        ({MEETING: "file", "LOCAL_RANK": "0"}, True),
        ({"SLURM_PROCID": "3"}, True),  # one of many that train each for itself
    ],
)
def test_who_speaks_before_the_processes_have_met(monkeypatch, environment, first):
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", MEETING):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert first_rank() is first


def test_torchrun_with_more_processes_than_devices(monkeypatch, digits):
    """Each would train alone, and write into the folder of the others."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    learner = SimCLR("conv4", image_size=16, training=Training(steps=1, batch_size=8))
    with pytest.raises(ValueError, match="devices x training.nodes is 1, but 2 processes were started"):
        learner.fit(digits[0][:16])


def test_machines_must_be_told_of_each_other(monkeypatch, digits):
    for name in ("MASTER_ADDR", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    learner = SimCLR("conv4", image_size=16, training=Training(steps=1, batch_size=8, nodes=2, accelerator="cpu"))
    with pytest.raises(ValueError, match="nodes=2: start the program on every machine with torchrun or srun"):
        learner.fit(digits[0][:16])


def test_a_single_number_cannot_be_shared_out():
    net = nn.Module()
    net.temperature = nn.Parameter(torch.tensor(0.1))
    with pytest.raises(ValueError, match="'fsdp' shares out every weight, but temperature is a single number"):
        shard(net, mesh=None)


def test_sigterm_waits_for_the_end_of_a_step():
    """As schedulers send it before they kill; the handler that was there is back afterwards."""

    def stop(number, frame):
        raise KeyboardInterrupt("at once")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with held_back() as release:
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(KeyboardInterrupt, match="^$"):
                release()
            with pytest.raises(KeyboardInterrupt, match="at once"):  # the second is not held
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)


def test_simclr_gathers_both_views(monkeypatch):
    """With gathered rows the negatives of the other rank count."""
    seen = []
    monkeypatch.setattr(
        "nolabel.learn.simclr.gather", lambda rows: seen.append(rows.shape) or torch.cat([rows, rows + 1])
    )
    learner = SimCLR(projection=(16, 8))
    net = nn.Module()
    net.encoder, net.head = nn.Flatten(), nn.Linear(4, 8)
    value = learner.loss(net, torch.rand(6, 1, 2, 2))
    assert seen == [(3, 8), (3, 8)]
    assert torch.isfinite(value)


def test_a_session_without_a_program_cannot_start_others(monkeypatch, digits):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(sys, "orig_argv", ["python"])
    learner = SimCLR("conv4", image_size=16, training=Training(steps=1, batch_size=8, devices=2, accelerator="cpu"))
    with pytest.raises(ValueError, match="put it into a file, or use torchrun"):
        learner.fit(digits[0][:16])
