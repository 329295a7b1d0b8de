import numpy as np
import pytest

from nolabel.ops.bits import pack_bits, unpack_bits


def test_there_and_back():
    codes = np.random.default_rng(0).random((7, 24)) > 0.5
    packed = pack_bits(codes)
    assert packed.shape == (7, 3)
    assert packed.dtype == np.uint8
    assert np.array_equal(unpack_bits(packed), codes)
    assert np.array_equal(pack_bits(codes.astype(np.int8)), packed)


def test_by_hand():
    assert pack_bits([[1, 0, 0, 0, 0, 0, 0, 1]]).tolist() == [[129]]


def test_distances_stay():
    codes = np.random.default_rng(0).random((5, 32)) > 0.5
    packed = pack_bits(codes)
    for a in range(5):
        for b in range(5):
            assert np.bitwise_count(packed[a] ^ packed[b]).sum() == (codes[a] != codes[b]).sum()


def test_bad_input():
    with pytest.raises(ValueError, match=r"bits a multiple of 8, got shape \(2, 12\)"):
        pack_bits(np.zeros((2, 12), bool))
    with pytest.raises(ValueError, match="got shape"):
        pack_bits(np.zeros(8, bool))
    with pytest.raises(ValueError, match="must hold bools, or 0 and 1"):
        pack_bits(np.full((1, 8), 2))
    with pytest.raises(ValueError, match="must be uint8"):
        unpack_bits(np.zeros((2, 3), np.int64))
