"""Label-agnostic forgetting: what is learned, what stays, what is given back, and what is refused."""

import copy
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

import nolabel
from nolabel.learn import ImageClassifier, SimCLR
from nolabel.learn.beclr import BECLR
from nolabel.objectives.forgetting import extractor_unlearning, representation_alignment, turned
from nolabel.protect import LabelAgnosticForgetting
from nolabel.protect.evidence import attacks, drift, shared_rows
from nolabel.protect.splitting import Extractor, Tensors, split_model
from nolabel.training import Training

ENCODER = "conv4-growing-x0.25"
DIGIT = 3


def training(**settings):
    return Training(**{"epochs": 20, "batch_size": 32, "progress": False, **settings})


@pytest.fixture(scope="module")
def data(digits):
    """Images to forget, all of one digit; others to retain; a test set; labels."""
    images, labels = digits
    train, test = images[:600], images[600:1000]
    gone = labels[:600] == DIGIT
    return train[gone], train[~gone], test, labels[:600], labels[600:1000]


@pytest.fixture(scope="module")
def model(digits):
    learner = ImageClassifier(ENCODER, image_size=16, training=training(epochs=15, lr=0.05))
    return learner.fit(digits[0][:600], digits[1][:600])


@pytest.fixture(scope="module")
def forgotten(model, data):
    """The forgetting, the model it gave back, and the weights the original had before."""
    before = copy.deepcopy(model.net_.state_dict())
    laf = LabelAgnosticForgetting(model, temperature=5.0, training=training())
    return laf, laf.forget(data[0], data[1]), before


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_digit_is_forgotten_and_the_others_are_not(model, data, forgotten):
    _, other, before = forgotten
    _, _, test, _, truth = data
    kind = truth == DIGIT
    right = [one.predict(test) == truth for one in (model, other)]
    assert right[0][kind].mean() > 0.8
    assert right[1][kind].mean() < 0.4 * right[0][kind].mean()
    assert right[1][~kind].mean() > right[0][~kind].mean() - 0.05
    assert same(before, model.net_.state_dict())  # the original stays
    assert isinstance(other, ImageClassifier)
    assert same(model.net_.classifier.state_dict(), other.net_.classifier.state_dict())


def test_batch_norm_keeps_its_statistics(model, forgotten):
    _, other, _ = forgotten
    old, new = model.net_.encoder.state_dict(), other.net_.encoder.state_dict()
    kept = [name for name in old if "running" in name]
    assert kept
    assert all(torch.equal(old[name], new[name]) for name in kept)
    assert any(not torch.equal(old[name], new[name]) for name in old if name.endswith("weight"))


def test_losses_are_those_of_the_paper_and_gradients_reach_the_encoder_alone(forgotten, data):
    laf, _, _ = forgotten
    net = copy.deepcopy(laf.net_)
    source = laf.open({"forget": data[0], "retain": data[1]}, None)
    views = laf.views(source.batch({"forget": np.arange(3), "retain": np.arange(5)}), torch.Generator())
    net.encoder.requires_grad_(True)
    for name in ("unlearn", "align"):
        net.zero_grad()
        loss = getattr(laf, name)(net, views)
        loss.backward()
        got = {part for part, child in net.named_children() if any(p.grad is not None for p in child.parameters())}
        assert got == {"encoder"}
        with torch.no_grad():
            new, old = net.encoder(views[0]), net.teacher(views[0])
            standard = (new - torch.from_numpy(laf.centre_)) / torch.from_numpy(laf.scale_)
            errors = [
                (vae(part) - part).square().sum(1)
                for vae, part in ((net.retained, standard[:5]), (net.forgotten, standard[5:]))
            ]
            apart = turned(new, old)
            expected = {
                "unlearn": extractor_unlearning(*errors),
                "align": representation_alignment(apart[:5], apart[5:], laf.temperature),
            }
        torch.testing.assert_close(loss.detach(), expected[name])


def test_the_same_seed_gives_the_same_model_and_saved_ones_answer_alike(model, data, tmp_path):
    short = LabelAgnosticForgetting(model, training=training(epochs=2, random_state=5))
    first = short.forget(data[0], data[1])
    again = clone(short)
    with pytest.raises(NotFittedError):
        again.transform(data[2])
    assert again.model is model
    assert same(first.net_.state_dict(), again.forget(data[0], data[1]).net_.state_dict())
    first.save(tmp_path / "model")
    np.testing.assert_array_equal(nolabel.load(tmp_path / "model").predict_proba(data[2]), first.predict_proba(data[2]))
    short.save(tmp_path / "laf")
    np.testing.assert_array_equal(nolabel.load(tmp_path / "laf").transform(data[2]), short.transform(data[2]))
    np.testing.assert_array_equal(short.transform(data[2]), first.transform(data[2]))


def test_a_run_that_was_cut_off_goes_on_to_the_same_model(model, data, tmp_path):
    def stopping(after):
        class Stopping(LabelAgnosticForgetting):
            def after_step(self, net, clock):
                if clock.step == after:
                    raise KeyboardInterrupt

        Stopping.__name__ = "LabelAgnosticForgetting"
        return Stopping(model, training=training(epochs=3, checkpoint_seconds=0.0))

    whole = stopping(-1).forget(data[0], data[1])
    with pytest.raises(KeyboardInterrupt):
        stopping(4).forget(data[0], data[1], run=tmp_path / "run")
    resumed = stopping(-1).forget(data[0], data[1], run=tmp_path / "run", resume=True)
    for name, weight in whole.net_.state_dict().items():
        torch.testing.assert_close(resumed.net_.state_dict()[name], weight, msg=name)


def test_nothing_of_the_old_weights_is_saved(data, tmp_path):
    training_ = training(epochs=1)
    learned = SimCLR(ENCODER, image_size=16, training=training_).fit(data[1])
    start = ImageClassifier(representation=learned, training=training_).fit(data[2], data[4])
    other = LabelAgnosticForgetting(start, training=training_).forget(data[0], data[1])
    assert other.representation is None
    other.save(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == ["model.safetensors"]
    saved = (tmp_path / "model.safetensors").read_bytes()
    weights = dict(start.net_.encoder.named_parameters())
    moved = [w for name, w in other.net_.encoder.named_parameters() if not torch.equal(w, weights[name])]
    assert moved
    for name, weight in other.net_.encoder.named_parameters():
        if not torch.equal(weight, weights[name]):
            assert weights[name].detach().contiguous().numpy().tobytes() not in saved
    np.testing.assert_array_equal(nolabel.load(tmp_path).predict_proba(data[2]), other.predict_proba(data[2]))


def test_an_encoder_without_classes_forgets_too(data):
    simclr = SimCLR(ENCODER, image_size=16, training=training(epochs=1)).fit(data[1])
    laf = LabelAgnosticForgetting(simclr, temperature=1.0, training=training(epochs=6))
    other = laf.forget(data[0], data[1])
    assert isinstance(other, SimCLR)
    found = laf.report(data[0], data[1], data[2])
    assert found["forget"]["drift"] > 1.5 * found["retain"]["drift"]
    assert "membership" not in found
    assert "agreement" not in found["forget"]
    with pytest.raises(ValueError, match="repair: this model has no last layer"):
        laf.repair(data[2], data[4])


def test_report(model, data, forgotten):
    laf, other, _ = forgotten
    found = laf.report(*data[:3], data[4])
    truth = [np.mean(one.predict(data[2]) == data[4]) for one in (model, other)]
    assert [found["accuracy"][when] for when in ("before", "after")] == pytest.approx(truth)
    agreement = np.mean(model.predict(data[1]) == other.predict(data[1]))
    assert found["retain"]["agreement"] == pytest.approx(agreement)
    assert found["forget"]["drift"] == pytest.approx(
        drift(other.transform(data[0]), model.transform(data[0])), abs=1e-6
    )
    assert found["forget"]["drift"] > 5 * found["retain"]["drift"]
    assert found["forget"]["rows"] == len(data[0])
    after = found["membership"]["after"]
    assert set(after) == {"learned from or not", "forgotten or unseen"}
    assert 0 <= after["learned from or not"]["suspects_called"] <= 1
    few = {"retain": np.full((30, 2), 0.5), "forget": np.full((3, 2), 0.5), "test": np.full((30, 2), 0.5)}
    assert attacks(few)["forgotten or unseen"] is None


def test_repair_trains_the_last_layer_alone(model, data, forgotten):
    laf = copy.deepcopy(forgotten[0])
    laf.net_.head.bias.data += 20.0 * torch.eye(10)[0]  # everything is a nought now
    labels = data[3][data[3] != DIGIT]
    spoilt = np.mean(laf.forgotten_model().predict(data[1]) == labels)
    mended = laf.repair(data[1][:200], labels[:200], epochs=200)
    assert np.mean(mended.predict(data[1]) == labels) > spoilt + 0.3
    assert same(laf.net_.encoder.state_dict(), mended.net_.encoder.state_dict())
    assert not torch.equal(mended.net_.classifier.weight, model.net_.classifier.weight)
    with pytest.raises(ValueError, match="y: '12' is none of the classes"):
        laf.repair(data[1][:3], [0, 1, 12])


def test_one_image_is_enough_and_small_sets_take_larger_steps(model, data):
    laf = LabelAgnosticForgetting(model, training=training(epochs=10))
    laf.forget(data[0][:1], data[1])
    assert laf.rates_ == {"lr_unlearn": 1e-3, "lr_align": 1e-3}
    found = laf.report(data[0][:1], data[1])
    assert found["forget"]["drift"] > 3 * found["retain"]["drift"]
    own = LabelAgnosticForgetting(model, lr_unlearn=5e-5, lr_align=0.0, training=training(epochs=1))
    own.forget(data[0], data[1])
    assert own.rates_ == {"lr_unlearn": 5e-5, "lr_align": 0.0}
    assert set(own.optimisers(own.build({}), own.training_)) == {"lr_unlearn"}


@pytest.mark.parametrize("options", [{"decoder": "sigmoid", "sample_latent": True}, {"retain_only": False}])
def test_variants_of_the_paper(model, data, options):
    laf = LabelAgnosticForgetting(model, training=training(epochs=1), **options)
    laf.forget(data[0], data[1])
    assert np.isfinite(laf.history_[-2]["unlearn"])
    assert bool((laf.scale_ == 1).all()) == ("decoder" in options)


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def test_any_module(data):
    forget, retain, test = (torch.from_numpy(part / 255.0).float() for part in data[:3])
    net = plain()
    before = copy.deepcopy(net.state_dict())
    laf = LabelAgnosticForgetting(net, training=training(epochs=5))
    other = laf.forget(forget, retain)
    assert same(before, net.state_dict())
    assert not torch.equal(other[1].weight, net[1].weight)
    assert torch.equal(other[3].weight, net[3].weight)
    hidden = other[:3](test).detach().numpy()
    np.testing.assert_allclose(laf.transform(test), hidden, rtol=1e-5, atol=1e-6)
    assert laf.report(forget, retain, test, data[4])["accuracy"]["after"] >= 0
    mended = laf.repair(retain[:50], data[3][data[3] != DIGIT][:50], epochs=1)
    assert not torch.equal(mended[3].weight, net[3].weight)
    assert same(before, net.state_dict())
    named = LabelAgnosticForgetting(net, embedding_layer="1", training=training(epochs=1))
    assert named.forget(forget, retain)(test).shape == (400, 10)
    assert named.transform(test).shape == (400, 32)
    half = LabelAgnosticForgetting(plain().half(), training=training(epochs=1)).forget(forget, retain)
    assert half[1].weight.dtype == torch.float32


def test_extractor_and_its_layers():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(5, 4)
    torch.testing.assert_close(Extractor(net, "2", before=True)(x), net[:2](x))
    torch.testing.assert_close(Extractor(net, "0", before=False)(x), net[0](x))
    assert not net[0]._forward_hooks
    assert split_model(net, "auto").head is net[2]
    for bad in (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), nn.Sequential(nn.ReLU(), nn.Linear(3, 2))):
        with pytest.raises(
            ValueError, match=r"name the layer whose output is the embedding by embedding_layer=\.\.\., one of 0, 1"
        ):
            split_model(bad, "auto")
    with pytest.raises(ValueError, match="embedding_layer: the model has no 'body' among 0, 1, 2"):
        split_model(net, "body")


def test_bad_input(model, data):
    forget, retain = data[:2]
    laf = LabelAgnosticForgetting(model, training=training(epochs=1))
    with pytest.raises(TypeError, match="forget takes no labels"):
        laf.forget(forget, retain, data[3])
    with pytest.raises(ValueError, match="X_forget is empty"):
        laf.forget(forget[:0], retain)
    with pytest.raises(ValueError, match="X_retain is empty"):
        laf.forget(forget, retain[:0])
    with pytest.raises(ValueError, match="share rows: 2 of X_retain are also in X_forget"):
        laf.forget(forget, np.concatenate([retain, forget[:2]]))
    with pytest.warns(UserWarning, match="rows are to be forgotten and"):
        laf.forget(forget, retain[: len(forget)])
    with pytest.raises(TypeError, match=r"model must be a fitted image learner or an nn\.Module, got str"):
        split_model("resnet18", "auto")
    with pytest.raises(NotFittedError):
        LabelAgnosticForgetting(ImageClassifier(ENCODER)).forget(forget, retain)
    with pytest.raises(ValueError, match="embedding_layer is for an nn.Module"):
        LabelAgnosticForgetting(model, embedding_layer="stage3").forget(forget, retain)
    for wrong, text in (
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"lr_unlearn": -1.0}, "lr_unlearn must be at least 0"),
        ({"lr_unlearn": 0.0, "lr_align": 0.0}, "both 0"),
        ({"vae_epochs": 0}, "vae_epochs must be a whole number"),
        ({"decoder": "relu"}, "decoder must be one of"),
        ({"kl_weight": -1.0}, "kl_weight must be at least 0"),
        ({"training": Training(lr=0.1)}, "there are two rates"),
    ):
        with pytest.raises(ValueError, match=text):
            LabelAgnosticForgetting(model, **{"training": training(epochs=1), **wrong}).forget(forget, retain)
    module = LabelAgnosticForgetting(plain(), training=training(epochs=1, batch_size=4))
    with pytest.raises(ValueError, match=r"rows of one shape were expected, got \(8, 4\) and \(8, 8\)"):
        module.forget(np.random.rand(4, 8, 4), np.random.rand(9, 8, 8))
    with pytest.raises(
        ValueError, match=r"X_retain: floats \(n, ...\) as the module takes them were expected, got torch.uint8"
    ):
        module.forget(forget, retain)


def test_models_that_remember_images_elsewhere_are_refused(data):
    quick = training(steps=2, epochs=None, batch_size=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        beclr = BECLR("conv4-x0.25", clusters=4, memory_scale=8, projection=(16, 8), training=quick).fit(data[1][:64])
    with pytest.raises(
        ValueError, match=r"a BECLR holds more of its images than its encoder \(predictor, teacher, memories"
    ):
        LabelAgnosticForgetting(beclr, training=training(epochs=1)).forget(data[0], data[1])


def test_shared_rows():
    a, b = np.arange(12.0).reshape(4, 3), np.array([[9.0, 10.0, 11.0], [0.0, 1.0, 5.0], [3.0, 4.0, 5.0]])
    assert shared_rows(Tensors(a, "a"), Tensors(b, "b")).tolist() == [1, 3]
