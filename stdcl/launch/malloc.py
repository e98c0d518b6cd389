"""Tune glibc malloc to reuse freed training buffers.

A training step frees and takes the same few hundred megabytes again. By default glibc hands large blocks back to the
system at once, and every step then pays for some ten thousand page faults: about a tenth of its time on a CPU.
"""

from __future__ import annotations

import ctypes
import gc

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4

_MOST = 2**31 - 1
_PAD = 128 * 2**20
"""More than a thread's heap, so that an empty heap is kept, too."""


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next use; return whether the C library knows how.

    Resident memory then stays at its peak until the process ends. C libraries other than glibc are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _MOST), (_M_TOP_PAD, _PAD))
    return all(mallopt(name, value) == 1 for name, value in settings)


def forget_freed_memory() -> None:
    """Give what a training has freed back to the system, so that the next one's peak is its own."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
