"""Singular values and effective rank of tall matrices, in one pass over their rows."""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float64

from nolabel.ops.finite import finite_rows

Matrix = np.ndarray | torch.Tensor
_BLOCK_ROWS = 4096  # 16 MiB in float64 at width 512


def _float64(block: Matrix) -> np.ndarray:
    if isinstance(block, torch.Tensor):
        return block.detach().to("cpu", torch.float64).numpy()
    if block.dtype.kind not in "fiu":
        raise TypeError(f"z must hold real numbers, got dtype {block.dtype}")
    return block.astype(np.float64, copy=False)


def _row_blocks(z: Matrix | Iterable[Matrix]) -> Iterator[np.ndarray]:
    """Cut a matrix, or each block of an iterable of blocks, into float64 blocks of bounded size; check every row."""
    rows, width = 0, None
    for matrix in [z] if isinstance(z, np.ndarray | torch.Tensor) else z:
        if not isinstance(matrix, np.ndarray | torch.Tensor):
            raise TypeError(f"z must be an array, a tensor or an iterable of them, got {type(matrix).__name__}")
        if matrix.ndim != 2:
            raise ValueError(f"z must be 2-D (rows, columns), got shape {tuple(matrix.shape)}")
        if width not in (None, matrix.shape[1]):
            raise ValueError(f"blocks of z must share one width, got {matrix.shape[1]} after {width}")
        width = matrix.shape[1]
        for start in range(0, len(matrix), _BLOCK_ROWS):
            block = _float64(matrix[start : start + _BLOCK_ROWS])
            finite = finite_rows(block)
            if not finite.all():
                raise ValueError(f"row {rows + int(finite.argmin())} of z has non-finite values")
            yield block
            rows += len(block)


def _gram_spectrum(head: np.ndarray, blocks: Iterator[np.ndarray], shift: np.ndarray | None) -> np.ndarray:
    """Singular values from the d x d Gram matrix of `head` and the blocks after it, less their mean if shifted."""
    gram = np.zeros((head.shape[1], head.shape[1]))
    total = np.zeros(head.shape[1])
    rows = 0
    for block in chain([head], blocks):
        if shift is not None:
            block = block - shift
            total += block.sum(axis=0)
        gram += block.T @ block  # NumPy sees one matrix twice and does half the work
        rows += len(block)
    gram -= np.outer(total, total) / rows
    return np.sqrt(np.linalg.eigvalsh(gram)[::-1].clip(min=0))


def singular_values(z: Matrix | Iterable[Matrix], *, center: bool = False) -> Float64[np.ndarray, " m"]:
    """Return the singular values of a matrix, largest first, without holding more than a block of it in float64.

    The Gram matrix of the shorter side is decomposed in float64; with at least as many rows as columns it is summed up
    block by block. Values below about 1e-8 of the largest are noise.

    Parameters
    ----------
    z : (n, d) array, tensor or memory map, or an iterable of row blocks (n_i, d).
    center : subtract the mean row first.

    Returns
    -------
    (min(n, d),) float64.

    Raises
    ------
    ValueError
        Not 2-D, no rows or columns, blocks of different widths, a row with NaN or infinity (named by its number).

    Examples
    --------
    >>> import numpy as np
    >>> singular_values(np.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])).tolist()
    [4.0, 3.0]
    """
    blocks = _row_blocks(z)
    head: list[np.ndarray] = []
    for block in blocks:
        head.append(block)
        if sum(map(len, head)) >= block.shape[1]:
            break
    first = np.concatenate(head) if head else np.empty((0, 0))
    if first.size == 0:
        raise ValueError("z must have at least one row and one column, got an empty matrix")
    # Centring takes off a row before the mean: the difference of two large sums would lose digits.
    shift = first[0].copy() if center else None
    if len(first) >= first.shape[1]:
        return _gram_spectrum(first, blocks, shift)
    if shift is not None:
        first = first - shift
        first -= first.mean(axis=0)
    return np.sqrt(np.linalg.eigvalsh(first @ first.T)[::-1].clip(min=0))


def effective_rank(
    z: Matrix | Iterable[Matrix], *, power: int = 1, epsilon: float = 1e-7, center: bool = False
) -> float:
    """Return the exponential of the entropy of a matrix's normalised singular values: how many directions it uses.

    ``exp(-sum p log p)`` with ``p = s ** power / sum(s ** power) + epsilon``. With the defaults this is RankMe. The
    value lies between 1 and min(n, d) up to epsilon; scaling the matrix or repeating its rows does not change it.

    Parameters
    ----------
    z : (n, d) array, tensor or memory map, or an iterable of row blocks (n_i, d).
    power : 1 for singular values, 2 for the eigenvalues of the covariance.
    epsilon : added to every p, as in the paper; with 0, terms with p = 0 count nothing.
    center : subtract the mean row first; the paper does not.

    Raises
    ------
    ValueError
        As `singular_values`; a matrix of zeros; power not above 0; epsilon below 0.

    References
    ----------
    Roy and Vetterli 2007 (EUSIPCO); Garrido et al. 2023, arXiv:2210.02885.

    Examples
    --------
    >>> import numpy as np
    >>> round(effective_rank(np.eye(8)[:, :4]), 3)
    4.0
    """
    if not power > 0:
        raise ValueError(f"power must be above 0, got {power}")
    if not epsilon >= 0:
        raise ValueError(f"epsilon must be 0 or above, got {epsilon}")
    spectrum = singular_values(z, center=center)
    if spectrum[0] == 0:
        raise ValueError("all rows of z are " + ("equal" if center else "zero") + ": its rank is undefined")
    share = (spectrum / spectrum[0]) ** power  # the largest is 1, so no power can overflow
    share = share / share.sum() + epsilon
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))
