"""Users of two tastes, and items of two kinds whose other features follow the kind more or less."""

from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(scope="session")
def shop():
    rng = np.random.default_rng(0)
    users, items = 80, 60
    taste, kind = np.arange(users) % 2, np.arange(items) % 2
    pairs = [
        (f"u{u}", 100 + i)
        for u in range(users)
        for i in rng.choice(np.flatnonzero(kind == taste[u]), 10, replace=False, p=None)
    ]
    log = {"user": [u for u, _ in pairs], "item": [i for _, i in pairs]}
    item_table = {
        "item": 100 + np.arange(items),
        "kind": np.where(kind, "tea", "coffee"),
        "shop": np.where(rng.random(items) < 0.9, kind, 1 - kind),
        "tags": [["hot", f"t{n % 5}"] if k else [f"t{n % 5}"] for n, k in enumerate(kind)],
        "shelf": rng.integers(0, 4, items),
        "price": rng.normal(3 + kind, 0.5),
    }
    user_table = {"user": [f"u{u}" for u in range(users)], "taste": taste, "town": rng.integers(0, 5, users)}
    return SimpleNamespace(log=log, items=item_table, users=user_table, kind=kind, taste=taste)
