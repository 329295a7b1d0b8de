import numpy as np
import pytest
import torch
from torch import nn

import nolabel
from nolabel.assess import knn_accuracy
from nolabel.learn import RawPixels, SimCLR, Untrained
from nolabel.objectives import nt_xent
from nolabel.training import Training


def tiny(**params):
    settings = {"projection": (16, 8), "image_size": 16, "training": Training(steps=2, batch_size=16)}
    return SimCLR("resnet10-x0.125", **{**settings, **params})


def test_loss_by_hand():
    """Over all 2n views: minus the log of the share that the other view has among all but oneself."""
    torch.manual_seed(0)
    net = nn.Module()
    net.encoder, net.head = nn.Flatten(), nn.Linear(9, 4)
    images = torch.rand(10, 1, 3, 3)  # five images, two views each
    z = nn.functional.normalize(net.head(images.flatten(1)), dim=1)
    terms = []
    for i in range(10):
        own = (i + 5) % 10
        rest = sum(torch.exp(z[i] @ z[k] / 0.3) for k in range(10) if k != i)
        terms.append(-torch.log(torch.exp(z[i] @ z[own] / 0.3) / rest))
    torch.testing.assert_close(SimCLR(temperature=0.3).loss(net, images), torch.stack(terms).mean())


def test_views_come_in_pairs():
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 16, 16) * 60
    seen = tiny(augment=lambda x, generator: x.float() / 255).views({"image": images}, torch.Generator())
    assert seen.shape == (8, 1, 16, 16)
    assert torch.equal(seen[:4], seen[4:])
    assert torch.equal(seen[:4], images / 255)


def test_default_views_differ_but_follow_the_generator(digits):
    batch = {"image": torch.from_numpy(digits[0][:6, None].copy()).repeat(1, 1, 4, 4)}
    first, again = (tiny().views(batch, torch.Generator().manual_seed(3)) for _ in range(2))
    other = tiny().views(batch, torch.Generator().manual_seed(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first[:6] - first[6:]).abs().mean() > 0.02  # the two views of an image
    assert first.min() >= 0
    assert first.max() <= 1


def test_representation_lies_before_the_head(digits):
    learner = tiny().fit(digits[0][:48])
    z, embedding = learner.transform(digits[0][:48]), learner.transform(digits[0][:48], layer="embedding")
    assert z.shape == (48, learner.net_.encoder.dim)
    assert embedding.shape == (48, 8)
    with torch.no_grad():
        expected = learner.net_.head(torch.from_numpy(z))
    np.testing.assert_allclose(embedding, expected.numpy(), rtol=0.05, atol=0.05)  # bfloat16 where hardware has it


def test_nested_loss_by_hand():
    """The mean over prefixes of the plain loss, each prefix of unit length by itself."""
    torch.manual_seed(0)
    net = nn.Module()
    net.encoder, net.head = nn.Flatten(), nn.Linear(9, 4)
    images = torch.rand(10, 1, 3, 3)
    z = net.head(images.flatten(1))
    parts = [nt_xent(z[:5, :m], z[5:, :m], temperature=0.3) for m in (1, 2, 4)]
    found = SimCLR(temperature=0.3, nested=(1, 2, 4)).loss(net, images)
    torch.testing.assert_close(found, torch.stack(parts).mean())


def test_nested_transform_returns_the_embedding(digits, tmp_path):
    learner = tiny(nested=(4, 8, 24)).fit(digits[0][:48])
    z = learner.transform(digits[0][:48])
    assert z.shape == (48, 24)
    assert np.array_equal(z, learner.transform(digits[0][:48], layer="embedding"))
    features = learner.transform(digits[0][:48], layer="stage4")
    head = learner.net_.head
    with torch.no_grad():
        np.testing.assert_allclose(z, head(torch.from_numpy(features)).numpy(), rtol=0.05, atol=0.05)
    assert learner.health_["width"] == 24
    assert "first_4_rankme" in learner.history_[-1]
    learner.save(tmp_path)
    again = nolabel.load(tmp_path)
    assert again.nested == (4, 8, 24)
    assert np.array_equal(again.transform(digits[0][:48]), z)


def test_nested_judges_what_transform_returns_and_the_shortest_prefix(digits):
    learner = tiny(nested=(4, 24)).fit(digits[0][:48])
    images = torch.from_numpy(digits[0][:8, None].copy()).repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        seen = learner.judge(learner.net_, {"image": images}, torch.Generator().manual_seed(0))
        expected = learner.encode(learner.net_, {"image": images})
    assert list(seen) == ["representation", "first_4"]
    torch.testing.assert_close(seen["representation"][0], expected)
    torch.testing.assert_close(seen["first_4"][0], expected[:, :4])
    assert seen["first_4"][1].shape == (8, 4)


@pytest.mark.parametrize(
    ("nested", "error", "message"),
    [
        ((8, 4), ValueError, r"nested must be whole numbers from 1 that rise, each given once, got \(8, 4\)"),
        (16, TypeError, "nested must be a sequence of whole numbers, got 16"),
    ],
)
def test_bad_nested(nested, error, message, digits):
    with pytest.raises(error, match=f"^{message}$"):
        tiny(nested=nested).fit(digits[0][:48])


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_bad_temperature(temperature, digits):
    with pytest.raises(ValueError, match="temperature must be above 0, got"):
        tiny(temperature=temperature).fit(digits[0][:48])


def test_unknown_encoder(digits):
    with pytest.raises(ValueError, match="unknown encoder 'resnet19': did you mean resnet18"):
        tiny().set_params(encoder="resnet19").fit(digits[0][:48])


def test_batch_of_one_is_refused(digits):
    with pytest.raises(ValueError, match=r"n >= 2|at least 2|more than 1") as caught:
        tiny(training=Training(steps=1, batch_size=1)).fit(digits[0][:48])
    assert "\n" not in str(caught.value)


def test_it_learns(digits):
    """Forty small steps on digits: nearest neighbours agree more often than with the untrained network."""
    images, labels = digits[0][:700], digits[1][:700]
    settings = Training(steps=40, batch_size=64, random_state=0)
    shared = {"encoder": "resnet10-x0.25", "training": settings}
    scores = {}
    for learner in (SimCLR(image_size=24, temperature=0.2, **shared), Untrained(image_size=24, **shared)):
        z = learner.fit(images).transform(images)
        scores[type(learner)] = knn_accuracy(z[:500], labels[:500], z[500:], labels[500:], k=5)
    assert scores[SimCLR] > scores[Untrained] + 0.05
    losses = [row["loss"] for row in learner.history_ if "loss" in row]
    assert losses == []  # the control took no step


def test_controls_by_hand(digits):
    images = digits[0][:20]
    few = Training(random_state=5)
    pixels = RawPixels(image_size=8, side=4, training=few).fit_transform(images)
    expected = images.reshape(20, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(20, 16) / 255
    np.testing.assert_allclose(pixels, expected, atol=4e-3)
    control = Untrained("resnet10-x0.125", image_size=16, training=few).fit(images)
    torch.manual_seed(5)
    start = tiny().build({"image": torch.zeros(2, 1, 16, 16)}).encoder.state_dict()
    for name, value in control.net_.encoder.state_dict().items():
        assert torch.equal(value, start[name]), name
    assert [row["step"] for row in control.history_] == [0]
    with pytest.raises(ValueError, match="side must be at least 1, got 0"):
        RawPixels(side=0).fit(images)


def test_negatives_of_the_same_view_by_hand(digits):
    """The positive is the other view; every negative is of the anchor's own view."""
    learner = tiny(negatives="same_view").fit(digits[0][:48])
    torch.manual_seed(0)
    views = torch.rand(6, 1, 16, 16)  # two views of three images
    net = learner.net_.eval()
    z = torch.nn.functional.normalize(net.head(net.encoder(views)))
    terms = []
    for i in range(6):
        own = range(3) if i < 3 else range(3, 6)
        positive = z[i] @ z[(i + 3) % 6] / learner.temperature
        others = torch.stack([z[i] @ z[j] / learner.temperature for j in own if j != i])
        terms.append(torch.cat([positive[None], others]).logsumexp(0) - positive)
    torch.testing.assert_close(learner.loss(net, views), torch.stack(terms).mean())
    with pytest.raises(ValueError, match="negatives must be all or same_view, got 'none'"):
        tiny(negatives="none").fit(digits[0][:48])
