import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import nolabel
from nolabel.assess import ari
from nolabel.learn import DisambiguatedSkipGram
from nolabel.training import Training
from nolabel.training.clock import Clock

FRUIT, FIRM = [f"fruit{i}" for i in range(12)], [f"firm{i}" for i in range(12)]


def corpus(rows=300, seed=0):
    """Short texts of two topics, in all of which stands ``apple``; and the topic of each."""
    rng = np.random.default_rng(seed)
    topics = np.arange(rows) % 2
    texts = []
    for topic in topics:
        words = rng.choice((FRUIT, FIRM)[topic], 6).tolist()
        words.insert(int(rng.integers(7)), "apple")
        texts.append(" ".join(words))
    return texts, topics


def tiny(epochs=16, lr=0.02, **params):
    settings = {"dim": 8, "window": 3, "min_count": 1, "subsample": 0.0, "negatives": 8}
    settings |= {"training": Training(epochs=epochs, lr=lr, batch_size=128)}
    return DisambiguatedSkipGram(params.pop("n_senses", 2), **{**settings, **params})


@pytest.fixture(scope="module")
def texts():
    return corpus()[0]


@pytest.fixture(scope="module")
def fitted(texts):
    return tiny().fit(texts)


def opened(learner, texts, own=True):
    """Source and network, its tables filled with something."""
    source = learner.open(texts, None)
    learner.training_ = learner.training
    learner.prepare(source, None)
    torch.manual_seed(0)
    net = learner.build(source.batch(np.arange(2)))
    for table in (net.senses, net.outputs, net.biases, net.shared, *([net.own] if own else [])):
        torch.nn.init.normal_(table.weight, std=0.5)
    return source, net


# The loss -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_loss_by_hand(second, exclude, texts):
    """One context word after the other, against every word, without noise."""
    learner = tiny(negatives=1000, exclude_target=exclude, gumbel=False, entropy_weight=(-0.1, 0.3))
    source, net = opened(learner, texts)
    net.second_stage = second
    rows = np.array([0, 3, 9, 40])
    batch = source.batch(rows)
    found = learner.loss(net, batch)
    losses, entropies = [], []
    for word, context in zip(batch["word"].tolist(), batch["context"].tolist()):
        around = [c for c in context if c >= 0]
        weights = net.shared.weight[0] + net.own.weight[word] if second else net.shared.weight[0]
        weights = weights.view(2, 9)
        for place, target in enumerate(around):
            seen = [c for i, c in enumerate(around) if i != place] if exclude else around
            mean = torch.stack([net.outputs.weight[c] for c in seen]).mean(dim=0).detach()
            p = (weights[:, :8] @ mean + weights[:, 8]).softmax(dim=0)
            h = p @ net.senses.weight[word].view(2, 8)
            losses.append(-(net.outputs.weight @ h + net.biases.weight[:, 0]).log_softmax(dim=0)[target])
            if exclude or place == 0:
                entropies.append(-(p * (p + 1e-5).log()).sum())
    torch.testing.assert_close(found["prediction"], torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)
    if not exclude:  # its places beyond the ends count in the mean entropy, with the entropy of no context
        weight = 0.3 if second else -0.1
        torch.testing.assert_close(found["entropy"], weight * torch.stack(entropies).mean(), rtol=1e-4, atol=1e-5)


def test_no_gradient_flows_through_the_context(texts):
    """O learns as what is predicted; what it says of the context is taken as given."""
    learner = tiny(negatives=4, gumbel=False)
    source, net = opened(learner, texts)
    net.second_stage = True
    batch = source.batch(np.arange(20))
    torch.manual_seed(1)
    (with_context,) = torch.autograd.grad(learner.loss(net, batch)["prediction"], net.outputs.weight)
    usual = learner._contexts
    learner._contexts = lambda rows, known: usual(rows, known).detach()
    torch.manual_seed(1)
    (without,) = torch.autograd.grad(learner.loss(net, batch)["prediction"], net.outputs.weight)
    assert torch.equal(with_context.to_dense(), without.to_dense())
    assert with_context.to_dense().abs().max() > 0


def test_what_learns_in_which_stage(texts):
    learner = tiny()
    source, net = opened(learner, texts)
    batch = source.batch(np.arange(30))
    for second, learns, stands in ((False, "shared", "own"), (True, "own", "shared")):
        net.second_stage = second
        net.zero_grad()
        sum(learner.loss(net, batch).values()).backward()
        assert getattr(net, learns).weight.grad.to_dense().abs().max() > 0
        assert getattr(net, stands).weight.grad is None
        assert net.senses.weight.grad.to_dense().abs().max() > 0


def test_the_second_stage_begins_where_the_first_ended(texts):
    learner = tiny(gumbel=False)
    source, net = opened(learner, texts, own=False)
    batch = source.batch(np.arange(30))
    found = []
    for second in (False, True):
        net.second_stage = second
        torch.manual_seed(0)
        found.append(learner.loss(net, batch)["prediction"])
    assert torch.equal(*found)
    assert net.own.weight.abs().max() == 0


def test_stages_and_temperature_follow_the_clock():
    learner = tiny(pretraining=0.25, temperature=(1.0, 0.5))
    net = torch.nn.Module()
    seen = []
    for fraction in (0.0, 0.2, 0.25, 0.375, 0.5, 0.9):
        learner.before_step(net, Clock(fraction=fraction))
        seen.append((net.second_stage, round(learner._temperature(net), 3)))
    assert seen == [(False, 1.0), (False, 1.0), (True, 1.0), (True, 0.75), (True, 0.5), (True, 0.5)]


def test_noise_in_training_only(texts, fitted):
    learner = tiny()
    source, net = opened(learner, texts)
    net.second_stage = True
    batch = source.batch(np.arange(30))
    assert learner.loss(net, batch)["prediction"] != learner.loss(net, batch)["prediction"]
    p = [fitted.disambiguate("apple", "fruit1 fruit2") for _ in range(2)]
    assert np.array_equal(*p)


def test_plan_thins_out_and_leaves_lonely_words(texts):
    learner = tiny(subsample=0.02)
    source, _ = opened(learner, [*texts, "apple", "apple fruit1"])
    plan = learner.plan(source, 64, np.random.default_rng(0))
    rows = np.concatenate(plan)
    assert len(np.unique(rows)) == len(rows)
    apple = learner.vocabulary_.index["apple"]
    kept = (source.ids[rows] == apple).mean() / (source.ids == apple).mean()
    assert kept < 0.8
    assert np.isin(rows, source.kept).all()
    alone = np.flatnonzero(source.documents == 300)
    assert not np.isin(alone, rows).any()


# What it learns -------------------------------------------------------------------------------------------------------


def test_senses_are_found(fitted):
    contexts, truth = corpus(rows=80, seed=1)
    labels = fitted.induce("apple", contexts)
    assert labels.dtype == np.int64
    assert ari(truth, labels) > 0.8
    assert ari(truth, np.random.default_rng(0).integers(2, size=80)) < 0.1


def test_neighbours_belong_to_the_sense(fitted):
    sense = int(fitted.induce("apple", ["fruit1 fruit2 fruit3"])[0])
    found = fitted.neighbours("apple", sense, k=6)
    assert len(found) == 6
    assert sum(word in FRUIT for word, _, _ in found) >= 5
    assert [cosine for *_, cosine in found] == sorted((cosine for *_, cosine in found), reverse=True)
    word, other, cosine = found[0]
    a = fitted.sense_vectors_[fitted.vocabulary_.index["apple"], sense]
    b = fitted.sense_vectors_[fitted.vocabulary_.index[word], other]
    assert cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-4)
    assert all(word != "apple" for word, *_ in fitted.neighbours("apple", sense, k=1000))


def test_neither_collapsed_nor_alike(fitted):
    prior = fitted.priors_[fitted.vocabulary_.index["apple"]]
    assert prior.min() > 0.3
    assert fitted.report_.cosine < 0.95
    assert fitted.report_.certainty > 0.6
    assert "largest cosine" in str(fitted.report_)
    assert fitted.report_.to_dict()["senses"] == 2


def test_senses_that_stay_alike_are_named(texts):
    """Where they begin as one and have no time to part."""
    learner = tiny(epochs=1, lr=1e-6)
    build = learner.build

    def same(example):
        net = build(example)
        net.senses.weight.data = net.senses.weight.data.view(-1, 2, 8)[:, :1].repeat(1, 2, 1).flatten(1)
        return net

    learner.build = same
    with pytest.warns(UserWarning, match="the senses are hardly senses: .* largest cosine"):
        learner.fit(texts)


def test_probabilities_by_hand(fitted):
    vocabulary, net = fitted.vocabulary_, fitted.net_
    mean = net.outputs.weight[[vocabulary.index[w] for w in ("fruit1", "firm2", "fruit1")]].mean(dim=0)
    weights = (net.shared.weight[0] + net.own.weight[vocabulary.index["apple"]]).view(2, 9)
    expected = (weights[:, :8] @ mean + weights[:, 8]).softmax(dim=0).detach().numpy()
    np.testing.assert_allclose(fitted.disambiguate("apple", "fruit1 firm2 unknown fruit1 apple"), expected, rtol=1e-4)
    np.testing.assert_allclose(fitted.disambiguate("apple", ["fruit1", "firm2", "fruit1"]), expected, rtol=1e-4)


def test_priors_are_means_over_the_corpus(fitted, texts):
    index = fitted.vocabulary_.index
    p = []
    for text in texts:
        words = text.split()
        place = words.index("apple")
        p.append(fitted.disambiguate("apple", words[max(0, place - 3) : place] + words[place + 1 : place + 4]))
    np.testing.assert_allclose(fitted.raw_priors_[index["apple"]], np.mean(p, axis=0), atol=1e-4)
    np.testing.assert_allclose(fitted.priors_.sum(axis=1), 1, rtol=1e-5)


def test_pruned_senses_are_never_chosen(fitted):
    copy = clone(fitted)
    vars(copy).update({k: v for k, v in vars(fitted).items() if k.endswith("_")})
    number = copy.vocabulary_.index["apple"]
    copy.raw_priors_ = fitted.raw_priors_.copy()
    sense = int(fitted.induce("apple", ["fruit1"])[0])
    copy.raw_priors_[number] = np.where(np.arange(2) == sense, 0.04, 0.96)
    assert copy.induce("apple", ["fruit1", "firm1"]).tolist() == [1 - sense] * 2
    assert copy.disambiguate("apple", "fruit1")[sense] == 0
    assert copy.priors_[number, sense] == 0
    assert copy.priors_[number].sum() == pytest.approx(1)
    assert all((w, s) != ("apple", sense) for w, s, _ in copy.neighbours("fruit1", 0, k=1000))


def test_transform_by_hand(fitted):
    text = "fruit1 apple firm3"
    found = fitted.transform([text, "apple"])
    assert found.shape == (2, 8)
    assert found.dtype == np.float32
    words = text.split()
    expected = np.zeros(8)
    for word in words:
        p = fitted.disambiguate(word, [w for w in words if w != word])
        expected += p @ fitted.sense_vectors_[fitted.vocabulary_.index[word]] / 3
    np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-5)
    plain = fitted.transform([text], disambiguate=False)[0]
    index = [fitted.vocabulary_.index[word] for word in words]
    expected = np.einsum("ws,wsd->d", fitted.priors_[index], fitted.sense_vectors_[index]) / 3
    np.testing.assert_allclose(plain, expected, rtol=1e-3, atol=1e-5)
    assert not np.allclose(plain, found[0], rtol=1e-2)


def test_no_known_context(fitted):
    prior = fitted.priors_[fitted.vocabulary_.index["apple"]]
    for context in ("", "never heard of", ["apple"]):
        with pytest.warns(UserWarning, match="1 of 1 contexts of 'apple' have no known word: prior taken"):
            np.testing.assert_allclose(fitted.disambiguate("apple", context), prior, rtol=1e-5)
    with pytest.warns(UserWarning, match="1 of 2 contexts"):
        assert fitted.induce("apple", ["", "fruit1"])[0] == prior.argmax()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted.induce("apple", []).shape == (0,)
    with pytest.warns(UserWarning, match="1 of 2 texts have no known word, first row 0: zeros"):
        z = fitted.transform(["unheard", "fruit1"])
    assert not z[0].any()
    assert z[1].any()


# The contract -----------------------------------------------------------------------------------------------------------


def test_save_load_seed_and_clone(fitted, texts, tmp_path):
    loaded = nolabel.load(fitted.save(tmp_path / "run"))
    assert np.array_equal(loaded.sense_vectors_, fitted.sense_vectors_)
    assert np.array_equal(loaded.priors_, fitted.priors_)
    assert np.array_equal(loaded.transform(texts[:9]), fitted.transform(texts[:9]))
    assert np.array_equal(loaded.disambiguate("apple", "fruit1"), fitted.disambiguate("apple", "fruit1"))
    assert loaded.report_ == fitted.report_
    again = clone(fitted).fit(texts)
    assert np.array_equal(again.sense_vectors_, fitted.sense_vectors_)
    assert np.array_equal(again.priors_, fitted.priors_)
    other = clone(fitted).set_params(training__random_state=1).fit(texts)
    assert not np.array_equal(other.sense_vectors_, fitted.sense_vectors_)


def test_resumed_runs_are_unbroken(texts, tmp_path):
    class PowerCut(Exception):
        pass

    settings = Training(epochs=3, lr=0.02, batch_size=128, checkpoint_seconds=0)
    whole = tiny(subsample=0.05, training=settings).fit(texts)
    broken = tiny(subsample=0.05, training=settings)
    usual = broken.before_step

    def cut(net, clock):
        if clock.step == 20:
            raise PowerCut
        usual(net, clock)

    broken.before_step = cut
    with pytest.raises(PowerCut):
        broken.fit(texts, run=tmp_path / "run")
    resumed = tiny(subsample=0.05, training=settings).fit(texts, run=tmp_path / "run", resume=True)
    for name, weight in resumed.net_.state_dict().items():
        assert torch.equal(weight, whole.net_.state_dict()[name]), name
    assert np.array_equal(resumed.priors_, whole.priors_)


def test_sources(texts, fitted):
    pandas = pytest.importorskip("pandas")
    expected = fitted.transform(texts[:9])
    frame = pandas.DataFrame({"body": texts[:9]})
    assert np.array_equal(fitted.transform(frame, columns={"text": "body"}), expected)
    assert np.array_equal(fitted.transform([text.split() for text in texts[:9]]), expected)
    skipped = tiny(epochs=1).open([*texts, "apple", ""], None).skipped
    assert [skip.row for skip in skipped] == [300, 301]


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_senses": 1}, "n_senses must be at least 2, got 1: for one vector a word use a plain skip-gram"),
        ({"n_senses": 0}, "n_senses must be a whole number of at least 2, got 0"),
        ({"window": 0}, "window must be a whole number of at least 1, got 0"),
        ({"dim": 2.5}, "dim must be a whole number of at least 1, got 2.5"),
        ({"min_count": 0}, "min_count must be a whole number of at least 1, got 0"),
        ({"negatives": 0}, "negatives must be a whole number of at least 1, got 0"),
        ({"temperature": (1.0, 0.0)}, r"temperature must be two numbers above 0, first and last, got \(1.0, 0.0\)"),
        ({"temperature": (1.0,)}, "temperature must be two numbers"),
        ({"entropy_weight": (float("nan"), 0.0)}, "entropy_weight must be two numbers"),
        ({"pretraining": 1.0}, r"pretraining is a share of the run and must lie in \[0, 1\), got 1.0"),
        ({"prune": 0.5}, r"prune must lie in \[0, 1/2\), or all senses could go, got 0.5"),
        ({"subsample": -1.0}, "subsample must be a number of at least 0, got -1.0"),
        ({"stop_words": "latin"}, "stop_words must be 'english'"),
        ({"min_count": 10**6}, "min_count=1000000 leaves no word"),
        ({"training": Training(optimiser="adamw")}, "tables of words are trained by adam"),
    ],
)
def test_bad_parameters(params, message, texts):
    with pytest.raises(ValueError, match=message) as caught:
        tiny(**params).fit(texts)
    assert "\n" not in str(caught.value)


def test_bad_calls(fitted, texts):
    with pytest.raises(KeyError, match="'aple' is not among the 25 words of the vocabulary: did you mean 'apple'"):
        fitted.disambiguate("aple", "fruit1")
    with pytest.raises(KeyError, match="'zzz' is not among"):
        fitted.neighbours("zzz", 0)
    with pytest.raises(ValueError, match="sense must be from 0 to 1, got 2"):
        fitted.neighbours("apple", 2)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        fitted.neighbours("apple", 0, k=0)
    with pytest.raises(TypeError, match="contexts must be a list of texts or of lists of words, got str"):
        fitted.induce("apple", "fruit1")
    with pytest.raises(TypeError, match="a context must be a text or a list of words, got int"):
        fitted.induce("apple", [3])
    with pytest.raises(TypeError, match="expected a folder"):
        tiny().fit(3)
    with pytest.raises(ValueError, match="none of 2 texts has 2 words of the vocabulary"):
        tiny().fit(["apple", "apple"])
    with pytest.raises(ValueError, match="none of 1 texts has a word of the vocabulary"):
        fitted.transform(["unheard"])
    for call in (lambda m: m.disambiguate("a", "b"), lambda m: m.transform(texts), lambda m: m.neighbours("a", 0)):
        with pytest.raises(NotFittedError):
            call(tiny())
