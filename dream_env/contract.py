"""The contract of both worlds: spaces and observations."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from dream_env.language import INSTRUCTION_DIM
from dream_env.nicol.constants import ACTION_NAMES, IMAGE_SIZE, PROPRIO_NAMES

ObsType = Literal["embedding", "pixels"]
EMBEDDING_BOUND = 20.0
"""Embeddings have about unit variance per channel; observations are clipped here."""


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
