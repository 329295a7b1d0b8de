"""Keep the memory of freed tensors from one step to the next, and give it back when the training is over."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

LARGE_BATCH = 4 * 2**20  # bytes as the source holds them
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt's parameters in glibc
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}


@contextmanager
def freed_memory_kept(batch_bytes: int) -> Iterator[None]:
    """Inside, glibc reuses freed blocks instead of returning them to the system; nothing elsewhere, nor for large batches.

    By default every tensor of 32 MiB and more is mapped afresh and its pages fault in again at each step: with the
    small-image resnet18 at batch 256 that is a tenth of the time. What was freed before goes back to the system at the
    beginning, and at the end all that is free. Kept blocks leave holes between them, which for a batch of 256 images of 96
    pixels take some 350 MB: batches above 4 MiB are left to the default.
    """
    if platform.libc_ver()[0] != "glibc" or batch_bytes > LARGE_BATCH:
        yield
        return
    give_back()
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        for parameter, value in _DEFAULTS.items():
            libc.mallopt(parameter, value)
        give_back()


def give_back() -> None:
    """Return to the system what glibc holds of freed memory between blocks in use; nothing elsewhere."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
