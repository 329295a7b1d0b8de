"""One table of embeddings for all columns of categories.

Column t has c_t chunks. A value v of it is looked up once a chunk j, in a table E of M rows and width d that all columns
share, and the chunks are joined:

    e_t(v) = concat_j  E[ H(v; salt(t, j)) mod M ],        width c_t d.

The salts make the columns independent hash functions of the same rows. Values of two columns that meet in a row can be told
apart by the weights that read the columns, if these point in different directions; values of one column that meet cannot.
With a table of its own for each column (`mode="separate"`) fewer columns meet and more values of a column do: with N_t
values in M_t of M rows, C(N_t, 2) / M_t pairs instead of C(N_t, 2) / M.

Coleman, Kang, Fahrbach, Wang, Hong, Chi & Cheng, "Unified embedding: battle-tested feature representations for web-scale ML
systems", NeurIPS 2023, arXiv:2305.12102. The salt is derived from a column's name, so that a column added later moves no
row of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import embedding as look_up

from nolabel.ops.hashing import ColumnKeys, column_keys, hash64, hashed_rows, salt64

MODES = ("shared", "separate", "full")
SPREAD = 0.05
#: The keys of a column: of single values (b,), or ``{"keys": (values,), "lengths": (b,)}``.
Keys = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class ColumnCollisions:
    """What hashing does to the values of one column; pairs and rows are means over its chunks.

    Attributes
    ----------
    values : distinct values
    rows : rows that they hit
    intra : pairs of its values in one row, which nothing downstream can tell apart by this chunk
    inter : pairs of one of its values and one of another column in one row
    expected_intra : pairs of its values that chance puts into one row
    indistinguishable : values whose rows, in all chunks, are also those of another value of the column
    """

    values: int
    rows: float
    intra: float
    inter: float
    expected_intra: float
    indistinguishable: int

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def split_rows(rows: int, sizes: Sequence[int]) -> list[int]:
    """`rows` shared out in proportion to `sizes`, at least one each, without remainder.

    >>> split_rows(10, [90, 9, 1])
    [7, 2, 1]
    """
    if rows < len(sizes):
        raise ValueError(f"rows must be at least {len(sizes)}, one for each column, got {rows}")
    wanted = np.asarray(sizes, float) * (rows - len(sizes)) / max(sum(sizes), 1)
    shares = 1 + np.floor(wanted).astype(int)
    rest = rows - int(shares.sum())
    shares[np.argsort(-(wanted - np.floor(wanted)), kind="stable")[:rest]] += 1
    return [int(share) for share in shares]


class UnifiedEmbedding(nn.Module):
    """Embeddings of the columns of a table, by hashing into one shared table, or by one of two baselines.

    Use it for columns with very many values, or ever new ones: there is one size to choose, and no vocabulary. `forward`
    takes raw values; within a training loop, `keyed` does the work on values once and `embed` the rest on the device.

    Parameters
    ----------
    columns : names, or name to number of chunks (1 unless given)
    rows : rows M of each table; without meaning in mode ``full``
    dim : width d of a row
    tables : tables that the chunks of a column are dealt to in turn (beginning with one that its name says): a device to
        spread large tables over machines; only in mode ``shared``
    mode : ``shared``; ``separate``: of the `rows` each column has its own part, in proportion to its distinct `values`;
        ``full``: a row for each of the `values`, none for others, which get the zero vector
    pooling : ``mean`` or ``sum`` over the values of a row in columns of lists; an empty list is the zero vector
    values : by column its values, or their keys (int64, from `hash64`); for the modes ``separate`` and ``full``
    missing : ``value``: None and NaN are a value of their own; ``error``: they are refused
    sparse : gradients of the looked-up rows alone (for `nolabel.training.RowAdam`), instead of the whole table
    seed : of the hash; not of the initial weights

    Raises
    ------
    ValueError
        Numbers below 1, a mode or pooling that is not known, too few rows for ``separate``, no `values` where needed.

    Examples
    --------
    >>> embedding = UnifiedEmbedding({"user": 2, "tags": 1}, rows=50, dim=4)
    >>> vectors = embedding({"user": [17, "x"], "tags": [["a", "b"], []]})
    >>> vectors["user"].shape, vectors["tags"][1].tolist()
    (torch.Size([2, 8]), [0.0, 0.0, 0.0, 0.0])
    """

    def __init__(
        self,
        columns: Mapping[str, int] | Sequence[str],
        rows: int = 100_000,
        dim: int = 16,
        *,
        tables: int = 1,
        mode: str = "shared",
        pooling: str = "mean",
        values: Mapping[str, Any] | None = None,
        missing: str = "error",
        sparse: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, number in (("rows", rows), ("dim", dim), ("tables", tables)):
            _at_least_1(name, number)
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if pooling not in ("mean", "sum"):
            raise ValueError(f"pooling must be 'mean' or 'sum', got {pooling!r}")
        if missing not in ("error", "value"):
            raise ValueError(f"missing must be 'error' or 'value', got {missing!r}")
        if mode != "shared" and tables > 1:
            raise ValueError(f"tables={tables} needs mode='shared', got {mode!r}")
        if isinstance(columns, str):
            raise TypeError(f"columns must be a list of names or a dict from name to chunks, got {columns!r}")
        self.rows, self.dim, self.mode, self.pooling = rows, dim, mode, pooling
        self.missing, self.seed = missing, seed
        self.columns: dict[str, int] = {}
        for name, chunks in columns.items() if isinstance(columns, Mapping) else [(name, 1) for name in columns]:
            self._declare(name, chunks)
        if not self.columns:
            raise ValueError("columns is empty: at least one was expected")
        counts = self._vocabulary(values)
        self._places(counts)
        self.tables = nn.ModuleList(nn.Embedding(self.rows, dim, sparse=sparse) for _ in range(tables))
        for table in self.tables:
            nn.init.uniform_(table.weight, -SPREAD, SPREAD)  # type: ignore[arg-type]

    def _declare(self, name: str, chunks: int) -> None:
        if not isinstance(name, str):
            raise TypeError(f"columns must be named by texts, got {type(name).__name__}")
        if name in self.columns:
            raise ValueError(f"column {name!r} is there already")
        _at_least_1(f"chunks of {name!r}", chunks)
        self.columns[name] = chunks

    def _vocabulary(self, values: Mapping[str, Any] | None) -> list[int]:
        """Keep the sorted keys of each column (mode ``full``); how many distinct values each has."""
        if self.mode == "shared":
            return [1] * len(self.columns)
        if values is None and self.mode == "separate":
            return [1] * len(self.columns)
        if values is None:
            raise ValueError("mode='full' has a row for each value: give values={column: values}")
        counts = []
        for number, name in enumerate(self.columns):
            if name not in values:
                raise KeyError(f"values: no column {name!r} among {', '.join(values)}")
            keys = np.unique(_as_keys(values[name], name))
            counts.append(len(keys))
            if self.mode == "full":
                self.register_buffer(f"keys_{number}", torch.from_numpy(keys))
        return counts

    def _places(self, counts: list[int]) -> None:
        """Where the part of each column begins, and how many rows it has."""
        if self.mode == "shared":
            sizes, begins = [self.rows] * len(counts), [0] * len(counts)
        else:
            if self.mode == "full":
                sizes = [count * chunks for count, chunks in zip(counts, self.columns.values())]
                self.rows = max(sum(sizes), 1)
            else:
                sizes = split_rows(self.rows, counts)
            begins = [sum(sizes[:number]) for number in range(len(sizes))]
        self._parts = {name: (begin, size) for name, begin, size in zip(self.columns, begins, sizes)}

    @property
    def widths(self) -> dict[str, int]:
        """Width of the embedding of each column, in the order of `concat`."""
        return {name: chunks * self.dim for name, chunks in self.columns.items()}

    def add_column(self, name: str, chunks: int = 1) -> None:
        """A further column, whose values go into the rows there are; nothing changes for the others.

        Raises
        ------
        ValueError
            A column of that name, chunks below 1, or a mode other than ``shared``.
        """
        if self.mode != "shared":
            raise ValueError(f"only a shared table takes further columns, this one is {self.mode}")
        self._declare(name, chunks)
        self._parts[name] = (0, self.rows)

    # From values to rows ------------------------------------------------------------------------------------------------

    def keyed(self, batch: Mapping[str, Any]) -> dict[str, Keys]:
        """The keys of the raw values of a batch: for each column N values, or N lists of values.

        Raises
        ------
        KeyError
            A column that the batch lacks.
        ValueError
            Columns of different lengths; missing values unless ``missing="value"``.
        TypeError
            A cell that is no category; column and row are named.
        """
        found: dict[str, ColumnKeys] = {}
        for name in self.columns:
            found[name] = column_keys(self._of(batch, name), name, missing=self.missing)
            first = next(iter(found))
            if len(found[name]) != len(found[first]):
                raise ValueError(
                    f"columns must be equally long, {first!r} has {len(found[first])} rows and {name!r} {len(found[name])}"
                )
        device = self.tables[0].weight.device
        return {name: _moved(column.tensors(), device) for name, column in found.items()}  # type: ignore[arg-type]

    def _of(self, batch: Mapping[str, Any], name: str) -> Any:
        if name not in batch:
            raise KeyError(f"column {name!r} is missing: the batch has {', '.join(map(str, batch)) or 'no columns'}")
        return batch[name]

    def row_index(self, column: str, values: Any) -> Int64[Tensor, "n chunks"]:
        """The rows of N values of a column, one a chunk; -1 for a value without a row (mode ``full``).

        Raises
        ------
        KeyError
            A column that was never declared.
        """
        return self._rows(column, torch.from_numpy(hash64(_flat(values)).view(np.int64)))

    def _rows(self, column: str, keys: Int64[Tensor, " n"]) -> Int64[Tensor, "n chunks"]:
        if column not in self.columns:
            raise KeyError(f"no column {column!r}: there are {', '.join(self.columns)}")
        chunks, (begin, size) = self.columns[column], self._parts[column]
        if self.mode != "full":
            salts = (salt64(column, chunk, self.seed) for chunk in range(chunks))
            return begin + torch.stack([hashed_rows(keys, salt, size) for salt in salts], dim=1)
        place, known = self._known(column, keys)
        rows = begin + place.unsqueeze(1) * chunks + torch.arange(chunks, device=keys.device)
        return rows.masked_fill(~known.unsqueeze(1), -1)

    def _known(self, column: str, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Place of each key in the vocabulary of a column, and whether it is there."""
        vocabulary = getattr(self, f"keys_{list(self.columns).index(column)}").to(keys.device)
        if not len(vocabulary):
            return torch.zeros_like(keys), torch.zeros_like(keys, dtype=torch.bool)
        place = torch.searchsorted(vocabulary, keys).clamp_(max=len(vocabulary) - 1)
        return place, vocabulary[place] == keys

    def known(self, column: str, keys: Int64[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Which keys have a row of their own in mode ``full``; hashing answers for all."""
        return self._known(column, keys)[1] if self.mode == "full" else torch.ones_like(keys, dtype=torch.bool)

    # From rows to vectors -----------------------------------------------------------------------------------------------

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Float[Tensor, "n width"]]:
        """The embeddings (N, chunks * dim) of each column, from raw values; errors are those of `keyed`."""
        return self.embed(self.keyed(batch))

    def concat(self, batch: Mapping[str, Any]) -> Float[Tensor, "n total"]:
        """The embeddings of all columns side by side, in the order in which they were declared."""
        return torch.cat(list(self.forward(batch).values()), dim=1)

    def embed(self, keys: Mapping[str, Keys]) -> dict[str, Float[Tensor, "n width"]]:
        """The embeddings of each column, from keys; chunks stand in the order of their numbers."""
        rows = {}
        for name in self.columns:
            own = self._of(keys, name)
            rows[name] = self._rows(name, own["keys"] if isinstance(own, dict) else own)  # (v, chunks)
        vectors = self._looked_up(rows)
        return {name: self._pooled(vectors[name], rows[name], keys[name]) for name in self.columns}

    def _looked_up(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Vectors (v, chunks * d) of the rows of all columns, with one look-up a table."""
        chunks = [(name, j) for name, found in rows.items() for j in range(found.shape[1])]
        parts: dict[tuple[str, int], Tensor] = {}
        for number, table in enumerate(self.tables):
            here = [chunk for chunk in chunks if self._table(*chunk) == number]
            if not here:
                continue
            wanted = [rows[name][:, j] for name, j in here]
            weight, sparse = table.weight, table.sparse
            found = look_up(torch.cat(wanted).clamp_min(0), weight, sparse=sparse)  # type: ignore[arg-type]
            parts |= dict(zip(here, found.split([len(own) for own in wanted])))
        return {name: torch.cat([parts[name, j] for j in range(found.shape[1])], dim=1) for name, found in rows.items()}

    def _table(self, column: str, chunk: int) -> int:
        if len(self.tables) == 1:
            return 0
        return (salt64(column, -1, self.seed) + chunk) % len(self.tables)

    def _pooled(self, vectors: Tensor, rows: Tensor, keys: Keys) -> Tensor:
        known = (rows[:, 0] >= 0).to(vectors.dtype) if self.mode == "full" else None
        if known is not None:
            vectors = vectors * known.unsqueeze(1)
        if not isinstance(keys, dict):
            return vectors
        lengths = keys["lengths"]
        owner = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
        summed = vectors.new_zeros(len(lengths), vectors.shape[1]).index_add(0, owner, vectors)
        if self.pooling == "sum":
            return summed
        counts = lengths.to(vectors.dtype)
        if known is not None:
            counts = torch.zeros_like(counts).index_add(0, owner, known)
        return summed / counts.clamp_min(1).unsqueeze(1)

    def collisions(self, batch: Mapping[str, Any]) -> dict[str, ColumnCollisions]:
        """How the distinct values of a batch meet in the rows, by column; unknown values of mode ``full`` are left out."""
        keyed = {name: np.unique(_as_keys(self._of(batch, name), name)) for name in self.columns}
        rows: dict[str, np.ndarray] = {}
        for name, keys in keyed.items():
            found = self._rows(name, torch.from_numpy(keys).to(self.tables[0].weight.device)).cpu().numpy()  # type: ignore[arg-type]
            offsets = [self._table(name, j) * self.rows for j in range(found.shape[1])]
            rows[name] = found[(found >= 0).all(axis=1)] + np.array(offsets)
        load = sum(np.bincount(found.reshape(-1), minlength=len(self.tables) * self.rows) for found in rows.values())
        return {name: self._report(name, found, load) for name, found in rows.items()}

    def _report(self, name: str, found: np.ndarray, load: Any) -> ColumnCollisions:
        values, chunks = found.shape
        own = [np.bincount(found[:, j], minlength=len(load)) for j in range(chunks)]
        together = sum(own) if chunks else load
        whole = np.unique(found, axis=0, return_counts=True)[1] if values else np.zeros(0, int)
        size = self._parts[name][1]
        chance = 0.0 if self.mode == "full" else values * (values - 1) / 2 / size
        return ColumnCollisions(
            values=values,
            rows=float(np.mean([np.count_nonzero(one) for one in own])),
            intra=float(np.mean([(one * (one - 1) / 2).sum() for one in own])),
            inter=float(np.mean([(one * (load - together)).sum() for one in own])),
            expected_intra=chance,
            indistinguishable=int(whole[whole > 1].sum()),
        )


def _flat(values: Any) -> Any:
    if hasattr(values, "detach"):
        return values.detach().cpu().numpy()
    return values if isinstance(values, np.ndarray) else list(values)


def _as_keys(values: Any, name: str) -> np.ndarray:
    """Keys of raw values, of keys, or of lists of values."""
    if isinstance(values, ColumnKeys):
        return values.keys
    return column_keys(values, name, missing="value").keys


def _moved(keys: Keys, device: torch.device) -> Keys:
    return {name: part.to(device) for name, part in keys.items()} if isinstance(keys, dict) else keys.to(device)


def _at_least_1(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
