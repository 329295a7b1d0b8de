"""URLs learned without labels: the terms, what is noise to them, reading, saving, bad input."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import nolabel
from nolabel.learn import UrlEncoder
from nolabel.learn.urlbert import logits_of, without_dropout
from nolabel.objectives.adversarial import virtual_adversarial
from nolabel.training import Training

WORDS = ["help", "cart", "login", "news", "item", "blog", "user", "page"]


def made(n, seed=0):
    rng = np.random.default_rng(seed)
    pick = lambda: WORDS[rng.integers(8)]  # noqa: E731
    return [f"http://www.{pick()}{rng.integers(30)}.com/{pick()}/{pick()}?id={rng.integers(99)}" for _ in range(n)]


URLS = made(96)


def model(**params):
    training = params.pop("training", Training(steps=2, batch_size=16, stop_on_collapse=False, precision="32-true"))
    return UrlEncoder("bert-1x32", vocabulary_size=160, max_length=24, training=training, **params)


@pytest.fixture(scope="module")
def fitted():
    return model().fit(URLS)


def batch_of(learner, urls):
    source = learner.open_one(urls, None)
    return source.batch(np.arange(len(urls)))


def terms(learner, seed=0):
    torch.manual_seed(seed)
    views = learner.views(batch_of(learner, URLS[:16]), torch.Generator().manual_seed(seed))
    return learner.loss(learner.net_.train(), views)


def test_three_terms_weighted_and_logged(fitted):
    rows = [row for row in fitted.history_ if "mlm" in row]
    assert {"mlm", "vat", "contrastive", "loss"} <= set(rows[-1])
    assert fitted.skipped_steps_ == 0
    single = terms(fitted)
    assert set(single) == {"mlm", "vat", "contrastive"}
    fitted.set_params(mlm_weight=3.0, vat_weight=10.0, contrastive_weight=0.0)
    try:
        weighted = terms(fitted)
        assert set(weighted) == {"mlm", "vat"}
        assert float(weighted["mlm"].detach()) == pytest.approx(3 * float(single["mlm"].detach()), rel=1e-4)
    finally:
        fitted.set_params(mlm_weight=1.0, vat_weight=1.0, contrastive_weight=0.5)
        fitted.net_.eval()


def test_without_noise_and_dropout_off_the_adversarial_term_is_nothing(fitted):
    fitted.set_params(radius=0.0)
    try:
        assert float(terms(fitted)["vat"].detach()) == 0.0  # the network is in training, its dropout on
    finally:
        fitted.set_params(radius=0.5)
        fitted.net_.eval()
    assert float(terms(fitted)["vat"].detach()) > 0.0
    fitted.net_.eval()


def test_embeddings_instead_of_tokens_are_the_same_function(fitted):
    """Positions and normalisation come once: the noise is on the rows of the table of words."""
    text = batch_of(fitted, URLS[:5])["url"]
    encoder = fitted.net_.encoder
    with torch.no_grad():
        assert torch.allclose(
            encoder.states(text["tokens"], text["mask"]),
            encoder.states(None, text["mask"], encoder.words(text["tokens"])),
            atol=1e-6,
        )


def test_padding_changes_nothing(fitted):
    text = batch_of(fitted, URLS[:5])["url"]
    tokens = torch.nn.functional.pad(text["tokens"], (0, 3))
    mask = torch.nn.functional.pad(text["mask"], (0, 3))
    net = fitted.net_
    values = []
    for some, real in ((text["tokens"], text["mask"]), (tokens, mask)):
        clean = logits_of(net, real)(net.encoder.words(some))
        values.append(clean)
    assert torch.allclose(*values, atol=1e-5)
    loss, _ = virtual_adversarial(logits_of(net, mask), net.encoder.words(tokens), mask, radius=0.0)
    assert float(loss.detach()) == 0.0


def test_gradients_of_every_term_reach_the_table_of_words(fitted):
    for name in ("mlm", "vat", "contrastive"):
        fitted.net_.zero_grad()
        terms(fitted)[name].backward()
        assert float(fitted.net_.encoder.words.weight.grad.abs().sum()) > 0, name
        head = fitted.net_.head.bias.grad
        assert (head is not None) or name == "contrastive", name
    fitted.net_.zero_grad()
    fitted.net_.eval()


def test_dropout_is_off_inside_and_on_again_behind(fitted):
    net = fitted.net_.train()
    with without_dropout(net):
        assert not any(part.training for part in net.modules())
    assert all(part.training for part in net.modules())
    net.eval()


def test_masks_are_drawn_anew(fitted):
    batch = batch_of(fitted, URLS[:16])
    first, second = (fitted.views(batch, torch.Generator().manual_seed(i)) for i in (0, 1))
    assert not torch.equal(first["targets"], second["targets"])
    chosen = first["targets"] >= 0
    assert torch.equal(first["targets"][chosen], first["tokens"][chosen])  # never what was shown in its place
    special = {0, 2, 3}
    assert not special & set(first["targets"][chosen].tolist())
    assert chosen.any(dim=1).all()


def test_learns():
    learner = model(training=Training(epochs=8, batch_size=16, lr=5e-3, precision="32-true")).fit(made(128))
    losses = [row for row in learner.history_ if "mlm" in row]
    assert losses[-1]["mlm"] < 0.9 * losses[0]["mlm"]
    assert losses[-1]["contrastive"] < 0.8 * losses[0]["contrastive"]
    assert learner.health_["verdict"] == "healthy"


def test_the_same_seed_gives_the_same(fitted):
    again = model().fit(URLS)
    assert np.array_equal(again.transform(URLS[:9]), fitted.transform(URLS[:9]))


def test_spelling_makes_no_difference(fitted):
    z = fitted.transform(["http://www.cart1.com/help/", "HTTPS://CART1.com/help", "cart1.com/help"])
    assert z.dtype == np.float32
    assert np.array_equal(z[0], z[1])
    assert np.array_equal(z[0], z[2])
    raw = model(normalise=False).fit(URLS)
    assert not np.array_equal(*raw.transform(["http://cart1.com/help", "cart1.com/help"]))
    assert not fitted.exportable
    assert raw.exportable


def test_capitals_in_paths_may_count():
    urls = [*URLS, *(url.replace("item", "ITEM") for url in URLS)]
    learner = model(lowercase=False).fit(urls)
    a, b, c = learner.transform(["cart1.com/item", "cart1.com/ITEM", "CART1.com/item"])
    assert not np.array_equal(a, b)
    assert np.array_equal(a, c)


def test_other_letters_in_hosts(fitted):
    odd = ["http://müller1.com/help", "例え.jp/é", "пример.рф"]
    assert np.isfinite(fitted.transform(odd)).all()
    assert fitted.spelled(odd)[0] == "müller1.com/help"
    ascii_only = clone(fitted).set_params(punycode=True)
    assert ascii_only.spelled(odd)[0] == "xn--mller1-3ya.com/help"
    assert ascii_only.set_params(normalise=False).spelled(odd)[0] == "http://xn--mller1-3ya.com/help"


def test_reads_lists_arrays_series_and_tables(fitted):
    import pandas as pd

    z = fitted.transform(URLS[:4])
    for data in (
        tuple(URLS[:4]),
        np.array(URLS[:4]),
        pd.Series(URLS[:4]),
        {"url": URLS[:4]},
        pd.DataFrame({"url": URLS[:4]}),
    ):
        assert np.array_equal(fitted.transform(data), z)
    assert np.array_equal(fitted.transform({"link": URLS[:4]}, columns={"url": "link"}), z)
    assert fitted.transform(["http://cart1.com/picture.jpg"]).shape == (1, 32)  # no file is looked for


def test_long_urls_are_cut_counted_and_told_once():
    urls = [*URLS, "http://cart1.com/" + "/".join(WORDS * 10), "http://cart2.com/" + "/".join(WORDS * 20)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        learner = model().fit(urls)
    told = [str(w.message) for w in caught if "longer than max_length" in str(w.message)]
    assert told == ["2 of 98 URLs are longer than max_length=24 and were cut"]
    assert learner.truncated_ == 2


def test_saved_and_loaded(fitted, tmp_path):
    fitted.save(tmp_path / "run")
    again = nolabel.load(tmp_path / "run")
    assert np.array_equal(again.transform(URLS), fitted.transform(URLS))
    assert (again.truncated_, again.skipped_steps_) == (fitted.truncated_, 0)


def test_noise_that_cannot_be_found_is_counted(monkeypatch):
    from nolabel.learn import urlbert

    def never(*args, **options):
        found = virtual_adversarial(*args, **options)
        return found._replace(finite=torch.tensor(False))

    monkeypatch.setattr(urlbert, "virtual_adversarial", never)
    with pytest.warns(UserWarning, match="left out 2 times since a gradient was not finite"):
        learner = model().fit(URLS)
    assert learner.skipped_steps_ == 2


def test_clone_and_parameters():
    one = model(vat_weight=2.0)
    other = clone(one)
    assert other.get_params()["vat_weight"] == 2.0
    assert other.set_params(training__epochs=3, training__steps=None).training.epochs == 3
    assert not hasattr(other, "net_")


@pytest.mark.parametrize(
    ("urls", "error", "message"),
    [
        ([], ValueError, "no URLs"),
        ([*URLS[:20], "   "], ValueError, r"url\[20\]: expected a URL"),
        ([*URLS[:20], 7], TypeError, r"url\[20\]: expected a URL as a text, got int"),
        ({"url": [None, ""]}, ValueError, r"url\[0\]: expected a URL, got ''"),
        ({"text": URLS[:20]}, ValueError, "'url'"),
        (URLS[:10], ValueError, "training.batch_size=16 is above the 10 rows"),
    ],
)
def test_bad_urls(urls, error, message):
    with pytest.raises(error, match=message):
        model().fit(urls)


def test_rows_of_a_table_without_a_url_are_left_out_and_counted():
    with pytest.warns(UserWarning, match="2 of 22 texts were skipped, first row 20: empty text"):
        source = model().open({"url": [*URLS[:20], None, "  "]}, None)
    assert source.rows.tolist() == list(range(20))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"vocabulary_size": 30}, "vocabulary_size must be at least"),
        ({"mlm_weight": 0.0, "vat_weight": 0.0, "contrastive_weight": 0.0}, "are all 0: nothing would be learned"),
        ({"vat_weight": -1.0}, "vat_weight must be at least 0, got -1.0"),
        ({"radius": -0.1}, "radius must be at least 0"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"vat_step": 0.0}, "vat_step must be above 0"),
        ({"hidden": 1.0}, "hidden must be a share"),
        ({"dropout": 1.0}, "dropout must be a share"),
        ({"max_length": 2}, "max_length must be a whole number of at least 3"),
        ({"encoder": "bert-huge"}, "unknown text encoder"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        model().set_params(**params).fit(URLS)


def test_transform_before_fit():
    with pytest.raises(NotFittedError):
        model().transform(URLS)
