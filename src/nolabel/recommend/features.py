"""The tables that describe users and items, and the network that reads one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from nolabel.data.categories import FeatureTable
from nolabel.encoders.categorical import UnifiedEmbedding
from nolabel.encoders.feature_tower import FeatureTower
from nolabel.ops.hashing import ColumnKeys


def side_table(data: Any, id_column: str, columns: Mapping[str, str] | None) -> Any:
    """A table of users or items; of the mapping of names, what is said about its own columns counts.

    Raises
    ------
    ValueError
        No column of ids.
    """
    from nolabel.data import read
    from nolabel.data.columns import require_column

    table = read(data)
    own = {new: old for new, old in (columns or {}).items() if old in table.column_names}
    if own:
        table = read(table, columns=own)
    require_column(table, id_column, f"table of {id_column}s")
    return table


def moments(table: FeatureTable) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (m,) of each column of numbers; 0 and 1 of one without any, 1 where all are equal."""
    values = table.numbers.astype(float)
    some = np.isfinite(values).any(axis=0)
    shift, scale = np.zeros(values.shape[1]), np.ones(values.shape[1])
    shift[some], scale[some] = np.nanmean(values[:, some], axis=0), np.nanstd(values[:, some], axis=0)
    return shift.astype(np.float32), np.where(scale > 0, scale, 1.0).astype(np.float32)


def tower(
    vocabulary: Mapping[str, np.ndarray],
    shift: np.ndarray,
    scale: np.ndarray,
    *,
    rows: int | None,
    embedding_dim: int,
    hidden: tuple[int, ...],
    dim: int,
) -> FeatureTower:
    """A tower for a table with these distinct keys by column: a row for each, or `rows` hashed ones for all together."""
    values = {name: ColumnKeys(keys) for name, keys in vocabulary.items()}
    how: dict[str, Any] = {"mode": "full"} if rows is None else {"mode": "shared", "rows": rows}
    embedding = UnifiedEmbedding(list(vocabulary), dim=embedding_dim, values=values, missing="value", **how)
    return FeatureTower(embedding, torch.from_numpy(shift), torch.from_numpy(scale), hidden=hidden, dim=dim)
