import numpy as np
import pytest

from nolabel.assess import linear_probe
from nolabel.assess.separation import separation_report


def split_parts(n=240, seed=0):
    """Common part: knows the object. Salient part: knows the digit, and the object a little."""
    rng = np.random.default_rng(seed)
    objects, digits = rng.integers(0, 3, n), rng.integers(0, 4, n)
    common = np.eye(3)[objects] + rng.normal(0, 0.2, (n, 3))
    salient = np.concatenate(
        [np.eye(4)[digits] + rng.normal(0, 0.2, (n, 4)), objects[:, None] * rng.normal(1, 1, (n, 1))], 1
    )
    return common, salient, objects, digits


def test_each_number_is_the_probe_it_says():
    common, salient, objects, digits = split_parts()
    test = np.arange(0, 240, 4)
    train = np.setdiff1d(np.arange(240), test)
    report = separation_report(common, salient, objects, digits, test_rows=test)

    def probe(z, y):
        return linear_probe(z[train], y[train], z[test], y[test])

    assert report.salient_from_salient == probe(salient, digits) > 0.95
    assert report.common_from_common == probe(common, objects) > 0.95
    assert report.salient_from_common == probe(common, digits) < 0.5
    assert report.common_from_salient == probe(salient, objects)
    assert report.salient_gap == report.salient_from_salient - report.salient_from_common > 0.5
    assert report.common_gap == pytest.approx(report.common_from_common - report.common_from_salient)
    assert report.salient_chance == np.bincount(digits[test]).max() / 60
    assert report.to_dict()["common_gap"] == report.common_gap
    assert f"{report.salient_from_common:.3f}" in str(report)


def test_swapped_parts_swap_the_gaps():
    common, salient, objects, digits = split_parts()
    report = separation_report(common, salient, objects, digits)
    swapped = separation_report(salient, common, objects, digits)
    assert swapped.salient_gap == pytest.approx(-report.salient_gap)
    assert swapped.common_gap == pytest.approx(-report.common_gap)
    assert separation_report(common, salient, objects, digits) == report
    assert separation_report(common, salient, objects, digits, random_state=1) != report


def test_bad_input():
    common, salient, objects, digits = split_parts(40)
    with pytest.raises(ValueError, match="common and salient: the same rows were expected, got 40 and 39"):
        separation_report(common, salient[:-1], objects, digits)
    with pytest.raises(ValueError, match="salient_labels: one label a row"):
        separation_report(common, salient, objects, digits[:-1])
    with pytest.raises(ValueError, match="train_labels: at least 2 classes"):
        separation_report(common, salient, np.zeros(40, int), digits)
    for rows in ([0, 0], [40], [-1], [], [0.5], [[1, 2]]):
        with pytest.raises(ValueError, match="test_rows: different row numbers from 0 to 39 were expected"):
            separation_report(common, salient, objects, digits, test_rows=rows)
    with pytest.raises(ValueError, match="salient: row 3 has non-finite"):
        separation_report(common, np.where(np.arange(40)[:, None] == 3, np.nan, salient), objects, digits)
