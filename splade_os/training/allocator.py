"""Memory that training frees goes back to the system.

glibc keeps what is freed for the next allocation, up to blocks of 32 MB, and the tensors of a
step have another size in every step: holes that nothing fits into pile up beside what is in use
(a step of 380 MB of tensors held 800 MB). Blocks above a fixed bound are given back at once
instead, see `mallopt(3)`; steps take as long as before.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_MMAP_THRESHOLD = -3  # malloc.h
_BYTES = 8 << 20
_CHOSEN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def return_freed_memory() -> bool:
    """Let this process give back every freed block of at least 8 MB.

    Returns:
        Whether it does: not where the C library has no `mallopt`, nor where the environment
        chose something else for it.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _CHOSEN):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, _BYTES))
