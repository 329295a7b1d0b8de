import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch.nn.functional import cross_entropy, normalize

import nolabel
from nolabel.data.text_pairs import PairSource, pair_columns
from nolabel.data.tokenisers import read_tokeniser
from nolabel.learn.contriever import Contriever
from nolabel.learn.fine_tuning import PairTuning, mined
from nolabel.training import Training
from nolabel.training.clock import Clock
from nolabel.views.tokens import Tokens


def tiny(steps=4, **params):
    settings = {"vocabulary_size": 500, "chunk": 16, "max_length": 48, "contrast": "moco", "queue_size": 32}
    settings["training"] = Training(steps=steps, batch_size=16, lr=3e-3, precision="32-true", stop_on_collapse=False)
    return Contriever("bert-1x32", **{**settings, **params})


@pytest.fixture(scope="module")
def learned(docstrings):
    settings = Training(steps=150, batch_size=32, lr=3e-3, precision="32-true")
    crops = {"chunk": 40, "joined": False, "ratio_min": 0.3, "ratio_max": 0.7}
    return tiny(contrast="inbatch", training=settings, **crops).fit(docstrings)


@pytest.fixture(scope="module")
def halves(docstrings):
    """First and second halves of texts: queries and what answers them."""
    words = [text.split() for text in docstrings if len(text.split()) > 12][:150]
    return [" ".join(w[: len(w) // 2]) for w in words], [" ".join(w[len(w) // 2 :]) for w in words]


def built(learner, docstrings):
    """A network in eval mode whose target differs from its encoder, and views of a batch."""
    learner.training_ = learner.training
    source = learner.open(docstrings[:80], None)
    learner.prepare(source, None)
    torch.manual_seed(0)
    net = learner.build(source.batch(np.arange(2))).eval()
    if hasattr(net, "target"):
        with torch.no_grad():
            for weight in net.target.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
    return net, learner.views(source.batch(np.arange(16)), torch.Generator().manual_seed(1))


# The loss -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [True, False])
def test_queue_loss_by_hand(docstrings, unit):
    """The key of the moving average against the queue as it was before."""
    learner = tiny(temperature=0.2, normalise=unit)
    net, views = built(learner, docstrings)
    past = net.queues[0].rows.clone()
    with torch.no_grad():
        q, k = net.encoder(*views[0]), net.target(*views[1])
    q, k = (normalize(z, dim=1) if unit else z for z in (q, k))
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ past.T], dim=1) / 0.2
    expected = cross_entropy(logits, torch.zeros(16, dtype=torch.long))
    torch.testing.assert_close(learner.loss(net, views), expected, rtol=1e-4, atol=1e-5)
    assert torch.allclose(net.queues[0].rows[-16:], k, atol=1e-6)  # taken in afterwards
    assert torch.equal(net.queues[0].rows[:-16], past[16:])


def test_inbatch_loss_by_hand(docstrings):
    learner = tiny(temperature=0.2, contrast="inbatch")
    net, views = built(learner, docstrings)
    assert not hasattr(net, "target")
    q, k = (normalize(net.encoder(*view), dim=1) for view in views[:2])
    expected = cross_entropy(q @ k.T / 0.2, torch.arange(16))
    torch.testing.assert_close(learner.loss(net, views), expected, rtol=1e-4, atol=1e-5)


def test_gradient_reaches_the_encoder_and_not_its_target(docstrings):
    learner = tiny()
    net, views = built(learner, docstrings)
    learner.loss(net.train(), views).backward()
    assert all(weight.grad is None for weight in net.target.parameters())
    assert sum(float(weight.grad.abs().sum()) for weight in net.encoder.parameters() if weight.grad is not None) > 0


def test_gradient_is_that_of_the_queue_before_the_keys_came_in(docstrings):
    """Half of the queue is written over between the logits and the backward pass."""
    learner = tiny()
    net, views = built(learner, docstrings)
    weight = net.encoder.words.weight
    past = net.queues[0].rows.clone()
    found = torch.autograd.grad(learner.loss(net, views), weight)[0]
    q, k = normalize(net.encoder(*views[0]), dim=1), normalize(net.target(*views[1]), dim=1)
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ past.T], dim=1) / 0.05
    expected = torch.autograd.grad(cross_entropy(logits, torch.zeros(16, dtype=torch.long)), weight)[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_moving_average_before_the_step_in_storage_of_its_own(docstrings):
    learner = tiny(momentum=0.9)
    net, _ = built(learner, docstrings)
    before, online = net.target.words.weight.clone(), net.encoder.words.weight
    place = net.target.words.weight.data_ptr()
    learner.before_step(net, Clock())
    torch.testing.assert_close(net.target.words.weight, 0.9 * before + 0.1 * online)
    assert net.target.words.weight.data_ptr() == place != online.data_ptr()


def test_queue_begins_as_random_unit_vectors(docstrings):
    net, _ = built(tiny(), docstrings)
    torch.testing.assert_close(net.queues[0].store.norm(dim=1), torch.ones(32))
    assert net.queues[0].full


# Views and chunks -----------------------------------------------------------------------------------------------------


def test_crops_are_pieces_of_their_chunk(docstrings):
    learner = tiny(perturbation="none", ratio_min=0.25, ratio_max=0.5)
    built(learner, docstrings)
    source = learner.open(docstrings[:80], None)
    batch = source.batch(np.arange(16))
    query, key, corpus = learner.views(batch, torch.Generator().manual_seed(1))
    assert corpus == 0
    assert not torch.equal(query.tokens, key.tokens)
    for view in (query, key):
        for row, mask, whole in zip(view.tokens, view.mask, batch["text"]["tokens"]):
            inside = row[mask].tolist()[1:-1]
            assert 4 <= len(inside) <= 8
            assert ",".join(map(str, inside)) in ",".join(map(str, whole.tolist()))


def test_span_and_rest(docstrings):
    learner = tiny(perturbation="none", view="ict", ratio_min=0.25, ratio_max=0.25)
    built(learner, docstrings)
    source = learner.open(docstrings[:80], None)
    query, key, _ = learner.views(source.batch(np.arange(16)), torch.Generator().manual_seed(1))
    assert (query.mask.sum(dim=1) == 6).all()
    assert set(key.mask.sum(dim=1).tolist()) <= {14, 18}


@pytest.mark.parametrize("kind", ["mask", "replace", "shuffle", "none", "delete"])
def test_perturbations(docstrings, kind):
    learner = tiny(perturbation=kind, perturbation_probability=0.3, ratio_min=1.0, ratio_max=1.0)
    built(learner, docstrings)
    source = learner.open(docstrings[:80], None)
    batch = source.batch(np.arange(16))
    seen = learner.views(batch, torch.Generator().manual_seed(1))[0]
    if kind == "delete":
        assert (seen.mask.sum(dim=1) < batch["text"]["mask"].sum(dim=1)).any()
        return
    changed = seen.tokens != batch["text"]["tokens"]
    assert bool(changed.any()) is (kind != "none")
    special = read_tokeniser(learner.tokeniser_).token_to_id("[MASK]")
    if kind == "mask":
        assert (seen.tokens[changed] == special).all()
    if kind == "replace":
        assert (seen.tokens[changed] > 4).all()


def test_borders_move_and_every_chunk_comes_once_an_epoch(docstrings):
    learner = tiny()
    source = learner.open(docstrings[:200], None)
    plans = [learner.plan(source, 8, np.random.default_rng(seed)) for seed in range(3)]
    for plan in plans:
        rows = np.concatenate(plan)
        assert len(np.unique(rows[:, 0])) == len(rows) == len(source) // 8 * 8
        assert len(np.unique(rows[:, 1])) == 1
    assert len({int(plan[0][0, 1]) for plan in plans}) > 1


def test_a_batch_holds_one_corpus(docstrings):
    named = [("b", "a", "b")[i % 3] for i in range(240)]
    learner = tiny(sources="corpus", source_exponent=1.0).fit({"text": docstrings[:240], "corpus": named})
    assert learner.queue_ == 32
    assert len(learner.net_.queues) == 2
    source = learner.open({"text": docstrings[:240], "corpus": named}, None)
    assert source.sizes[1] > 2 * source.sizes[0]
    for exponent, expected in ((0.0, 0.5), (1.0, source.sizes[1] / source.sizes.sum())):
        learner.source_exponent = exponent
        plans = [learner.plan(source, 8, np.random.default_rng(seed)) for seed in range(20)]
        groups = [source.group[batch[:, 0]] for plan in plans for batch in plan]
        assert all(len(set(group)) == 1 for group in groups)
        assert abs(np.mean([group[0] for group in groups]) - expected) < 0.06


# Fitting and searching ------------------------------------------------------------------------------------------------


def test_halves_find_each_other_better_than_untrained(learned, docstrings, halves):
    untrained = tiny(steps=1, training=Training(steps=1, batch_size=32, lr=1e-12, precision="32-true")).fit(docstrings)
    first, second = halves
    scores = [model.index(second).score(first, list(range(len(first))), "recall@10") for model in (untrained, learned)]
    assert scores[1] > scores[0] + 0.06


def test_vectors_depend_on_their_text_alone(learned, docstrings):
    z = learned.transform(docstrings[:60])
    assert z.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(learned.transform(docstrings[7:8]), z[7:8], atol=1e-5)
    np.testing.assert_allclose(learned.transform(docstrings[59::-1]), z[::-1], atol=1e-5)


def test_search_by_hand(learned, docstrings):
    ids, scores = learned.index(docstrings[:50]).search(docstrings[50:53], k=50)
    similar = learned.transform(docstrings[50:53]) @ learned.transform(docstrings[:50]).T
    np.testing.assert_array_equal(ids, np.argsort(-similar, axis=1))
    np.testing.assert_allclose(scores, -np.sort(-similar, axis=1), atol=1e-5)
    grades = [{int(ids[0, 0]): 2.0}, [int(ids[1, 1])], int(ids[2, 2])]
    assert learned.score(docstrings[50:53], grades, "mrr@3") == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert learned.score(docstrings[50:53], grades, "recall@2") == pytest.approx(2 / 3)


def test_save_and_load(learned, docstrings, tmp_path):
    learned.index(docstrings[:20]).save(tmp_path / "run")
    loaded = nolabel.load(tmp_path / "run")
    assert np.array_equal(loaded.transform(docstrings[:20]), learned.transform(docstrings[:20]))
    for found, expected in zip(loaded.search(docstrings[20:22], 3), learned.search(docstrings[20:22], 3)):
        assert np.array_equal(found, expected)


def test_seed_decides(docstrings):
    learner = tiny()
    z = learner.fit(docstrings[:120]).transform(docstrings[:20])
    assert np.array_equal(z, clone(learner).fit(docstrings[:120]).transform(docstrings[:20]))
    other = tiny().set_params(training__random_state=1).fit(docstrings[:120])
    assert not np.array_equal(z, other.transform(docstrings[:20]))


def test_resume_equals_unbroken(docstrings, tmp_path):
    class Stops(Contriever):
        def after_step(self, net, clock):
            if clock.step == 3 and not getattr(self, "gone_on", False):
                raise KeyboardInterrupt

    whole = tiny(steps=6).fit(docstrings[:120])
    broken, second = (Stops(**whole.get_params(deep=False)) for _ in range(2))
    for learner in (broken, second):
        learner.set_params(training__checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(docstrings[:120], run=tmp_path)
    second.gone_on = True
    second.fit(docstrings[:120], run=tmp_path, resume=True)
    assert np.array_equal(second.transform(docstrings[:9]), whole.transform(docstrings[:9]))


# Fine-tuning ----------------------------------------------------------------------------------------------------------


def test_pairs_make_it_better(learned, halves, tmp_path):
    first, second = halves
    learned.save(tmp_path / "run")
    model = nolabel.load(tmp_path / "run")
    before = model.index(second[100:]).score(first[100:], list(range(len(first) - 100)), "mrr@50")
    model.fit_pairs(first[:100], second[:100], hard_ratio=0.5, training=Training(steps=25, batch_size=32, lr=3e-3))
    with pytest.raises(ValueError, match=r"nothing to search: call index\(documents\) first"):
        model.search(first)
    after = model.index(second[100:]).score(first[100:], list(range(len(first) - 100)), "mrr@50")
    assert after > before + 0.02
    assert len(model.tuning_) == 2  # negatives at random, then mined ones
    assert model.tuning_[0][-1] < model.tuning_[0][0]
    one = nolabel.load(tmp_path / "run")
    one.fit_pairs(first[:40], second[:40], second[40:80], training=Training(steps=2, batch_size=16))
    assert len(one.tuning_) == 1
    one.fit_pairs(first[:40], second[:40], hard_ratio=0.0, training=Training(steps=2, batch_size=16))
    assert len(one.tuning_) == 1


def test_tuning_loss_by_hand(learned, halves):
    first, second = halves
    source = PairSource(
        nolabel.data.read(pair_columns(first[:6], [*second[:5], second[0]])),
        read_tokeniser(learned.tokeniser_),
        (48, 48),
    )
    tuning = PairTuning(learned.net_.encoder, temperature=0.3, normalise=True, hard_ratio=0.0)
    net = tuning.build({}).eval()
    batch = source.batch(np.array([[0, 3], [1, 4], [5, 1]]))  # pairs 0 and 5 have one answer
    q, p = (tuning.vectors(net, batch[name]) for name in ("query", "passage"))
    scores = q @ p.T / 0.3
    scores[0, 2] = scores[2, 0] = -torch.inf  # the same passage
    scores[1, 5] = -torch.inf  # its own passage again
    expected = cross_entropy(scores, torch.arange(3))
    torch.testing.assert_close(tuning.loss(net, batch), expected, rtol=1e-4, atol=1e-5)
    assert net.encoder is not learned.net_.encoder


def test_mined_negatives_rank_high_and_never_answer(learned, halves):
    first, second = halves
    queries = [*first[:20], first[0]]  # the first question has two answers
    answers = [*second[:20], second[20]]
    source = PairSource(
        nolabel.data.read(pair_columns(queries, answers)),
        read_tokeniser(learned.tokeniser_),
        (48, 48),
        corpus=second[20:],
    )
    tuning = PairTuning(learned.net_.encoder, temperature=0.05, normalise=True, hard_ratio=0.0)
    tuning.net_ = tuning.build({}).eval()
    found = mined(tuning, source, most=3)
    assert [len(numbers) for numbers in found] == [3] * 21
    similar = learned.transform(queries) @ learned.transform(source.texts).T
    for row, numbers in enumerate(found):
        right = {int(source.positive[other]) for other in range(21) if queries[other] == queries[row]}
        assert len(right) == 2 or row not in (0, 20)
        order = [number for number in np.argsort(-similar[row]) if number not in right]
        assert numbers.tolist() == order[:3]


def test_a_given_encoder_stays_as_it_was(learned, halves):
    before = learned.net_.encoder.words.weight.clone()
    source = PairSource(
        nolabel.data.read(pair_columns(halves[0][:40], halves[1][:40])), read_tokeniser(learned.tokeniser_), (48, 48)
    )
    settings = Training(steps=2, batch_size=16, precision="32-true")
    tuning = PairTuning(learned.net_.encoder, temperature=0.05, normalise=True, hard_ratio=0.5, training=settings)
    tuning.fit_source(source)
    assert torch.equal(learned.net_.encoder.words.weight, before)
    assert not torch.equal(tuning.net_.encoder.words.weight, before)


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"view": "crops"}, "view must be one of crop, ict, got 'crops'"),
        ({"contrast": "simclr"}, "contrast must be one of moco, inbatch, got 'simclr'"),
        ({"perturbation": "drop"}, "perturbation must be one of delete, mask"),
        ({"perturbation_probability": 1.0}, r"perturbation_probability must lie in \[0, 1\), got 1.0"),
        ({"ratio_min": 0.7}, "0 < ratio_min <= ratio_max <= 1, got 0.7 and 0.6"),
        ({"ratio_min": 0.0}, "ratio_min <= ratio_max <= 1, got 0.0 and 0.6"),
        ({"ratio_max": 1.2}, "ratio_max <= 1, got 0.1 and 1.2"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, r"momentum must lie in \[0, 1\), got -0.1"),
        ({"queue_size": 0}, "queue_size must be a whole number of at least 1, got 0"),
        ({"chunk": 1}, "chunk must be a whole number of at least 2, got 1"),
        ({"chunk": 47}, "chunk must be at most 46, for the encoder reads 48 tokens"),
        ({"sources": "corpus"}, "sources: no column 'corpus'; the columns are text"),
    ],
)
def test_bad_arguments(docstrings, params, message):
    with pytest.raises(ValueError, match=message):
        tiny(**params).fit(docstrings[:120])


def test_queue_is_cut_to_whole_batches_and_half_of_the_chunks(docstrings):
    with pytest.warns(UserWarning, match="queue_size=40 changed to 32: whole batches of 16"):
        assert tiny(steps=1, queue_size=40).fit(docstrings[:120]).queue_ == 32
    with pytest.warns(UserWarning, match="queue_size=5000 changed to .*: whole batches of 16, at most half of the"):
        learner = tiny(steps=1, queue_size=5000).fit(docstrings[:120])
    assert learner.queue_ % 16 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tiny(steps=1, queue_size=None).fit(docstrings[:120]).queue_ == learner.queue_


def test_fewer_chunks_than_a_batch(docstrings):
    with pytest.raises(ValueError, match=r"training.batch_size=16 is above the .* rows"):
        tiny(joined=False).fit(docstrings[5:8])
    few = {"text": docstrings[:100], "corpus": ["a"] * 99 + ["b"]}
    with pytest.raises(ValueError, match="sources: a corpus has . chunks, fewer than training.batch_size=16"):
        tiny(sources="corpus").fit(few)


def test_short_texts_are_left_out_and_counted(docstrings):
    with pytest.warns(UserWarning, match="left out|were skipped"):
        learner = tiny(steps=1).fit([*docstrings[:120], "", "a"])
    assert learner.dropped_ == 2


def test_bad_searches(learned, docstrings):
    with pytest.raises(NotFittedError):
        tiny().search(["a"])
    with pytest.raises(NotFittedError):
        tiny().fit_pairs(["a"], ["b"])
    learned.index(docstrings[:5])
    for call, error, message in [
        (
            lambda: learned.search(["list"], 6),
            ValueError,
            "k must be a whole number from 1 to 5, the texts of the index, got 6",
        ),
        (lambda: learned.search(["list"], 0), ValueError, "got 0"),
        (lambda: learned.search("list", 2), TypeError, "queries must be a list of texts, got str"),
        (lambda: learned.search([3], 2), TypeError, "queries must be texts, got int at position 0"),
        (lambda: learned.search(["list", " "], 2), ValueError, "queries: the text at position 1 is empty"),
        (lambda: learned.index([]), ValueError, "documents: there are none"),
        (
            lambda: learned.score(["list"], [0], "recall"),
            ValueError,
            "metric must be one of recall, hit_rate, mrr, map, ndcg",
        ),
        (
            lambda: learned.fit_pairs(["a", "b"], ["c"]),
            ValueError,
            "queries and passages must be equally many, got 2 and 1",
        ),
        (
            lambda: learned.fit_pairs(["a"], ["b"], hard_ratio=1.5),
            ValueError,
            r"hard_ratio must lie in \[0, 1\], got 1.5",
        ),
        (lambda: learned.fit_pairs(["a", 3], ["b", "c"]), TypeError, "queries must be texts, got int"),
    ]:
        with pytest.raises(error, match=message):
            call()


def test_unnormalised_needs_no_unit_vectors(docstrings):
    z = tiny(normalise=False).fit(docstrings[:120]).transform(docstrings[:20])
    assert np.abs(np.linalg.norm(z, axis=1) - 1).max() > 0.1


def test_tokens_type_is_what_views_return(docstrings):
    _, views = built(tiny(), docstrings)
    assert all(isinstance(view, Tokens) for view in views[:2])
