import tracemalloc

import numpy as np
import pytest
import torch

from nolabel.ops import effective_rank, singular_values


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def with_spectrum(spectrum, n=400, seed=0):
    """A matrix that has exactly these singular values."""
    d = len(spectrum)
    left, _ = np.linalg.qr(gaussian(n, d, seed))
    right, _ = np.linalg.qr(gaussian(d, d, seed + 1))
    return (left * np.asarray(spectrum)) @ right.T


def entropy_rank(spectrum, epsilon=1e-7):
    p = [s / sum(spectrum) + epsilon for s in spectrum]
    return float(np.exp(-sum(x * np.log(x) for x in p if x > 0)))


@pytest.mark.parametrize("shape", [(500, 20), (20, 20), (20, 500), (9000, 3), (1, 5), (5, 1)])
@pytest.mark.parametrize("center", [False, True])
def test_singular_values_equal_the_decomposition(shape, center):
    z = gaussian(*shape) + 3
    expected = np.linalg.svd(z - z.mean(axis=0) if center else z, compute_uv=False)
    np.testing.assert_allclose(singular_values(z, center=center), expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("shape", [(5000, 16), (10, 16)])
@pytest.mark.parametrize("center", [False, True])
def test_blocks_tensors_and_memory_maps_give_the_same(shape, center, tmp_path):
    z = gaussian(*shape).astype(np.float32)
    np.save(tmp_path / "z.npy", z)
    expected = singular_values(z, center=center)
    for same in (
        (z[i : i + 7] for i in range(0, len(z), 7)),
        [z[:3], torch.from_numpy(z[3:])],
        torch.from_numpy(z).requires_grad_(),
        np.load(tmp_path / "z.npy", mmap_mode="r"),
    ):
        np.testing.assert_allclose(singular_values(same, center=center), expected, rtol=1e-9, atol=1e-6)


def test_a_stream_is_not_gathered():
    def blocks():
        for seed in range(200):
            yield gaussian(500, 16, seed)

    tracemalloc.start()
    singular_values(blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 500 * 16 * 8 / 20  # a twentieth of the whole


def test_centring_survives_a_mean_that_dwarfs_the_spread():
    z = gaussian(1000, 8)
    np.testing.assert_allclose(singular_values(z + 1e7, center=True), singular_values(z, center=True), rtol=1e-6)


@pytest.mark.parametrize(
    "spectrum",
    [np.ones(32), 1 / np.arange(1, 33), np.exp(-np.arange(32.0)), np.r_[np.ones(5), np.zeros(27)]],
    ids=["flat", "power law", "exponential", "collapsed"],
)
def test_effective_rank_of_known_spectra(spectrum):
    assert effective_rank(with_spectrum(spectrum)) == pytest.approx(entropy_rank(spectrum), abs=1e-4)


def test_effective_rank_by_hand():
    # shares 3/4 and 1/4: exp(entropy) = 4 / 3 ** 0.75
    assert effective_rank(np.diag([3.0, 1.0]), epsilon=0) == pytest.approx(4 / 3**0.75)
    # squared: 9/10 and 1/10
    assert effective_rank(np.diag([3.0, 1.0]), power=2, epsilon=0) == pytest.approx(0.9**-0.9 * 0.1**-0.1)
    assert effective_rank(np.diag([3.0, 0.0]), epsilon=0) == 1
    assert effective_rank(np.diag([3.0, 0.0])) > 1


def test_scale_order_and_repeated_rows_do_not_matter():
    z = gaussian(300, 12)
    rank = effective_rank(z)
    for same in (1e-3 * z, 1e6 * z, z[::-1], z[:, ::-1], np.concatenate([z, z])):
        assert effective_rank(same) == pytest.approx(rank, abs=1e-6)


def test_a_common_mean_depresses_the_rank_unless_centred():
    z = gaussian(2000, 64).astype(np.float32)
    assert effective_rank(z) > 63
    assert effective_rank(z + 5) < 30
    assert effective_rank(z + 5, center=True) == pytest.approx(effective_rank(z, center=True), abs=1e-3)


def test_half_precision_is_raised_to_float64():
    z = torch.from_numpy(gaussian(200, 8)).bfloat16()
    assert effective_rank(z) == effective_rank(z.double().numpy())


def nan_in_row(row, n=9000):
    z = np.zeros((n, 3))
    z[row, 1] = np.nan
    return z


@pytest.mark.parametrize(
    ("z", "error", "message"),
    [
        (np.zeros(4), ValueError, r"z must be 2-D .* got shape \(4,\)"),
        (np.zeros((0, 4)), ValueError, "empty matrix"),
        (np.zeros((4, 0)), ValueError, "empty matrix"),
        ([], ValueError, "empty matrix"),
        ([np.ones((2, 3)), np.ones((2, 4))], ValueError, "one width, got 4 after 3"),
        (nan_in_row(17), ValueError, "row 17 of z has non-finite values"),
        (nan_in_row(8500), ValueError, "row 8500 of z"),
        (np.array([[1.0, 2.0], [np.inf, -np.inf], [np.inf, 0.0]]), ValueError, "row 1 of z has non-finite values"),
        (torch.tensor([[1.0], [float("-inf")]]), ValueError, "row 1 of z has non-finite values"),
        ([np.ones((5, 3)), nan_in_row(2)], ValueError, "row 7 of z"),
        (np.array([["a", "b"]]), TypeError, "real numbers"),
        (np.ones((3, 3), dtype=complex), TypeError, "real numbers"),
        ([[1.0, 2.0]], TypeError, "z must be an array, a tensor or an iterable of them, got list"),
        (np.zeros((5, 3)), ValueError, "all rows of z are zero"),
    ],
)
def test_bad_matrices(z, error, message):
    with pytest.raises(error, match=message):
        effective_rank(z)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
def test_equal_rows_have_no_centred_rank(shape):
    with pytest.raises(ValueError, match="all rows of z are equal"):
        effective_rank(np.full(shape, 0.1), center=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"power": 0}, "power must be above 0"), ({"epsilon": -1e-9}, "epsilon must be 0 or above")],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        effective_rank(np.eye(3), **options)
