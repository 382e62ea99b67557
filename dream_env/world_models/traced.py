"""Runs functions of tensors as TorchScript traces, which are recorded once per combination of input shapes."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

RECURRING = 8
"""Number of calls with the same shapes before a trace is recorded; recording takes as long as about fifty calls."""
SHAPES = 16
"""Largest number of shape combinations for which one function is recorded."""

_lock = threading.Lock()


class Traced:
    """Wraps a function of tensors, and calls its TorchScript trace on a CPU once one was recorded.

    A trace runs no Python between the kernels. That halves the time of a step of a single rollout, and leaves the
    Python interpreter free for other threads meanwhile. Its results are those of the function, bit for bit.

    Args:
        function: Maps tensors to a tensor or a tuple of tensors. Anything else that it reads, such as weights, must
            never change, and its control flow may depend only on the shapes of the inputs.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._calls: dict[Any, int] = {}
        self._recorded: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        """Calls the trace; with gradients, under autocast or on other devices, calls the function itself."""
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
        """Drops the traces when the object is copied or pickled, because the weights of the copy may change."""
        return {"function": self.function, "_calls": {}, "_recorded": {}}


def _record(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings that TorchScript is deprecated, and that shapes become constants
        try:
            trace = torch.jit.trace(lambda *given: function(*given), inputs, check_trace=False)  # no bound methods
        except (AttributeError, RuntimeError):  # torch plans to remove TorchScript; trainable weights have no trace
            return function

    def replay(*given: Tensor) -> Any:
        with torch.jit.optimized_execution(False):  # optimizations save little, and change the last bits
            return trace(*given)

    return replay


class Traceable:
    """A world model whose networks are functions of tensors only, so that they can be traced and compiled."""

    PURE: tuple[str, ...]
    """Names of the methods that map tensors to tensors."""

    def compiled(self) -> Any:
        """Returns a model with the same weights whose pure methods run through `torch.compile`.

        The first call of each method takes up to a minute and needs a C++ compiler (Triton on a GPU); torch caches the
        result. Predictions differ from those of the plain model in the last bits.
        """
        return self._with(torch.compile)

    def traced(self) -> Any:
        """Returns a model with the same weights that is faster on small batches, see `Traced`.

        The weights must not be changed afterwards.
        """
        return self._with(Traced)

    def _with(self, how: Callable[[Any], Any]) -> Any:
        """Returns a model with the same weights whose pure methods are wrapped by `how`."""
        model = copy.copy(self)
        for name in self.PURE:
            vars(model).pop(name, None)
            setattr(model, name, how(getattr(model, name)))
        return model
