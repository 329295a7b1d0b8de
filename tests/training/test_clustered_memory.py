import pytest
import torch
from torch.nn.functional import normalize

from nolabel.ops import sinkhorn
from nolabel.training.clustered_memory import ClusteredMemory


def rows_of(n, seed=0, dim=4):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def filled(length=12, clusters=3, seed=0):
    memory = ClusteredMemory(length, 4, clusters)
    memory.push(rows_of(length, seed), torch.arange(length))
    return memory


def test_first_in_first_out():
    memory = ClusteredMemory(5, 4, 2)
    rows = rows_of(9)
    for start, stop, full in ((0, 3, False), (3, 6, True), (6, 9, True)):
        memory.push(rows[start:stop], torch.arange(start, stop))
        assert memory.full is full
    assert memory.ids.tolist() == [5, 6, 7, 8, 4]
    torch.testing.assert_close(memory.store, normalize(rows[[5, 6, 7, 8, 4]], dim=1))


def test_nothing_is_assigned_before_clustering():
    memory = filled()
    assert not memory.clustered
    assert not memory.prototypes.any()
    with pytest.raises(ValueError, match="must be clustered before"):
        memory.nearest(rows_of(1), 1)


def test_clusters_are_found():
    centres = normalize(rows_of(3, seed=4), dim=1)
    truth = torch.arange(30) % 3
    memory = ClusteredMemory(30, 4, 3)
    memory.push(centres[truth] + 0.01 * rows_of(30), torch.arange(30))
    memory.cluster(seed=0)
    groups = {(int(t), int(label)) for t, label in zip(truth, memory.labels)}
    assert len(groups) == 3
    for p in range(3):
        torch.testing.assert_close(memory.prototypes[p], memory.store[memory.labels == p].mean(0))


def test_new_rows_are_shared_out_and_prototypes_follow():
    memory = filled()
    memory.cluster(seed=0)
    before, old_labels = memory.prototypes.clone(), memory.labels.clone()
    rows = rows_of(6, seed=1)
    memory.push(rows, torch.arange(100, 106))
    scores = normalize(rows, dim=1) @ normalize(before, dim=1).T
    assert torch.equal(memory.labels[:6], sinkhorn(scores, epsilon=0.05, iterations=10).argmax(1))
    assert torch.equal(memory.labels[6:], old_labels[6:])
    for p in range(3):
        inside = memory.labels == p
        expected = memory.store[inside].mean(0) if inside.any() else before[p]
        torch.testing.assert_close(memory.prototypes[p], expected)


def test_rows_go_to_near_prototypes():
    """Where the clusters are equally large, the shared assignment is the nearest prototype."""
    memory = ClusteredMemory(8, 4, 4)
    memory.push(torch.eye(4).repeat(2, 1), torch.arange(8))
    memory.cluster(seed=0)
    memory.push(torch.eye(4) + 0.1 * rows_of(4), torch.arange(4))
    assert torch.equal(memory.labels[:4], memory.labels[4:])


def test_an_empty_cluster_keeps_its_prototype():
    memory = ClusteredMemory(4, 2, 2)
    memory.push(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.arange(4))
    memory.cluster(seed=0)
    lonely = memory.labels[3].clone()
    memory.labels[:] = 1 - lonely
    before = memory.prototypes.clone()
    memory._centre()
    torch.testing.assert_close(memory.prototypes[lonely], before[lonely])
    torch.testing.assert_close(memory.prototypes[1 - lonely], memory.store.mean(0))


def slow_nearest(memory, query, k, own=None):
    query = query / query.norm()
    cluster = (memory.prototypes / memory.prototypes.norm(dim=1, keepdim=True) @ query).argmax()
    allowed = [i for i in range(len(memory.store)) if own is None or memory.ids[i] != own]
    inside = [i for i in allowed if memory.labels[i] == cluster]
    among = inside if len(inside) > k else allowed
    return sorted(among, key=lambda i: -float(memory.store[i] @ query))[:k]


@pytest.mark.parametrize("k", [1, 3, 6])
def test_neighbours_by_hand(k):
    memory = filled(length=20, clusters=4)
    memory.cluster(seed=0)
    queries, own = rows_of(15, seed=2), torch.arange(15)
    found, without = memory.nearest(queries, k), memory.nearest(queries, k, own)
    small = 0
    for i, query in enumerate(queries):
        assert found[i].tolist() == slow_nearest(memory, query, k)
        assert without[i].tolist() == slow_nearest(memory, query, k, own[i])
        small += int((memory.labels[found[i]] != memory.labels[found[i][0]]).any())
    if k == 6:
        assert small > 0  # some clusters are too small and the whole memory is searched
    stored = memory.nearest(memory.store, 1, memory.ids)[:, 0]
    assert (stored != torch.arange(20)).all()


def test_state_is_whole():
    memory, other = filled(seed=1), ClusteredMemory(12, 4, 3)
    memory.cluster(seed=0)
    other.load_state_dict(memory.state_dict())
    for each in (memory, other):
        each.push(rows_of(5, seed=3), torch.arange(5))
    for (name, one), theirs in zip(memory.state_dict().items(), other.state_dict().values()):
        assert torch.equal(one, theirs), name
    assert torch.equal(memory.nearest(rows_of(4), 2), other.nearest(rows_of(4), 2))
    assert not list(memory.parameters())


def test_rows_carry_no_gradient():
    memory = filled()
    memory.cluster(seed=0)
    rows = rows_of(3).requires_grad_()
    memory.push(rows, torch.arange(3))
    assert not memory.store.requires_grad
    assert not memory.prototypes.requires_grad


def test_bad_input():
    for args, message in (
        ((0, 4, 2), "length and dim must be at least 1, got length=0"),
        ((3, 4, 4), "clusters must be from 2 to the 3 rows of the memory, got 4"),
        ((3, 4, 1), "clusters must be from 2 to the 3 rows of the memory, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            ClusteredMemory(*args)
    memory = ClusteredMemory(4, 4, 2)
    with pytest.raises(ValueError, match="only a full memory can be clustered, got 0 of 4 rows"):
        memory.cluster(seed=0)
    with pytest.raises(ValueError, match="rows must be at most the 4 that the memory holds, got 5"):
        memory.push(rows_of(5), torch.arange(5))
    with pytest.raises(ValueError, match=r"rows must be \(n, 4\) and ids \(n,\), got \(2, 3\) and \(2,\)"):
        memory.push(rows_of(2, dim=3), torch.arange(2))
    memory.push(rows_of(4), torch.arange(4))
    memory.cluster(seed=0)
    with pytest.raises(ValueError, match="k must be from 1 to 3, got 4"):
        memory.nearest(rows_of(1), 4)
