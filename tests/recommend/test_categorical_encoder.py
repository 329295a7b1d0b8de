"""Tables of categories as vectors: with labels, without, and from a stream."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

import nolabel
from nolabel.recommend import CategoricalEncoder
from nolabel.training import Training


def make(steps=60, seed=0, **params):
    return CategoricalEncoder(
        **{
            "rows": 300,
            "dim": 4,
            "hidden": (16, 8),
            "training": Training(steps=steps, batch_size=128, lr=1e-2, random_state=seed),
            **params,
        }
    )


@pytest.fixture(scope="module")
def clicks():
    """A click depends on the user and on whether two columns agree."""
    rng = np.random.default_rng(0)
    n = 2000
    table = {
        "user": rng.integers(0, 60, n),
        "site": rng.choice([f"s{i}.org" for i in range(20)], n),
        "tags": [[f"t{j}" for j in rng.choice(8, rng.integers(0, 3), replace=False)] for _ in range(n)],
    }
    bent = rng.normal(size=60)[table["user"]] + np.array([int(site[1:-4]) % 2 for site in table["site"]])
    return table, (bent + 0.3 * rng.normal(size=n) > 0.5).astype(int)


def part(table, rows):
    return {name: [values[row] for row in rows] for name, values in table.items()}


@pytest.fixture(scope="module")
def learned(clicks):
    table, labels = clicks
    return make().fit(part(table, range(1600)), labels[:1600])


def test_it_learns_from_labels(clicks, learned):
    table, labels = clicks
    test = part(table, range(1600, 2000))
    auc = learned.score(test, labels[1600:])
    assert auc > 0.85
    untrained = make(steps=1, training=Training(steps=1, batch_size=128, lr=1e-12)).fit(
        part(table, range(1600)), labels[:1600]
    )
    assert abs(untrained.score(test, labels[1600:]) - 0.5) < 0.2
    probabilities = learned.predict_proba(test)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    vectors = learned.transform(test)
    assert vectors.shape == (400, 12)
    embedding = learned.net_.tower.embedding
    np.testing.assert_allclose(vectors, embedding.concat(test).detach().numpy(), atol=1e-6)
    served = {**test, "user": list(map(str, test["user"]))}  # numbers in training, texts later
    assert np.array_equal(vectors, learned.transform(served))


def test_the_best_epoch_is_kept(clicks):
    """Weights that are spoilt half way: those of the epoch that scored best on the rows held out are kept."""

    class Spoilt(CategoricalEncoder):
        def after_step(self, net, clock):
            super().after_step(net, clock)
            if clock.fraction > 0.5:
                with torch.no_grad():
                    net.tower.embedding.tables[0].weight.zero_()

    table, labels = clicks
    settings = Training(6, batch_size=128, lr=1e-2, random_state=0)
    model = Spoilt(rows=300, dim=4, hidden=(16, 8), training=settings).fit(table, labels)
    assert len(model.validation_auc_) == 7  # six epochs, and the end
    held = model._held_out(2000)
    assert len(held) == 200
    auc = model.score(part(table, held), labels[held])
    assert auc == pytest.approx(max(model.validation_auc_), abs=1e-3)  # float32
    assert model.validation_auc_[-1] < auc - 0.1
    assert not hasattr(model, "best_weights_")
    assert not set(held) & set(np.concatenate(model.plan(range(2000), 100, np.random.default_rng(0))))
    last = make(validation=0.0, steps=4).fit(table, labels)
    assert last.validation_auc_ == []


@pytest.mark.parametrize("mode", ["separate", "full"])
def test_other_tables(clicks, mode):
    table, labels = clicks
    model = make(mode=mode, rows=60).fit(table, labels)
    assert model.net_.tower.embedding.tables[0].weight.shape[0] == (60 if mode == "separate" else 60 + 20 + 8)
    assert model.score(table, labels) > 0.75
    report = model.collisions(table)
    assert report["user"].inter == 0
    assert (report["user"].intra > 0) is (mode == "separate")


def test_chunks_crosses_and_gaps(clicks):
    table, labels = clicks
    gaps = {**table, "user": [None if row % 9 == 0 else user for row, user in enumerate(table["user"])]}
    model = make(features={"user": 2, "site": 1}, cross_layers=2, missing="value", tables=2, steps=5).fit(gaps, labels)
    assert model.transform(gaps).shape == (2000, 12)
    assert model.columns_ == {"user": 2, "site": 1}
    cosines = model.column_cosines()
    assert np.isnan(cosines[0, 1])
    assert cosines[1, 1] == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="column 'user': 223 of 2000 values are missing"):
        make().fit(gaps, labels)


def test_columns_are_told_apart(learned):
    cosines = learned.column_cosines()
    assert cosines.shape == (3, 3)
    assert np.array_equal(cosines, cosines.T)
    assert cosines[0, 1] < 0.7


def test_without_labels_rows_of_a_kind_come_together():
    """Three columns that all say the same of two worlds; without labels the vectors know the world."""
    rng = np.random.default_rng(0)
    world = rng.integers(0, 2, 600)
    table = {name: [f"{name}{w * 10 + rng.integers(0, 5)}" for w in world] for name in ("a", "b", "c", "d")}
    model = make(steps=150, temperature=0.3).fit(table)
    assert model.objective_ == "masked"
    assert model.transform(table).shape == (600, 16)
    z = (
        model.net_.tower.layers(model.net_.tower.features(model.open_one(table, None).batch(np.arange(600))))
        .detach()
        .numpy()
    )
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    near = z @ z.T
    same = world[:, None] == world
    assert near[same].mean() > near[~same].mean() + 0.3
    with pytest.raises(ValueError, match="was fitted without labels"):
        model.score(table, world)


def test_equal_rows_are_no_negatives():
    table = {"a": ["x", "x", "y"], "b": [["p", "q"], ["q", "p"], []]}
    model = make(steps=1, training=Training(steps=1, batch_size=2)).fit(table)
    from nolabel.recommend.categorical_encoder import _row_keys

    rows = _row_keys(model.open_one(table, None).batch(np.arange(3))["categories"])
    assert rows[0] == rows[1] != rows[2]


def test_a_stream(clicks):
    table, labels = clicks
    model = make(steps=2).partial_fit(part(table, range(400)), labels[:400])
    before = model.score(table, labels)
    for begin in range(400, 2000, 200):
        rows = range(begin, begin + 200)
        model.partial_fit(part(table, rows), labels[begin : begin + 200])
    assert model.score(table, labels) > before + 0.05
    new = {"user": [999, 999], "site": ["new.org", "s1.org"], "tags": [["t1"], []]}
    row = model.net_.tower.embedding.row_index("user", [999])[0, 0]
    was = model.net_.tower.embedding.tables[0].weight[row].detach().clone()
    model.partial_fit(new, [1, 1])  # values never seen train their rows
    assert not torch.equal(was, model.net_.tower.embedding.tables[0].weight[row])
    with pytest.raises(ValueError, match="was fitted with labels: go on so"):
        model.partial_fit(new)


def test_seed_decides_and_save_keeps(clicks, learned, tmp_path):
    table, labels = clicks
    again = clone(learned).fit(part(table, range(1600)), labels[:1600])
    z = learned.transform(table)
    assert np.array_equal(z, again.transform(table))
    other = make(steps=5, seed=1).fit(table, labels)
    assert not np.array_equal(other.transform(table), make(steps=5).fit(table, labels).transform(table))
    for model in (learned, make(mode="full", steps=2, hash_seed=3).fit(table, labels)):
        loaded = nolabel.load(model.save(tmp_path / model.mode))
        assert np.array_equal(loaded.transform(table), model.transform(table))
        assert loaded.columns_ == model.columns_
        assert loaded.hash_seed == model.hash_seed
        assert loaded.score(table, labels) == model.score(table, labels)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rows": 0}, "rows must be a whole number of at least 1, got 0"),
        ({"dim": 0}, "dim must be a whole number of at least 1, got 0"),
        ({"features": {"user": 0}}, "chunks of 'user' must be a whole number of at least 1, got 0"),
        ({"features": ["age"]}, "features: no column 'age'; the columns are user, site, tags"),
        ({"objective": "click"}, "objective must be one of labels, masked and None, got 'click'"),
        ({"objective": "masked"}, "objective='masked' learns without labels: leave y out"),
        ({"validation": 1.0}, r"validation must lie in \[0, 1\), got 1.0"),
        ({"hidden": ()}, r"hidden must be one or more widths of at least 1, got \(\)"),
        ({"cross_layers": -1}, "cross_layers must be a whole number of at least 0, got -1"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"mode": "separate", "rows": 2}, "rows must be at least 3, one for each column, got 2"),
        ({"training": Training(weight_decay=0.1)}, "without weight decay or clipping"),
    ],
)
def test_bad_arguments(clicks, params, message):
    with pytest.raises(ValueError, match=message):
        make(**params).fit(*clicks)


def test_bad_data(clicks):
    table, labels = clicks
    for y, message in [
        (labels[:5], r"one label a row was expected, shape \(2000,\), got shape \(5,\)"),
        (labels * 2, "labels must be 0 and 1, or booleans"),
        (np.zeros(2000), "both labels were expected, got only 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            make().fit(table, y)
    with pytest.raises(ValueError, match="objective='labels' needs labels y"):
        make(objective="labels").fit(table)
    with pytest.raises(ValueError, match="at least 2 were expected, got 1"):
        make().fit({"user": table["user"]})
    floats = {"user": table["user"], "weight": np.random.default_rng(0).normal(size=2000)}
    with pytest.warns(UserWarning, match="column 'weight' holds 2,000 distinct floats"):
        make(steps=1).fit(floats, labels)
