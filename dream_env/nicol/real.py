"""`NicoLReal-v0`: NICOL's physics, wrapped with a world model's embedding, goal and reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym

from dream_env.checks import check_choice
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.spec import spec_of
from dream_env.observations import ObsType
from dream_env.rewards import RewardName
from dream_env.world_models import checkpoint


def make(
    task: str = "reach",
    *,
    world_model: Any = "default",
    obs_type: ObsType = "embedding",
    reward: RewardName | None = None,
    goal_env: bool = False,
    **physics: Any,
) -> gym.Env:
    """Creates NICOL's table-top environment in PyBullet, the physical counterpart of `NicoLDream-v0`.

    Args:
        task: "reach", "push", "lift", "place", "stack" or "arrange"; "all" for a random one of those that the world
            model knows in each episode (an object does not tell: the standard ones, or `tasks`); or "lift_bar", whose
            actions move both arms and which the shipped world models do not support.
        world_model: "default", a checkpoint folder, or a world model. None creates the physics environment without a
            world model: observations have `pixels`, `proprio` and `instruction`, and the reward is 1 while success
            holds.
        obs_type: As in `dream_env.dream.DreamEnv`. Without a world model, "words" and "state" are refused, and the
            others make no difference.
        reward: As in `dream_env.dream.DreamEnv`.
        goal_env: As in `dream_env.dream.DreamEnv`.
        **physics: Keyword arguments of `dream_env.nicol.env.NicoLRealEnv`.

    Raises:
        ValueError: If an argument is not accepted.
    """
    check_choice("obs_type", obs_type, ObsType)
    if world_model is None and (reward not in (None, "success") or goal_env or obs_type in ("words", "state")):
        raise ValueError(
            f"world_model=None with reward={reward!r}, goal_env={goal_env}, obs_type={obs_type!r}: physics has no "
            "embedding; accepted: reward='success', goal_env=False, obs_type='native'"
        )
    if task == "all" and isinstance(world_model, str | Path) and "tasks" not in physics:
        from dream_env.nicol.initial_states import tasks_of  # imported late because it loads torch

        physics["tasks"] = tasks_of(world_model)
    env: gym.Env = NicoLRealEnv(task, **physics)
    if world_model is None:
        return env
    from dream_env.wrappers import WorldModelWrapper

    known = (checkpoint.load(world_model) if isinstance(world_model, str | Path) else world_model).spec
    if known.action.shape != env.action_space.shape:
        raise ValueError(
            f"task={task!r} has actions of shape {env.action_space.shape}, but world_model={world_model!r} was fitted "
            f"to {known.name}, with actions of shape {known.action.shape}; accepted: world_model=None for physics "
            f"without a world model, or one that was fitted to {spec_of(task).name}"
        )
    return WorldModelWrapper(env, world_model, obs_type=obs_type, reward=reward, goal_env=goal_env)


make.metadata = NicoLRealEnv.metadata  # type: ignore[attr-defined]  # tells `gymnasium.make` the render modes
