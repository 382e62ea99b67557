"""Runs a function on a large batch in cache-sized chunks that are spread over threads."""

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
"""Largest chunk on a CPU, in batch elements: larger chunks do not fit into the cache and are slower."""
FEWEST = 32
"""Smallest chunk for which a thread pays off, in batch elements."""


def threads() -> int:
    """Returns the number of threads that share a batch on the CPU: `DREAM_ENV_THREADS`, or one per available core."""
    if given := os.environ.get("DREAM_ENV_THREADS"):
        if not given.isdecimal() or not int(given):
            raise ValueError(f"DREAM_ENV_THREADS={given}; accepted: a whole number from 1 on")
        return int(given)
    return len(os.sched_getaffinity(0))


def chunked(function: Callable[..., Any], *inputs: Tensor) -> Any:
    """Calls a function on batched inputs; on a CPU the batch is split into chunks that run in several threads.

    torch's own threads synchronize after every layer, which costs more than layers of this size take. The threads
    here synchronize only once, at the end. While gradients are enabled, all chunks run in the calling thread.

    Args:
        function: Maps tensors `(B, ...)` to a tensor or a tuple of tensors `(B, ...)`; each batch element must be
            computed independently of the others.
        inputs: Its arguments, `(B, ...)` each.

    Returns:
        The function's result for the whole batch.
    """
    if inputs[0].device.type != "cpu" or len(inputs[0]) <= FEWEST:
        return function(*inputs)
    sharing = 1 if torch.is_grad_enabled() else threads()
    chunk = min(CHUNK, max(FEWEST, -(-len(inputs[0]) // sharing)))
    chunks = list(zip(*(x.split(chunk) for x in inputs), strict=True))
    if len(chunks) == 1:
        return function(*inputs)
    if sharing == 1:
        parts = [function(*piece) for piece in chunks]
    else:
        settings = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        parts = list(_pool(sharing).map(lambda piece: _inferred(function, piece, *settings), chunks))
    if isinstance(parts[0], tuple):
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))
    return torch.cat(parts)


@torch.inference_mode()
def _inferred(function: Callable[..., Any], inputs: tuple[Tensor, ...], halved: bool, dtype: torch.dtype) -> Any:
    """Calls a function in a worker thread, where torch's inference mode and autocast must be entered again."""
    with torch.autocast("cpu", dtype) if halved else nullcontext():
        return function(*inputs)


@lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "dream", initializer=torch.set_num_threads, initargs=(1,))


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
