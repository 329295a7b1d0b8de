import copy

import pytest
import torch
from torch import nn

from nolabel.training import Training
from nolabel.training.row_adam import RowAdam, row_adam, summed_rows


def test_dense_gradients_are_adams():
    """Every row moves at every step: then it is Adam itself."""
    torch.manual_seed(0)
    start, slopes = torch.randn(4, 3), torch.randn(6, 4, 3)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine, adam = RowAdam([ours], lr=0.1), torch.optim.Adam([theirs], lr=0.1)
    for slope in slopes:
        ours.grad, theirs.grad = slope.clone(), slope.clone()
        mine.step()
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_a_row_has_its_own_adam():
    """A row that is seen at some steps only ends where Adam with these steps alone would end."""
    torch.manual_seed(0)
    table = nn.Embedding(5, 3, sparse=True)
    alone = nn.Parameter(table.weight.detach()[2:3].clone())
    mine, adam = RowAdam(table.parameters(), lr=0.1), torch.optim.Adam([alone], lr=0.1)
    before = table.weight.detach().clone()
    for rows in ([2, 1], [1], [2, 2], [1, 3], [2]):
        target = torch.randn(len(rows), 3)
        mine.zero_grad()
        ((table(torch.tensor(rows)) - target) ** 2).sum().backward()
        own = [i for i, row in enumerate(rows) if row == 2]
        if own:
            adam.zero_grad()
            ((alone - target[own]) ** 2).sum().backward()
            adam.step()
        mine.step()
    torch.testing.assert_close(table.weight[2:3], alone)
    assert torch.equal(table.weight[[0, 4]], before[[0, 4]])  # never seen, never moved
    assert not torch.equal(table.weight[1], before[1])


def test_rows_are_summed_once():
    slope = torch.sparse_coo_tensor([[3, 1, 3]], torch.tensor([[1.0], [2.0], [10.0]]), (5, 1))
    for given in (slope, slope.coalesce()):
        rows, sums = summed_rows(given)
        assert rows.tolist() == [1, 3]
        assert sums.tolist() == [[2.0], [11.0]]
    rows, sums = summed_rows(torch.ones(2, 3))
    assert rows.tolist() == [0, 1]


def test_state_survives():
    torch.manual_seed(0)
    tables = [nn.Embedding(4, 2, sparse=True) for _ in range(2)]
    tables[1].load_state_dict(tables[0].state_dict())
    optimisers = [RowAdam(table.parameters(), lr=0.1) for table in tables]

    def step(number, rows):
        optimisers[number].zero_grad()
        tables[number](torch.tensor(rows)).square().sum().backward()
        optimisers[number].step()

    step(0, [0, 1])
    tables[1].load_state_dict(tables[0].state_dict())
    optimisers[1].load_state_dict(copy.deepcopy(optimisers[0].state_dict()))
    for number in (0, 1):
        step(number, [1, 2])
    assert torch.equal(tables[0].weight, tables[1].weight)


def test_bad_settings():
    table = nn.Embedding(2, 2, sparse=True)
    assert isinstance(row_adam(table, Training().resolve({"optimiser": "adam", "weight_decay": 0.0}))["main"], RowAdam)
    for wrong in ({"optimiser": "sgd"}, {"weight_decay": 0.1}, {"clip": 1.0}):
        settings = Training(**{"optimiser": "adam", "weight_decay": 0.0, **wrong}).resolve({})
        with pytest.raises(ValueError, match="tables of words are trained by adam"):
            row_adam(table, settings)
