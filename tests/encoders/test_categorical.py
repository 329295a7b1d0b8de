"""One table for all columns: rows by hand, three modes, pooling, collisions, and the tower on top."""

import numpy as np
import pytest
import torch

from nolabel.encoders.categorical import UnifiedEmbedding, split_rows
from nolabel.encoders.feature_tower import CrossLayers, FeatureTower, perceptron
from nolabel.ops.hashing import hash64, hashed_rows, salt64


def signed(values):
    return torch.from_numpy(hash64(values).view(np.int64))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def table():
    return {"user": ["ann", "bob", "ann"], "tags": [["a", "b"], [], ["c"]]}


def test_rows_and_vectors_by_hand(table):
    embedding = UnifiedEmbedding({"user": 2, "tags": 1}, rows=7, dim=3, seed=5)
    rows = embedding.row_index("user", ["ann", "bob"])
    assert rows.shape == (2, 2)
    for chunk in range(2):
        assert torch.equal(rows[:, chunk], hashed_rows(signed(["ann", "bob"]), salt64("user", chunk, 5), 7))
    weight = embedding.tables[0].weight
    vectors = embedding(table)
    assert torch.equal(vectors["user"][0], torch.cat([weight[rows[0, 0]], weight[rows[0, 1]]]))
    assert torch.equal(vectors["user"][0], vectors["user"][2])
    tags = embedding.row_index("tags", ["a", "b", "c"])[:, 0]
    torch.testing.assert_close(
        vectors["tags"], torch.stack([weight[tags[:2]].mean(0), torch.zeros(3), weight[tags[2]]])
    )
    both = embedding.concat(table)
    assert torch.equal(both, torch.cat([vectors["user"], vectors["tags"]], dim=1))
    assert embedding.widths == {"user": 6, "tags": 3}
    assert float(weight.detach().abs().max()) <= 0.05


def test_sum_pooling(table):
    torch.manual_seed(0)
    embedding = UnifiedEmbedding(["tags"], rows=50, dim=3, pooling="sum")
    rows = embedding.row_index("tags", ["a", "b"])[:, 0]
    torch.testing.assert_close(embedding(table)["tags"][0], embedding.tables[0].weight[rows].sum(0))


def test_many_chunks_keep_the_order_of_their_numbers():
    embedding = UnifiedEmbedding({"a": 12}, rows=1000, dim=1)
    rows = embedding.row_index("a", ["x"])[0]
    assert torch.equal(embedding({"a": ["x"]})["a"][0], embedding.tables[0].weight[rows, 0])
    assert len(set(rows.tolist())) > 8


def test_other_columns_do_not_matter():
    """Neither their order nor one that comes later moves a row."""
    one = UnifiedEmbedding(["a", "b"], rows=1000)
    other = UnifiedEmbedding(["b", "z", "a"], rows=1000)
    assert torch.equal(one.row_index("a", range(50)), other.row_index("a", range(50)))
    before = one.row_index("a", range(50))
    one.add_column("c", chunks=2)
    assert torch.equal(before, one.row_index("a", range(50)))
    assert one({"a": [1], "b": [2], "c": [3]})["c"].shape == (1, 32)
    assert not torch.equal(one.row_index("a", range(50)), one.row_index("b", range(50)))
    seeds = [UnifiedEmbedding(["a"], rows=1000, seed=seed).row_index("a", range(50)) for seed in (0, 1)]
    assert not torch.equal(*seeds)


def test_rows_split_without_remainder():
    assert split_rows(10, [1, 1, 1]) == [4, 3, 3]
    assert split_rows(3, [100, 1, 1]) == [1, 1, 1]
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = rng.integers(1, 1000, 6).tolist()
        shares = split_rows(97, sizes)
        assert sum(shares) == 97
        assert min(shares) >= 1
        assert np.corrcoef(sizes, shares)[0, 1] > 0.95


def test_separate_tables_do_not_overlap():
    values = {"many": list(range(900)), "few": list("abc")}
    embedding = UnifiedEmbedding(["many", "few"], rows=100, mode="separate", values=values)
    assert embedding.tables[0].weight.shape[0] == 100
    many, few = (set(embedding.row_index(name, values[name]).flatten().tolist()) for name in values)
    assert not many & few
    assert max(many) < 99 <= min(few)
    report = embedding.collisions(values)
    assert report["many"].inter == report["few"].inter == 0


def test_full_tables_have_a_row_for_each_value():
    values = {"a": list(range(20)), "b": ["x", "y", "x"]}
    embedding = UnifiedEmbedding({"a": 2, "b": 1}, dim=4, mode="full", values=values)
    rows = torch.cat([embedding.row_index("a", range(20)).flatten(), embedding.row_index("b", ["x", "y"]).flatten()])
    assert sorted(rows.tolist()) == list(range(42))
    assert embedding.rows == 42
    assert embedding.row_index("a", [99]).tolist() == [[-1, -1]]
    vectors = embedding({"a": [99, 3], "b": [["x", "new"], ["new"]]})
    assert vectors["a"][0].abs().sum() == 0
    assert vectors["a"][1].abs().sum() > 0
    torch.testing.assert_close(vectors["b"][0], embedding({"a": [1], "b": ["x"]})["b"][0])  # the mean of what is known
    assert vectors["b"][1].abs().sum() == 0
    report = embedding.collisions(values)["a"]
    assert (report.intra, report.inter, report.indistinguishable) == (0, 0, 0)


def test_collisions_by_hand():
    """All rows are one: every pair meets."""
    embedding = UnifiedEmbedding({"a": 2, "b": 1}, rows=1)
    report = embedding.collisions({"a": [1, 2, 3, 3], "b": [["x"], ["x", "y"], [], []]})
    assert report["a"].to_dict() == {
        "values": 3, "rows": 1.0, "intra": 3.0, "inter": 6.0, "expected_intra": 3.0, "indistinguishable": 3,
    }  # fmt: skip
    assert report["b"].values == 2
    assert report["b"].inter == 2 * 6  # two chunks of three values


def test_shared_tables_spread_a_column():
    """At equal rows the values of one column meet less, as often as chance says."""
    values = {"a": [f"a{i}" for i in range(400)], "b": [f"b{i}" for i in range(400)]}
    shared, separate = (
        UnifiedEmbedding(["a", "b"], rows=400, mode=mode, values=values).collisions(values)["a"]
        for mode in ("shared", "separate")
    )
    assert shared.expected_intra == pytest.approx(400 * 399 / 2 / 400)
    assert separate.expected_intra == pytest.approx(2 * shared.expected_intra)
    assert shared.intra == pytest.approx(shared.expected_intra, rel=0.25)
    assert separate.intra == pytest.approx(separate.expected_intra, rel=0.25)
    assert shared.inter == pytest.approx(400, rel=0.25)


def test_several_tables():
    embedding = UnifiedEmbedding({"a": 5, "b": 1}, rows=60, dim=2, tables=2)
    used = [embedding._table("a", chunk) for chunk in range(5)]
    assert used in ([0, 1, 0, 1, 0], [1, 0, 1, 0, 1])
    rows = embedding.row_index("a", ["x"])[0]
    expected = torch.cat([embedding.tables[t].weight[row] for t, row in zip(used, rows)])
    vectors = embedding({"a": ["x"], "b": ["y"]})
    assert torch.equal(vectors["a"][0], expected)
    report = embedding.collisions({"a": list(range(100)), "b": list(range(100))})
    assert report["a"].intra == pytest.approx(report["a"].expected_intra, rel=0.25)


def test_gradients_reach_the_rows_looked_up_and_no_others():
    for sparse in (True, False):
        torch.manual_seed(0)
        embedding = UnifiedEmbedding(["a"], rows=500, dim=2, sparse=sparse)
        embedding.concat({"a": ["x", "y", "x"]}).sum().backward()
        slope = embedding.tables[0].weight.grad
        assert slope.is_sparse is sparse
        dense = slope.to_dense()
        x, y = embedding.row_index("a", ["x", "y"])[:, 0]
        assert dense[x].tolist() == [2, 2]
        assert dense[y].tolist() == [1, 1]
        assert int((dense != 0).any(dim=1).sum()) == 2


def test_served_as_another_type():
    """Trained on whole numbers, served texts or floats: the same rows."""
    embedding = UnifiedEmbedding(["a"], rows=10_000)
    trained = embedding.row_index("a", np.arange(30))
    assert torch.equal(trained, embedding.row_index("a", [str(i) for i in range(30)]))
    assert torch.equal(trained, embedding.row_index("a", np.arange(30.0)))
    assert torch.equal(trained, embedding.row_index("a", torch.arange(30)))


def test_bad_arguments():
    for arguments, message in [
        ({"rows": 0}, "rows must be a whole number of at least 1, got 0"),
        ({"dim": 0}, "dim must be a whole number of at least 1, got 0"),
        ({"tables": 1.5}, "tables must be a whole number of at least 1, got 1.5"),
        ({"columns": {"a": 0}}, "chunks of 'a' must be a whole number of at least 1, got 0"),
        ({"columns": []}, "columns is empty"),
        ({"columns": ["a", "a"]}, "column 'a' is there already"),
        ({"mode": "hashed"}, "mode must be one of shared, separate, full, got 'hashed'"),
        ({"pooling": "max"}, "pooling must be 'mean' or 'sum', got 'max'"),
        ({"missing": "drop"}, "missing must be 'error' or 'value', got 'drop'"),
        ({"mode": "full"}, "give values="),
        ({"mode": "separate", "rows": 1}, "rows must be at least 2, one for each column, got 1"),
        ({"mode": "separate", "tables": 2}, "tables=2 needs mode='shared'"),
    ]:
        with pytest.raises(ValueError, match=message):
            UnifiedEmbedding(**{"columns": ["a", "b"], **arguments})
    with pytest.raises(TypeError, match="columns must be a list of names or a dict from name to chunks, got 'ab'"):
        UnifiedEmbedding("ab")
    with pytest.raises(KeyError, match="values: no column 'b' among a"):
        UnifiedEmbedding(["a", "b"], mode="full", values={"a": [1]})


def test_bad_batches(table):
    embedding = UnifiedEmbedding(["user", "tags"], rows=10)
    with pytest.raises(KeyError, match="no column 'item': there are user, tags"):
        embedding.row_index("item", [1])
    with pytest.raises(KeyError, match="column 'tags' is missing: the batch has user"):
        embedding({"user": ["ann"]})
    with pytest.raises(ValueError, match="'user' has 3 rows and 'tags' 1"):
        embedding({**table, "tags": [["a"]]})
    with pytest.raises(TypeError, match="column 'user', row 1: .* got dict"):
        embedding({**table, "user": ["ann", {}, "bob"]})
    with pytest.raises(ValueError, match="column 'user': 1 of 3 values are missing"):
        embedding({**table, "user": ["ann", None, "bob"]})
    with pytest.raises(ValueError, match="column 'user' is there already"):
        embedding.add_column("user")
    with pytest.raises(ValueError, match="only a shared table takes further columns, this one is separate"):
        UnifiedEmbedding(["a"], mode="separate").add_column("b")
    allowing = UnifiedEmbedding(["user"], rows=1000, missing="value")
    gaps = allowing({"user": [None, float("nan"), "None"]})["user"]
    assert torch.equal(gaps[0], gaps[1])
    assert not torch.equal(gaps[0], gaps[2])


# The tower -----------------------------------------------------------------------------------------------------------


def tower(mode="full"):
    values = {"kind": ["x", "y"], "tags": ["a", "b"]}
    embedding = UnifiedEmbedding(["kind", "tags"], rows=20, dim=2, mode=mode, values=values, missing="value")
    return FeatureTower(embedding, torch.tensor([10.0]), torch.tensor([2.0]), hidden=(4,), dim=3)


def batch(kind, tags, numbers):
    lengths = torch.tensor([len(row) for row in tags])
    keys = {"kind": signed(kind), "tags": {"keys": signed([tag for row in tags for tag in row]), "lengths": lengths}}
    return {"categories": keys, "numbers": torch.tensor(numbers).unsqueeze(1)}


def test_features_by_hand():
    net = tower()
    seen = net.features(batch(["x", "new"], [["a", "b"], []], [14.0, float("nan")]))
    weight = net.embedding.tables[0].weight
    x, a, b = (
        net.embedding.row_index(name, [value])[0, 0] for name, value in (("kind", "x"), ("tags", "a"), ("tags", "b"))
    )
    torch.testing.assert_close(seen[0], torch.cat([weight[x], (weight[a] + weight[b]) / 2, torch.tensor([2.0])]))
    torch.testing.assert_close(seen[1], torch.cat([net.defaults[0], torch.zeros(2), net.number_defaults]))  # unknown
    assert net(batch(["x"], [[]], [1.0])).shape == (1, 3)


def test_hidden_features_give_way_to_their_defaults():
    net = tower()
    rows = batch(["x", "y"], [["a"], ["b"]], [14.0, 6.0])
    hidden = net.features(rows, torch.tensor([True, False, True]))
    shown = net.features(rows)
    torch.testing.assert_close(hidden[:, :2], net.defaults[0].expand(2, 2))
    assert torch.equal(hidden[:, 2:4], shown[:, 2:4])
    assert hidden[:, 4].tolist() == [0, 0]
    hidden.sum().backward()
    assert net.defaults[0].grad.tolist() == [2, 2]
    assert net.defaults[1].grad.abs().sum() == 0
    assert net.number_defaults.grad.tolist() == [2]
    kinds = net.embedding.row_index("kind", ["x", "y"])[:, 0]
    assert net.embedding.tables[0].weight.grad.to_dense()[kinds].abs().sum() == 0  # no gradient behind the default


def test_cross_layers_by_hand():
    cross = CrossLayers(2, 2)
    x = torch.tensor([[1.0, 2.0]])
    expected = x
    for layer in cross.layers:
        expected = x * (expected @ layer.weight.T + layer.bias) + expected
    assert torch.equal(cross(x), expected)
    assert torch.equal(CrossLayers(2, 0)(x), x)
    assert [type(part).__name__ for part in perceptron([4, 3, 2])] == ["Linear", "ReLU", "Linear"]
