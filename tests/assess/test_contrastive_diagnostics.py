import json
import math

import numpy as np
import pytest
import torch

from nolabel.assess.contrastive import contrastive_diagnostics, neighbour_tolerance, tolerance
from nolabel.assess.geometry import alignment, uniformity
from nolabel.objectives import info_nce


def embeddings(n=30, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


# The push on the negatives ---------------------------------------------------------------------------------------------


def test_two_negatives_by_hand():
    """Cosines 1 to the key, 0.6 and 0 to the negatives; temperature 1."""
    q, k = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
    first = contrastive_diagnostics(q[:1] * 2, [[1.0, 0.0]] * 2, 1.0, negatives=[[0.6, 0.8], [0.0, 1.0]])
    near = math.exp(0.6) / (math.exp(0.6) + 1)
    entropy = -near * math.log(near) - (1 - near) * math.log(1 - near)
    assert first.penalty_entropy == pytest.approx(entropy)
    assert first.effective_negatives == pytest.approx(math.exp(entropy))
    assert first.top1_mass == first.top_percent_mass == pytest.approx(near)
    share = (math.exp(0.6) + 1) / (math.e + math.exp(0.6) + 1)
    assert first.grad_pos == pytest.approx(-share)
    assert first.grad_neg_sum == pytest.approx(share)
    assert first.alignment == 0.0
    # without negatives of their own, each row is pushed from the other keys; its own is left out
    whole = contrastive_diagnostics(q, k, 1.0)
    pairs = [(0.6, 0.0), (0.0, 1.0), (0.0, 0.8)]
    nearest = [max(math.exp(a), math.exp(b)) / (math.exp(a) + math.exp(b)) for a, b in pairs]
    assert whole.top1_mass == pytest.approx(np.mean(nearest))


def test_gradients_are_those_of_the_loss():
    q, k = unit(embeddings(seed=1)), unit(embeddings(seed=2))
    similarity = torch.from_numpy(q @ k.T).requires_grad_()
    for temperature in (0.05, 0.5, 5.0):
        loss = torch.nn.functional.cross_entropy(similarity / temperature, torch.arange(30), reduction="sum")
        assert float(loss.detach()) / 30 == pytest.approx(
            float(info_nce(torch.from_numpy(q), torch.from_numpy(k), temperature=temperature))
        )
        (gradient,) = torch.autograd.grad(loss, similarity)
        found = contrastive_diagnostics(q, k, temperature)
        assert found.grad_pos == pytest.approx(float(gradient.diagonal().mean()))
        assert found.grad_neg_sum == pytest.approx(float((gradient.sum() - gradient.trace()) / 30))
        assert found.grad_neg_sum == pytest.approx(-found.grad_pos)
        others = gradient.masked_fill(torch.eye(30, dtype=torch.bool), 0)
        assert found.top1_mass == pytest.approx(float((others.amax(dim=1) / others.sum(dim=1)).mean()))


def test_more_negatives_share_the_push_as_the_temperature_rises():
    q, k = embeddings(300, seed=1), embeddings(300, seed=2)
    found = [contrastive_diagnostics(q, k, t) for t in (1e-4, 0.05, 0.1, 0.3, 1.0, 5.0, 1e4)]
    effective = [one.effective_negatives for one in found]
    assert effective == sorted(effective)
    assert effective[0] == pytest.approx(1, abs=0.2)
    assert effective[-1] == pytest.approx(299, rel=1e-6)
    masses = [one.top1_mass for one in found]
    assert masses == sorted(masses, reverse=True)
    assert masses[-1] == pytest.approx(1 / 299, rel=1e-3)
    assert found[-1].top_percent_mass == pytest.approx(3 / 299, rel=1e-3)  # ceil(2.99)
    assert found[0].top_percent_mass == pytest.approx(1)


def test_blocks_do_not_change_the_result(monkeypatch):
    q, k, bank = embeddings(50, seed=1), embeddings(50, seed=2), embeddings(20, seed=3)
    whole = [contrastive_diagnostics(q, k, 0.3, negatives=negatives).to_dict() for negatives in (None, bank)]
    monkeypatch.setattr("nolabel.assess.contrastive.ROWS_AT_ONCE", 7)
    for negatives, wanted in zip((None, bank), whole, strict=True):
        assert contrastive_diagnostics(q, k, 0.3, negatives=negatives).to_dict() == pytest.approx(wanted)


def test_geometry_is_that_of_the_other_measures_and_lengths_do_not_matter():
    q, k, labels = embeddings(seed=1), embeddings(seed=2), np.arange(30) % 3
    found = contrastive_diagnostics(q, k, 0.2, labels)
    assert found.alignment == pytest.approx(alignment(q, k))
    assert found.uniformity == pytest.approx(uniformity(q))
    assert found.tolerance == pytest.approx(tolerance(q, labels))
    stretched = contrastive_diagnostics(7 * q, torch.from_numpy(k / 3), 0.2, labels)
    assert stretched.to_dict() == pytest.approx(found.to_dict())
    assert contrastive_diagnostics(unit(q), unit(k), 0.2, labels, normalized=True).to_dict() == pytest.approx(
        found.to_dict()
    )


def test_prints_and_turns_into_a_dict():
    found = contrastive_diagnostics(embeddings(seed=1), embeddings(seed=2), 0.2)
    assert found.tolerance is None
    assert "tolerance" not in str(found)
    assert "effective negatives" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["temperature"] == 0.2


# Tolerance -------------------------------------------------------------------------------------------------------------


def test_tolerance_equals_the_slow_recomputation():
    z, labels = embeddings(20), np.random.default_rng(1).integers(0, 4, 20)
    u = unit(z)
    pairs = [(i, j) for i in range(20) for j in range(20) if i != j]
    same = [u[i] @ u[j] for i, j in pairs if labels[i] == labels[j]]
    assert tolerance(z, labels) == pytest.approx(np.mean(same))
    assert tolerance(z, labels, conditional=False) == pytest.approx(np.sum(same) / len(pairs))
    assert tolerance(z, np.array(list("abcd"))[labels]) == pytest.approx(np.mean(same))


def test_tolerance_of_a_collapse_and_of_opposites():
    assert tolerance(np.ones((6, 3)), [0, 0, 1, 1, 2, 2]) == pytest.approx(1)
    assert tolerance([[1.0, 0.0], [-1.0, 0.0]], [5, 5]) == -1
    # a class of one row has no pairs
    assert tolerance([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], ["a", "a", "b"]) == 1


def test_neighbour_tolerance_equals_the_slow_recomputation():
    z, reference = embeddings(25, seed=1), embeddings(25, 3, seed=2)
    for where, options in ((z, {}), (reference, {"reference": reference})):
        similarity = unit(where) @ unit(where).T
        np.fill_diagonal(similarity, -2)
        u, nearest = unit(z), np.argsort(-similarity, axis=1)[:, :4]
        wanted = np.mean([u[i] @ u[j] for i in range(25) for j in nearest[i]])
        assert neighbour_tolerance(z, 4, **options) == pytest.approx(wanted)


def test_neighbour_tolerance_shows_a_collapse():
    z = embeddings(200, 16)
    assert neighbour_tolerance(z, 20) < 0.6
    assert neighbour_tolerance(z + 30, 20) > 0.99


# Bad input -------------------------------------------------------------------------------------------------------------


def broken():
    z = embeddings()
    z[4, 1] = np.nan
    return z


Z = embeddings()


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: contrastive_diagnostics(Z, Z, 0.0), "temperature: a positive number was expected, got 0.0"),
        (lambda: contrastive_diagnostics(Z, Z, math.nan), "temperature: a positive number was expected, got nan"),
        (lambda: contrastive_diagnostics(Z, Z[:9], 0.1), r"q and k: the same rows .* \(30, 5\) and \(9, 5\)"),
        (lambda: contrastive_diagnostics(Z, Z[:, :2], 0.1), r"q and k: the same width"),
        (lambda: contrastive_diagnostics(Z[:1], Z[:1], 0.1), "q: at least 2 rows"),
        (lambda: contrastive_diagnostics(broken(), Z, 0.1), "q: row 4 has non-finite values"),
        (lambda: contrastive_diagnostics(Z, Z, 0.1, negatives=Z[:, :3]), r"negatives: the width of q, 5, .* \(30, 3\)"),
        (lambda: contrastive_diagnostics(Z * 0, Z, 0.1), "q: row 0 is all zeros"),
        (
            lambda: contrastive_diagnostics(unit(Z), unit(Z) * 1.002, 0.1, normalized=True),
            r"k: rows of length 1 were expected \(normalized=True\), row \d+ has 1.002",
        ),
        (
            lambda: contrastive_diagnostics(Z, Z, 0.1, np.arange(30)),
            "labels: tolerance needs same-class pairs, got 30 rows of 30 classes",
        ),
        (lambda: tolerance(Z, np.arange(29)), "labels: one label a row"),
        (lambda: tolerance(broken(), np.zeros(30, int)), "row 4 has non-finite values"),
        (lambda: neighbour_tolerance(Z, 30), r"k: an integer in \[1, 29\] .* got 30"),
        (lambda: neighbour_tolerance(Z, 3, reference=Z[:4]), "embeddings and reference: the same rows"),
    ],
)
def test_bad_input(measure, message):
    with pytest.raises(ValueError, match=message) as caught:
        measure()
    assert "\n" not in str(caught.value)


def test_norms_within_a_thousandth_pass_as_normalized():
    z = unit(Z) * 1.0009
    assert contrastive_diagnostics(z, z, 0.1, normalized=True).alignment == 0.0
