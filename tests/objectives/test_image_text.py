import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from nolabel.objectives import image_text_contrast


def vectors(n=7, d=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, requires_grad=True), torch.randn(n, d, generator=generator)


def plain(v, u, t, smoothing):
    logits = normalize(v) @ normalize(u).T / t
    own = torch.arange(len(v))
    return [cross_entropy(each, own, label_smoothing=smoothing) for each in (logits, logits.T)]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_the_plain_formula_with_the_same_gradient(smoothing, masked):
    v, u = vectors()
    temperature = torch.tensor(0.3, requires_grad=True)
    groups = torch.arange(7) if masked else None  # each alone: nothing is left out
    terms = image_text_contrast(
        v, u, temperature=temperature, weights=(0.75, 0.25), label_smoothing=smoothing, groups=groups
    )
    forth, back = plain(v, u, temperature, smoothing)
    torch.testing.assert_close(terms["image_to_text"], 0.75 * forth)
    torch.testing.assert_close(terms["text_to_image"], 0.25 * back)
    found = torch.autograd.grad(sum(terms.values()), (v, temperature))
    expected = torch.autograd.grad(0.75 * forth + 0.25 * back, (v, temperature))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_directions_are_not_the_same():
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # both texts mean the first image
    terms = image_text_contrast(images, texts, temperature=1.0, weights=(1.0, 1.0))
    # the images cannot choose between equal texts: log 2 each; text 1 is right, text 2 wrong
    assert terms["image_to_text"].item() == pytest.approx(math.log(2))
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert terms["text_to_image"].item() == pytest.approx((right + wrong) / 2)


def test_pairs_of_one_group_are_no_negatives():
    v, u = vectors(4)
    groups = torch.tensor([7, 7, 3, -1])
    terms = image_text_contrast(v, u, temperature=0.5, weights=(1.0, 0.0), label_smoothing=0.2, groups=groups)
    logits = normalize(v) @ normalize(u).T / 0.5
    losses = []
    for row in range(4):
        kept = [j for j in range(4) if j == row or groups[j] != groups[row]]
        p = logits[row, kept].log_softmax(dim=0)
        losses.append(-0.8 * p[kept.index(row)] - 0.2 * p.mean())
    torch.testing.assert_close(terms["image_to_text"], torch.stack(losses).mean())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": torch.randn(3, 5)}, "must be \\(n, d\\) alike"),
        ({"images": torch.randn(1, 5), "texts": torch.randn(1, 5)}, "at least 2 pairs"),
        ({"weights": (0.5, -0.1)}, "weights"),
        ({"weights": (0.0, 0.0)}, "weights"),
        ({"label_smoothing": 1.0}, "label_smoothing must lie in \\[0, 1\\)"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"groups": torch.zeros(3, dtype=torch.int64)}, r"groups must be integers \(4,\), got torch.int64 \(3,\)"),
        ({"groups": torch.zeros(4)}, r"groups must be integers \(4,\), got torch.float32"),
    ],
)
def test_bad_input(arguments, message):
    given = {"images": torch.randn(4, 5), "texts": torch.randn(4, 5)} | arguments
    with pytest.raises(ValueError, match=message):
        image_text_contrast(given.pop("images"), given.pop("texts"), **given)
