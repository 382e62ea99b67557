"""Records a function of tensors as a CUDA graph on its first call and replays it on later calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3
"""Calls before the recording, in which libraries select kernels and allocate memory."""


class Recorded:
    """Wraps a function of tensors: the first call records a CUDA graph, every call replays it.

    Launching the few hundred kernels of a step one by one costs milliseconds in Python at any batch size; replaying a
    graph is a single launch. The results are copies, so later calls do not overwrite them.

    Args:
        function: Maps GPU tensors to a tuple of dicts or named tuples of GPU tensors. It must not modify its inputs,
            draw random numbers, or synchronize with the device.
    """

    def __init__(self, function: Callable[..., tuple[Any, ...]]) -> None:
        self.function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._outputs: tuple[Any, ...] = ()

    def __call__(self, *inputs: Tensor) -> tuple[Any, ...]:
        """Calls the function; the inputs must have the shapes, dtypes and device of the first call."""
        if self._graph is None:
            with torch.cuda.device(inputs[0].device):
                self._record(inputs)
        assert self._graph is not None
        for buffer, given in zip(self._inputs, inputs, strict=True):
            buffer.copy_(given)
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
