"""Tables of features: what is a category and what a number, cells of several values, batches."""

import numpy as np
import pandas as pd
import pytest
import torch

from nolabel.data import read
from nolabel.data.categories import FeatureTable, kinds_of, split_cells
from nolabel.ops.hashing import hash64


@pytest.fixture
def table():
    return read(
        {
            "item": [1, 2, 3, 4],
            "price": [1.5, None, 2.5, 9.0],
            "year": [1990.0, None, 1991.0, 1990.0],
            "tags": [["a", "b"], [], ["a"], ["b", "a"]],
        }
    )


def test_kinds(table):
    assert kinds_of(table, None) == {"item": "category", "price": "number", "year": "category", "tags": "category"}
    assert kinds_of(table, ["year"]) == {"year": "category"}
    assert kinds_of(table, None, without="item").keys() == {"price", "year", "tags"}
    assert kinds_of(table, {"year": "number"}) == {"year": "number"}


def test_batches(table):
    source = FeatureTable(table, kinds_of(table, None))
    batch = source.batch(np.array([3, 1, 3]))
    keys = batch["categories"]
    assert torch.equal(keys["item"], torch.from_numpy(hash64([4, 2, 4]).view(np.int64)))
    assert keys["tags"]["lengths"].tolist() == [2, 0, 2]
    assert keys["year"][1] != keys["year"][0] == keys["year"][2]  # missing is a value
    assert batch["numbers"][:, 0].isnan().tolist() == [False, True, False]
    assert batch["row"].tolist() == [3, 1, 3]
    assert len(source.vocabularies()["tags"]) == 2
    assert len(source.vocabularies()["year"]) == 3


def test_a_selection_is_respected(table):
    whole = FeatureTable(table, kinds_of(table, None)).batch(np.array([2, 0]))
    chosen = table.select([2, 0])
    part = FeatureTable(chosen, kinds_of(chosen, None)).batch(np.array([0, 1]))
    assert torch.equal(whole["categories"]["tags"]["keys"], part["categories"]["tags"]["keys"])
    assert torch.equal(whole["numbers"], part["numbers"])


def test_codes(table):
    codes = FeatureTable(table, kinds_of(table, None)).codes(bins=2)
    assert len(set(codes[:, 0])) == 4
    assert codes[1, 1] == -1
    assert codes[0, 1] < codes[3, 1]
    assert codes[0, 3] == codes[3, 3]  # the order of several values does not matter
    assert len(set(codes[:, 3])) == 3


def test_missing_can_be_refused(table):
    with pytest.raises(ValueError, match="column 'year': 1 of 4 values are missing"):
        FeatureTable(table, {"year": "category"}, missing="error")


def test_split_cells():
    table = read({"a": [1, 2], "genres": ["Drama| Comedy |", None], "b": [3, 4]})
    split = split_cells(table, {"genres": "|"})
    assert split.column_names == ["a", "genres", "b"]
    assert split["genres"][:] == [["Drama", "Comedy"], []]
    with pytest.raises(ValueError, match="columns: 'a' must hold texts to be split, got a int"):
        split_cells(table, {"a": " "})
    with pytest.raises(ValueError, match="no column 'genre'"):
        split_cells(table, {"genre": " "})


def test_many_floats_are_warned_of():
    floats = read({"weight": np.random.default_rng(0).normal(size=100)})
    with pytest.warns(
        UserWarning, match="column 'weight' holds 100 distinct floats in 100 rows: .* put them into bins"
    ):
        FeatureTable(floats, {"weight": "category"})


def test_bad_features(table):
    for features, error, message in [
        (["colour"], ValueError, "features: no column 'colour'; the columns are item, price, year, tags"),
        (["year", "year"], ValueError, "a column is named twice among year, year"),
        ({"year": "float"}, ValueError, "'year' must be 'category' or 'number', got 'float'"),
        ({"tags": "number"}, ValueError, "'tags' holds list<.*>, which is no number"),
        ("year", TypeError, "features must be a list of columns"),
    ]:
        with pytest.raises(error, match=message):
            kinds_of(table, features)


def test_frames_and_dicts_agree(table):
    frame = table.to_pandas()
    again = read(pd.DataFrame({name: frame[name] for name in frame}))
    first, second = (FeatureTable(one, kinds_of(one, None)) for one in (table, again))
    assert first.fingerprint.split("|")[0]
    assert all(np.array_equal(first.keys[name].keys, second.keys[name].keys) for name in first.keys)
