"""Measures the peak memory of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

_SECONDS = 1.0
"""Time between two measurements, each of which takes a few milliseconds."""


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """Measures this process's memory in a background thread, as PSS (USS if the system has no PSS).

    PSS counts a process's share of shared pages. The sum over several processes therefore counts a page only once, such
    as those of pictures that all of them have mapped.

    Yields:
        A function that returns the peak so far in GiB.
    """
    process, most, over = psutil.Process(), 0.0, threading.Event()

    def look() -> float:
        nonlocal most
        held = process.memory_full_info()
        most = max(most, getattr(held, "pss", held.uss) / 2**30)
        return most

    def watch() -> None:
        while not over.wait(_SECONDS):
            look()

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        yield look
    finally:
        over.set()
        watcher.join()
