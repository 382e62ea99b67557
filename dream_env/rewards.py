"""Distances and rewards: one function for every world."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

RewardName = Literal["energy", "progress", "bounded", "metric", "metric_progress", "metric_bounded", "success"]
Metric = Callable[[np.ndarray], np.ndarray]
"""A world model's learned metric in numpy: embeddings `(..., E)` to vectors `(..., M)`."""

BOUNDED_SCALE = 0.4
"""Distance at which the `bounded` reward has fallen to 1/e."""
METRIC_SCALE = 4.0
"""Learned distance (control steps) at which the `metric_bounded` reward has fallen to 1/e."""
DEFAULT_REWARD: RewardName = "metric_bounded"
"""Reward of both worlds where none is named."""


def distance(embedding: Any, goal: Any) -> Any:
    """Mean squared distance between embeddings `(..., E)`: the energy of V-JEPA 2-AC with a squared norm."""
    return ((embedding - goal) ** 2).mean(-1)


def metric_distance(vector: Any, goal: Any) -> Any:
    """Euclidean distance `(...)` between vectors `(..., M)` of the learned metric: about the control steps to go."""
    return np.sqrt(((vector - goal) ** 2).sum(-1))


def is_learned(name: RewardName) -> bool:
    """Tells whether a reward measures by the world model's learned metric, and not by the raw distance."""
    return name.startswith("metric")


def reward(name: RewardName, previous: Any, current: Any, success: Any) -> Any:
    """Gives the reward of one step, alike in both worlds.

    Args:
        name: Of the raw distance, "energy": minus the distance; "progress": its decrease in this step; "bounded":
            exp(-distance / 0.4). Of the learned metric's distance, alike: "metric", "metric_progress",
            "metric_bounded" with scale 4. "success": 1 while the (true or predicted) success holds, else 0.
        previous: Distance to the goal before the step, `(...)`; the raw or the learned one, see `is_learned`.
        current: Distance to the goal after the step, `(...)`.
        success: Whether success holds after the step, `(...)`.

    Returns:
        The reward, `(...)` float32.
    """
    if name == "success":
        return np.asarray(success, np.float32)
    if name in ("energy", "metric"):
        return np.float32(-1) * current
    if name in ("progress", "metric_progress"):
        return previous - current
    return np.exp(-current / (METRIC_SCALE if is_learned(name) else BOUNDED_SCALE), dtype=np.float32)


def goal_reward(name: RewardName, metric: Metric | None = None) -> Callable[[Any, Any, Any], np.ndarray]:
    """Returns the `compute_reward(achieved_goal, desired_goal, info)` of a goal env, vectorized over rows.

    Args:
        name: Name of the reward.
        metric: The world model's metric, embeddings `(..., E)` to `(..., M)`; for a learned reward.

    Raises:
        ValueError: If the reward cannot be told from the two embeddings alone.
    """
    accepted = ("energy", "bounded", "metric", "metric_bounded")
    if name not in accepted:
        names = ", ".join(map(repr, accepted))
        raise ValueError(f"reward={name!r} needs more than two embeddings; with goal_env=True accepted: {names}")
    return partial(_goal_reward, name, metric)


def _goal_reward(
    name: RewardName, metric: Metric | None, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
) -> np.ndarray:
    if metric is not None:
        span = metric_distance(metric(achieved_goal), metric(desired_goal))
    else:
        span = distance(achieved_goal, desired_goal)
    return reward(name, None, span, None)
