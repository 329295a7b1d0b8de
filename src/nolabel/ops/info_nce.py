"""Contrastive losses over all pairs of vectors, one tile of the similarity matrix at a time.

The plain formula stores the (n, m) matrix of logits several times over. Here the forward pass visits it in tiles and
keeps the running maximum and sum of exponentials of each row (and column); the backward pass computes each tile again.
Memory beyond the inputs and their gradients is a few tiles, whatever n and m are.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy


def _diagonal(tile: Tensor, r: slice, c: slice, offset: int) -> tuple[Tensor, slice, slice]:
    """Return the tile's entries with ``column - row == offset``, and the rows and columns of the matrix they lie in."""
    start = max(r.start, c.start - offset)
    stop = max(start, min(r.stop, c.stop - offset))
    return tile.diagonal(offset + r.start - c.start), slice(start, stop), slice(start + offset, stop + offset)


class _Units:
    """Vectors scaled to unit length over a divisor, made a part at a time: a copy of all would cost as much as they do."""

    def __init__(self, vectors: Tensor, divisor: float | Tensor = 1.0) -> None:
        self.vectors, self.divisor = vectors, divisor
        self.factors = 1.0 / (torch.linalg.vector_norm(vectors, dim=1).clamp_(min=1e-12) * divisor)  # (n,)

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, part: slice) -> Tensor:
        return self.vectors[part] * self.factors[part].unsqueeze(1)

    def to_vectors_(self, gradient: Tensor, size: int) -> Tensor:
        """Turn the gradient of what was made, (n, d), into that of the vectors, in place; the gradient of the divisor."""
        to_divisor = gradient.new_zeros(())
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            made = self[part]
            inner = (made * gradient[part]).sum(dim=1, keepdim=True)
            to_divisor -= inner.sum() / self.divisor
            gradient[part].sub_(made.mul_(inner * self.divisor**2)).mul_(self.factors[part].unsqueeze(1))
        return to_divisor


def _logits(
    rows: Tensor | _Units, columns: Tensor | _Units, both: bool, size: int, groups: Tensor | None
) -> Iterator[tuple[slice, slice, Tensor, bool]]:
    """Yield each tile of ``rows @ columns.T`` with its place, and whether its columns are anchors as well.

    If `columns` is `rows`, entries on the diagonal are left out (-inf) and the half below it is not computed: a tile
    above the diagonal serves as its own mirror image through its columns. Entries off the diagonal of rows and columns
    of one group are left out too.
    """
    same = columns is rows
    for i in range(0, len(rows), size):
        for j in range(i if same else 0, len(columns), size):
            r, c = slice(i, min(i + size, len(rows))), slice(j, min(j + size, len(columns)))
            tile = rows[r] @ columns[c].T
            if same and i == j:
                tile.fill_diagonal_(-torch.inf)
            if groups is not None:
                out = groups[r].unsqueeze(1) == groups[c]
                _diagonal(out, r, c, 0)[0].fill_(False)
                tile.masked_fill_(out, -torch.inf)
            yield r, c, tile, both and not (same and i == j)


class _Anchors:
    """Per anchor: its positive logit, and a running maximum and total with ``logsumexp = maximum + log(total)``."""

    def __init__(self, length: int, like: Tensor, positive: Tensor | None) -> None:
        if positive is None:
            # A finite start: a tile that is all -inf must not produce inf - inf.
            self.maximum = like.new_full((length,), torch.finfo(like.dtype).min)
            self.total, self.positive = like.new_zeros(length), like.new_zeros(length)
        else:
            self.maximum, self.total, self.positive = positive.clone(), torch.ones_like(positive), positive
        self.spread = torch.zeros_like(self.total)  # total of the logits, where they share the positive's target

    def add(self, tile: Tensor, part: slice, dim: int) -> None:
        old = self.maximum[part]
        new = torch.maximum(old, tile.amax(dim))
        self.total[part] = self.total[part] * (old - new).exp_() + (tile - new.unsqueeze(dim)).exp_().sum(dim)
        self.maximum[part] = new

    def losses(self, smoothing: float, candidates: int | Tensor) -> Tensor:
        target = (1 - smoothing) * self.positive + smoothing * self.spread / candidates
        return self.total.log() + (self.maximum - target)


def _weights(tile: Tensor, maximum: Tensor, scale: Tensor, dim: int, out: Tensor | None = None) -> Tensor:
    """Softmax probabilities of a tile, each anchor's multiplied by its incoming gradient."""
    return torch.sub(tile, maximum.unsqueeze(dim), out=out).exp_().mul_(scale.unsqueeze(dim))


def _candidates(groups: Tensor | None, n: int, dtype: torch.dtype) -> int | Tensor:
    """How many of n candidates each anchor has: its own and those of other groups."""
    if groups is None:
        return n
    _, whose, sizes = groups.unique(return_inverse=True, return_counts=True)
    return (n + 1 - sizes[whose]).to(dtype)


def _sides(rows: Tensor, columns: Tensor | None, temperature: Tensor | None) -> tuple[Tensor | _Units, Tensor | _Units]:
    """What the logits are inner products of."""
    if temperature is not None and columns is not None:
        return _Units(rows, temperature), _Units(columns)
    return rows, rows if columns is None else columns


class _TiledInfoNCE(torch.autograd.Function):
    """``logsumexp of the anchor's logits - its positive logit`` for every row, then for every column if `both`.

    `columns=None` stands for `rows` without the diagonal. The positives are the entries on the diagonals `offsets`, or
    the extra logits `positive`, or absent (0). Logits are inner products: callers divide by the temperature. With
    `temperature` given they are cosines over it, of `rows` and `columns` on one diagonal, in both directions; a share
    `smoothing` of each positive is then spread over all candidates, and those that share the anchor's number in `groups`
    are none, its positive excepted.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,  # (n, d)
        columns: Tensor | None,  # (m, d)
        positive: Tensor | None,  # (n,)
        offsets: tuple[int, ...],
        both: bool,
        size: int,
        temperature: Tensor | None,
        smoothing: float,
        groups: Tensor | None,  # (n,)
    ) -> Tensor:
        first, second = _sides(rows, columns, temperature)
        anchors = _Anchors(len(rows), rows, positive)
        column_anchors = anchors if columns is None else _Anchors(len(columns), rows, None)
        with torch.autocast(rows.device.type, enabled=False):
            for r, c, tile, columns_too in _logits(first, second, both, size, groups):
                for offset in offsets:
                    entries, i, j = _diagonal(tile, r, c, offset)
                    anchors.positive[i] = entries
                    if columns_too:
                        column_anchors.positive[j] = entries
                if smoothing:
                    finite = tile if groups is None else tile.masked_fill(tile.isneginf(), 0.0)
                    anchors.spread[r] += finite.sum(dim=1)
                    column_anchors.spread[c] += finite.sum(dim=0)
                anchors.add(tile, r, dim=1)
                if columns_too:
                    column_anchors.add(tile, c, dim=0)
        ctx.save_for_backward(
            rows, columns, positive, anchors.maximum, anchors.total, column_anchors.maximum, column_anchors.total,
            temperature, groups,
        )  # fmt: skip
        ctx.offsets, ctx.both, ctx.size, ctx.smoothing = offsets, both, size, smoothing
        candidates = _candidates(groups, len(rows), rows.dtype)
        if both and columns is not None:
            return torch.cat([each.losses(smoothing, candidates) for each in (anchors, column_anchors)])
        return anchors.losses(smoothing, candidates)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, positive, maximum, total, column_maximum, column_total, temperature, groups = ctx.saved_tensors
        first, second = _sides(rows, columns, temperature)
        n = len(rows)
        g = gradient[:n]
        g_column = gradient[n:] if ctx.both and columns is not None else g
        to_rows = torch.zeros_like(rows) if ctx.needs_input_grad[0] or ctx.needs_input_grad[6] else None
        to_other = to_rows
        if columns is not None:
            to_other = torch.zeros_like(columns) if ctx.needs_input_grad[1] else None
        spread = ctx.smoothing / _candidates(
            groups, n, rows.dtype
        )  # of each anchor's gradient, to each of its candidates
        g_spread, g_column_spread = spread * g, spread * g_column
        with torch.autocast(rows.device.type, enabled=False):
            for r, c, tile, columns_too in _logits(first, second, ctx.both, ctx.size, groups):
                kept = None if groups is None else ~tile.isneginf()
                weights = _weights(tile, maximum[r], g[r] / total[r], dim=1)
                if columns_too:
                    weights += _weights(tile, column_maximum[c], g_column[c] / column_total[c], dim=0, out=tile)
                for offset in ctx.offsets:
                    entries, i, j = _diagonal(weights, r, c, offset)
                    entries -= (1 - ctx.smoothing) * (g[i] + g_column[j] if columns_too else g[i])
                if ctx.smoothing:
                    share = g_spread[r].unsqueeze(1) + g_column_spread[c]
                    weights -= share if kept is None else share * kept
                if to_rows is not None:
                    to_rows[r].addmm_(weights, second[c])
                if to_other is not None:
                    to_other[c].addmm_(weights.T, first[r])
        to_temperature = None
        if isinstance(first, _Units) and isinstance(second, _Units):
            if to_other is not None:
                second.to_vectors_(to_other, ctx.size)
            if to_rows is not None:
                to_temperature = first.to_vectors_(to_rows, ctx.size)
        to_positive = None if positive is None else g * ((positive - maximum).exp() / total - 1)
        return to_rows, None if columns is None else to_other, to_positive, None, None, None, to_temperature, None, None


def _matrix(name: str, vectors: Tensor) -> Tensor:
    if vectors.ndim != 2 or not vectors.is_floating_point():
        raise ValueError(f"{name} must be a floating-point (n, d) matrix, got {vectors.dtype} {tuple(vectors.shape)}")
    return vectors if vectors.dtype == torch.float64 else vectors.float()


def _tile_size(tile: int | None, device: torch.device) -> int:
    if tile is None:
        return 512 if device.type == "cpu" else 4096  # what stays in a CPU's cache; what fills a GPU
    if tile < 1:
        raise ValueError(f"tile must be at least 1, got {tile}")
    return tile


def _whole_matrix(
    queries: Tensor, keys: Tensor | None, negatives: Tensor | None, temperature: float | Tensor, symmetric: bool
) -> Tensor:
    """The plain formula: where all similarities are one tile, cutting them into tiles only costs."""
    with torch.autocast(queries.device.type, enabled=False):
        n, queries = len(queries), queries / temperature if keys is not None else queries * temperature**-0.5
        own = torch.arange(n, device=queries.device)
        if keys is None:
            return cross_entropy((queries @ queries.T).fill_diagonal_(-torch.inf), own.roll(n // 2), reduction="none")
        if negatives is not None:
            logits = torch.cat([(queries * keys).sum(dim=1, keepdim=True), queries @ negatives.T], dim=1)
            return cross_entropy(logits, torch.zeros_like(own), reduction="none")
        logits = queries @ keys.T
        losses = [
            cross_entropy(each, own, reduction="none") for each in ((logits, logits.T) if symmetric else (logits,))
        ]
        return torch.cat(losses)


def _require_temperature(temperature: float | Tensor) -> None:
    if isinstance(temperature, Tensor) and temperature.numel() != 1:
        raise ValueError(f"temperature must be a number or a scalar tensor, got shape {tuple(temperature.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {float(temperature)}")


def info_nce_losses(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "n d"] | None = None,
    *,
    temperature: float | Tensor,
    negatives: Float[Tensor, "m d"] | None = None,
    symmetric: bool = False,
    tile: int | None = None,
) -> Float[Tensor, " anchors"]:
    """Return each anchor's InfoNCE loss without storing the similarity matrix.

    ``loss_i = logsumexp_j(s_ij / temperature) - s_i,positive / temperature``, s the inner products of the vectors as
    they come (normalise them for cosine). Which candidates j an anchor sees:

    * ``keys`` given: query i's positive is key i, its negatives all other keys. With ``symmetric`` the keys are anchors
      too, from the same tiles: n query losses, then n key losses.
    * ``keys`` and ``negatives``: query i's positive is key i, its negatives the rows of ``negatives`` alone (a queue).
    * ``keys`` left out: the two views of image i are rows i and n/2 + i of ``queries``; each row's positive is its
      other view, its negatives all remaining rows (NT-Xent).

    Parameters
    ----------
    queries, keys : (n, d); half precision is computed in float32, under autocast too.
    temperature : above 0; a float or a scalar tensor, which receives a gradient.
    negatives : (m, d).
    symmetric : see above.
    tile : side of a tile; the default is 512 on a CPU and 4096 elsewhere. It does not change the result.

    Returns
    -------
    (n,) losses, or (2n,) with ``symmetric``. Take the mean for the usual loss. First derivatives only, where there is more
    than one tile.

    Raises
    ------
    ValueError
        Shapes that do not match, fewer than two candidates, a temperature or tile out of range, ``symmetric`` with
        ``negatives`` or without ``keys``.

    References
    ----------
    van den Oord et al. 2018, arXiv:1807.03748; Chen et al. 2020, arXiv:2002.05709; He et al. 2020, arXiv:1911.05722.

    Examples
    --------
    >>> import torch
    >>> eye = torch.eye(3)
    >>> info_nce_losses(eye, eye, temperature=1.0)  # log(e + 2) - 1
    tensor([0.5514, 0.5514, 0.5514])
    """
    _require_temperature(temperature)
    queries = _matrix("queries", queries)
    n, d = queries.shape
    size = _tile_size(tile, queries.device)
    if keys is None:
        if symmetric or negatives is not None:
            raise ValueError("symmetric and negatives need keys, got keys=None")
        if n < 4 or n % 2:
            raise ValueError(f"queries without keys must be two views of at least 2 items, got {n} rows")
        if n <= size:
            return _whole_matrix(queries, None, None, temperature, False)
        return _TiledInfoNCE.apply(
            queries * temperature**-0.5, None, None, (n // 2, -(n // 2)), True, size, None, 0.0, None
        )

    keys = _matrix("keys", keys)
    if keys.shape != queries.shape:
        raise ValueError(f"keys must have the shape of queries {tuple(queries.shape)}, got {tuple(keys.shape)}")
    if negatives is None:
        if n < 2:
            raise ValueError(f"queries must have at least 2 rows to have negatives, got {n}")
        if n <= size:
            return _whole_matrix(queries, keys, None, temperature, symmetric)
        return _TiledInfoNCE.apply(queries / temperature, keys, None, (0,), symmetric, size, None, 0.0, None)
    if symmetric:
        raise ValueError("symmetric must be False with negatives: the keys of a queue have no queries")
    negatives = _matrix("negatives", negatives)
    if len(negatives) < 1 or negatives.shape[1] != d:
        raise ValueError(f"negatives must be (m >= 1, {d}), got {tuple(negatives.shape)}")
    if max(n, len(negatives)) <= size:
        return _whole_matrix(queries, keys, negatives, temperature, False)
    queries = queries / temperature
    return _TiledInfoNCE.apply(queries, negatives, (queries * keys).sum(dim=1), (), False, size, None, 0.0, None)


def cosine_pair_losses(
    first: Float[Tensor, "n d"],
    second: Float[Tensor, "n d"],
    *,
    temperature: float | Tensor,
    label_smoothing: float = 0.0,
    groups: Int[Tensor, " n"] | None = None,
    tile: int | None = None,
) -> Float[Tensor, " 2n"]:
    """Return the InfoNCE loss of both vectors of each pair, by cosines, with neither their matrix nor unit vectors stored.

    With cosines s_ij of vector i of one side and j of the other over the temperature, and label smoothing e,

        loss_i = logsumexp_j s_ij - (1 - e) s_ii - e mean_j s_ij

    for each i of `first`, then for each of `second`. Memory beyond the inputs' gradients is a few tiles.

    Parameters
    ----------
    first, second : (n >= 2, d), of any length; half precision is computed in float32, under autocast too.
    temperature : above 0; a float or a scalar tensor, which receives a gradient.
    label_smoothing : share of the target that is spread over all candidates, in [0, 1).
    groups : (n,) integers; other pairs with the number of an anchor's pair are no candidates of it, such as equal texts.
    tile : as in `info_nce_losses`.

    Returns
    -------
    (2n,) losses. First derivatives only.

    Raises
    ------
    ValueError
        Shapes that differ, a single pair, a temperature, smoothing or tile out of range, groups that are not (n,) integers.

    Examples
    --------
    >>> import torch
    >>> cosine_pair_losses(2 * torch.eye(2), torch.eye(2), temperature=1.0)  # log(e + 1) - 1
    tensor([0.3133, 0.3133, 0.3133, 0.3133])
    """
    _require_temperature(temperature)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing!r}")
    first, second = _matrix("first", first), _matrix("second", second)
    if first.shape != second.shape or first.dtype != second.dtype:
        raise ValueError(
            f"first and second must be alike, got {first.dtype} {tuple(first.shape)} and "
            f"{second.dtype} {tuple(second.shape)}"
        )
    if len(first) < 2:
        raise ValueError(f"first must have at least 2 rows to have negatives, got {len(first)}")
    if groups is not None and (groups.shape != (len(first),) or groups.is_floating_point()):
        raise ValueError(f"groups must be integers ({len(first)},), got {groups.dtype} {tuple(groups.shape)}")
    divisor = torch.as_tensor(temperature, dtype=first.dtype, device=first.device).reshape(())
    size = _tile_size(tile, first.device)
    return _TiledInfoNCE.apply(first, second, None, (0,), True, size, divisor, label_smoothing, groups)


def pairwise_logsumexp(vectors: Float[Tensor, "n d"], *, tile: int | None = None) -> Float[Tensor, " n"]:
    """Return, for each vector, the logsumexp of its inner products with all others, without storing them.

    Parameters
    ----------
    vectors : (n >= 2, d).
    tile : as in `info_nce_losses`.

    Returns
    -------
    (n,), differentiable once.

    Raises
    ------
    ValueError
        Not a floating-point matrix of at least 2 rows; tile below 1.

    Examples
    --------
    >>> import torch
    >>> pairwise_logsumexp(torch.eye(3))  # two zeros each: log(2)
    tensor([0.6931, 0.6931, 0.6931])
    """
    vectors = _matrix("vectors", vectors)
    if len(vectors) < 2:
        raise ValueError(f"vectors must have at least 2 rows, got {len(vectors)}")
    return _TiledInfoNCE.apply(vectors, None, None, (), True, _tile_size(tile, vectors.device), None, 0.0, None)
