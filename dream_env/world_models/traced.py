"""Functions of tensors that are recorded once per shape, and from then on run without Python."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

RECURRING = 8
"""Calls with the same shapes after which recording, which takes as long as some fifty of them, pays."""
SHAPES = 16
"""Combinations of shapes that one function is recorded for."""

_lock = threading.Lock()


class Traced:
    """Calls a function of tensors on a CPU by TorchScript's recording of it, where it has one.

    What falls away is Python between the kernels, and with it half the time of a step of one dream; and other threads
    have the interpreter meanwhile.

    Args:
        function: Maps tensors to a tensor or a tuple of tensors. What else it reads, such as weights, never changes,
            and what it does depends on nothing but the shapes.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._calls: dict[Any, int] = {}
        self._recorded: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        """Calls the function; with gradients, in lower precision and on other devices as it stands."""
        if torch.is_grad_enabled() or inputs[0].device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return self.function(*inputs)
        shapes = tuple(x.shape for x in inputs)
        if (recorded := self._recorded.get(shapes)) is not None:
            return recorded(*inputs)
        self._calls[shapes] = self._calls.get(shapes, 0) + 1
        if self._calls[shapes] >= RECURRING and len(self._recorded) < SHAPES and _lock.acquire(blocking=False):
            try:
                self._recorded[shapes] = _record(self.function, inputs)
            finally:
                _lock.release()
        return self.function(*inputs)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves recordings behind when it is copied or sent to another process: the copy's weights may change."""
        return {"function": self.function, "_calls": {}, "_recorded": {}}


def _record(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
    try:
        trace = torch.jit.trace
    except AttributeError:  # torch means to be rid of TorchScript one day
        return function
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of that, and that shapes are constants, as they are here
        return trace(lambda *given: function(*given), inputs, check_trace=False)  # it takes no bound methods
