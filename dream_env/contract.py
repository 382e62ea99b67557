"""The contract of both worlds: spaces, set-point arithmetic, reward and success.

`NicoLDream-v0` and `NicoLReal-v0` take everything that a policy can see or feel from this file, so a policy,
a planner or a report never asks which world it is in. It imports numpy and gymnasium only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces

ObsType = Literal["embedding", "pixels"]
RewardName = Literal["energy", "progress", "bounded", "metric", "metric_progress", "metric_bounded", "success"]
ControlName = Literal["delta", "position"]
Metric = Callable[[np.ndarray], np.ndarray]
"""A world model's learned metric in numpy: embeddings `(..., E)` to vectors `(..., M)`."""

CONTROL_HZ = 10
"""Control steps per second."""
EPISODE_STEPS = 24
"""Control steps per episode (2.4 s); every episode runs to its end, in both worlds."""
HOLD_STEPS = 3
"""Success counts once its condition has held for this many control steps in a row."""
IMAGE_SIZE = 64
"""Side of the policy camera's square picture, in pixels."""

ACTION_NAMES = ("dx", "dy", "dz", "closing")
"""One action in [-1, 1]^4: displacement of the grasp point along world x, y, z and of the hand's closing."""
PROPRIO_NAMES = ("x", "y", "z", "closing")
"""The controller's set-point: grasp point in metres and hand closing in [0, 1], normalized to [-1, 1]."""
EMBEDDING_BOUND = 20.0
"""Embeddings have about unit variance per channel; observations are clipped here."""
INSTRUCTION_DIM = 64
"""Length of a sentence embedding."""

SETPOINT_LOW = np.array([0.30, -0.42, 0.83, 0.0], np.float32)
SETPOINT_HIGH = np.array([0.74, 0.06, 1.07, 1.0], np.float32)
"""Box of the right arm's set-point, world frame (m, m, m, closing); the left arm's is mirrored in y."""
SETPOINT_STEP = np.array([0.04, 0.04, 0.04, 0.25], np.float32)
"""Change of the set-point by one unit of action (m, m, m, closing) in one control step."""
STEP = (2 * SETPOINT_STEP / (SETPOINT_HIGH - SETPOINT_LOW)).astype(np.float32)
"""`SETPOINT_STEP` in normalized units."""

BOUNDED_SCALE = 0.4
"""Distance at which the `bounded` reward has fallen to 1/e."""
METRIC_SCALE = 4.0
"""Learned distance (control steps) at which the `metric_bounded` reward has fallen to 1/e."""
DEFAULT_REWARD: RewardName = "metric_bounded"
"""Reward of both worlds where none is named."""


def integrate(proprio: Any, action: Any, step: Any = STEP) -> Any:
    """Moves the set-point by one action, clipped to its box.

    Physics and dream both move by this line, so proprioception cannot drift in a dream (V-JEPA 2-AC integrates the
    end-effector pose analytically as well).

    Args:
        proprio: Set-point, `(..., 4)` in [-1, 1]; a numpy array or a torch tensor.
        action: Action, `(..., 4)` in [-1, 1], of the same kind.
        step: `STEP`, of the same kind.

    Returns:
        The next set-point, `(..., 4)` in [-1, 1].
    """
    return (proprio + action * step).clip(-1.0, 1.0)


def normalize(setpoint: np.ndarray) -> np.ndarray:
    """Maps a set-point `(..., 4)` in metres and closing to [-1, 1]."""
    return (2 * (setpoint - SETPOINT_LOW) / (SETPOINT_HIGH - SETPOINT_LOW) - 1).astype(np.float32)


def denormalize(proprio: np.ndarray) -> np.ndarray:
    """Maps a normalized set-point `(..., 4)` back to metres and closing."""
    return SETPOINT_LOW + (proprio + 1) / 2 * (SETPOINT_HIGH - SETPOINT_LOW)


def mirror(position: np.ndarray, arm: str) -> np.ndarray:
    """Mirrors world positions `(..., 3)` in y for the left arm; the right arm's stay.

    The mirror is its own inverse: it maps a task's right-handed frame to the world and back.
    """
    return position * np.array([1, -1, 1], position.dtype) if arm == "left" else position


def action_space() -> spaces.Box:
    """Returns the action space: `Box(-1, 1, (4,))`, see `ACTION_NAMES` and `SETPOINT_STEP` for meaning and units."""
    return spaces.Box(-1.0, 1.0, (len(ACTION_NAMES),), np.float32)


def observation_space(embedding_dim: int, obs_type: ObsType = "embedding", goal_env: bool = False) -> spaces.Dict:
    """Builds the observation space of both worlds.

    Args:
        embedding_dim: Length of the flattened embedding (tokens x channels); 0 leaves embedding and goal out,
            which is the form that physics has without a world model.
        obs_type: "embedding", or "pixels" to add the picture `(64, 64, 3)` uint8.
        goal_env: Gives the `observation / achieved_goal / desired_goal` form for hindsight replay.

    Returns:
        A flat `Dict` of float32 boxes: `embedding`, `goal` (the goal image's embedding), `proprio`, `instruction`;
        or, as a goal env, `observation` (proprio and instruction), `achieved_goal`, `desired_goal`.
    """
    vector = spaces.Box(-EMBEDDING_BOUND, EMBEDDING_BOUND, (embedding_dim,), np.float32)
    proprio = spaces.Box(-1.0, 1.0, (len(PROPRIO_NAMES),), np.float32)
    instruction = spaces.Box(-1.0, 1.0, (INSTRUCTION_DIM,), np.float32)
    parts: dict[str, spaces.Space] = {}
    if goal_env:
        observation = spaces.Box(-1.0, 1.0, (len(PROPRIO_NAMES) + INSTRUCTION_DIM,), np.float32)
        parts = {"observation": observation, "achieved_goal": vector, "desired_goal": vector}
    elif embedding_dim:
        parts = {"embedding": vector, "goal": vector, "proprio": proprio, "instruction": instruction}
    else:
        parts = {"proprio": proprio, "instruction": instruction}
    if obs_type == "pixels":
        parts["pixels"] = spaces.Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    return spaces.Dict(parts)


def observation(
    *,
    embedding: np.ndarray | None,
    goal: np.ndarray | None,
    proprio: np.ndarray,
    instruction: np.ndarray,
    pixels: np.ndarray | None = None,
    goal_env: bool = False,
) -> dict[str, np.ndarray]:
    """Builds one observation, or a batch of them, in the form of `observation_space`; every array is a fresh copy."""
    obs: dict[str, np.ndarray] = {}
    if goal_env:
        assert embedding is not None and goal is not None
        obs["observation"] = np.concatenate([proprio, instruction], axis=-1)
        obs["achieved_goal"], obs["desired_goal"] = _bounded(embedding), _bounded(goal)
    else:
        if embedding is not None and goal is not None:
            obs["embedding"], obs["goal"] = _bounded(embedding), _bounded(goal)
        obs["proprio"], obs["instruction"] = proprio.copy(), instruction.copy()
    if pixels is not None:
        obs["pixels"] = pixels.copy()
    return obs


def _bounded(embedding: np.ndarray) -> np.ndarray:
    return np.clip(embedding, -EMBEDDING_BOUND, EMBEDDING_BOUND)


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


def to_delta(control: ControlName, proprio: Any, action: Any, step: Any = STEP) -> Any:
    """Turns an action of a control mode into a delta action.

    Args:
        control: "delta": the action is one; "position": the action names the set-point in [-1, 1]^4 itself, and is
            approached as far as one step goes.
        proprio: Set-point, `(..., 4)`.
        action: Action, `(..., 4)` in [-1, 1].
        step: `STEP`, of the same kind.
    """
    return action if control == "delta" else ((action - proprio) / step).clip(-1.0, 1.0)


def check_choice(name: str, value: object, accepted: Any) -> None:
    """Raises ValueError unless `value` is one of `accepted` (a Literal type or an iterable of values)."""
    choices = get_args(accepted) or tuple(accepted)
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known; accepted: {', '.join(map(repr, choices))}")


def check_number(name: str, value: object, low: float = 0.0, high: float = np.inf, *, beside: str = "") -> None:
    """Raises ValueError unless `value` is a finite number from `low` to `high`; `beside` tells what else is."""
    if not isinstance(value, Real) or not low <= float(value) <= high or np.isinf(float(value)):
        bounds = f"at least {low:g}" if high == np.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{name}={value!r}; accepted: {beside}a finite number, {bounds}")


def check_actions(actions: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the actions as float32 clipped to [-1, 1].

    Raises:
        ValueError: If the shape is not `shape` or a value is not finite.
    """
    array = np.asarray(actions, np.float32)
    if array.shape != shape:
        raise ValueError(f"action has shape {array.shape}; accepted: {shape} = {ACTION_NAMES}")
    if not np.isfinite(array).all():
        raise ValueError(f"action {array} holds NaN or infinity; accepted: finite values in [-1, 1]")
    return np.clip(array, -1.0, 1.0)
