"""Runs independent pieces of work on all cores: collection and evaluation both do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def imap(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None = None,
    *,
    ordered: bool = False,
    initializer: Callable[[], object] | None = None,
) -> Generator[Result, None, None]:
    """Maps a function over items in worker processes, one thread each.

    Workers are spawned, not forked: physics clients and torch's threads do not survive a fork. What
    a worker needs for all of its items (an env, a policy) is best made by a function with
    `functools.lru_cache` that `function` calls. Ctrl-C and errors let the workers finish what they
    have in hand; when this process is killed, they end at once.

    Args:
        function: A function of a module, so that it can be pickled.
        items: What to map over.
        workers: Number of processes, by default one per core; 1 runs everything in this process.
        ordered: Yields results in the order of the items instead of that of their completion.
        initializer: Called once in every worker before its first item.

    Yields:
        The results.

    Raises:
        ValueError: If `workers` is not positive.
        BrokenProcessPool: If a worker died, for example for want of memory.
    """
    workers = min(os.cpu_count() or 1 if workers is None else workers, max(len(items), 1))
    if workers < 1:
        raise ValueError(f"workers={workers}; accepted: 1 or more")
    if workers == 1:
        if initializer is not None:
            initializer()
        yield from map(function, items)
        return
    # Read when a worker imports torch: the threads of several workers would fight for the cores.
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, _start, (initializer,))
    try:
        futures = [executor.submit(function, item) for item in items]
        for future in futures if ordered else as_completed(futures):
            yield future.result()
    finally:
        executor.shutdown(cancel_futures=True)
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads


def _start(initializer: Callable[[], object] | None) -> None:
    """Prepares a worker: the parent alone answers to Ctrl-C, and the worker does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    if initializer is not None:
        initializer()


def _follow_parent() -> None:
    """Ends this process as soon as its parent has ended, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
