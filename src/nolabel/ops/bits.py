"""Binary codes as bytes: eight bits in each."""

from typing import Any

import numpy as np


def pack_bits(codes: Any) -> np.ndarray:
    """Pack codes, bool (n, bits), into bytes, uint8 (n, bits / 8), the first bit of a code highest in its first byte.

    Raises
    ------
    ValueError
        Not a matrix of bools (or of 0 and 1), or a number of bits that is not a multiple of 8.

    >>> pack_bits([[True] * 2 + [False] * 6]).tolist()
    [[192]]
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] == 0 or codes.shape[1] % 8:
        raise ValueError(f"codes must be (n, bits) with bits a multiple of 8, got shape {codes.shape}")
    if codes.dtype != bool and not np.isin(codes, (0, 1)).all():
        raise ValueError(f"codes must hold bools, or 0 and 1, got other values of {codes.dtype}")
    return np.packbits(codes.astype(bool), axis=1)


def unpack_bits(packed: Any) -> np.ndarray:
    """The codes, bool (n, bits), of bytes from `pack_bits`, uint8 (n, bits / 8).

    Raises
    ------
    ValueError
        Not a matrix of uint8.

    >>> unpack_bits(np.array([[192]], np.uint8)).sum()
    np.int64(2)
    """
    packed = np.asarray(packed)
    if packed.ndim != 2 or packed.dtype != np.uint8:
        raise ValueError(f"packed codes must be uint8 (n, bits / 8), got {packed.dtype} of shape {packed.shape}")
    return np.unpackbits(packed, axis=1).astype(bool)
