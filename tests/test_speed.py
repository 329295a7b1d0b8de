"""`docs/speed.md` says what was measured, and ratios, exponents and slots are what they are called."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from benchmarks.speed import cost, page
from benchmarks.speed.__main__ import NAMES
from benchmarks.speed.growth import exponents
from benchmarks.speed.harness import Line, in_child, inverse
from benchmarks.speed.slots import LEAST_STEPS, Slot


def test_the_page_is_that_of_the_committed_results():
    assert (Path(__file__).parents[1] / "docs" / "speed.md").read_text() == page.text(page.committed(NAMES))


def test_the_costs_are_those_of_the_committed_results():
    assert (Path(__file__).parents[1] / "docs" / "cost.md").read_text() == cost.text(page.committed(NAMES))


def test_overview_by_hand():
    ratio = Line("ours", "theirs", 0.5, 0.25, 0.75)
    met, missed = Line("a", "b", 2.0, 2.0, 2.0, goal=1.5), Line("a", "c", 2.0, 2.0, 2.0, goal=3.0)
    text = page.overview({"Some": [ratio, met, missed]})
    assert "2 of 3 ratios are at least 1; 1 of 2 goals are reached." in text
    assert "| ours | theirs | 0.5 (0.25-0.75) x |  | behind |" in text
    assert "| a | c | 2 x | at least 3 x | **missed** |" in text
    assert not Line("a", "", 2.0, 2.0, 2.0).is_ratio
    assert not Line("a", "b", 2.0, 2.0, 2.0, unit="MiB").is_ratio


def test_inverse_swaps_the_ends():
    assert inverse({"median": 0.5, "min": 0.25, "max": 2.0}) == {"median": 2.0, "min": 0.5, "max": 4.0}


def test_exponents_of_a_power_and_of_a_constant_that_gives_way():
    rows = [{"n": n, "cost": 3.0 * n**1.5} for n in (10, 100, 1000)]
    assert exponents(rows, lambda row: row["cost"]) == pytest.approx((1.5, 1.5))
    rows = [{"n": 1, "cost": 7.0}, {"n": 10, "cost": 7.0}, {"n": 100, "cost": 700.0}]
    assert exponents(rows, lambda row: row["cost"]) == pytest.approx((1.0, 2.0))


def test_a_slot_warms_up_counts_and_reads_the_loader_again():
    slot = Slot([0, 1, 2], warm=0.0, seconds=0.0)
    assert list(slot) == list(itertools.islice(itertools.cycle(range(3)), 1 + LEAST_STEPS))  # one to warm up
    assert slot.measured["steps"] == LEAST_STEPS
    assert 0 <= slot.measured["waited"] <= slot.measured["seconds"]


def take(mib):
    return lambda: np.ones(mib * 2**17)  # float64


def test_the_memory_of_a_child_is_that_of_its_work():
    assert 30 < in_child(take, 40)["mib"] < 60
