"""Memory that is freed at every layer and taken again at the next: kept by the process, not given back."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import lru_cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Names of glibc's settings, from its malloc.h."""
_MIB = 1 << 20


@lru_cache
def keep_freed_memory() -> bool:
    """Tells glibc, once per process, to keep what is freed instead of returning it to the system.

    Tensors of some megabytes come and go at every layer of a batch. By default glibc returns such blocks at once, and
    the kernel hands every page out anew, filled with zeros: a tenth to a fifth of the time of a dream on a CPU. What
    was once needed stays with the process, up to 1 GiB. Nothing is done where the environment has settings of its own
    (`MALLOC_...`, `GLIBC_TUNABLES`, `LD_PRELOAD`), or without glibc.

    Returns:
        Whether it was told.
    """
    own = any(name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD") for name in os.environ)
    if own or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_MMAP_THRESHOLD: 32 * _MIB, _TRIM_THRESHOLD: 1024 * _MIB, _TOP_PAD: 64 * _MIB}
    return all([mallopt(name, value) for name, value in settings.items()])
