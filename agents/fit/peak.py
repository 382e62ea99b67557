"""How much memory a process comes to hold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SECONDS = 1.0
"""Time between two looks; each takes a few milliseconds."""


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """Watches this process's memory: its own, and its share of what it shares (PSS: proc(5), smaps_rollup).

    So the sums of several processes count a page once, such as those of pictures that all of them have mapped.

    Yields:
        A function that returns the most that was held so far, in GiB; 0 where the system does not tell.
    """
    most, over = 0.0, threading.Event()

    def look() -> float:
        nonlocal most
        most = max(most, _held())
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


def _held() -> float:
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.is_file():
        return 0.0
    (kib,) = (line.split()[1] for line in rollup.read_text().splitlines() if line.startswith("Pss:"))
    return int(kib) / 2**20
