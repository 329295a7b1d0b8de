"""The inverted index against the matrix it was made of, in memory and through files."""

import numpy as np
import pytest
from scipy import sparse

from nolabel.search.postings import Postings, top


def matrix(rows=50, columns=12, seed=0):
    return sparse.random_array((rows, columns), density=0.3, format="csr", dtype=np.float32, rng=seed)


def through_files(folder, X):
    per_column = np.bincount(X.indices, minlength=X.shape[1])
    Postings.build(folder, per_column, (X[start : start + 13] for start in range(0, X.shape[0], 13)), X.shape[0])
    return Postings.load(folder, X.shape[0])


@pytest.mark.parametrize("where", ["memory", "files"])
def test_columns_sums_and_entries(tmp_path, where):
    X = matrix()
    found = Postings.of(X) if where == "memory" else through_files(tmp_path, X)
    dense = X.toarray()
    for column in range(12):
        rows, weights = found.column(column)
        np.testing.assert_array_equal(rows, np.flatnonzero(dense[:, column]))
        np.testing.assert_array_equal(weights, dense[rows, column])
    columns, by = [7, 2, 11], np.array([2.0, 1.0, 0.5])
    total, read = found.sum(columns, lambda place, rows, weights: by[place] * weights)
    np.testing.assert_allclose(total, dense[:, columns] @ by, rtol=1e-6)
    assert read == np.count_nonzero(dense[:, columns])
    np.testing.assert_array_equal(found.entries(np.array([49, 0, 3]), columns), dense[[49, 0, 3]][:, columns])
    assert found.sum([], lambda *_: 0)[1] == 0


def test_files_in_which_nothing_is_written(tmp_path):
    found = through_files(tmp_path, sparse.csr_array((5, 3), dtype=np.float32))
    assert found.sum([0, 1, 2], lambda place, rows, weights: weights)[0].tolist() == [0.0] * 5


def test_top_keeps_all_ties_of_the_last():
    scores = np.array([1.0, 0.0, 3.0, 1.0, 2.0, 1.0])
    assert top(scores, 3)[1].tolist() == [0, 2, 3, 4, 5]
    assert top(scores, 2)[1].tolist() == [2, 4]
    assert top(scores, 9)[1].tolist() == [0, 2, 3, 4, 5]  # what scored nothing was not found
    assert top(scores, 2, np.array([True, True, False, True, False, True]))[1].tolist() == [0, 3, 5]
    assert top(np.zeros(3), 2)[1].tolist() == []


def test_wrong_numbers(tmp_path):
    X = matrix()
    with pytest.raises(RuntimeError, match=r"^expected 51 rows with \d+ entries to build from, got 50$"):
        Postings.build(tmp_path, np.bincount(X.indices, minlength=12), [X], 51)
