"""Comparing embeddings that were learned apart."""

import numpy as np
import pytest

from nolabel.assess import compare_spaces, space_quality

rng = np.random.default_rng(0)
Z = rng.normal(size=(300, 8))
TURN = np.linalg.qr(rng.normal(size=(8, 8)))[0]
ANCHORS = np.arange(0, 300, 6)


def test_turned_and_scaled_spaces_are_one_by_their_anchors_alone():
    found = compare_spaces(Z, 5 * Z @ TURN, ANCHORS, centre=False)
    assert found.relative.jaccard == pytest.approx(1)
    assert found.relative.mrr == pytest.approx(1)
    assert found.relative.cosine == pytest.approx(1, abs=1e-6)
    assert found.absolute.mrr < 0.1
    assert (found.rows, found.anchors, found.k) == (250, 50, 10)


def test_a_shift_is_taken_out_by_centring():
    moved = Z @ TURN + 4
    assert compare_spaces(Z, moved, ANCHORS).relative.mrr == pytest.approx(1)
    assert compare_spaces(Z, moved, ANCHORS, centre=False).relative.mrr < 0.5


def test_anchors_that_do_not_match_say_nothing():
    permuted = Z @ TURN
    permuted[ANCHORS] = permuted[ANCHORS[::-1]]
    assert compare_spaces(Z, permuted, ANCHORS).relative.mrr < 0.1


def test_ranks_by_hand():
    # three rows beside the anchors; in the second space the first two have changed places
    a = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0], [-1.0, -1.0]])
    b = a[[0, 1, 3, 2, 4]]
    found = compare_spaces(a, b, [0, 1], k=1, centre=False)
    assert found.relative.mrr == pytest.approx((1 / 3 + 1 / 3 + 1) / 3, abs=0.2)
    assert found.absolute.mrr == found.relative.mrr


def test_widths_may_differ_and_then_vectors_do_not_compare():
    wide = np.concatenate([Z @ TURN, np.zeros((300, 3))], axis=1)
    found = compare_spaces(Z, wide, ANCHORS)
    assert found.absolute is None
    assert found.relative.mrr == pytest.approx(1)


def test_quality_falls_with_noise():
    noisy = [space_quality(Z + level * rng.normal(size=Z.shape), Z, ANCHORS) for level in (0.0, 0.5, 3.0)]
    assert noisy[0] == pytest.approx(1, abs=1e-6)
    assert noisy[0] > noisy[1] > noisy[2]


def test_bad_input():
    for message, arguments in (
        ("Z_a and Z_b", (Z, Z[:9], ANCHORS)),
        ("anchors must lie in 0 to 299, got 300", (Z, Z, [0, 300])),
        ("anchors: row 4 comes twice", (Z, Z, [4, 4])),
        (r"anchors must be row numbers \(m,\)", (Z, Z, [0.5])),
    ):
        with pytest.raises(ValueError, match=message):
            compare_spaces(*arguments)
    with pytest.raises(ValueError, match="k"):
        compare_spaces(Z[:12], Z[:12], np.arange(3), k=9)
    with pytest.raises(ValueError, match="row 0 is all zeros"):
        compare_spaces(np.concatenate([0 * Z[:1], Z[1:]]), Z, np.arange(0, 5), centre=False)
