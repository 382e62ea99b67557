"""Keeps torch's process-wide settings (default dtype, device, autocast) from affecting models and environments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial, wraps
from typing import ParamSpec, TypeVar

import torch

Given = ParamSpec("Given")
Result = TypeVar("Result")


def standard() -> AbstractContextManager:
    """Returns a context with torch's standard settings: float32, CPU as the default device, no autocast.

    Inference mode is replaced by `no_grad`; otherwise the gradient mode is left as it is. If the settings are standard
    already, the context costs about a microsecond.
    """
    plain = (
        torch.get_default_dtype() is torch.float32
        and torch.get_default_device().type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.is_autocast_enabled("cuda")
        and not torch.is_inference_mode_enabled()
    )
    return nullcontext() if plain else _standard()


@contextmanager
def _standard() -> Iterator[None]:
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))  # inference tensors could not be used outside of it
            stack.enter_context(torch.no_grad())
        if torch.get_default_device().type != "cpu":  # a device context costs every torch call some microseconds
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def insulated(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Decorates a function to run in the `standard` context, for example the `step` of an environment."""

    @wraps(function)
    def inside(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with standard():
            return function(*args, **kwargs)

    return inside


def check_device(device: str | torch.device, name: str = "device") -> torch.device:
    """Returns the torch device, after checking that it exists on this machine.

    Args:
        device: 'cpu', 'cuda' or 'cuda:N'.
        name: Name of the argument, for error messages.

    Raises:
        ValueError: If it is not the name of a device, or the device does not exist.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{name}={device!r}; accepted: 'cpu', 'cuda' or 'cuda:N'") from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"{name}={str(device)!r}; accepted: 'cpu', 'cuda' or 'cuda:N'")
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ValueError(f"{name}={str(device)!r}: torch finds no GPU on this machine; accepted here: 'cpu'")
        if (found.index or 0) >= count:
            raise ValueError(
                f"{name}={str(device)!r}: torch finds {count} GPUs; accepted: 'cuda:0' to 'cuda:{count - 1}'"
            )
    return found


# Threads do not survive a fork, as `AsyncVectorEnv` makes one: a forked process would wait for those of torch forever.
os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
