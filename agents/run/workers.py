"""Runs independent work items, such as episodes, on all cores of this machine or of a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Workers = int | Literal["ray"] | None
"""Number of processes on this machine (None: one per core), or "ray" for all cores of a Ray cluster."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "DREAM_ENV_THREADS": "1"}
"""Environment variables that limit torch and batched dreams to one thread."""


def imap(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: Workers = None,
    *,
    ordered: bool = False,
    initializer: Callable[[], object] | None = None,
) -> Generator[Result, None, None]:
    """Maps a function over items in worker processes with one thread each.

    Workers are spawned, not forked, because physics clients and torch's threads do not survive a fork. To create an
    object once per worker (an environment, a policy), call a function with `functools.lru_cache` from `function`.
    After Ctrl-C or an error, workers finish their current item. If this process is killed, they end immediately.

    Args:
        function: A function at the top level of a module, so that it can be pickled.
        items: Items to map over.
        workers: See `Workers`; 1 runs everything in this process.
        ordered: Yields results in the order of the items instead of the order of completion.
        initializer: Called once in every worker before its first item.

    Yields:
        The results.

    Raises:
        ValueError: If `workers` is not positive.
        BrokenProcessPool: If a worker died, for example because memory ran out.
        ImportError: If `workers` is "ray" and Ray is not installed.
    """
    if workers == "ray":
        yield from _on_cluster(function, items, ordered, initializer)
        return
    workers = min(cores() if workers is None else workers, max(len(items), 1))
    if workers < 1:
        raise ValueError(f"workers={workers}; accepted: 1 or more")
    if workers == 1:
        if initializer is not None:
            initializer()
        yield from map(function, items)
        return
    # Workers read these variables when they import torch. More threads per worker would compete for the cores.
    with variables(**_ONE_THREAD):
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(workers, context, _start, (initializer,))
        try:
            with _no_interrupts():  # a worker that is still starting does not ignore Ctrl-C yet
                futures = [executor.submit(function, item) for item in items]
            for future in futures if ordered else as_completed(futures):
                yield future.result()
        finally:
            executor.shutdown(cancel_futures=True)


def cores() -> int:
    """Returns the number of cores that this process may use; in a container often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def variables(**values: str) -> Iterator[None]:
    """Sets environment variables within this context."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start(initializer: Callable[[], object] | None) -> None:
    """Prepares a worker: it ignores Ctrl-C, which the parent handles, and ends when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_parent()
    if initializer is not None:
        initializer()


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Blocks Ctrl-C within this context; processes started in it inherit the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """Ends this process as soon as its parent ends, even by SIGKILL."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


# --- on a cluster


def _on_cluster(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    ordered: bool,
    initializer: Callable[[], object] | None,
) -> Generator[Result, None, None]:
    """Maps over items in Ray tasks of one core each, on the cluster that Ray finds, or on a local one if there is none.

    Ray repeats the tasks of a machine that is lost. Every machine needs this package installed, and the current folder
    at the same path.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError('--ray needs Ray: pip install -c constraints.txt -e ".[ray]"') from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(ignore_reinit_error=True)
    task = ray.remote(num_cpus=1)(_task)
    started = (task.remote(function, item, initializer, os.getcwd()) for item in items)
    running = list(islice(started, 2 * int(ray.cluster_resources()["CPU"])))
    while running:
        done = running[0] if ordered else ray.wait(running)[0][0]
        running.remove(done)
        yield ray.get(done)
        running += islice(started, 1)


def _task(function: Callable[[Item], Result], item: Item, initializer: Callable[[], Any] | None, folder: str) -> Result:
    """Runs one item in a Ray worker. Workers keep their caches from one task to the next."""
    os.chdir(folder)
    os.environ.update(_ONE_THREAD)
    _once(initializer)
    return function(item)


@lru_cache
def _once(initializer: Callable[[], Any] | None) -> None:
    if initializer is not None:
        initializer()
