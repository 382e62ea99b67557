"""What torch's process-wide settings must not change: numbers and devices of models, policies and environments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

Given = ParamSpec("Given")
Result = TypeVar("Result")


def standard() -> AbstractContextManager:
    """Gives a context of float32, tensors on the CPU unless told otherwise, no autocast, no inference mode.

    It costs a microsecond where nothing differs from that. Gradients are left as they are.
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
            stack.enter_context(torch.inference_mode(False))  # its tensors could not be used outside
            stack.enter_context(torch.no_grad())
        if torch.get_default_device().type != "cpu":  # the context costs every call of torch some microseconds
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
    """Has a function run in the `standard` context, for example the `step` of an environment."""

    @wraps(function)
    def inside(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with standard():
            return function(*args, **kwargs)

    return inside


def check_device(device: str | torch.device, name: str = "device") -> torch.device:
    """Returns a device that this machine has.

    Raises:
        ValueError: If it names none, or one that is not there.
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
