"""Tests and doctests: one thread, one precision on every machine, a cache of their own, no data beyond what they make."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session", autouse=True)
def _alike_everywhere(tmp_path_factory):
    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy may have come before the variable above
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", dict, raising=False)  # no bfloat16 but where a test asks for it
        patch.setenv("NOLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("NOLABEL_DATA", raising=False)
        yield


@pytest.fixture(autouse=True)
def _as_many_threads_as_before():
    """Sums over more threads are rounded otherwise: what changes their number makes other tests fail."""
    yield
    left = torch.get_num_threads()
    torch.set_num_threads(1)  # those that follow are not to blame
    assert left == 1, f"this test leaves {left} threads"
