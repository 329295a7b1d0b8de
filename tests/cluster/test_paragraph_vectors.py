import os
import subprocess
import sys

import numpy as np
import pytest

from nolabel.cluster import paragraph_vectors
from nolabel.cluster.paragraph_vectors import STRIDE, infer, train, word_counts

SETTINGS = {"vector_size": 24, "window": 5, "epochs": 30, "sample": 0.0, "negative": 5, "lr": 0.025, "seed": 0}


def texts(n=300, seed=0):
    """Two kinds of texts over words of their own and three shared ones."""
    rng = np.random.default_rng(seed)
    kinds = [[f"{letter}{i}" for i in range(12)] for letter in "ab"]
    return [[*rng.choice(kinds[i % 2], 9), *rng.choice(["x", "y", "z"], 3)] for i in range(n)]


@pytest.fixture(scope="module")
def space():
    documents = texts()
    return train(documents, word_counts(documents, 2), **SETTINGS)


def unit(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def test_word_counts_by_hand():
    assert list(word_counts([["b", "a", "c"], ["b", "a"]], 2).items()) == [("a", 2), ("b", 2)]
    assert word_counts([["b"], ["a"]], 2) == {}


def test_documents_and_words_of_one_kind_lie_together(space):
    z = unit(space.doc_vectors)
    same = (z[0::2] @ z[0::2].T).mean(), (z[0::2] @ z[1::2].T).mean()
    assert same[0] - same[1] > 0.3
    number = {word: i for i, word in enumerate(space.words)}
    u = unit(space.word_vectors)
    a, b = u[[number[f"a{i}"] for i in range(12)]], u[[number[f"b{i}"] for i in range(12)]]
    assert (a @ a.T).mean() - (a @ b.T).mean() > 0.3  # the interleaved skip-gram: PV-DBOW alone leaves words at random
    assert (z[0::2] @ a.T).mean() - (z[0::2] @ b.T).mean() > 0.3  # one space


def test_seed_and_order_of_the_vocabulary(space):
    documents = texts()
    again = train(documents, word_counts(documents, 2), **SETTINGS)
    for found, expected in zip(again, space):
        assert np.array_equal(found, expected)
    other = train(documents, word_counts(documents, 2), **{**SETTINGS, "seed": 1})
    assert not np.array_equal(other.doc_vectors, space.doc_vectors)
    assert space.counts.tolist() == sorted(space.counts, reverse=True)


SMALL = {"vector_size": 4, "window": 2, "epochs": 2, "sample": 0.0, "negative": 2, "lr": 0.05, "seed": 3}


def test_vectors_do_not_hang_on_the_hash_of_the_process():
    documents = [["a", "b", "c"], ["d", "e", "a"]] * 10
    program = (
        "from nolabel.cluster.paragraph_vectors import train, word_counts\n"
        f"print(train({documents}, word_counts({documents}, 1), **{SMALL}).doc_vectors.tolist())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    here = train(documents, word_counts(documents, 1), **SMALL)
    assert said.stdout.strip() == str(here.doc_vectors.tolist())


def test_unknown_words_leave_no_trace_and_long_texts_are_read_to_their_end(monkeypatch):
    documents = [["a", "b"] * 30, ["unknown"], ["c", "d"] * 30]
    counts = word_counts(documents, 2)
    space = train(documents, counts, **{**SETTINGS, "epochs": 2})
    assert space.words == ["a", "b", "c", "d"]
    assert not space.doc_vectors[1].any()
    assert space.doc_vectors[[0, 2]].any(axis=1).all()
    ends = [["a"] * 40 + ["z"] * 40, ["b"] * 80]
    whole = train(ends, word_counts(ends, 1), **{**SETTINGS, "window": 1})
    monkeypatch.setattr(paragraph_vectors, "LONGEST", 40)  # of a text's parts, each trains the one vector
    parted = train(ends, word_counts(ends, 1), **{**SETTINGS, "window": 1})
    z = whole.words.index("z")
    for space in (whole, parted):
        assert (unit(space.doc_vectors) @ space.output_vectors[z]).argmax() == 0
    assert parted.doc_vectors.shape == (2, 24)


def test_progress_counts_the_epochs():
    seen = []
    train([["a", "b"]] * 5, {"a": 5, "b": 5}, **{**SETTINGS, "epochs": 3}, progress=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_one_step_by_hand():
    """From zero every sigmoid is 1/2; with one word in the world the negatives are that word too."""
    o = np.array([[0.6, -0.8]], np.float32)
    found = infer([np.array([0, 0, 0])], o, np.array([3]), sample=0, negative=5, lr=0.1, passes=1)
    np.testing.assert_allclose(found, 0.1 * (3 * 0.5 * o - 5 * 3 * 0.5 * o), rtol=1e-5)
    half = infer([np.array([0, 0, 0])], o, np.array([3]), sample=0.0625, negative=5, lr=0.1, passes=1)
    np.testing.assert_allclose(half, found * (0.25 + 0.0625), rtol=1e-5)  # sqrt(1/16) + 1/16 of the occurrences


def test_inference_goes_to_the_optimum_of_the_objective():
    """There the pull of the words and the push of all words, by their share as negatives, are in balance."""
    rng = np.random.default_rng(0)
    o, counts = rng.normal(size=(8, 3)).astype(np.float32), rng.integers(1, 30, 8)
    document = np.array([0, 0, 1, 4])
    v = infer([document], o, counts, sample=0, negative=2, lr=0.05, passes=4000)[0]

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    share = counts**0.75 / (counts**0.75).sum()
    pull = ((1 - sigmoid(o[document] @ v))[:, None] * o[document]).sum(axis=0)
    push = 2 * len(document) * (share * sigmoid(o @ v)) @ o
    np.testing.assert_allclose(pull, push, atol=0.05)
    assert np.linalg.norm(pull) > 0.2  # a balance of something


def test_inferred_vectors_are_near_the_trained_ones(space):
    number = {word: i for i, word in enumerate(space.words)}
    ids = [np.array([number[word] for word in document]) for document in texts()]
    found = infer(ids, space.output_vectors, space.counts, sample=0, negative=5, lr=0.025)
    assert (unit(found) * unit(space.doc_vectors)).sum(axis=1).mean() > 0.8
    assert found.dtype == np.float32


def test_each_document_has_its_own_vector_whatever_its_company(space, monkeypatch):
    rng = np.random.default_rng(2)
    ids = [rng.integers(0, len(space.words), size=n) for n in (3, STRIDE, STRIDE + 1, 0, 70, 5)]
    settings = {"sample": 1e-2, "negative": 5, "lr": 0.025, "passes": 10}
    together = infer(ids, space.output_vectors, space.counts, **settings)
    alone = np.concatenate([infer([one], space.output_vectors, space.counts, **settings) for one in ids])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert not together[3].any()
    monkeypatch.setattr(paragraph_vectors, "BATCH_WORDS", 10)
    np.testing.assert_allclose(infer(ids, space.output_vectors, space.counts, **settings), alone, atol=1e-5)
    other = infer(ids, space.output_vectors, space.counts, **settings, seed=1)
    assert not np.allclose(other[0], alone[0], atol=1e-5)


def test_without_gensim_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim.models.doc2vec", None)
    with pytest.raises(ImportError, match=r"pip install nolabel\[text\]"):
        train([["a"]], {"a": 1}, **SETTINGS)
