import numpy as np
import pytest

from nolabel.assess.codes import code_report


def test_by_hand():
    logits = np.array([[5.0, -1.0, 0.0], [-5.0, -1.0, 0.0], [1.0, -4.5, 0.0], [1.0, -1.0, -0.0]])
    report = code_report(logits)  # codes 100, 000, 100, 100
    assert (report.rows, report.bits) == (4, 3)
    assert report.saturated == pytest.approx(3 / 12)
    assert report.dead_bits == 2
    entropy = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)) / 3
    assert report.bit_entropy == pytest.approx(entropy)
    assert report.different == pytest.approx(1 / 4)
    assert report.to_dict()["dead_bits"] == 2
    assert "dead bits" in str(report)


def test_balanced_codes():
    logits = np.random.default_rng(0).normal(size=(4000, 64))
    report = code_report(logits)
    assert report.bit_entropy > 0.99
    assert report.dead_bits == 0
    assert report.different == 1.0
    assert report.saturated < 0.001


def test_bad_input():
    with pytest.raises(TypeError, match="logits: floating-point"):
        code_report(np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="logits: a matrix"):
        code_report(np.zeros(3))
    with pytest.raises(ValueError, match="non-finite"):
        code_report(np.array([[np.nan]]))
