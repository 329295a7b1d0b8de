import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.nn.functional import normalize

import nolabel
from nolabel.learn.vdr_cross_modal import CrossModalVDR, same_words
from nolabel.objectives.vocabulary import elu1p, vocabulary_contrast
from nolabel.training import Training

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEMPLATES = ["a photo of the digit {}", "someone wrote {} here", "this must be a {}", "{}, by hand"]


def training(**settings):
    return Training(**{"steps": 4, "batch_size": 16, "precision": "32-true", "stop_on_collapse": False, **settings})


def tiny(**params):
    settings = {
        "text_encoder": "bert-1x32",
        "topk": 8,
        "vocabulary_size": 200,
        "max_length": 20,
        "training": training(),
    }
    return CrossModalVDR("resnet8-x0.125-map4", **{**settings, **params})


@pytest.fixture(scope="module")
def table(digits):
    images, labels = digits
    captions = [TEMPLATES[row % 4].format(NAMES[label]) for row, label in enumerate(labels)]
    return {"image": images, "text": captions}


def some(table, stop, start=0):
    return {name: rows[start:stop] for name, rows in table.items()}


@pytest.fixture(scope="module")
def learned(table):
    return tiny(training=training(steps=90, batch_size=64, lr=3e-3)).fit(some(table, 1200))


def test_image_weights_by_hand(learned, table):
    net, images = learned.net_, learned.open_one(table["image"][:3], None).batch(np.arange(3))["image"]
    with torch.no_grad():
        maps = list(net.encoder.stages(images.float() / 255).values())[-1]  # (3, c, 4, 4)
        assert maps.shape[2:] == (4, 4)
        patches = net.image.norm(maps.flatten(2).transpose(1, 2))
        weights = elu1p((patches @ net.image.words.T).amax(dim=1) + net.image.bias)
    np.testing.assert_allclose(
        learned.transform(table["image"][:3]), normalize(weights, dim=1).numpy(), rtol=1e-3, atol=1e-5
    )


def test_loss_by_hand(table):
    learner = tiny(objective="svdr")
    learner.training_ = learner.training
    source = learner.open(some(table, 40), None)
    learner.prepare(source, None)
    batch = source.batch(np.arange(6))
    net = learner.build(batch).eval()
    *_, maps = net.encoder.stages(batch["image"].float() / 255).values()
    images, texts = normalize(net.image(maps), dim=1), normalize(net.text(**batch["text"]), dim=1)
    bags = torch.zeros(6, len(learner.words_), dtype=torch.bool)
    for row, tokens in enumerate(batch["text"]["tokens"].tolist()):
        for place, number in enumerate(learner.word_ids_):
            bags[row, place] = int(number) in tokens
    expected = vocabulary_contrast(
        texts, images, bags, torch.zeros_like(bags), topk=8, semi=True, lexical_passages=False, unit=True, temperature=0.07,
        ignored=same_words(bags),
    )  # fmt: skip
    found = learner.loss(net, batch)
    for name in ("weights", "words"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    sum(found.values()).backward()
    for part in (net.encoder, net.image, net.text):
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in part.parameters())
    assert net.temperature.log_scale.grad is not None


def test_same_words():
    bags = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]]) > 0
    assert same_words(bags).long().tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]


def test_names_digits_that_it_never_saw_labelled(learned, table, digits):
    """The top word that is a name of a digit, on images held out."""
    held, truth = table["image"][1200:1500], digits[1][1200:1500]
    names = [learned.words_.index(name) for name in NAMES]
    found = learned.transform(held)[:, names].argmax(axis=1)
    assert (found == truth).mean() > 0.6
    ids, _ = learned.index(held).search([f"a photo of the digit {name}" for name in NAMES], k=5)
    assert np.mean([(truth[row] == label).mean() for label, row in enumerate(ids)]) > 0.6


def test_words_are_plain(learned):
    assert all(word.removeprefix("##").isalnum() for word in learned.words_)
    assert "," not in learned.words_


def test_sides(learned, table):
    images, texts = table["image"][:5], table["text"][:5]
    for z in (learned.transform(images), learned.transform(texts, side="text")):
        assert (z.shape, z.dtype) == ((5, len(learned.words_)), np.float32)
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    assert np.diff(learned.transform_sparse(images).indptr).tolist() == [8] * 5
    own = learned.transform_sparse(texts, side="text", topk=0)
    assert [learned.words_[place] for place in own[[3]].nonzero()[1]] == sorted(
        ["by", "hand", *texts[3].split(",")[:1]], key=learned.words_.index
    )
    both = learned.transform({"image": images, "text": texts}, side="text")
    np.testing.assert_allclose(both, learned.transform(texts, side="text"), atol=1e-6)


def test_describe_and_explain(learned, table):
    z = learned.transform(table["image"][:2])
    found = learned.describe(table["image"][:2], 3)
    assert [[word for word, _ in one] for one in found] == [
        [learned.words_[p] for p in np.argsort(-row)[:3]] for row in z
    ]
    parts = learned.explain(table["text"][0], table["image"][0], k=1000)
    score = learned.index(table["image"][:1]).search(table["text"][:1], k=1)[1][0, 0]
    assert sum(value for _, value in parts) == pytest.approx(score, rel=1e-4)


def test_save_seed_and_temperature(table, tmp_path):
    learner = tiny().fit(some(table, 64)).index(table["image"][:9])
    again = clone(learner).fit(some(table, 64))
    assert np.array_equal(learner.transform(table["image"][:9]), again.transform(table["image"][:9]))
    learner.save(tmp_path / "run")
    loaded = nolabel.load(tmp_path / "run")
    assert np.array_equal(learner.transform(table["image"][:9]), loaded.transform(table["image"][:9]))
    assert np.array_equal(loaded.search(["one"], 3)[0], learner.search(["one"], 3)[0])
    assert loaded.temperature_ == learner.temperature_
    assert 0.05 < loaded.temperature_ < 0.09


def test_captions_that_are_empty_or_have_no_word(table):
    data = some(table, 64)
    data["text"] = ["", *data["text"][1:]]
    with pytest.warns(UserWarning, match="1 of 64 texts were skipped"):
        learner = tiny().fit(data)
    assert len(learner.transform(data["image"])) == 64
    data["text"] = [". , .", *data["text"][1:]]
    with pytest.raises(ValueError, match="text: 1 of 64 texts have no word of the vocabulary, the first at 0"):
        tiny().fit(data)
    tiny(allow_empty=True).fit(data)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"text": ["a", "b"]}, ValueError, "."),
        ({"image": np.full((40, 3, 8, 8), 7.5)}, ValueError, "."),
        (
            {"image": np.zeros((40, 5))},
            TypeError,
            "'image' holds .*; expected encoded images, paths or arrays of pixels",
        ),
        ({"text": list(range(40))}, TypeError, "'text' holds int64; expected texts"),
    ],
)
def test_bad_data(table, change, error, message):
    with pytest.raises(error, match=message):
        tiny().fit({**some(table, 40), **change})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"topk": 0}, "topk must be a whole number of at least 1, got 0"),
        ({"topk": 9999}, "topk must be a whole number from 0 to the"),
        ({"objective": "clip"}, "objective must be 'vdr' or 'svdr', got 'clip'"),
        ({"text_encoder": "bert-tinny"}, "unknown text encoder 'bert-tinny': did you mean bert-tiny"),
    ],
)
def test_bad_arguments(table, params, message):
    with pytest.raises(ValueError, match=message):
        tiny(**params).fit(some(table, 40))


def test_bad_searches(table):
    learner = tiny().fit(some(table, 40))
    with pytest.raises(ValueError, match=r"nothing to search: call index\(images\) first"):
        learner.search(["one"])
    with pytest.raises(ValueError, match="side must be image or text, got 'both'"):
        learner.transform(table["image"][:2], side="both")
