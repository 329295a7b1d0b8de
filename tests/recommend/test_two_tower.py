"""Two towers: they learn the tastes, know new items by their features, and hide what they should."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.nn.functional import normalize

import nolabel
from nolabel.recommend import TwoTowerRecommender
from nolabel.training import Training


def make(steps=80, seed=0, **params):
    return TwoTowerRecommender(dim=8, hidden=(16,), embedding_dim=4, **params).set_params(
        training=Training(steps=steps, batch_size=128, random_state=seed, lr=1e-2)
    )


def fit(shop, model):
    return model.fit(shop.log, queries=shop.users, items=shop.items)


@pytest.fixture(scope="module")
def learned(shop):
    return fit(shop, make())


def test_it_learns_the_tastes(shop, learned):
    numbers, _ = learned.ranked(np.arange(80), 5)
    assert (shop.kind[numbers] == shop.taste[:, None]).mean() > 0.9
    assert learned.item_vectors_.shape == (60, 8)
    np.testing.assert_allclose(np.linalg.norm(learned.item_vectors_, axis=1), 1, rtol=1e-5)
    ids, scores = learned.recommend(["u3", "u4"], k=4)
    assert ids.shape == scores.shape == (2, 4)
    assert (np.diff(scores, axis=1) <= 0).all()
    row = learned.query_vectors_[3] @ learned.item_vectors_[ids[0] - 100].T
    np.testing.assert_allclose(scores[0], row, rtol=1e-5)
    seen = {item for user, item in zip(shop.log["user"], shop.log["item"]) if user == "u3"}
    assert not seen & set(ids[0].tolist())


def test_new_items_and_users_are_known_by_their_features(shop, learned):
    new = {**{name: values[:2] for name, values in shop.items.items()}, "item": [900, 901]}
    vectors = learned.transform_items(new)
    likes = learned.query_vectors_ @ vectors.T  # (80, 2)
    right = likes[np.arange(80), shop.taste] > likes[np.arange(80), 1 - shop.taste]
    assert right.mean() > 0.9
    ids, _ = learned.recommend(queries={"user": ["x", "y"], "taste": [0, 1], "town": [0, 0]}, k=5)
    assert [(shop.kind[row - 100] == taste).mean() > 0.7 for taste, row in enumerate(ids)] == [True, True]
    np.testing.assert_allclose(learned.transform_items(shop.items), learned.item_vectors_, atol=1e-6)
    np.testing.assert_allclose(learned.transform_queries(shop.users), learned.query_vectors_, atol=1e-6)


def test_losses_by_hand(shop, learned):
    source = learned.opened(shop.log, shop.users, shop.items)
    rows = {"log": np.array([0, 1, 15, 30, 300]), "catalogue": np.array([3, 9, 9, 20])}
    views = learned.views(source.batch(rows), torch.Generator().manual_seed(0))
    net = learned.net_
    terms = learned.loss(net, views)
    pairs = source.parts["log"].log
    users, items = pairs.users[rows["log"]], pairs.items[rows["log"]]
    q = normalize(net.query(views["log"]["query"]), dim=1)
    x = normalize(net.item(views["log"]["item"]), dim=1)
    shares = learned.item_counts_ / learned.item_counts_.sum()
    total = 0.0
    for i in range(5):
        logits = [float((q[i] @ x[j]).detach()) / 0.1 - np.log(shares[items[j]]) for j in range(5)]
        others = [j for j in range(5) if j == i or (items[j] != items[i] and users[j] != users[i])]
        total -= logits[i] - np.log(sum(np.exp(logits[j]) for j in others))
    assert float(terms["main"].detach()) == pytest.approx(total / 5, rel=1e-4)
    (first, hidden), (second, shown) = views["items"]
    assert torch.equal(hidden, ~shown)
    assert 0 < int(hidden.sum()) < 6
    z, other = normalize(net.item(first, hidden), dim=1), normalize(net.item(second, shown), dim=1)
    total = 0.0
    for i in range(4):
        logits = [float((z[i] @ other[j]).detach()) / 0.1 for j in range(4)]
        others = [j for j in range(4) if j == i or rows["catalogue"][j] != rows["catalogue"][i]]
        total -= logits[i] - np.log(sum(np.exp(logits[j]) for j in others))
    assert float(terms["ssl"].detach()) == pytest.approx(0.1 * total / 4, rel=1e-4)


def test_values_drop_out_of_each_view_on_its_own(shop, learned):
    source = learned.opened(shop.log, shop.users, shop.items)
    batch = source.batch({"log": np.arange(4), "catalogue": np.arange(60)})
    (first, _), (second, _) = learned.views(batch, torch.Generator().manual_seed(1))["items"]
    before = batch["catalogue"]["categories"]["tags"]["lengths"]
    lengths = [view["categories"]["tags"]["lengths"] for view in (first, second)]
    assert all(bool((own <= before).all()) and int(own.sum()) < int(before.sum()) for own in lengths)
    assert not torch.equal(*lengths)


def test_related_features_hide_together(shop, learned):
    """The kind and its like are hidden at once more often than by chance; the id, which says all, is on either side."""
    names = list(learned.item_columns_)
    assert np.isnan(learned.feature_information_[names.index("item")]).all()
    information = learned.feature_information_
    kind, like, shelf = (names.index(name) for name in ("kind", "shop", "shelf"))
    assert information[kind, like] > 0.3 > information[kind, shelf]
    assert learned.feature_mi_[names.index("item")].argmax() == names.index("item")  # raw: the id shares most with all
    assert learned.feature_mi_.shape == (6, 6)


def test_numbers_come_last_in_the_tower_and_their_masks_too(learned):
    order = learned._categories_first(torch.device("cpu"))
    kinds = list(learned.item_columns_.values())
    assert [kinds[place] for place in order] == ["category"] * 5 + ["number"]


@pytest.mark.parametrize("ssl", [None, "rfm", "spread"])
def test_other_views(shop, ssl):
    model = fit(shop, make(steps=3, ssl=ssl))
    names = {name for row in model.history_ for name in row}
    assert ("ssl" in names) is (ssl is not None)
    source = model.opened(shop.log, shop.users, shop.items)
    batch = source.batch({"log": np.arange(4), "catalogue": np.arange(5)})
    views = model.views(batch, torch.Generator().manual_seed(0))["items"]
    if ssl == "spread":
        assert views[0][1] is None
        net = model.net_
        z = normalize(net.item(views[0][0]), dim=1)
        expected = -(z @ z.T / 0.1).log_softmax(dim=1).diagonal().mean()
        assert float(model.loss(net, model.views(batch, torch.Generator()))["ssl"].detach()) == pytest.approx(
            0.1 * float(expected.detach()), rel=1e-4
        )
    if ssl == "rfm":
        assert int(views[0][1].sum()) == 3


def test_where_the_items_of_the_second_loss_come_from(shop):
    model = make()
    source = model.opened(shop.log, shop.users, shop.items)
    plan = model.plan(source, 100, np.random.default_rng(0))
    assert [len(batch["log"]) for batch in plan] == [100] * 8
    assert [len(batch["catalogue"]) for batch in plan] == [60] * 8
    assert np.bincount(np.concatenate([batch["catalogue"] for batch in plan])).tolist() == [8] * 60
    from_log = make(ssl_sampling="log").plan(source, 100, np.random.default_rng(0))
    drawn = np.bincount(np.concatenate([batch["catalogue"] for batch in from_log]), minlength=60)
    counts = source.parts["log"].log.item_counts
    assert drawn.sum() == 480
    assert (drawn <= counts).all()  # no interaction twice in an epoch
    none = make(ssl=None).plan(source, 100, np.random.default_rng(0))
    assert {len(batch["catalogue"]) for batch in none} == {0}


def test_seed_decides_and_save_keeps(shop, learned, tmp_path):
    again = fit(shop, clone(learned))
    assert np.array_equal(again.item_vectors_, learned.item_vectors_)
    other = fit(shop, make(steps=5, seed=1))
    assert not np.array_equal(other.item_vectors_, fit(shop, make(steps=5)).item_vectors_)
    loaded = nolabel.load(learned.save(tmp_path / "run"))
    assert np.array_equal(loaded.transform_items(shop.items), learned.transform_items(shop.items))
    for found, expected in zip(loaded.recommend(["u1"], k=3), learned.recommend(["u1"], k=3)):
        assert np.array_equal(found, expected)
    test = {"user": ["u1", "u2"], "item": [100, 101]}
    assert loaded.score(test, k=60) == learned.score(test, k=60) == 1.0


def test_resume_is_exact(shop, tmp_path):
    class Stopped(TwoTowerRecommender):
        stop = 3

        def after_step(self, net, clock):
            if clock.step == self.stop:
                raise KeyboardInterrupt

    params = make(steps=12).get_params(deep=False)
    whole = TwoTowerRecommender(**params)
    Stopped.__name__ = "TwoTowerRecommender"
    broken = Stopped(**{**params, "training": Training(steps=12, batch_size=128, lr=1e-2, checkpoint_seconds=0.0)})
    with pytest.raises(KeyboardInterrupt):
        broken.fit(shop.log, queries=shop.users, items=shop.items, run=tmp_path / "run")
    whole.fit(shop.log, queries=shop.users, items=shop.items)
    again = TwoTowerRecommender(**params)
    again.fit(shop.log, queries=shop.users, items=shop.items, run=tmp_path / "run", resume=True)
    assert np.array_equal(again.item_vectors_, whole.item_vectors_)
    assert np.array_equal(again.feature_information_, whole.feature_information_, equal_nan=True)


def test_ids_alone(shop):
    model = make(steps=200, ssl=None).fit(shop.log)
    numbers, _ = model.ranked(np.arange(80), 5)
    liked = model.item_ids_[numbers] % 2
    tastes = np.array([int(user[1:]) % 2 for user in model.user_ids_])
    assert (liked == tastes[:, None]).mean() > 0.9


def test_a_hashed_table(shop):
    model = fit(shop, make(steps=60, rows=80))
    assert model.net_.item.embedding.tables[0].weight.shape == (80, 4)
    numbers, _ = model.ranked(np.arange(80), 5)
    assert (shop.kind[numbers] == shop.taste[:, None]).mean() > 0.8


def test_chosen_features_and_names(shop):
    log = {"who": shop.log["user"], "what": shop.log["item"]}
    items = {"what" if name == "item" else name: values for name, values in shop.items.items()}
    model = make(steps=2, item_features={"kind": "category", "price": "number", "tags": "category"})
    model.fit(log, items=items, columns={"user": "who", "item": "what"})
    assert list(model.item_columns_) == ["kind", "price", "tags"]
    assert model.transform_items({"kind": ["tea"], "price": [3.0], "tags": [[]]}).shape == (1, 8)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"ssl": "cmf"}, "ssl must be one of cfm, rfm, spread and None, got 'cmf'"),
        ({"ssl_weight": -1}, "ssl_weight must be at least 0, got -1"),
        ({"temperature": 0}, "temperature must be above 0, got 0"),
        ({"value_dropout": 1.0}, r"value_dropout must lie in \[0, 1\), got 1.0"),
        ({"ssl_sampling": "head"}, "ssl_sampling must be 'uniform' or 'log', got 'head'"),
        ({"dim": 0}, "dim must be a whole number of at least 1, got 0"),
        ({"hidden": (8, 0)}, r"hidden must be widths of at least 1, got \(8, 0\)"),
        ({"companions": 0}, "companions must be a whole number of at least 1, got 0"),
        ({"item_features": ["item", "kind"]}, r"needs at least 3, got 2 \(item, kind\)"),
        ({"item_features": ["item", "colour"]}, "features: no column 'colour'"),
    ],
)
def test_bad_arguments(shop, params, message):
    with pytest.raises(ValueError, match=message):
        fit(shop, TwoTowerRecommender(**params))


def test_bad_data(shop):
    with pytest.raises(
        ValueError, match=r"ssl='cfm' hides some .* got 1 \(item\): give items=... with features, or ssl=None"
    ):
        make().fit(shop.log)
    few = {name: values[5:] for name, values in shop.items.items()}
    with pytest.raises(
        ValueError, match="item: 5 of 60 ids of the interactions are not in the table of items, such as 10"
    ):
        make().fit(shop.log, items=few)
    twice = {name: [*values, values[0]] for name, values in shop.items.items()}
    with pytest.raises(ValueError, match="item: 1 come more than once, such as 100"):
        make().fit(shop.log, items=twice)
    with pytest.raises(ValueError, match="interactions: all 2 are with one item"):
        make(ssl=None).fit({"user": [1, 2], "item": [5, 5]})
    with pytest.raises(ValueError, match="no rows"):
        make(ssl=None).fit({"user": [], "item": []})


def test_bad_questions(shop, learned):
    with pytest.raises(KeyError, match="1 of 1 users were not there in training, such as u99"):
        learned.recommend(["u99"])
    with pytest.raises(ValueError, match="give either query_ids"):
        learned.recommend(["u1"], queries=shop.users)
    with pytest.raises(ValueError, match="features: no column 'shelf'"):
        learned.transform_items({"item": [1], "kind": ["tea"], "shop": [1], "tags": [[]], "price": [1.0]})
    with pytest.warns(UserWarning, match="k=60: a user has only 50 items left"):
        ids, _ = learned.recommend(["u1"], k=60)
    assert ids.shape == (1, 50)
