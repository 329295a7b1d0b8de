"""An interrupted run goes on as if nothing had happened; a folder allows only what makes sense."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import nolabel
from nolabel.learn import DenoisingAutoencoder, GSimCLR, RotNet, SimCLR, SwAV, Untrained
from nolabel.training import Training
from nolabel.training.checkpoint import CHECKPOINT

pytestmark = pytest.mark.filterwarnings("ignore:orientation carries no signal")


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:72]


def tiny(cls, steps=12, **settings):
    gentle = {"lr": 0.01} if cls is GSimCLR else {}
    few = Training(steps=steps, **{"batch_size": 16, "checkpoint_seconds": 0, **gentle, **settings})
    if cls is DenoisingAutoencoder:
        return cls(image_size=16, training=few)
    more = {
        SwAV: {"prototypes": 8, "projection": (16, 8), "queue_length": 32},
        SimCLR: {"projection": (16, 8)},
        GSimCLR: {
            "projection": (16, 8),
            "features": DenoisingAutoencoder(image_size=16, training=Training(steps=2, batch_size=16)),
        },
    }
    return cls("resnet10-x0.125", image_size=16, training=few, **more.get(cls, {}))


class PowerCut(Exception):
    pass


def cut_at(learner, step):
    """Make a learner fail before this step, as if the power had gone."""
    usual = learner.before_step

    def before_step(net, clock):
        if clock.step == step:
            raise PowerCut
        usual(net, clock)

    learner.before_step = before_step
    return learner


def losses(rows):
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def scores(rows):
    return [(row["step"], row["rankme"], row["verdict"]) for row in rows if "verdict" in row]


def assert_same(one, other):
    for (name, weight), theirs in zip(one.net_.state_dict().items(), other.net_.state_dict().values(), strict=True):
        assert torch.equal(weight, theirs), name
    assert losses(one.history_) == losses(other.history_)
    assert scores(one.history_) == scores(other.history_)
    assert one.health_ == other.health_
    arrays = {k: v for k, v in vars(one).items() if k.endswith("_") and isinstance(v, np.ndarray)}
    for name, value in arrays.items():
        assert np.array_equal(value, getattr(other, name)), name


def journal(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# Exactness ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (SimCLR, {"optimiser": "sgd"}),
        (SimCLR, {"optimiser": "adamw", "lr": 0.01}),
        (SimCLR, {"optimiser": "lars"}),
        (SwAV, {"optimiser": "adam", "lr": 0.01}),
        (SwAV, {"optimiser": "nesterov", "lr": 0.05}),
        (RotNet, {}),
        (GSimCLR, {}),
        (DenoisingAutoencoder, {}),
    ],
)
def test_resumed_is_unbroken_bit_by_bit(cls, settings, images, tmp_path):
    unbroken = tiny(cls, **settings).fit(images)
    for cut in (6, 9):  # the second time, the resumed run is cut as well
        broken = cut_at(tiny(cls, **settings), cut)
        with pytest.raises(PowerCut):
            broken.fit(images, run=tmp_path, resume=cut > 6)
        assert (tmp_path / CHECKPOINT).exists()
        with pytest.raises(ValueError, match="unfinished run: learn again with resume"):
            nolabel.load(tmp_path)
    resumed = tiny(cls, **settings).fit(images, run=tmp_path, resume=True)
    assert_same(resumed, unbroken)
    assert [row["step"] for row in journal(tmp_path) if "loss" in row] == list(range(1, 13))
    assert not (tmp_path / CHECKPOINT).exists()
    assert_same(nolabel.load(tmp_path), unbroken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "metrics.jsonl", "model.safetensors"]
    if cls is GSimCLR:
        assert resumed.coverage_ == unbroken.coverage_


def test_pseudo_labels_are_not_made_twice(images, tmp_path):
    broken = cut_at(tiny(GSimCLR), 5)
    with pytest.raises(PowerCut):
        broken.fit(images, run=tmp_path)
    learner = tiny(GSimCLR)
    learner.prepare = lambda *args: pytest.fail("the autoencoder was trained again")
    learner.fit(images, run=tmp_path, resume=True)
    assert np.array_equal(learner.pseudo_labels_, broken.pseudo_labels_)


def test_early_stopping_remembers_what_it_saw(images, tmp_path):
    """Errors before the cut count: the resumed run stops at the same epoch."""
    unbroken = tiny(DenoisingAutoencoder, steps=None).set_params(patience=1, training__lr=0.05, training__epochs=30)
    unbroken.fit(images)
    stop = unbroken.history_[-1]["step"]
    assert stop < 30 * 4  # it did stop early
    broken = cut_at(tiny(DenoisingAutoencoder, steps=None), stop - 1)
    broken.set_params(patience=1, training__lr=0.05, training__epochs=30)
    with pytest.raises(PowerCut):
        broken.fit(images, run=tmp_path)
    resumed = tiny(DenoisingAutoencoder, steps=None).set_params(patience=1, training__lr=0.05, training__epochs=30)
    assert_same(resumed.fit(images, run=tmp_path, resume=True), unbroken)
    assert len(resumed.held_out_errors_) > 2


class Staged(SimCLR):
    """Learns values of every kind in a stage of its own, before the network is built."""

    def prepare(self, source, folder):
        self.stage_ = Untrained("resnet10-x0.125", image_size=16).fit_source(source)
        self.share_, self.notes_, self.rows_ = 0.25, {"kinds": [1, "two"]}, np.arange(len(source))


def test_what_a_stage_learned_survives(images, tmp_path):
    settings = tiny(SimCLR).get_params(deep=False)
    unbroken = Staged(**settings).fit(images)
    with pytest.raises(PowerCut):
        cut_at(Staged(**settings), 5).fit(images, run=tmp_path)
    resumed = Staged(**settings)
    resumed.prepare = lambda *args: pytest.fail("the stage ran again")
    resumed.fit(images, run=tmp_path, resume=True)
    assert_same(resumed, unbroken)
    assert (resumed.share_, resumed.notes_) == (0.25, {"kinds": [1, "two"]})
    assert np.array_equal(resumed.stage_.transform(images), unbroken.stage_.transform(images))
    loaded = Staged.load(tmp_path)
    assert np.array_equal(loaded.stage_.transform(images), unbroken.stage_.transform(images))


SCRIPT = """
import sys, time, torch
torch.set_num_threads(1)
import numpy as np
from nolabel.learn import SwAV
from nolabel.training import Training
few = Training(steps=40, batch_size=16, checkpoint_seconds=0, precision="32-true")
SwAV.after_step = lambda self, net, clock: time.sleep(0.1)  # long enough to be caught in the middle
swav = SwAV("resnet10-x0.125", image_size=16, prototypes=8, projection=(16, 8), queue_length=32, training=few)
swav.fit(np.load(sys.argv[1]), run=sys.argv[2])
"""


def test_killed_in_the_middle(images, tmp_path):
    """A process that trains is killed without warning; meanwhile its folder is closed to others."""
    np.save(tmp_path / "images.npy", images)
    folder, learner = tmp_path / "run", tiny(SwAV, steps=40, precision="32-true")
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path / "images.npy", folder])
    try:
        deadline = time.monotonic() + 100
        while not (folder / CHECKPOINT).exists() or len(journal(folder)) < 12:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run never began"
            time.sleep(0.005)
        with pytest.raises(BlockingIOError, match=f"run is in use by process {process.pid}: wait for it"):
            learner.fit(images, run=folder, resume=True)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    done = losses(journal(folder))[-1][0]
    assert 10 <= done < 40
    resumed = learner.fit(images, run=folder, resume=True)
    assert_same(resumed, tiny(SwAV, steps=40, checkpoint_seconds=60, precision="32-true").fit(images))
    assert [step for step, _ in losses(journal(folder))] == list(range(1, 41))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "metrics.jsonl", "model.safetensors"]


# Ctrl-C -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _usual_handler():
    """The handler a person's process has (test runners may set another)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def press_at(learner, step, times=1):
    """Press Ctrl-C in the middle of a step, after the forward pass moved running statistics and the queue."""
    usual, calls = learner.loss, []

    def loss(net, views):
        value = usual(net, views)
        calls.append(None)
        if len(calls) == step:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return value

    learner.loss = loss
    return learner


@pytest.mark.usefixtures("_usual_handler")
@pytest.mark.parametrize("cls", [SwAV, RotNet])
def test_ctrl_c_waits_for_the_step_and_keeps_a_checkpoint(cls, images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        press_at(tiny(cls, checkpoint_seconds=1e9), 7).fit(images, run=tmp_path)
    assert [step for step, _ in losses(journal(tmp_path))] == list(range(1, 8))  # the seventh step was finished
    resumed = tiny(cls, checkpoint_seconds=1e9).fit(images, run=tmp_path, resume=True)
    assert_same(resumed, tiny(cls).fit(images))


@pytest.mark.usefixtures("_usual_handler")
def test_ctrl_c_twice_ends_at_once_and_leaves_the_last_whole_checkpoint(images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        press_at(tiny(SwAV), 7, times=2).fit(images, run=tmp_path)
    resumed = tiny(SwAV).fit(images, run=tmp_path, resume=True)
    assert_same(resumed, tiny(SwAV).fit(images))


@pytest.mark.usefixtures("_usual_handler")
def test_ctrl_c_without_a_folder(images):
    with pytest.raises(KeyboardInterrupt):
        press_at(tiny(SimCLR), 3).fit(images)


# What a folder allows -----------------------------------------------------------------------------------------------


@pytest.fixture
def unfinished(images, tmp_path):
    with pytest.raises(PowerCut):
        cut_at(tiny(SimCLR), 4).fit(images, run=tmp_path)
    return tmp_path


def test_resume_wants_the_same_run(unfinished, images):
    before = (unfinished / CHECKPOINT).read_bytes()
    with pytest.raises(ValueError, match="was begun with another data: resume needs the same"):
        tiny(SimCLR).fit(images[::-1].copy(), run=unfinished, resume=True)
    for change in ({"temperature": 0.3}, {"training__steps": 13}, {"training__random_state": 1}, {"training__lr": 0.3}):
        with pytest.raises(ValueError, match="was begun with another parameters"):
            tiny(SimCLR).set_params(**change).fit(images, run=unfinished, resume=True)
    with pytest.raises(ValueError, match="was begun with another class"):
        tiny(RotNet).fit(images, run=unfinished, resume=True)
    with pytest.raises(ValueError, match="holds an unfinished run: resume it, choose another folder or delete it"):
        tiny(SimCLR).fit(images, run=unfinished)
    with pytest.raises(ValueError, match="holds a run of a method that trains"):
        learner = Untrained("resnet10-x0.125", image_size=16, training=tiny(SimCLR).training)
        type(learner).__name__ = "SimCLR"
        try:
            learner.get_params = lambda deep=True: tiny(SimCLR).get_params(deep=False)
            learner.fit(images, run=unfinished, resume=True)
        finally:
            type(learner).__name__ = "Untrained"
    assert (unfinished / CHECKPOINT).read_bytes() == before
    tiny(SimCLR, checkpoint_seconds=5.0, progress=False).fit(images, run=unfinished, resume=True)  # these may differ


def test_pseudo_class_features_are_compared_by_content(images, tmp_path):
    features = np.random.default_rng(0).normal(size=(72, 3000)).astype(np.float32)  # too large to be printed whole
    with pytest.raises(PowerCut):
        cut_at(tiny(GSimCLR).set_params(features=features), 3).fit(images, run=tmp_path)
    other = features.copy()
    other[40, 1500] += 1
    with pytest.raises(ValueError, match="was begun with another parameters"):
        tiny(GSimCLR).set_params(features=other).fit(images, run=tmp_path, resume=True)
    tiny(GSimCLR).set_params(features=features.copy()).fit(images, run=tmp_path, resume=True)


def test_finished_and_missing_runs_are_refused(images, tmp_path):
    learner = tiny(SimCLR, steps=2).fit(images, run=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for resume in (False, True):
        with pytest.raises(ValueError, match="holds a finished run: choose another folder or delete it"):
            learner.fit(images, run=tmp_path, resume=resume)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(ValueError, match=f"holds no unfinished run to resume: it has no {CHECKPOINT}"):
        learner.fit(images, run=tmp_path / "new", resume=True)
    with pytest.raises(ValueError, match=r"resume=True needs run=\.\.\."):
        learner.fit(images, resume=True)


def test_damaged_checkpoint(unfinished, images):
    data = (unfinished / CHECKPOINT).read_bytes()
    (unfinished / CHECKPOINT).write_bytes(data[: len(data) // 2])
    with pytest.raises(
        ValueError, match=r"checkpoint.safetensors is damaged \(.*\): delete it and learn again"
    ) as caught:
        tiny(SimCLR).fit(images, run=unfinished, resume=True)
    assert "\n" not in str(caught.value)


def test_folder_in_use(images, tmp_path):
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="is in use by process unknown: wait for it"):
            tiny(SimCLR, steps=1).fit(images, run=tmp_path)
    tiny(SimCLR, steps=1).fit(images, run=tmp_path)
    assert not (tmp_path / ".lock").exists()


def test_what_cannot_be_saved_is_said_before_training(images, tmp_path):
    learner = tiny(SimCLR).set_params(augment=lambda pixels, generator: pixels.float() / 255)
    learner.loss = lambda net, views: pytest.fail("a step was taken")
    with pytest.raises(TypeError, match="params.augment: a function cannot be saved without pickle"):
        learner.fit(images, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_controls_leave_a_run_folder_too(images, tmp_path):
    control = Untrained("resnet10-x0.125", image_size=16).fit(images, run=tmp_path / "run")
    assert np.array_equal(nolabel.load(tmp_path / "run").transform(images), control.transform(images))
    assert [row["step"] for row in journal(tmp_path / "run")] == [0]
    with pytest.raises(ValueError, match="finished run"):
        control.fit(images, run=tmp_path / "run")


# A full disk --------------------------------------------------------------------------------------------------------


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_full_disk_while_a_checkpoint_is_written(unfinished, images, monkeypatch):
    before = (unfinished / CHECKPOINT).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("nolabel.training.estimator.save_file", full_disk)
        with pytest.raises(OSError, match="No space left"):
            tiny(SimCLR).fit(images, run=unfinished, resume=True)
    assert (unfinished / CHECKPOINT).read_bytes() == before
    assert not list(unfinished.glob(".*.partial"))
    assert_same(tiny(SimCLR).fit(images, run=unfinished, resume=True), tiny(SimCLR).fit(images))


def test_full_disk_at_the_end_of_a_run_loses_only_the_end(images, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(SimCLR, "save", full_disk)
        with pytest.raises(OSError, match="No space left"):
            tiny(SimCLR).fit(images, run=tmp_path)
    assert_same(tiny(SimCLR).fit(images, run=tmp_path, resume=True), tiny(SimCLR).fit(images))
