"""The plain image classifier."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from nolabel.data import load
from nolabel.data.labels import class_codes, class_names
from nolabel.learn import ImageClassifier, SimCLR
from nolabel.training import Training

DIGITS = load("digits")
TWENTY = DIGITS.select(range(200))


def small(**changes):
    return ImageClassifier("conv4", training=Training(epochs=16, batch_size=32, random_state=0), **changes)


@pytest.fixture(scope="module")
def fitted():
    return small().fit(TWENTY)


def test_it_learns(fitted):
    others = DIGITS.select(range(200, 600))
    assert fitted.score(others, np.asarray(others["label"])) > 0.7


def test_probabilities_are_the_last_layer_on_the_features(fitted):
    net = fitted.net_
    logits = fitted.transform(TWENTY) @ fitted.head_weight.T + net.classifier.bias.detach().numpy()
    expected = torch.from_numpy(logits).softmax(dim=1).numpy()
    np.testing.assert_allclose(fitted.predict_proba(TWENTY), expected, atol=1e-5)
    np.testing.assert_allclose(fitted.transform(TWENTY, layer="logits"), logits, atol=1e-4)
    assert fitted.predict(TWENTY).tolist() == expected.argmax(axis=1).tolist()


def test_the_loss_of_even_probabilities_is_the_log_of_the_classes(fitted):
    model = clone(fitted)
    model.class_names_ = list(range(10))
    batch = {"image": torch.zeros(4, 1, 32, 32, dtype=torch.uint8), "label": torch.tensor([0, 3, 9, 3])}
    net = model.build(batch)
    torch.nn.init.zeros_(net.classifier.weight)
    torch.nn.init.zeros_(net.classifier.bias)
    seen, codes = model.views(batch, torch.Generator().manual_seed(0))
    assert codes.tolist() == [0, 3, 9, 3]
    loss = model.loss(net, (seen, codes))
    assert loss.item() == pytest.approx(np.log(10), abs=1e-6)


def test_labels_may_be_words_given_apart(tmp_path):
    words = np.array(["nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    y = words[np.asarray(TWENTY["label"])]
    model = small().fit(TWENTY, y)
    assert model.classes_.tolist() == sorted(words)
    assert model.score(TWENTY, y) > 0.5
    model.save(tmp_path / "run")
    again = ImageClassifier.load(tmp_path / "run")
    assert np.array_equal(again.predict_proba(TWENTY), model.predict_proba(TWENTY))
    assert again.predict(TWENTY).tolist() == model.predict(TWENTY).tolist()


def test_the_same_seed_gives_the_same_weights(fitted):
    assert np.array_equal(clone(fitted).fit(TWENTY).head_weight, fitted.head_weight)


def test_it_starts_from_a_representation_and_leaves_it_alone(tmp_path):
    learned = SimCLR("conv4", training=Training(steps=4, batch_size=64, random_state=0)).fit(TWENTY)
    before = learned.transform(TWENTY)
    probe = ImageClassifier(representation=learned, freeze=True, training=Training(epochs=2, batch_size=32)).fit(TWENTY)
    np.testing.assert_allclose(probe.transform(TWENTY), before, atol=1e-6)  # frozen: the same features
    tuned = ImageClassifier(representation=learned, training=Training(epochs=2, batch_size=32)).fit(TWENTY)
    assert not np.allclose(tuned.transform(TWENTY), before, atol=1e-3)
    assert np.array_equal(learned.transform(TWENTY), before)
    tuned.save(tmp_path / "run")
    assert np.array_equal(ImageClassifier.load(tmp_path / "run").transform(TWENTY), tuned.transform(TWENTY))
    with pytest.raises(ValueError, match="image_size is 64, the representation learned on 32"):
        ImageClassifier(representation=learned, image_size=64).fit(TWENTY)


def test_bad_input(fitted):
    images = np.stack(TWENTY["image"][:4])
    with pytest.raises(ValueError, match="at least 2 classes were expected, got only 3"):
        ImageClassifier("conv4", training=Training(epochs=1, batch_size=4)).fit(images, [3, 3, 3, 3])
    with pytest.raises(ValueError, match=r"y: one label a row was expected, shape \(4,\), got shape \(3,\)"):
        small().fit(images, [1, 2, 3])
    with pytest.raises(TypeError, match="integers, booleans or strings were expected, got dtype float64"):
        small().fit(images, [0.5, 1.5, 2.0, 3.0])
    with pytest.raises(ValueError, match="label"):
        small().fit(TWENTY.remove_columns("label"))
    with pytest.raises(ValueError, match="not fitted"):
        small().predict(images)
    with pytest.raises(ValueError, match=r"layer must be one of"):
        fitted.transform(TWENTY, layer="stage99")


def test_class_numbers():
    assert class_names(np.array([7, 3, 7])) == [3, 7]
    assert class_codes(torch.tensor([7, 3]), [3, 7]).tolist() == [1, 0]
    with pytest.raises(ValueError, match="got only none"):
        class_names([])
