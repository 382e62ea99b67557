"""One way to a real environment, in the form that a policy takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym

import dream_env  # noqa: F401  registers the ids
from dream_env.checks import check_choice
from dream_env.dream import DreamEnv
from dream_env.initial_states import FILE, InitialStates
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import STANDARD, TASKS
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
    task: str = "all",
    **options: Any,
) -> gym.Env:
    """Makes a real environment, seen through a world model unless a policy takes it as it is.

    Args:
        env: Its id, MODULE:ID where a module registers it; None takes the one that the world model was fitted to.
        world_model: Name or folder of the world model.
        obs_type: "native" for the bare environment, else as in `dream_env.dream.DreamEnv`.
        reward: As in `dream_env.dream.DreamEnv`; None for the world's own.
        task: Task of an environment that has several.
        **options: Further arguments of the environment.

    Raises:
        ValueError: If there is no such environment, or it is not of the world that the model was fitted to.
    """
    name = env or spec_of(world_model).name
    if name == SPEC.name:
        from dream_env.nicol import real  # which loads the physics engine

        check_choice("task", task, (*TASKS, "all"))
        return real.make(task, world_model=world_model, obs_type=obs_type, reward=reward, **options)
    # What was done to the environment when it was recorded is done again.
    made = make_of(replace(spec_of(world_model), name=name), **options)
    return made if obs_type == "native" else WorldModelWrapper(made, world_model, obs_type=obs_type, reward=reward)


def make_dream(world_model: str, *, task: str = "all", **options: Any) -> DreamEnv:
    """Makes a dream, which goes on after its horizon.

    Args:
        world_model: Name or folder of the world model.
        task: Task of an environment that has several.
        **options: As in `dream_env.dream.DreamEnv`.
    """
    if spec_of(world_model).name == SPEC.name:
        from dream_env.nicol.dream import NicoLDreamEnv

        return NicoLDreamEnv(task, world_model=world_model, **options)
    return DreamEnv(task=task, world_model=world_model, **options)


def spec_of(world_model: str) -> WorldSpec:
    """Returns the world that a world model was fitted to."""
    return checkpoint.load(world_model).spec


def tasks_of(world_model: str) -> tuple[str, ...]:
    """Returns the tasks that "all" stands for in a world, those its dreams begin with; none where it has one only."""
    if spec_of(world_model).name != SPEC.name:
        return ()
    begun = checkpoint.resolve(world_model) / FILE
    known = InitialStates.load(begun).tasks if begun.is_file() else ()
    return tuple(task for task in TASKS if task in known) or STANDARD
