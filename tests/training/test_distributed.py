"""Training on two processes of this machine is the training of one: losses, weights, a lost process, the command."""

import json
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from tests.training import five_systems

import nolabel

LOOPBACK = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
#: Sums over two halves are rounded otherwise than one sum; ten steps carry that on.
CLOSE = {"rtol": 1e-4, "atol": 5e-5}


def said(command, **options):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="module")
def two(digits, docstrings, tmp_path_factory):
    """The folder of two processes, and what the program said when one of them was killed in the end."""
    folder = tmp_path_factory.mktemp("two")
    np.save(folder / "images.npy", digits[0][:64])
    (folder / "texts.txt").write_text("\n".join(docstrings[:200]))
    done = said(["-W", "ignore", five_systems.__file__, str(folder)])  # starts the second process itself
    assert (folder / "1.pt").exists(), done.stderr[-3000:]
    return folder, done


def ranks(folder):
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def one(digits, docstrings):
    return five_systems.fitted(1, digits[0][:64], docstrings[:200])


@pytest.mark.parametrize("system", five_systems.systems(1))
def test_two_processes_equal_one(two, one, system):
    """Every loss and every weight, running statistic, queue and moving average after ten steps."""
    first, second = ranks(two[0])
    names = [name for name in one if name.startswith(f"{system}/")]
    assert len(first[f"{system}/losses"]) == five_systems.STEPS
    for name in names:
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], one[name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


def test_gather_has_the_gradient_of_one_batch(two):
    """d/dx (x w)^2 = 2 x w^2 for the rows of each rank."""
    weights = torch.arange(8.0).view(4, 2)
    for rank, found in enumerate(ranks(two[0])):
        slopes = 2 * found["gathered/rows"] * weights[2 * rank : 2 * rank + 2] ** 2
        torch.testing.assert_close(found["gathered/slopes"], slopes)


def test_weights_in_shards_are_those_of_one_process(two, one):
    """FSDP, interrupted at one process and gone on with: both stopped at the same step, nothing was lost."""
    for shards in ranks(two[0]):
        for name, value in one.items():
            system, _, part = name.partition("/")
            if system in ("simclr", "align"):
                torch.testing.assert_close(shards[f"{system} in shards/{part}"], value, **CLOSE)


def test_a_killed_process_stops_the_run_with_one_line(two):
    folder, done = two
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        f"RankLost: rank 1 of 2 was lost at step {five_systems.LAST}: killed by signal 9; "
        f"go on with the run in {folder / 'run'}: resume=True, or --resume"
    )
    assert done.stderr.count("Traceback") == 1


def test_the_command_goes_on_as_if_nothing_had_been_lost(two):
    """Under torchrun, `nolabel learn --devices 2 --resume` ends with what the unbroken run has; one process speaks."""
    folder, _ = two
    run = folder / "run"
    alone = shutil.copytree(run, folder / "alone")
    words = f"""learn {folder}/images.npy --out {run} --method simclr --encoder resnet8-x0.125 --size 16 --epochs 3
        --set projection=(16,8) --batch-size 16 --lr 0.02 --precision 32-true --devices 2 --resume --json"""
    torchrun = "-m torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc-per-node 2 -m nolabel"
    done = said([*torchrun.split(), *words.split()], env=os.environ | {"GLOO_SOCKET_IFNAME": LOOPBACK})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["images"] == 64  # one object: the other process is silent
    learner, unbroken = nolabel.load(run), ranks(folder)[0]
    for name, value in five_systems.ended_with("unbroken", learner).items():
        assert torch.equal(value, unbroken[name]), name
    there = {path.name for path in run.iterdir()}
    assert there >= {"config.json", "metrics.jsonl", "model.safetensors", "index.lance", "report.html"}
    assert "checkpoint.safetensors" not in there

    learner, data = five_systems.by_command(folder / "images.npy")
    learner.set_params(training__devices=1)
    with pytest.warns(UserWarning, match="goes on with 1 process where it had 2"):
        learner.fit(data, run=alone, resume=True)
    first = five_systems.ended_with("unbroken", learner)["unbroken/losses"]
    assert torch.equal(first[: five_systems.LAST], unbroken["unbroken/losses"][: five_systems.LAST])
    assert len(first) == len(unbroken["unbroken/losses"])
