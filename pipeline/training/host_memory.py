"""How a process that trains on CPUs keeps its memory."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Numbers of glibc's settings, from its malloc.h."""


def keep_freed_memory() -> None:
    """Let the allocator keep what a step frees for the next step, instead of returning it to the system.

    Activations of a step are large, so glibc maps and unmaps them one by one, and the system clears every
    page anew. Kept, a step spends no time on that; the process holds its peak. Other C libraries are left as
    they are.

    Source: mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 << 20)
