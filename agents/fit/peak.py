"""How much memory a process comes to hold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

_SECONDS = 1.0
"""Time between two looks; each takes a few milliseconds."""


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """Watches this process's memory: its own, and its share of what it shares (PSS; USS where the system has no PSS).

    So the sums of several processes count a page once, such as those of pictures that all of them have mapped.

    Yields:
        A function that returns the most that was held so far, in GiB.
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
