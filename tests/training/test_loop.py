"""The loop: budgets, what it writes, what stops it, and what it hands to a system."""

import math
import signal
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from nolabel.learn import RotNet, SimCLR
from nolabel.training import CollapseWarning, Learner, Training, loop


class Line(Learner):
    """The least learner: a linear map that keeps as much as it can of standardised vectors."""

    columns = ("vector",)
    recipe = {"optimiser": "sgd", "lr": 0.1, "weight_decay": 0.0, "warmup": 0.0}  # noqa: RUF012

    def __init__(self, dim=4, *, training=None):
        self.dim, self.training = dim, training

    def build(self, example):
        net = nn.Module()
        net.map = nn.Linear(example["vector"].shape[1], self.dim)
        return net

    def views(self, batch, generator):
        return batch["vector"].float()

    def loss(self, net, views):
        z = net.map(views).float()
        return (z.T @ z / len(z) - torch.eye(self.dim)).pow(2).sum()

    def encode(self, net, batch):
        return net.map(batch["vector"].float())


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)


def rows_with(learner, key):
    return [row for row in learner.history_ if key in row]


# The gradient ------------------------------------------------------------------------------------------------------


def test_clipping_bounds_the_norm_of_the_gradient_and_keeps_its_direction(vectors):
    def moves(clip):
        seen = {}

        class Watched(Line):
            def before_step(self, net, clock):
                seen["before"] = net.map.weight.detach().clone(), net.map.bias.detach().clone()

            def after_step(self, net, clock):
                after = net.map.weight.detach(), net.map.bias.detach()
                seen["move"] = torch.cat([(a - b).ravel() for a, b in zip(after, seen["before"], strict=True)])

        Watched(training=Training(steps=1, batch_size=64, lr=0.5, clip=clip)).fit(vectors)
        return seen["move"]

    free, clipped = moves(0.0), moves(0.1)
    assert free.norm() > 0.5 * 0.1  # the gradient is longer than the bound
    assert clipped.norm().item() == pytest.approx(0.5 * 0.1, rel=1e-4)  # SGD's first step: rate times gradient
    assert torch.nn.functional.cosine_similarity(free, clipped, dim=0).item() == pytest.approx(1.0, abs=1e-5)


# Budgets ------------------------------------------------------------------------------------------------------------


def test_budget_in_epochs_and_steps(vectors):
    by_epochs = Line(training=Training(epochs=3, batch_size=20)).fit(vectors)
    assert by_epochs.history_[-1]["step"] == 9  # 64 rows make 3 whole batches of 20
    assert rows_with(by_epochs, "loss")[-1]["epoch"] == 2
    by_steps = Line(training=Training(steps=7, batch_size=20)).fit(vectors)
    assert [row["step"] for row in rows_with(by_steps, "loss")] == list(range(1, 8))
    assert by_steps.training_.epochs == 20  # from the house; the steps decide


def fake_time(monkeypatch, seconds_a_call):
    now = [0.0]

    def monotonic():
        now[0] += seconds_a_call
        return now[0]

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=monotonic))


def test_budget_in_minutes_is_the_only_end(vectors, monkeypatch):
    fake_time(monkeypatch, 0.1)
    learner = Line(training=Training(minutes=1.0, batch_size=64, warmup=0.2)).fit(vectors)
    losses = rows_with(learner, "loss")
    assert losses[-1]["step"] > 50  # twenty epochs, the house's own budget, would have been 20 steps
    assert 58 <= losses[-1]["seconds"] <= 63
    assert learner.history_[-1]["step"] == losses[-1]["step"]
    assert losses[-1]["lr"] < 0.01 * max(row["lr"] for row in losses)  # the schedule follows the clock to its end


def test_the_last_losses_of_a_run_in_minutes_are_told(vectors, monkeypatch):
    fake_time(monkeypatch, 1.0)
    learner = Line(training=Training(minutes=0.5, batch_size=64)).fit(vectors)
    losses = rows_with(learner, "loss")
    assert 0 < losses[-1]["step"] < 50
    assert losses[-1]["step"] == learner.history_[-1]["step"]


def test_enough_ends_early(vectors):
    learner = Line(training=Training(epochs=50, batch_size=32))
    asked = []
    learner.enough = lambda net, source, epoch: asked.append((epoch, len(source))) or epoch == 4
    learner.fit(vectors)
    assert asked == [(1, 64), (2, 64), (3, 64), (4, 64)]
    assert learner.history_[-1]["step"] == 8


def test_rate_follows_warmup_and_cosine(vectors):
    learner = Line(training=Training(steps=40, batch_size=64, lr=0.02, warmup=0.25)).fit(vectors)
    rates = [row["lr"] for row in rows_with(learner, "lr")]
    assert rates[5] == pytest.approx(0.02 * 0.5)  # the sixth of ten warm-up steps
    assert rates[10] == pytest.approx(0.02)
    assert rates[25] == pytest.approx(0.02 * (0.001 + 0.999 * 0.5))
    assert max(rates) == pytest.approx(0.02)


# What it writes -----------------------------------------------------------------------------------------------------


def test_history_of_a_long_run_is_thinned_out(vectors):
    learner = Line(training=Training(steps=600, batch_size=64, lr=0.01, stop_on_collapse=False)).fit(vectors)
    steps = [row["step"] for row in rows_with(learner, "loss")]
    assert len(steps) < 300
    assert steps[-1] == 600
    assert steps == sorted(set(steps))
    looks = [row["step"] for row in rows_with(learner, "verdict")]
    assert looks[0] == 0
    assert looks[-1] == 600
    assert set(np.diff(looks)) == {10}  # judging costs a tenth of the forward passes at most


def test_rows_of_losses_are_means_since_the_last_row(vectors):
    """With 400 steps every second step has a row; each loss is counted once."""
    settings = {"steps": 400, "batch_size": 64, "lr": 0.001, "precision": "32-true", "stop_on_collapse": False}
    learner = Line(training=Training(**settings))
    usual, seen = learner.loss, []
    learner.loss = lambda net, views: (seen.append(usual(net, views)), seen[-1])[1]
    learner.fit(vectors)
    rows = rows_with(learner, "loss")
    assert [row["step"] for row in rows[:3]] == [2, 4, 6]
    values = torch.stack(seen).detach().numpy()
    np.testing.assert_allclose([row["loss"] for row in rows[:5]], values[:10].reshape(5, 2).mean(axis=1), rtol=1e-5)


def test_it_learns_what_it_says(vectors):
    learner = Line(dim=3, training=Training(steps=150, batch_size=64, lr=0.05, precision="32-true")).fit(vectors)
    z = learner.transform(vectors)
    np.testing.assert_allclose(z.T @ z / len(z), np.eye(3), atol=0.02)
    assert rows_with(learner, "loss")[-1]["loss"] < 0.01


# What stops it ------------------------------------------------------------------------------------------------------


def turning_bad_at(learner, step, value):
    usual, calls = learner.loss, []

    def loss(net, views):
        calls.append(None)
        good = usual(net, views)
        return {"fit": good, "extra": good * value if len(calls) == step else 0 * good}

    learner.loss = loss
    return learner


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_is_named_with_its_step(value, vectors):
    learner = turning_bad_at(Line(training=Training(steps=10, batch_size=64)), 3, value)
    with pytest.raises(FloatingPointError, match=rf"extra became {value} at step 3: lower training.lr") as caught:
        learner.fit(vectors)
    assert "\n" not in str(caught.value)


def test_loss_that_is_not_finite_is_named_before_the_representation_is_judged(vectors):
    """In a long run losses are told every 50 steps; a look in between comes after them."""
    learner = turning_bad_at(Line(training=Training(steps=100_000, batch_size=64)), 4, math.nan)
    with pytest.raises(FloatingPointError, match="became nan at step 10"):
        learner.fit(vectors)


def test_no_batch_can_be_formed(vectors):
    learner = Line(training=Training(batch_size=64))
    learner.plan = lambda source, batch_size, rng: []
    with pytest.raises(ValueError, match="no batch of 64 rows can be formed from 64 rows: lower training.batch_size"):
        learner.fit(vectors)


class Falling(Line):
    """Squeezes everything onto one point."""

    def loss(self, net, views):
        z = net.map(views).float()
        return (z - 1).pow(2).sum(dim=1).mean()


def keep_weights(learner):
    """The weights before each step."""
    seen = {}

    def before_step(net, clock):
        seen[clock.step] = {k: v.clone() for k, v in net.state_dict().items()}

    learner.before_step = before_step
    return seen


def test_collapse_is_named_stopped_and_undone(vectors):
    learner = Falling(training=Training(steps=2000, batch_size=64, lr=0.02))
    weights = keep_weights(learner)
    with pytest.warns(CollapseWarning, match=r"the representation collapsed by step \d+: all embeddings point one way"):
        learner.fit(vectors)
    looks = rows_with(learner, "verdict")
    verdicts = [row["verdict"] for row in looks]
    assert looks[-1]["step"] < 2000
    assert verdicts[0] == "healthy"
    assert verdicts[-2:] == ["collapsed", "collapsed"]  # once could be a bad moment
    assert verdicts.count("collapsed") == 2
    last_healthy = max(row["step"] for row in looks if row["verdict"] == "healthy")
    for name, value in learner.net_.state_dict().items():
        assert torch.equal(value, weights[last_healthy][name]), name
    assert learner.health_["verdict"] == "collapsed"  # what the run came to, although the weights are sound again
    assert "point one way" in learner.health_["reasons"][0]
    assert learner.health_["spread"] > 0.03


def test_collapse_goes_on_if_asked_to(vectors):
    learner = Falling(training=Training(steps=300, batch_size=64, lr=0.02, stop_on_collapse=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.fit(vectors)
    assert learner.history_[-1]["step"] == 300
    assert learner.health_["verdict"] == "collapsed"
    assert learner.health_["spread"] < 0.03


def test_collapse_is_undone_in_a_resumed_run_too(vectors, tmp_path):
    """The last healthy weights and the first warning survive an interruption."""
    settings = Training(steps=2000, batch_size=64, lr=0.02, checkpoint_seconds=0)
    unbroken = Falling(training=settings)
    with pytest.warns(CollapseWarning):
        unbroken.fit(vectors)
    looks = rows_with(unbroken, "verdict")
    cut = looks[-2]["step"] + 3  # between the two looks that found it
    broken = Falling(training=settings)

    def before_step(net, clock):
        if clock.step == cut:
            raise InterruptedError

    broken.before_step = before_step
    with pytest.raises(InterruptedError):
        broken.fit(vectors, run=tmp_path)
    resumed = Falling(training=settings)
    with pytest.warns(CollapseWarning):
        resumed.fit(vectors, run=tmp_path, resume=True)
    assert [row["step"] for row in rows_with(resumed, "verdict")] == [row["step"] for row in looks]
    for name, value in resumed.net_.state_dict().items():
        assert torch.equal(value, unbroken.net_.state_dict()[name]), name


def test_healthy_runs_are_left_alone(digits, vectors):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner = Line(training=Training(steps=100, batch_size=64, lr=0.02)).fit(vectors)
        few = Training(steps=30, batch_size=64)
        images = SimCLR("resnet10-x0.125", image_size=16, projection=(32, 16), training=few).fit(digits[0][:400])
    for fitted in (learner, images):
        assert {row["verdict"] for row in rows_with(fitted, "verdict")} == {"healthy"}
        assert fitted.health_["verdict"] == "healthy"
        assert fitted.health_["reasons"] == []
    assert images.health_["self_consistency"] > 0.1  # a second view was compared
    assert "embedding_rankme" in images.history_[0]


def test_health_is_judged_on_every_layer(digits):
    """A projection head that collapses behind a sound encoder is seen."""
    learner = SimCLR("resnet10-x0.125", image_size=16, projection=(16, 8), training=Training(steps=1, batch_size=64))
    usual = learner.build

    def build(example):
        net = usual(example)
        nn.init.zeros_(net.head[-1].weight)
        nn.init.ones_(net.head[-1].bias)
        return net

    learner.build = build
    learner.before_step = lambda net, clock: net.head.requires_grad_(False)
    with pytest.warns(CollapseWarning, match="embedding: all embeddings point one way"):
        learner.fit(digits[0][:128])
    assert learner.health_["reasons"][0].startswith("embedding: ")
    assert learner.health_["spread"] > 0.03  # the figures are the representation's


# What it hands to a system ------------------------------------------------------------------------------------------


class Watcher(Line):
    """Writes down what its hooks see."""

    def build(self, example):
        self.seen = []
        return super().build(example)

    def before_step(self, net, clock):
        self.seen.append(("before", clock.step, clock.epoch, round(clock.fraction, 3), net.training))

    def views(self, batch, generator):
        self.seen.append(("views", torch.is_grad_enabled(), float(torch.rand(1, generator=generator))))
        return super().views(batch, generator)

    def after_step(self, net, clock):
        self.seen.append(("after", clock.step))

    def prepare(self, source, folder):
        self.prepared_ = np.array([len(source)])

    def finish(self, source):
        self.finished_ = not self.net_.training


def test_hooks_in_order_with_clock_and_generator(vectors):
    learner = Watcher(training=Training(epochs=2, batch_size=32)).fit(vectors)
    assert [entry[0] for entry in learner.seen] == ["before", "views", "after"] * 4
    assert [entry[1:] for entry in learner.seen[::3]] == [
        (0, 0, 0.0, True), (1, 0, 0.25, True), (2, 1, 0.5, True), (3, 1, 0.75, True)
    ]  # fmt: skip
    assert [entry[1] for entry in learner.seen[2::3]] == [1, 2, 3, 4]
    assert not any(entry[1] for entry in learner.seen[1::3])  # views carry no gradient
    draws = [entry[2] for entry in learner.seen[1::3]]
    assert len(set(draws)) == 4
    again = Watcher(training=Training(epochs=2, batch_size=32)).fit(vectors)
    assert [entry[2] for entry in again.seen[1::3]] == draws
    assert learner.prepared_.tolist() == [64]
    assert learner.finished_ is True


def test_views_of_a_step_depend_on_seed_and_step_alone(vectors):
    """Even if a system draws from the global generator in between."""
    learner = Watcher(training=Training(epochs=2, batch_size=32))
    learner.judge = lambda net, batch, generator: {
        "representation": (learner.encode(net, batch) + 0 * torch.rand(1), None)
    }
    plain = Watcher(training=Training(epochs=2, batch_size=32)).fit(vectors)
    learner.fit(vectors)
    assert [entry[2] for entry in learner.seen[1::3]] == [entry[2] for entry in plain.seen[1::3]]


def test_unwritten_parts_say_what_is_missing(vectors):
    class Nothing(Learner):
        columns = ("vector",)

        def __init__(self, training=None):
            self.training = training

    with pytest.raises(NotImplementedError, match=r"Nothing must define build\(example\)"):
        Nothing().fit(vectors)


def test_logger_by_name(vectors, tmp_path):
    Line(training=Training(steps=2, batch_size=64, logger="tensorboard")).fit(vectors, run=tmp_path)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    with pytest.raises(
        ValueError, match="training.logger must be one of tensorboard, mlflow, wandb or None, got 'print'"
    ):
        Line(training=Training(steps=2, batch_size=64, logger="print")).fit(vectors)


def test_progress_is_shown_when_asked(vectors, capsys):
    Line(training=Training(steps=3, batch_size=64, progress=True)).fit(vectors)
    caught = capsys.readouterr()
    assert "Line" in caught.err
    assert "rows/s" in caught.err
    assert "RankMe" in caught.err
    Line(training=Training(steps=3, batch_size=64)).fit(vectors)
    assert capsys.readouterr().err == ""


def test_signal_handlers_and_caches_are_left_as_they_were(vectors):
    before = signal.getsignal(signal.SIGINT)
    Line(training=Training(steps=2, batch_size=64)).fit(vectors)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_precision_is_an_argument(precision, digits):
    settings = Training(steps=2, batch_size=32, precision=precision)
    learner = SimCLR("resnet10-x0.125", image_size=16, projection=(16, 8), training=settings)
    seen = []
    usual = learner.loss

    def loss(net, views):
        seen.append(net.encoder.stages(views)["stage1"].dtype)
        return usual(net, views)

    learner.loss = loss
    z = learner.fit(digits[0][:64]).transform(digits[0][:64])
    assert set(seen) == {torch.float32 if precision == "32-true" else torch.bfloat16}
    assert z.dtype == np.float32
    assert all(p.dtype == torch.float32 for p in learner.net_.parameters())


def test_batches_are_uint8_channels_first(digits):
    learner = RotNet("resnet10-x0.125", image_size=16, training=Training(steps=1, batch_size=16))
    usual, seen = learner.views, []
    learner.views = lambda batch, generator: (seen.append(batch["image"]), usual(batch, generator))[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner.fit(digits[0][:64])
    assert (seen[0].dtype, seen[0].shape) == (torch.uint8, (16, 1, 16, 16))
