"""A learned metric: vectors whose distances tell how many control steps one picture is from another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from torch import nn


class MetricHead(nn.Sequential):
    """Maps readings of the situation to a vector; Euclidean distances between such vectors are trained to be steps.

    It sees neither instruction nor set-point: what has to be done must be told by the two pictures alone. Regressing
    the distance of embedded states onto the time between them is temporal-distance learning (Hartikainen et al. 2020,
    "Dynamical distance learning"; Park et al. 2024, "Foundation policies with Hilbert representations").

    Args:
        readings: Number of readings, see `dream_env.nicol.world_model.state_estimator`.
        dim: Length M of the vector.
        widths: Widths of the hidden layers.
    """

    def __init__(self, readings: int, dim: int, widths: Sequence[int]) -> None:
        sizes = [readings, *widths]
        hidden = [(nn.Linear(size, width), nn.SiLU()) for size, width in pairwise(sizes)]
        super().__init__(*chain.from_iterable(hidden), nn.Linear(sizes[-1], dim))


def learned_metric(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a world model's metric as a function on numpy embeddings, `(..., E)` to `(..., M)`.

    Args:
        model: A world model.

    Raises:
        ValueError: If the model has no metric.
    """
    if not hasattr(model, "metric"):
        raise ValueError(
            f"{type(model).__name__} has no method `metric`, which the reward needs; accepted: a world model with one, "
            "or a reward of the raw distance"
        )
    metric = partial(_metric, model)
    metric(np.zeros((1, model.embedding_dim), np.float32))  # a checkpoint without it says so now
    return metric


def _metric(model: Any, embedding: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(embedding, np.float32).reshape(-1, embedding.shape[-1])
    with torch.inference_mode():
        vectors = model.metric(torch.from_numpy(rows).to(model.device)).cpu().numpy()
    return vectors.reshape(*embedding.shape[:-1], -1)
