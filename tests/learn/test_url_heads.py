"""Labels of URLs: one task and several, validation on other domains, the rows of an epoch, saving, bad input."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import nolabel
from nolabel.data.urls import registered_domain
from nolabel.learn import MultiTaskUrlClassifier, UrlClassifier, UrlEncoder
from nolabel.learn.url_labels import character_baseline
from nolabel.training import Training

WORDS = ["help", "cart", "login", "news", "item", "blog", "user", "page"]


def made(n, seed=0):
    """URLs, whether they ask for a login, and their page."""
    rng = np.random.default_rng(seed)
    pages = rng.integers(0, 3, n)
    bad = rng.integers(0, 2, n)
    urls = [
        f"http://{WORDS[rng.integers(8)]}{rng.integers(30)}.com/{WORDS[page]}/{'verify.php' if b else 'index'}"
        for page, b in zip(pages, bad)
    ]
    return urls, bad.tolist(), [WORDS[page] for page in pages]


URLS, BAD, PAGES = made(120)
FAST = Training(epochs=8, lr=5e-3, batch_size=16, precision="32-true")


@pytest.fixture(scope="module")
def encoder():
    training = Training(steps=2, batch_size=16, stop_on_collapse=False, precision="32-true")
    return UrlEncoder("bert-1x32", vocabulary_size=160, max_length=24, training=training).fit(URLS)


@pytest.fixture(scope="module")
def fitted(encoder):
    return UrlClassifier(encoder, training=clone(FAST)).fit(URLS, PAGES)


@pytest.fixture(scope="module")
def together(encoder):
    tasks = {"bad": (URLS, BAD), "page": (URLS[:90], PAGES[:90])}
    return MultiTaskUrlClassifier(encoder, training=clone(FAST).set_params(epochs=25, lr=1e-2)).fit(tasks)


def test_learns_what_the_labels_say(fitted):
    urls, _, pages = made(60, seed=9)
    assert fitted.score(urls, pages) > 0.9
    p = fitted.predict_proba(urls)
    assert p.shape == (60, 3)
    assert np.allclose(p.sum(axis=1), 1, atol=1e-5)
    assert fitted.classes_.tolist() == sorted(WORDS[:3])
    assert np.array_equal(fitted.predict(urls), fitted.classes_[p.argmax(axis=1)])
    assert fitted.transform(urls).shape == (60, 32)


def test_the_encoder_given_stays_as_it_is(encoder, fitted):
    before = encoder.transform(URLS[:5])
    assert not np.array_equal(before, fitted.transform(URLS[:5]))
    UrlClassifier(encoder, training=Training(steps=2, batch_size=16)).fit(URLS, PAGES)
    assert np.array_equal(encoder.transform(URLS[:5]), before)


def test_frozen_encoders_do_not_change(encoder):
    head = UrlClassifier(encoder, freeze=True, training=Training(epochs=20, lr=0.05, precision="32-true")).fit(
        URLS, PAGES
    )
    assert np.allclose(head.transform(URLS[:5]), encoder.transform(URLS[:5]), atol=1e-6)
    assert head.validation_[-1]["loss"] < head.validation_[0]["loss"]


def test_an_encoder_that_is_not_fitted_learns_first(encoder):
    bare = clone(encoder)
    head = UrlClassifier(bare, training=Training(steps=2, batch_size=16)).fit(URLS, PAGES)
    assert not hasattr(bare, "net_")
    assert head.encoder_.tokeniser_
    assert len(head.predict(URLS)) == 120


def test_validation_is_on_other_domains_and_the_best_epoch_is_kept(encoder, monkeypatch):
    seen = {}
    plain = UrlClassifier.fit_source

    def spied(self, source, **options):
        held = {registered_domain(URLS[row]) for row in self._held.rows}
        learned = {registered_domain(URLS[row]) for row in source.rows}
        seen.update(held=held, learned=learned, rows=len(self._held.rows) + len(source.rows))
        return plain(self, source, **options)

    monkeypatch.setattr(UrlClassifier, "fit_source", spied)
    states = []
    watched = UrlClassifier.enough

    def noted(self, net, source, epoch):
        found = watched(self, net, source, epoch)
        states.append({name: value.clone() for name, value in net.state_dict().items()})
        return found

    monkeypatch.setattr(UrlClassifier, "enough", noted)
    head = UrlClassifier(encoder, training=Training(epochs=6, lr=5e-3, batch_size=16), validation=0.3).fit(URLS, PAGES)
    assert seen["held"]
    assert not seen["held"] & seen["learned"]
    assert seen["rows"] == 120
    assert len(head.validation_) == 6
    best = max(range(6), key=lambda i: (head.validation_[i]["label"], -head.validation_[i]["loss"]))
    kept = head.net_.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in states[best].items())


def test_without_validation_the_last_epoch_is_taken(encoder):
    head = UrlClassifier(encoder, validation=0.0, training=Training(epochs=2, batch_size=16)).fit(
        ["a.de/x"] * 20 + URLS, BAD[:20] + BAD
    )
    assert head.validation_ == []


def test_training_stopped_within_the_first_epoch_is_judged_all_the_same(encoder):
    head = UrlClassifier(encoder, training=Training(steps=1, batch_size=16)).fit(URLS, PAGES)
    assert len(head.validation_) == 1


def test_several_tasks(together):
    assert together.classes_["bad"].tolist() == [0, 1]
    urls, bad, pages = made(60, seed=9)
    assert together.score(urls, bad, task="bad") > 0.8
    assert together.score(urls, pages, task="page") > 0.6
    assert together.predict(urls, task="page").tolist()[0] in WORDS
    assert together.predict_proba(urls, task="page").shape == (60, 3)
    assert set(together.validation_[0]) == {"epoch", "bad", "page", "loss"}


def test_batches_hold_one_task_in_random_order_and_large_tasks_are_capped(together):
    class Source:
        task = np.repeat([0, 1], [1000, 40])
        lengths = {"url": np.full(1040, 9)}  # noqa: RUF012

    batches = together.plan(Source(), 10, np.random.default_rng(0))
    tasks = [set(Source.task[rows].tolist()) for rows in batches]
    assert all(len(some) == 1 for some in tasks)
    counts = [sum(some == {task} for some in tasks) for task in (0, 1)]
    assert counts == [12, 4]  # 120 of 1,000: three times the smallest
    assert tasks != sorted(tasks, key=min)
    other = together.plan(Source(), 10, np.random.default_rng(1))
    assert set(np.concatenate(batches)) != set(np.concatenate(other))  # drawn anew


def test_a_batch_of_one_task_leaves_the_head_of_the_other_alone(together):
    net = together.net_
    net.zero_grad()
    source = together.open_one(URLS[:8], None)
    batch = source.batch(np.arange(8)) | {
        "task": torch.ones(8, dtype=torch.int64),
        "label": torch.zeros(8, dtype=torch.int64),
    }
    together.loss(net, batch).backward()
    assert float(net.heads[0].weight.grad.abs().sum()) == 0.0
    assert float(net.heads[1].weight.grad.abs().sum()) > 0.0
    assert float(net.encoder.words.weight.grad.abs().sum()) > 0.0
    net.zero_grad()


def test_saved_and_loaded(fitted, together, tmp_path):
    fitted.save(tmp_path / "one")
    together.save(tmp_path / "several")
    assert np.array_equal(nolabel.load(tmp_path / "one").predict_proba(URLS), fitted.predict_proba(URLS))
    again = nolabel.load(tmp_path / "several")
    assert np.array_equal(again.predict_proba(URLS, task="page"), together.predict_proba(URLS, task="page"))
    assert again.validation_ == together.validation_


def test_the_same_seed_gives_the_same(encoder, fitted):
    again = UrlClassifier(encoder, training=clone(FAST)).fit(URLS, PAGES)
    assert np.array_equal(again.predict_proba(URLS), fitted.predict_proba(URLS))


def test_clone_and_parameters(encoder):
    head = clone(UrlClassifier(encoder, freeze=True, validation=0.2))
    assert (head.freeze, head.validation, head.training) == (True, 0.2, None)
    head.set_params(training__epochs=3)
    assert head.training.epochs == 3


def test_columns_of_a_table(encoder, fitted):
    table = {"link": URLS, "other": PAGES}
    head = UrlClassifier(encoder, training=clone(FAST)).fit(table, np.array(PAGES), columns={"url": "link"})
    assert np.array_equal(head.predict_proba(URLS[:4]), fitted.predict_proba(URLS[:4]))
    assert np.array_equal(head.predict(table, columns={"url": "link"}), fitted.predict(URLS))


def test_the_baseline_reads_characters_of_one_spelling():
    baseline = character_baseline().fit(URLS, BAD)
    assert baseline.score(*made(40, seed=3)[:2]) == 1.0
    p = baseline.predict_proba(["http://www.cart1.com/x/", "CART1.com/x"])
    assert np.array_equal(p[0], p[1])


@pytest.mark.parametrize(
    ("urls", "y", "error", "message"),
    [
        ([], [], ValueError, "no URLs"),
        (URLS, PAGES[:5], ValueError, "y: expected 120 labels, one a URL, got 5"),
        (URLS, ["same"] * 120, ValueError, "all 120 labels are 'same'; expected two different ones"),
        (URLS, [None, *PAGES[1:]], ValueError, r"y\[0\]: expected a label, got None"),
        (URLS, [float("nan"), *BAD[1:]], ValueError, r"y\[0\]: expected a label, got nan"),
        (URLS, [[1], *BAD[1:]], TypeError, r"y\[0\]: expected a text or a number, got list"),
        (URLS, [*PAGES[:-1], 3], TypeError, "labels of one kind, got texts and numbers"),
        (URLS, None, TypeError, "y: expected a list with one label a URL, got NoneType"),
        ([*URLS[:-1], " "], PAGES, ValueError, r"url\[119\]: expected a URL"),
        (["a.de/1", "a.de/2"] * 10, [0, 1] * 10, ValueError, "registered domains can be held out"),
    ],
)
def test_bad_data(encoder, urls, y, error, message):
    with pytest.raises(error, match=message):
        UrlClassifier(encoder).fit(urls, y)


def test_bad_arguments(encoder, together):
    with pytest.raises(TypeError, match="encoder must be a UrlEncoder, got str"):
        UrlClassifier("bert").fit(URLS, PAGES)
    with pytest.raises(ValueError, match=r"validation must be a share in \[0, 1\), got 1.0"):
        UrlClassifier(encoder, validation=1.0).fit(URLS, PAGES)
    with pytest.raises(ValueError, match="task: expected one of bad, page, got 'age'"):
        together.predict(URLS, task="age")
    with pytest.raises(TypeError, match="expected a dict from task to"):
        MultiTaskUrlClassifier(encoder).fit(URLS, PAGES)
    with pytest.raises(TypeError, match="expected a dict from task to"):
        MultiTaskUrlClassifier(encoder).fit({"bad": URLS})
    with pytest.raises(ValueError, match="page: all 120 labels are 'x'"):
        MultiTaskUrlClassifier(encoder).fit({"bad": (URLS, BAD), "page": (URLS, ["x"] * 120)})
    with pytest.raises(NotFittedError):
        UrlClassifier(encoder).predict(URLS)
    with pytest.raises(NotFittedError):
        MultiTaskUrlClassifier(encoder).predict(URLS, task="bad")
