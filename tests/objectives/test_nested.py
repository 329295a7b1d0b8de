"""Sums over prefixes by hand, equality with a loop, where gradients go, and every wrong argument."""

import math
import re

import pytest
import torch
from torch.nn.functional import normalize

from nolabel.objectives import info_nce, nt_xent
from nolabel.objectives.nested import Nested, halved, rising_sizes


def embeddings(n=6, d=8, count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=generator) for _ in range(count)]


@pytest.mark.parametrize(
    ("dim", "least", "expected"),
    [
        (2048, 8, (8, 16, 32, 64, 128, 256, 512, 1024, 2048)),
        (384, 8, (12, 24, 48, 96, 192, 384)),
        (100, 8, (12, 25, 50, 100)),
        (64, 2, (2, 4, 8, 16, 32, 64)),
        (5, 8, (5,)),
        (1, 1, (1,)),
    ],
)
def test_halved(dim, least, expected):
    assert halved(dim, least) == expected


def test_halved_refuses_nothing():
    with pytest.raises(ValueError, match=r"^dim and least must be at least 1, got 0 and 8$"):
        halved(0)


def test_by_hand_without_normalisation():
    z = torch.tensor([[1.0, 2.0, 3.0]])
    squares = Nested(lambda z: z.square().sum(), (1, 3), weights=(2.0, 0.5), normalise=False)
    assert float(squares(z)) == 2.0 * 1 + 0.5 * 14


def test_each_prefix_has_unit_length_of_its_own():
    # first coordinate: +1 against +1; both: (3, 4) / 5 against (4, 3) / 5, whose dot product is 24 / 25
    dot = Nested(lambda a, b: (a * b).sum(), (1, 2))
    assert float(dot(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]]))) == pytest.approx(1 + 24 / 25)


@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 2.0), (1.0, 0.0, 1.0)])
def test_info_nce_equals_a_slow_recomputation(weights):
    a, b = embeddings()
    total = 0.0
    for size, weight in zip((2, 4, 8), weights or (1, 1, 1)):
        cosine = normalize(a[:, :size]) @ normalize(b[:, :size]).T
        for i in range(6):
            terms = [math.exp(float(cosine[i, j]) / 0.2) for j in range(6)]
            total -= weight * math.log(terms[i] / sum(terms)) / 6
    loss = Nested(info_nce, (2, 4, 8), weights)(a, b, temperature=0.2)
    assert float(loss) == pytest.approx(total, rel=1e-5)


def test_one_size_is_the_objective_itself():
    a, b = embeddings()
    torch.testing.assert_close(Nested(nt_xent, (8,))(a, b), nt_xent(a, b))


def test_scale_of_a_row_does_not_matter_when_normalised():
    a, b = embeddings()
    nested = Nested(info_nce, (2, 8))
    torch.testing.assert_close(nested(a * torch.rand(6, 1).add(0.1), b), nested(a, b))


def test_gradients_reach_a_coordinate_from_the_sizes_that_hold_it():
    (z,) = embeddings(count=1)
    z.requires_grad_()
    Nested(lambda z: z.sum(), (2, 4, 8), normalise=False)(z).backward()
    assert z.grad[0].tolist() == [3, 3, 2, 2, 1, 1, 1, 1]
    z.grad = None
    Nested(lambda z: z.sum(), (2, 4, 8), weights=(1, 1, 0), normalise=False)(z).backward()
    assert z.grad[0].tolist() == [2, 2, 1, 1, 0, 0, 0, 0]


def test_half_precision_is_normalised_in_float32():
    (z,) = embeddings(count=1)
    seen = []
    Nested(lambda z: seen.append(z) or z.sum(), (2, 8))(z.bfloat16())
    assert [s.dtype for s in seen] == [torch.float32] * 2
    torch.testing.assert_close(seen[0].norm(dim=1), torch.ones(6))


def test_a_short_prefix_learns_to_tell_rows_apart():
    """Descending the nested loss makes the first coordinates an embedding; the plain loss leaves them what they are."""
    scores = {}
    for name, sizes in (("nested", (2, 16)), ("plain", (16,))):
        torch.manual_seed(0)
        z = torch.nn.Parameter(torch.randn(12, 16) * torch.linspace(0.05, 1, 16))
        optimiser = torch.optim.Adam([z], lr=0.05)
        for _ in range(60):
            optimiser.zero_grad()
            Nested(info_nce, sizes)(z, z, temperature=0.2).backward()
            optimiser.step()
        scores[name] = float(info_nce(z[:, :2].detach(), z[:, :2].detach(), temperature=0.2))
    assert scores["nested"] < scores["plain"] - 0.1


def zero_row():
    z = torch.ones(4, 8)
    z[2, :2] = 0
    return z


WRONG = {
    "too wide": (lambda: Nested(info_nce, (4, 16))(*embeddings()), ValueError,
                 "sizes: the last must be 8, the width of embeddings 1, got 16"),
    "too narrow": (lambda: Nested(info_nce, (2, 4))(*embeddings()), ValueError,
                   "sizes: the last must be 8, the width of embeddings 1, got 4"),
    "widths differ": (lambda: Nested(info_nce, (8,))(torch.ones(3, 8), torch.ones(3, 4)), ValueError,
                      "sizes: the last must be 4, the width of embeddings 2, got 8"),
    "falling": (lambda: Nested(info_nce, (8, 4)), ValueError,
                "sizes must be whole numbers from 1 that rise, each given once, got (8, 4)"),
    "twice": (lambda: Nested(info_nce, (4, 4, 8)), ValueError,
              "sizes must be whole numbers from 1 that rise, each given once, got (4, 4, 8)"),
    "zero": (lambda: Nested(info_nce, (0, 8)), ValueError,
             "sizes must be whole numbers from 1 that rise, each given once, got (0, 8)"),
    "none": (lambda: Nested(info_nce, ()), ValueError,
             "sizes must be whole numbers from 1 that rise, each given once, got ()"),
    "fractions": (lambda: Nested(info_nce, (4, 8.5)), TypeError, "sizes must be whole numbers, got (4, 8.5)"),
    "one number": (lambda: Nested(info_nce, 8), TypeError, "sizes must be a sequence of whole numbers, got 8"),
    "a word": (lambda: rising_sizes("halve"), TypeError, "sizes must be a sequence of whole numbers, got 'halve'"),
    "few weights": (lambda: Nested(info_nce, (4, 8), (1.0,)), ValueError,
                    "weights must be one for each of 2 sizes, got 1"),
    "negative weight": (lambda: Nested(info_nce, (4, 8), (1.0, -1.0)), ValueError,
                        "weights must be 0 or above, finite and not all 0, got (1.0, -1.0)"),
    "no weight": (lambda: Nested(info_nce, (4, 8), (0, 0)), ValueError,
                  "weights must be 0 or above, finite and not all 0, got (0.0, 0.0)"),
    "nothing to call": (lambda: Nested("info_nce", (4, 8)), TypeError, "objective must be callable, got str"),
    "no embeddings": (lambda: Nested(info_nce, (4, 8))(), TypeError,
                      "embeddings: expected at least one (n, d) tensor, got none"),
    "flat": (lambda: Nested(info_nce, (8,))(torch.ones(8)), ValueError, "embeddings 1 must be a (n, d) tensor, got (8,)"),
    "an array": (lambda: Nested(info_nce, (8,))([[1.0]]), ValueError, "embeddings 1 must be a (n, d) tensor, got list"),
    "no direction": (lambda: Nested(info_nce, (2, 8))(torch.ones(4, 8), zero_row()), ValueError,
                     "embeddings 2: row 2 is all zeros in its first 2 coordinates, which have no direction: "
                     "no ReLU on embeddings, or larger sizes"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case):
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call()


def test_a_zero_prefix_is_fine_without_normalisation():
    assert float(Nested(lambda z: z.sum(), (2, 8), normalise=False)(zero_row())) == 6 + 30
