import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.nn.functional import cross_entropy, normalize

from nolabel.learn import ALIGN
from nolabel.training import Training
from nolabel.training.clock import Clock

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
GROUNDS = {"light": 255, "dark": 0}
KINDS = [(ground, colour) for ground in GROUNDS for colour in COLOURS]


def drawing(ground, colour, rng):
    """A coloured square somewhere on a light or dark ground."""
    image = np.full((24, 24, 3), GROUNDS[ground], np.uint8)
    y, x = rng.integers(0, 8, 2)
    image[y : y + 16, x : x + 16] = COLOURS[colour]
    return image


def gallery(seed):
    rng = np.random.default_rng(seed)
    return [drawing(*kind, rng) for kind in KINDS]


@pytest.fixture(scope="module")
def pairs():
    images = [image for seed in range(40) for image in gallery(seed)]
    return {"image": images, "text": [f"a {colour} square on a {ground} ground" for ground, colour in KINDS] * 40}


def small(**params):
    training = params.pop("training", Training(steps=80, batch_size=24, lr=2e-3, random_state=0))
    settings = {"text_encoder": "bert-1x32", "vocabulary_size": 100}
    return ALIGN("conv4", **{**settings, **params}, training=training)


@pytest.fixture(scope="module")
def learned(pairs):
    return small().fit(pairs)


def test_loss_by_hand(pairs):
    model = small(temperature=0.2)
    source = model.open(pairs, None)
    model.prepare(source, None)
    batch = source.batch(np.arange(9))
    net = model.build(batch).eval()
    images = batch["image"].float() / 255
    found = model.loss(net, {"image": images, "text": batch["text"]})
    v = normalize(net.encoder(images))
    tokens, mask = batch["text"]["tokens"], batch["text"]["mask"]
    start = net.text_encoder.states(tokens, mask)[:, 0]  # the state of the start token, then one linear layer
    u = normalize(net.text_head(start))
    logits = v @ u.T / 0.2
    expected = [cross_entropy(each, torch.arange(9), label_smoothing=0.1) for each in (logits, logits.T)]
    torch.testing.assert_close(found["image_to_text"], expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["text_to_image"], expected[1], rtol=1e-4, atol=1e-5)
    sum(found.values()).backward()
    for part in (net.encoder, net.text_encoder.words, net.text_head, net.temperature):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in list(part.parameters())[:1])


def test_the_temperature_is_learned_within_bounds_and_without_decay(pairs, learned):
    assert 0.01 <= learned.temperature_ <= 1.0
    assert learned.temperature_ != pytest.approx(0.1, abs=1e-4)
    net = learned.net_
    groups = learned.optimisers(net, learned.training_)["main"].param_groups
    plain = [p for group in groups if group["weight_decay"] == 0 for p in group["params"]]
    assert any(p is net.temperature.log_scale for p in plain)
    with torch.no_grad():
        before = net.temperature.log_scale.clone()
        net.temperature.log_scale.fill_(9.0)
        learned.after_step(net, Clock(0, 1))
        assert net.temperature().item() == pytest.approx(0.01)
        net.temperature.log_scale.copy_(before)


def test_names_alone_classify(learned):
    names = [f"{colour} square on a {ground} ground" for ground, colour in KINDS]
    cosines = learned.zero_shot(gallery(99), names, ["a {}", "{}"])
    assert cosines.shape == (6, 6)
    assert (cosines.argmax(axis=1) == np.arange(6)).mean() >= 0.8
    np.testing.assert_allclose(np.linalg.norm(learned.class_vectors(names, ["a {}"]), axis=1), 1, atol=1e-5)


def test_an_image_and_a_text_together(learned):
    vectors = learned.embed_images(gallery(99))
    found = []
    for number, (ground, colour) in enumerate(KINDS):
        for weight in (0.0, 4.0):  # from an image of another kind on, without the text and with it
            asked = learned.compose(vectors[number - 1 :][:1], f"a {colour} square on a {ground} ground", weight=weight)
            ids, cosines = learned.search(asked, vectors, k=2)
            found.append(ids[0, 0] == number)
            assert (np.diff(cosines[0]) <= 0).all()
    assert not any(found[::2])  # the image finds itself
    assert np.mean(found[1::2]) > 0.5  # by chance: a sixth
    text = learned.embed_texts(["a red square on a dark ground"])
    together = vectors + 0.5 * text  # both of length 1 before the weight
    expected = together / np.linalg.norm(together, axis=1, keepdims=True)
    composed = learned.compose(vectors, "a red square on a dark ground", weight=0.5)
    np.testing.assert_allclose(composed, expected, atol=1e-5)
    away = learned.compose(vectors, "a red square on a dark ground", weight=-1.0)
    assert ((away @ text.T) < (vectors @ text.T)).all()


def test_score_is_the_mean_of_both_directions(pairs, learned):
    some = {name: rows[:6] for name, rows in pairs.items()}
    v, u = learned.embed_images(some["image"]), learned.embed_texts(some["text"])
    own = np.arange(6)
    expected = (((v @ u.T).argmax(1) == own).mean() + ((u @ v.T).argmax(1) == own).mean()) / 2
    assert learned.score(some) == pytest.approx(expected)
    assert expected > 0.5


def test_bad_input(pairs, learned):
    for params, message in (
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"temperature": 0.0}, "temperature must lie between"),
        ({"training": Training(steps=1, batch_size=1)}, "at least 2 pairs"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**params).fit(pairs)
    with pytest.raises(ValueError, match="text"):
        small().fit({"image": pairs["image"]})
    with pytest.raises(ValueError, match="'cat' comes twice"):
        learned.zero_shot(pairs["image"][:2], ["cat", "cat"])
    with pytest.raises(ValueError, match="there are none"):
        learned.zero_shot(pairs["image"][:2], [])
    with pytest.raises(ValueError, match="'a photo' has no {} for the name"):
        learned.zero_shot(pairs["image"][:2], ["cat"], ["a photo"])
    with pytest.raises(ValueError, match="position 1 is empty"):
        learned.embed_texts(["red", "  "])
    with pytest.raises(ValueError, match="k must be a whole number from 1 to 3"):
        learned.search(["red"], pairs["image"][:3], k=4)
    with pytest.raises(ValueError, match="one for each of 3 images, got 2"):
        learned.compose(pairs["image"][:3], ["red", "blue"])
    assert clone(learned).get_params()["label_smoothing"] == 0.1
