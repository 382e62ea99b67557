"""Batches in chunks that stay in a processor's cache, shared among threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Elements worked on at a time on a CPU: more leave its cache, and are slower."""
FEWEST = 32
"""Elements that are worth a thread."""


def threads() -> int:
    """Returns how many threads share a batch on the CPU: `DREAM_ENV_THREADS`, or one for every core."""
    if given := os.environ.get("DREAM_ENV_THREADS"):
        if not given.isdecimal() or not int(given):
            raise ValueError(f"DREAM_ENV_THREADS={given}; accepted: a whole number from 1 on")
        return int(given)
    return len(os.sched_getaffinity(0))


def chunked(function: Callable[..., Any], *inputs: Tensor) -> Any:
    """Calls a function on a batch, `(B, ...)` each; on a CPU in chunks, by several threads.

    Threads of torch itself meet after every layer, which costs more than layers of this size take; these meet once.

    Args:
        function: Maps tensors `(B, ...)` to a tensor or to a tuple of tensors `(B, ...)`, each element on its own.
        inputs: Its arguments.

    Returns:
        What the function returns for the whole batch.
    """
    if inputs[0].device.type != "cpu" or len(inputs[0]) <= FEWEST:
        return function(*inputs)
    sharing = 1 if torch.is_grad_enabled() else threads()
    chunk = min(CHUNK, max(FEWEST, -(-len(inputs[0]) // sharing)))
    chunks = list(zip(*(x.split(chunk) for x in inputs), strict=True))
    if len(chunks) == 1:
        return function(*inputs)
    if sharing == 1:
        parts = [function(*some) for some in chunks]
    else:
        settings = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        parts = list(_pool(sharing).map(lambda some: _inferred(function, some, *settings), chunks))
    if isinstance(parts[0], tuple):
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))
    return torch.cat(parts)


@torch.inference_mode()
def _inferred(function: Callable[..., Any], inputs: tuple[Tensor, ...], halved: bool, dtype: torch.dtype) -> Any:
    """Calls a function in another thread, where modes of torch have to be entered anew."""
    with torch.autocast("cpu", dtype) if halved else nullcontext():
        return function(*inputs)


@lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "dream", initializer=torch.set_num_threads, initargs=(1,))


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
