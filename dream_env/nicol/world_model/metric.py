"""A learned metric: vectors whose distances tell how many control steps one picture is from another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise

from torch import nn


class MetricHead(nn.Sequential):
    """Maps object states to vectors; Euclidean distances between such vectors are trained to be steps.

    It sees neither instruction nor set-point: what has to be done must be told by the two pictures alone. Regressing
    the distance of embedded states onto the time between them is temporal-distance learning (Hartikainen et al. 2020,
    "Dynamical distance learning"; Park et al. 2024, "Foundation policies with Hilbert representations").

    Args:
        inputs: Length R of an object state, see `dream_env.nicol.world_model.state_estimator`.
        dim: Length M of the vector.
        widths: Widths of the hidden layers.
    """

    def __init__(self, inputs: int, dim: int, widths: Sequence[int]) -> None:
        sizes = [inputs, *widths]
        hidden = [(nn.Linear(size, width), nn.SiLU()) for size, width in pairwise(sizes)]
        super().__init__(*chain.from_iterable(hidden), nn.Linear(sizes[-1], dim))
