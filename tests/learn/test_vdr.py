import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch.nn.functional import normalize

import nolabel
from nolabel.data.tokenisers import read_tokeniser
from nolabel.learn.vdr import VDR
from nolabel.learn.vocabulary_space import ranked, vocabulary
from nolabel.objectives.vocabulary import elu1p, vocabulary_contrast
from nolabel.training import Training


def training(**settings):
    return Training(
        **{"steps": 4, "batch_size": 16, "lr": 3e-3, "precision": "32-true", "stop_on_collapse": False, **settings}
    )


def tiny(**params):
    settings = {"topk": 12, "vocabulary_size": 500, "query_length": 24, "passage_length": 40, "training": training()}
    return VDR("bert-1x32", **{**settings, **params})


@pytest.fixture(scope="module")
def pairs(docstrings):
    """First halves of texts as queries, the rest as passages."""
    words = [text.split() for text in docstrings if len(text.split()) > 12][:160]
    return {
        "query": [" ".join(w[: len(w) // 2]) for w in words],
        "passage": [" ".join(w[len(w) // 2 :]) for w in words],
    }


def some(pairs, stop, start=0):
    return {name: texts[start:stop] for name, texts in pairs.items()}


@pytest.fixture(scope="module")
def learned(pairs):
    return tiny(training=training(steps=60)).fit(some(pairs, 120))


def opened(learner, pairs, rows=8):
    source = learner.open(pairs, None)
    return source, source.batch(np.arange(rows))


# The vectors ----------------------------------------------------------------------------------------------------------


def test_weights_by_hand(learned, pairs):
    """elu1p of the maximum over the words between start and end of LayerNorm(state) . word vector + bias."""
    net, text = learned.net_, learned._side(pairs["passage"][:3], None, "passage").batch(np.arange(3))["text"]
    tower = net.passage
    with torch.no_grad():
        states = tower.norm(tower.encoder.states(text["tokens"], text["mask"]))
        scores = states @ tower.encoder.words.weight[5:].T  # five special tokens
        for row in range(3):
            inside = scores[row, 1 : int(text["mask"][row].sum()) - 1]
            expected = elu1p(inside.amax(dim=0) + tower.bias)
            found = learned.transform(pairs["passage"][row : row + 1])[0]
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_one_dimension_a_word(learned):
    tokeniser = read_tokeniser(learned.tokeniser_)
    assert len(learned.words_) == tokeniser.get_vocab_size() - 5
    assert [tokeniser.id_to_token(int(number)) for number in learned.word_ids_] == learned.words_
    plain, _ = vocabulary(tokeniser, plain=True)
    assert set(plain) < set(learned.words_)
    assert "." in set(learned.words_) - set(plain)


def test_vectors_depend_on_their_text_alone(learned, pairs):
    """Company and padding change nothing."""
    z = learned.transform(pairs["passage"][:40])
    assert (z.dtype, z.shape) == (np.float32, (40, len(learned.words_)))
    assert (z > 0).all()
    np.testing.assert_allclose(learned.transform(pairs["passage"][7:8]), z[7:8], atol=1e-5)
    np.testing.assert_allclose(learned.transform(pairs["passage"][39::-1]), z[::-1], atol=1e-5)
    short = [" ".join(text.split()[:4]) for text in pairs["passage"][:4]]
    text = learned._side(short, None, "passage").batch(np.arange(4))["text"]
    wider = {name: torch.nn.functional.pad(rows, (0, 9)) for name, rows in text.items()}
    with torch.no_grad():
        found = learned.net_.passage(wider["tokens"], wider["mask"]).numpy()
    np.testing.assert_allclose(found, learned.transform(short), atol=1e-5)


def test_two_towers_from_one_start(learned, pairs):
    net = tiny(training=training(steps=1, lr=1e-12)).fit(some(pairs, 40)).net_
    assert torch.allclose(net.query.encoder.words.weight, net.passage.encoder.words.weight, atol=1e-6)
    assert not torch.equal(learned.net_.query.encoder.words.weight, learned.net_.passage.encoder.words.weight)
    assert not np.allclose(learned.transform(pairs["query"][:2], side="query"), learned.transform(pairs["query"][:2]))


def test_sparse_vectors(learned, pairs):
    texts, dense = pairs["passage"][:30], learned.transform(pairs["passage"][:30])
    words = [set(learned._side([text], None, "passage").stream("text")[0].tolist()) for text in texts]
    own = np.array([[number in said for number in learned.word_ids_] for said in words])
    sparse = learned.transform_sparse(texts)
    assert isinstance(sparse, csr_array)
    assert sparse.dtype == np.float32
    top = np.zeros_like(own)
    np.put_along_axis(top, np.argsort(-dense, axis=1)[:, :12], True, axis=1)
    np.testing.assert_allclose(sparse.toarray(), dense * (top | own), atol=1e-5)
    np.testing.assert_allclose(learned.transform_sparse(texts, topk=0).toarray(), dense * own, atol=1e-5)
    np.testing.assert_allclose(
        learned.transform_sparse(texts, topk=12, keep_lexical=False).toarray(), dense * top, atol=1e-5
    )
    np.testing.assert_allclose(learned.transform_sparse(texts, topk=len(learned.words_)).toarray(), dense, atol=1e-5)


def test_blocks_make_no_difference(learned, pairs, monkeypatch):
    whole = learned.transform_sparse(pairs["passage"][:20])
    monkeypatch.setattr("nolabel.learn.vdr.BLOCK", 7)
    assert abs(learned.transform_sparse(pairs["passage"][:20]) - whole).max() < 1e-5


# Learning -------------------------------------------------------------------------------------------------------------


def test_loss_by_hand(pairs):
    """A passage that comes twice is no negative; hard negatives follow the passages."""
    data = {**some(pairs, 20), "negative": pairs["passage"][1:21]}
    data["passage"] = [data["passage"][3], *data["passage"][1:]]
    learner = tiny(objective="svdr", contrastive_mask=True, normalise=True, temperature=0.2)
    learner.training_ = learner.training
    source = learner.open(data, None)
    learner.prepare(source, None)
    net = learner.build(source.batch(np.arange(2))).eval()
    rows = np.array([[0, 5], [3, 9], [6, 0]])
    batch = source.batch(rows)
    weights = [normalize(getattr(net, side)(**batch[side]), dim=1) for side in ("query", "passage")]
    bags = []
    for side in ("query", "passage"):
        bag = torch.zeros(len(batch[side]["tokens"]), len(learner.words_), dtype=torch.bool)
        for row, tokens in enumerate(batch[side]["tokens"].tolist()):
            for number in set(tokens) - {0, 1, 2, 3, 4}:
                bag[row, number - 5] = True
        bags.append(bag)
    ignored = torch.zeros(3, 6, dtype=torch.bool)
    ignored[0, 1] = ignored[1, 0] = True  # rows 0 and 3 have one passage
    ignored[0, 5] = ignored[1, 5] = True  # which is the negative of row 6,
    ignored[2, 3] = True  # whose own passage is the negative of row 0
    expected = vocabulary_contrast(
        *weights, *bags, topk=12, semi=True, contrastive_mask=True, unit=True, temperature=0.2, ignored=ignored
    )
    assert batch["passages"].tolist() == [0, 0, 5, 5, 9, 0]
    found = learner.loss(net, batch)
    for name in ("weights", "words"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_hard_negatives_join_each_query(pairs):
    data = {**some(pairs, 40), "negative": [[text, pairs["passage"][50]] for text in pairs["passage"][60:100]]}
    learner = tiny()
    source, _ = opened(learner, data)
    seen = set()
    for seed in range(5):
        for batch in learner.plan(source, 8, np.random.default_rng(seed)):
            assert batch.shape == (8, 2)
            for row, number in batch:
                assert source.texts[number] in data["negative"][row]
                seen.add(source.texts[number])
    assert pairs["passage"][50] in seen
    assert len(seen) > 20
    plain, _ = opened(learner, some(pairs, 40))
    assert learner.plan(plain, 8, np.random.default_rng(0))[0].shape == (8,)
    learner.fit(data)


def test_learns_to_find_the_other_half(learned, pairs):
    """Against the same network untrained, which knows words in common; and the loss begins small."""
    untrained = tiny(training=training(steps=1, lr=1e-12)).fit(some(pairs, 120))
    seen = some(pairs, 120)
    scores = [
        model.index(seen["passage"]).score(seen["query"], list(range(120)), "mrr@40") for model in (untrained, learned)
    ]
    assert scores[0] > 0.1  # by chance 0.045
    assert scores[1] > scores[0] + 0.1
    first = learned.history_[1]
    assert first["weights"] + first["words"] < 10


def test_word_vectors_never_decay(pairs):
    learner = tiny(training=training(weight_decay=0.1))
    source, batch = opened(learner, some(pairs, 40))
    learner.training_ = learner.training.resolve(learner.recipe)
    learner.prepare(source, None)
    net = learner.build(batch)
    groups = learner.optimisers(net, learner.training_)["main"].param_groups
    decay = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
    tied = [net.query.encoder.words.weight, net.passage.encoder.words.weight]
    assert [decay[id(weight)] for weight in tied] == [0.0, 0.0]
    assert 0.1 in decay.values()
    assert len(decay) == sum(len(group["params"]) for group in groups) == len(list(net.parameters()))


def test_seed_decides_and_save_keeps(pairs, tmp_path):
    learner = tiny().fit(some(pairs, 60)).index(pairs["passage"][:20])
    again = clone(learner).fit(some(pairs, 60))
    z = learner.transform(pairs["passage"][:9])
    assert np.array_equal(z, again.transform(pairs["passage"][:9]))
    other = tiny().set_params(training__random_state=1).fit(some(pairs, 60))
    assert not np.array_equal(z, other.transform(pairs["passage"][:9]))
    learner.save(tmp_path / "run")
    loaded = nolabel.load(tmp_path / "run")
    assert loaded.words_ == learner.words_
    assert np.array_equal(z, loaded.transform(pairs["passage"][:9]))
    for found, expected in zip(loaded.search(pairs["query"][:3], 4), learner.search(pairs["query"][:3], 4)):
        assert np.array_equal(found, expected)


# Searching and explaining ---------------------------------------------------------------------------------------------


def test_search_by_hand(learned, pairs):
    ids, scores = learned.index(pairs["passage"][:30]).search(pairs["query"][:5], k=30)
    products = (
        learned.transform_sparse(pairs["query"][:5], side="query").toarray()
        @ learned.transform_sparse(pairs["passage"][:30]).toarray().T
    )
    np.testing.assert_allclose(scores, -np.sort(-products, axis=1), rtol=1e-4)
    assert all(sorted(row) == list(range(30)) for row in ids.tolist())


def test_equal_scores_are_found_in_order():
    queries, items = (
        csr_array(np.array([[1.0, 0.0]])),
        csr_array(np.array([[0.0, 1.0], [2.0, 0.0], [2.0, 5.0], [3.0, 0.0]])),
    )
    ids, scores = ranked(queries, items, 3)
    assert (ids.tolist(), scores.tolist()) == ([[3, 1, 2]], [[3.0, 2.0, 2.0]])


def test_contributions_add_up_to_the_score(learned, pairs):
    query, passage = pairs["query"][0], pairs["passage"][0]
    parts = learned.explain(query, passage, k=len(learned.words_))
    score = learned.index([passage]).search([query], k=1)[1][0, 0]
    assert sum(value for _, value in parts) == pytest.approx(score, rel=1e-4)
    assert [value for _, value in parts] == sorted((value for _, value in parts), reverse=True)
    of_query = learned.transform_sparse([query], side="query").toarray()[0]
    of_passage = learned.transform_sparse([passage]).toarray()[0]
    word, value = parts[0]
    place = learned.words_.index(word)
    assert value == pytest.approx(of_query[place] * of_passage[place], rel=1e-4)


def test_describe(learned, pairs):
    text = pairs["passage"][0]
    z = learned.transform([text])[0]
    found = learned.describe(text, 5)
    assert [word for word, _ in found] == [learned.words_[place] for place in np.argsort(-z)[:5]]
    said = set(read_tokeniser(learned.tokeniser_).encode(text).tokens)
    new = learned.describe(text, 20, new=True)
    assert len(new) == 20
    assert not said & {word for word, _ in new}
    assert dict(found) != dict(learned.describe(text, 5, side="query"))


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"topk": -1}, "topk must be a whole number of at least 0, got -1"),
        ({"topk": 5000}, "topk must be a whole number from 0 to the .* words, got 5000"),
        ({"objective": "dpr"}, "objective must be 'vdr' or 'svdr', got 'dpr'"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"query_length": 2}, "query_length must be a whole number of at least 3, got 2"),
        ({"passage_length": 9.5}, "passage_length must be a whole number of at least 3, got 9.5"),
    ],
)
def test_bad_arguments(pairs, params, message):
    with pytest.raises(ValueError, match=message):
        tiny(**params).fit(some(pairs, 40))


def test_bad_data(pairs):
    with pytest.raises(ValueError, match="no column 'passage'; the columns are query"):
        tiny().fit({"query": pairs["query"]})
    with pytest.raises(TypeError, match="'negative' must hold texts or lists of texts"):
        tiny().fit({**some(pairs, 40), "negative": list(range(40))})
    with pytest.raises(ValueError, match="above the 8 rows"):
        tiny().fit(some(pairs, 8))


def test_texts_without_a_word(pairs):
    """Signs that no training text has are unknown; a text of them alone has no dimension of its own."""
    data = some(pairs, 40)
    data["query"] = [*data["query"][:39], data["query"][39]]
    learner = tiny().fit(data)
    with pytest.raises(ValueError, match="text: 1 of 2 texts have no word of the vocabulary, the first at 1"):
        learner.transform(["a list", "ж ж"])
    allowing = tiny(allow_empty=True).fit(data)
    assert allowing.transform(["a list", "ж ж"]).shape[0] == 2
    assert allowing.transform_sparse(["a list", "ж ж"], topk=0)[[1]].nnz == 0


def test_bad_searches(learned, pairs):
    with pytest.raises(NotFittedError):
        tiny().transform_sparse(["a"])
    fresh = tiny().fit(some(pairs, 40))
    for call, error, message in [
        (lambda: fresh.search(["list"]), ValueError, r"nothing to search: call index\(passages\) first"),
        (
            lambda: learned.index(pairs["passage"][:3]).search(["list"], 4),
            ValueError,
            "k must be a whole number from 1 to 3",
        ),
        (lambda: learned.search("list", 1), TypeError, "queries must be a list of texts, got str"),
        (lambda: learned.search(["", "a"], 1), ValueError, "queries: the text at position 0 is empty"),
        (lambda: learned.transform(["a"], side="both"), ValueError, "side must be query or passage, got 'both'"),
        (lambda: learned.transform_sparse(["a"], topk=-1), ValueError, "topk must be a whole number from 0 to the"),
        (lambda: learned.transform_sparse(["a"], topk=0, keep_lexical=False), ValueError, "keep_lexical must be True"),
    ]:
        with pytest.raises(error, match=message):
            call()
