"""Memory of a training process on the CPU."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_memory() -> None:
    """Have the C library keep freed blocks instead of giving them back to the system.

    Activations are blocks of megabytes that come and go with each step; returned and asked for again, every page of them
    costs a fault and is zeroed. Does nothing if the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 1 << 30)
        mallopt(TRIM_THRESHOLD, ctypes.c_int(-1).value)
