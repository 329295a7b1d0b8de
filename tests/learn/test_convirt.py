import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from nolabel.learn import ConVIRT
from nolabel.learn.convirt import fingerprints
from nolabel.training import Training


@pytest.fixture(scope="module")
def reports(digits):
    images, labels = digits
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    texts = [f"This shows a {names[label]}. It was written by hand. Normal." for label in labels[:600]]
    return {"image": images[:600], "text": texts}


def small(**params):
    training = params.pop("training", Training(steps=4, batch_size=32, random_state=0, stop_on_collapse=False))
    settings = {"text_encoder": "bert-1x32", "vocabulary_size": 120, "dim": 16, "augment": "centred"}
    return ConVIRT("conv4", **{**settings, **params}, training=training)


def test_loss_by_hand(reports):
    model = small(image_weight=0.8, temperature=0.25)
    source = model.open(reports, None)
    model.prepare(source, None)
    batch = source.batch(np.array([[0, 0], [1, 1], [2, 0], [3, 1], [4, 0]]))
    net = model.build(batch).eval()
    images = batch["image"].float() / 255
    found = model.loss(net, {"image": images, "text": batch["text"]})
    tokens, mask = batch["text"]["tokens"], batch["text"]["mask"]
    states = net.text_encoder.states(tokens, mask).masked_fill(~mask[..., None], -torch.inf)
    u = normalize(net.text_head(states.amax(dim=1)))  # largest over the tokens
    v = normalize(net.head(net.encoder(images)))
    logits = v @ u.T / 0.25
    forth, back = (cross_entropy(each, torch.arange(5)) for each in (logits, logits.T))
    torch.testing.assert_close(found["image_to_text"], 0.8 * forth, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["text_to_image"], 0.2 * back, rtol=1e-4, atol=1e-5)


def test_one_sentence_at_a_time(reports):
    model = small()
    source = model.open(reports, None)
    assert source.counts.tolist() == [2] * 600  # "Normal." is too short
    assert small(sentences=False).open(reports, None).counts.tolist() == [1] * 600


def test_equal_sentences_may_be_left_out(reports):
    same = {"image": reports["image"][:6], "text": ["It was written by hand."] * 6}
    batch = None
    for equal_texts, expected in ((True, np.log(6)), (False, 0.0)):
        model = small(equal_texts=equal_texts, image_weight=1.0)
        source = model.open(same, None)
        model.prepare(source, None)
        batch = source.batch(np.arange(6))
        net = model.build(batch).eval()
        terms = model.loss(net, {"image": batch["image"].float() / 255, "text": batch["text"]})
        # six equal texts: no image can choose, unless the other five are not asked
        assert terms["image_to_text"].item() == pytest.approx(expected, abs=1e-4)
    assert len(set(fingerprints(batch["text"]).tolist())) == 1
    tokens = torch.tensor([[2, 7, 9, 3, 0], [2, 9, 7, 3, 0]])
    numbers = fingerprints({"tokens": tokens, "mask": tokens > 0})
    assert numbers[0] != numbers[1]
    assert numbers[0] == fingerprints({"tokens": tokens[:1, :4], "mask": tokens[:1, :4] > 0})[0]


def test_it_learns_to_find_images_by_words(reports):
    names = np.array([text.split()[3] for text in reports["text"]])
    three = np.flatnonzero(np.isin(names, ["zero.", "one.", "seven."]))
    labels = names[three]
    some = {"image": reports["image"][three], "text": [f"This shows a {name}" for name in labels]}
    model = small(training=Training(steps=100, batch_size=24, lr=3e-3, random_state=0)).fit(some)
    ids, _ = model.search(["This shows a zero.", "This shows a seven."], some["image"], k=20)
    assert (labels[ids[0]] == "zero.").mean() > 0.7
    assert (labels[ids[1]] == "seven.").mean() > 0.7
    assert model.transform(some["image"][:3]).shape[1] == model.net_.encoder.dim


def test_frozen_layers_stay_as_they_are(reports):
    model = small(text_encoder="bert-2x32", frozen_layers=1)
    source = model.open(reports, None)
    model.prepare(source, None)
    net = model.build(source.batch(np.arange(4)))
    frozen = {name for name, p in net.text_encoder.named_parameters() if not p.requires_grad}
    assert any("embeddings" in name for name in frozen)
    assert any("layer.0." in name for name in frozen)
    assert not any("layer.1." in name for name in frozen)
    with pytest.raises(ValueError, match="has 2 layers, got 3"):
        small(text_encoder="bert-2x32", frozen_layers=3).fit(reports)


def test_bad_input(reports):
    for params, message in (
        ({"temperature": -0.1}, "temperature must be above 0"),
        ({"image_weight": 1.5}, "image_weight must lie in"),
        ({"dim": 0}, "dim must be at least 1"),
        ({"training": Training(steps=1, batch_size=1)}, "at least 2 pairs"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**params).fit(reports)
    with pytest.raises(TypeError, match="expected texts"):
        small().fit({"image": reports["image"][:4], "text": [1, 2, 3, 4]})
    with pytest.raises(ValueError):
        small().fit({"image": reports["image"][:4], "text": ["a", "b"]})
