import math

import pytest
import torch
from torch.nn.functional import one_hot

import nolabel.objectives.words as module
from nolabel.objectives.words import (
    bag_of_words,
    location_perplexity,
    nearest_distance,
    perplexity,
    soft_codes,
    word_prediction,
)


def made(b=4, c=5, side=3, k=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(b, c, side, side, generator=generator), torch.rand(k, c, generator=generator)


def slow_bags(maps, words, scale, inverse_temperature, pool):
    """Every image, location and word in a loop."""
    bags = []
    for image in maps.double():
        codes = []
        for y in range(image.shape[1]):
            for x in range(image.shape[2]):
                distances = [float(((image[:, y, x] - word) ** 2).sum()) for word in words.double()]
                if inverse_temperature is None:
                    codes.append([float(d == min(distances)) for d in distances])
                else:
                    e = [math.exp(-inverse_temperature * d / scale) for d in distances]
                    codes.append([value / sum(e) for value in e])
        columns = list(zip(*codes))
        pooled = [max(column) if pool == "max" else sum(column) / len(column) for column in columns]
        bags.append([value / sum(pooled) for value in pooled])
    return torch.tensor(bags)


# Bags ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["max", "average"])
@pytest.mark.parametrize("inverse_temperature", [None, 2.0, 10.0])
def test_bags_equal_the_slow_recomputation(inverse_temperature, pool):
    maps, words = made()
    bags = bag_of_words(maps, words, 0.7, inverse_temperature=inverse_temperature, pool=pool)
    torch.testing.assert_close(bags, slow_bags(maps, words, 0.7, inverse_temperature, pool), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(bags.sum(dim=1), torch.ones(4))


def test_max_pooling_comes_before_the_division_by_the_sum():
    # two locations, codes (3/4, 1/4) and (1/2, 1/2): the maxima 3/4 and 1/2 become 3/5 and 2/5; means would be 5/8, 3/8
    maps = torch.tensor([0.0, 0.5]).view(1, 1, 1, 2)  # squared distances to 0 and 1: (0, 1) and (1/4, 1/4)
    words = torch.tensor([[0.0], [1.0]])
    options = {"scale": 1.0, "inverse_temperature": math.log(3)}
    torch.testing.assert_close(bag_of_words(maps, words, **options), torch.tensor([[0.6, 0.4]]))
    torch.testing.assert_close(bag_of_words(maps, words, **options, pool="average"), torch.tensor([[0.625, 0.375]]))


def test_hard_codes_are_the_limit_of_soft_ones():
    maps, words = made()
    hard = bag_of_words(maps, words, 1.0, inverse_temperature=None)
    assert not torch.allclose(bag_of_words(maps, words, 1.0), hard, atol=0.05)
    torch.testing.assert_close(bag_of_words(maps, words, 1.0, inverse_temperature=1e6), hard)
    distances = torch.rand(3, 4)
    assert torch.equal(soft_codes(distances, 1.0, inverse_temperature=None), one_hot(distances.argmin(1), 4).float())


@pytest.mark.parametrize("cached", [1, 2**19])
def test_spread_of_single_locations(cached, monkeypatch):
    """The mean over locations of each code's perplexity, however many images are coded at a time."""
    monkeypatch.setattr(module, "CACHED", cached)
    maps, words = made()
    codes = [slow_bags(maps[:, :, y : y + 1, x : x + 1], words, 0.7, 3.0, "max") for y in range(3) for x in range(3)]
    expected = perplexity(torch.cat(codes)).mean()
    torch.testing.assert_close(
        location_perplexity(maps, words, 0.7, inverse_temperature=3.0), expected, rtol=1e-4, atol=1e-5
    )
    assert location_perplexity(maps, words, 0.7, inverse_temperature=None) == 1
    same = words[:1].expand(7, 5)
    torch.testing.assert_close(location_perplexity(maps, same, 0.7), torch.tensor(7.0))
    with pytest.raises(ValueError, match="words must be"):
        location_perplexity(maps, words[:, :4], 1.0)


def test_order_of_locations_images_and_words():
    maps, words = made()
    bags = bag_of_words(maps, words, 0.5)
    generator = torch.Generator().manual_seed(1)
    places = torch.randperm(9, generator=generator)
    shuffled = maps.flatten(2)[:, :, places].view_as(maps)
    torch.testing.assert_close(bag_of_words(shuffled, words, 0.5), bags)
    order = torch.randperm(7, generator=generator)
    torch.testing.assert_close(bag_of_words(maps.flip(0), words[order], 0.5), bags.flip(0)[:, order])


def test_scale_carries_the_units():
    maps, words = made()
    torch.testing.assert_close(bag_of_words(3 * maps, 3 * words, 9 * 0.5), bag_of_words(maps, words, 0.5))
    assert not torch.allclose(bag_of_words(3 * maps, 3 * words, 0.5), bag_of_words(maps, words, 0.5), atol=0.01)
    tensor = torch.tensor(0.5)
    assert torch.equal(bag_of_words(maps, words, tensor), bag_of_words(maps, words, 0.5))


def test_nearest_distance_by_loop():
    maps, words = made()
    places = maps.permute(0, 2, 3, 1).reshape(-1, 5)
    slow = torch.stack([min(((u - w) ** 2).sum() for w in words) for u in places]).mean()
    torch.testing.assert_close(nearest_distance(maps, words), slow)


def test_distances_never_fall_below_zero():
    words = 1000 * torch.rand(50, 8, generator=torch.Generator().manual_seed(0))
    maps = words.T.reshape(1, 8, 5, 10)  # every location is a word
    unclamped = words.square().sum(1)[:, None] + words.square().sum(1) - 2 * words @ words.T
    assert unclamped.min() < 0  # what rounding does
    assert min(float(d.min()) for d in module._distances(maps, words)) >= 0
    assert nearest_distance(maps, words) >= 0


def test_memory_is_bounded_and_slices_change_nothing(monkeypatch):
    maps, words = made(b=11)
    whole, nearest = bag_of_words(maps, words, 0.5), nearest_distance(maps, words)
    monkeypatch.setattr(module, "CACHED", 3 * 9 * 7)
    assert [len(d) for d in module._distances(maps, words)] == [3, 3, 3, 2]
    torch.testing.assert_close(bag_of_words(maps, words, 0.5), whole)
    torch.testing.assert_close(nearest_distance(maps, words), nearest)
    monkeypatch.setattr(module, "CACHED", 1)
    torch.testing.assert_close(bag_of_words(maps, words, 0.5), whole)


def test_full_precision_under_autocast():
    maps, words = made()
    with torch.autocast("cpu", torch.bfloat16):
        assert (maps[0, :, 0].T @ words.T).dtype == torch.bfloat16  # what it would do to the distances
        inside = bag_of_words(maps, words, 0.5)
    assert torch.equal(inside, bag_of_words(maps, words, 0.5))
    half = bag_of_words(maps.bfloat16(), words, 0.5)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, bag_of_words(maps.bfloat16().float(), words, 0.5))


# Prediction ---------------------------------------------------------------------------------------------------------


def distributions(b=4, k=6, seed=0):
    return torch.rand(b, k, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)


def test_divergence_by_loop_and_over_crops():
    target = distributions()
    logits = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1))
    total = 0.0
    for crop in logits:
        for row, q in zip(crop, target, strict=True):
            p = row.exp() / row.exp().sum()
            total += float((q * (q / p).log()).sum()) / 12
    assert float(word_prediction(logits, target)) == pytest.approx(total, rel=1e-5)
    each = [float(word_prediction(crop, target)) for crop in logits]
    assert float(word_prediction(logits, target)) == pytest.approx(sum(each) / 3, rel=1e-5)
    assert float(word_prediction(logits.flip(1), target)) != pytest.approx(total, rel=1e-3)


def test_zero_where_the_target_is_predicted_and_above_elsewhere():
    target = distributions()
    assert float(word_prediction(target.log() + 3.0, target)) == pytest.approx(0, abs=1e-6)
    assert float(word_prediction(distributions(seed=1).log(), target)) > 0.01
    sure = torch.tensor([[0.0, 1.0]])  # words that do not occur cost nothing
    assert float(word_prediction(torch.tensor([[-200.0, 0.0]]), sure)) == pytest.approx(0)


def test_gradient_is_prediction_minus_target():
    target = distributions().requires_grad_()
    logits = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    word_prediction(logits, target).backward()
    torch.testing.assert_close(logits.grad, (logits.softmax(dim=-1) - target).detach() / 8)
    assert target.grad is None


def test_bags_carry_no_gradient():
    maps, words = (x.requires_grad_() for x in made())
    assert not bag_of_words(maps, words, 0.5).requires_grad
    assert not nearest_distance(maps, words).requires_grad


def test_perplexity():
    assert float(perplexity(torch.full((8,), 1 / 8))) == pytest.approx(8)
    assert perplexity(torch.eye(3)).tolist() == [1.0, 1.0, 1.0]
    p = torch.tensor([0.5, 0.25, 0.25])
    assert float(perplexity(p)) == pytest.approx(2**1.5)


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": torch.zeros(2, 5, 3)}, r"maps must be \(images, channels, h, w\) .*got \(2, 5, 3\)"),
        ({"maps": torch.zeros(2, 5, 0, 3)}, "at least one of each"),
        ({"words": torch.zeros(7, 4)}, r"words must be \(k >= 2, 5\) for these maps, got \(7, 4\)"),
        ({"words": torch.zeros(1, 5)}, "k >= 2"),
        ({"scale": 0.0}, "scale must be above 0, got 0"),
        ({"scale": torch.tensor(math.nan)}, "scale must be above 0, got nan"),
        ({"inverse_temperature": 0.0}, "inverse_temperature must be above 0 or None, got 0.0"),
        ({"pool": "mean"}, "pool must be one of max, average, got 'mean'"),
        ({"maps": torch.full((2, 5, 3, 3), math.nan)}, "maps and words must be finite"),
    ],
)
def test_bad_input(change, message):
    maps, words = made()
    with pytest.raises(ValueError, match=message) as caught:
        bag_of_words(**{"maps": maps, "words": words, "scale": 0.5, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("logits", "target"),
    [
        (torch.zeros(4, 6), torch.zeros(4, 5)),
        (torch.zeros(3, 4, 6), torch.zeros(3, 4, 6)),
        (torch.zeros(0, 4, 6), torch.zeros(4, 6)),
        (torch.zeros(6), torch.zeros(6)),
    ],
)
def test_bad_predictions(logits, target):
    with pytest.raises(ValueError, match=r"logits must be \(crops, b, k\) or \(b, k\) for a target"):
        word_prediction(logits, target)
