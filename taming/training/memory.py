"""Memory that a step frees stays with the process, for the next step to use.

glibc returns large blocks to the system at once, and every step gets them back page by page, each
filled with zeros first: on a processor a tenth of a step of the first stage, a fifth of one of the
second. Other allocators are left alone. Peaks do not change; what is kept between them does.
Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import platform

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Whether freed memory is kept from now on, for as long as the process lives."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Blocks from the heap alone, which shrinks no more.
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, NEVER))
