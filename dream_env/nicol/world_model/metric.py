"""A learned metric: an embedding whose distances predict the number of control steps between two states."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise

from torch import nn


class MetricHead(nn.Sequential):
    """Maps object states to vectors whose Euclidean distances are trained to be numbers of control steps.

    Neither the instruction nor the set-point is an input: the distance depends only on what the two images show.
    Regressing the distance of embedded states onto the time between them is temporal-distance learning (Hartikainen et
    al. 2020, "Dynamical distance learning"; Park et al. 2024, "Foundation policies with Hilbert representations").

    Args:
        inputs: Length R of an object state, see `dream_env.nicol.world_model.state_estimator`.
        dim: Dimension M of the embedding.
        widths: Widths of the hidden layers.
    """

    def __init__(self, inputs: int, dim: int, widths: Sequence[int]) -> None:
        sizes = [inputs, *widths]
        hidden = [(nn.Linear(size, width), nn.SiLU()) for size, width in pairwise(sizes)]
        super().__init__(*chain.from_iterable(hidden), nn.Linear(sizes[-1], dim))
