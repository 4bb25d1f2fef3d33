"""Memory that a step gives back is kept for the next one.

On Linux, glibc fetches a tensor of 32 MiB or more from the system and hands it back when it is freed. Each step then
waits while the system clears pages that the process had a moment ago (train/LOG.md has what that costs). A process
keeps its peak instead of falling below it between steps, where nobody else could use it for long. GPUs have an
allocator of their own.
"""

import ctypes

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep freed memory; returns whether its C library can (glibc)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(threshold, _MOST) == 1 for threshold in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)])
