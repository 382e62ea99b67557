"""A step that is recorded once and then replayed on a GPU, with nothing left for Python to do in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3
"""Calls before the recording, in which libraries choose their kernels and take their memory."""


class Recorded:
    """Calls a function of tensors by replaying a CUDA graph of its first call.

    Launching the few hundred kernels of a step one by one takes Python milliseconds, whatever the batch; a graph is one
    launch. Results are copies: later calls leave them alone.

    Args:
        function: Maps tensors on a GPU to a tuple of dictionaries or named tuples of tensors there. It changes none of
            its inputs, draws no random numbers, and never waits for the device.
    """

    def __init__(self, function: Callable[..., tuple[Any, ...]]) -> None:
        self.function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._outputs: tuple[Any, ...] = ()

    def __call__(self, *inputs: Tensor) -> tuple[Any, ...]:
        """Calls the function; shapes, types and device of the inputs are those of the first call."""
        if self._graph is None:
            with torch.cuda.device(inputs[0].device):
                self._record(inputs)
        assert self._graph is not None
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return tuple(_copy(group) for group in self._outputs)

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [given.clone() for given in inputs]
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            self._outputs = self.function(*self._inputs)
        self._graph = graph


def _copy(group: Any) -> Any:
    if isinstance(group, dict):
        return {name: part.clone() for name, part in group.items()}
    return type(group)(*(part.clone() for part in group))
