"""Makes the real environment or the dream of a world model, in the form that a policy needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym

import dream_env  # noqa: F401  registers the ids
from dream_env.agents.run.guarded import Guarded
from dream_env.checks import check_choice
from dream_env.dream import DreamEnv
from dream_env.nicol import initial_states
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import TASKS
from dream_env.observations import ObsType
from dream_env.preparation import make_of
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.wrappers import WorldModelWrapper


def make_real(
    env: str | None,
    world_model: str,
    *,
    obs_type: ObsType = "embedding",
    reward: Any = None,
    goal_env: bool = False,
    task: str = "all",
    **options: Any,
) -> gym.Env:
    """Makes a real environment with the observations and the rewards of a world model's dream.

    Args:
        env: Id of the environment, or MODULE:ID if a module registers it; None for the one that the world model was
            fitted to.
        world_model: Name or folder of the world model.
        obs_type: As in `dream_env.dream.DreamEnv`; "native" for the environment's own observations.
        reward: As in `dream_env.dream.DreamEnv`, and with the same default, so that all observation types are paid
            alike.
        goal_env: As in `dream_env.dream.DreamEnv`.
        task: Task, if the environment has several.
        **options: Further arguments of the environment.

    Raises:
        ValueError: If there is no such environment, or its spaces are not those that the model was fitted to.
    """
    spec = spec_of(world_model)
    name = env or spec.name
    if name == SPEC.name:
        from dream_env.nicol import real  # imported late because it loads the physics engine

        check_choice("task", task, (*TASKS, "all"))
        kwargs = {"obs_type": obs_type, "reward": reward, "goal_env": goal_env}
        return real.make(task, world_model=world_model, **kwargs, **options)
    # Apply the same preparation (crop, resize, frame skip, ...) as when the episodes were recorded.
    made = Guarded(make_of(replace(spec, name=name), **options), name)
    if obs_type == "native" and not spec.goals and reward in (None, "environment"):
        return made  # it has these observations and this reward itself
    return WorldModelWrapper(made, world_model, obs_type=obs_type, reward=reward, goal_env=goal_env)


def make_dream(world_model: str, *, task: str = "all", **options: Any) -> DreamEnv:
    """Makes a dream environment without a time limit; it can be stepped beyond its horizon.

    Args:
        world_model: Name or folder of the world model.
        task: Task, if the environment has several.
        **options: As in `dream_env.dream.DreamEnv`.
    """
    if spec_of(world_model).name == SPEC.name:
        from dream_env.nicol.dream import NicoLDreamEnv

        return NicoLDreamEnv(task, world_model=world_model, **options)
    return DreamEnv(task=task, world_model=world_model, **options)


def spec_of(world_model: str) -> WorldSpec:
    """Returns the spec of the environment that a world model was fitted to."""
    return checkpoint.load(world_model).spec


def tasks_of(world_model: str) -> tuple[str, ...]:
    """Returns the tasks that "all" stands for: those of the model's initial states; empty if it is not NICOL's."""
    return initial_states.tasks_of(world_model) if spec_of(world_model).name == SPEC.name else ()
