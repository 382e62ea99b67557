"""Initial states of physics episodes, for starting dreams in the same states, so that outcomes can be compared."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dream_env import checks
from dream_env.initial_states import InitialStates
from dream_env.nicol.initial_states import of_pictures

if TYPE_CHECKING:
    from dream_env.nicol.env import NicoLRealEnv

OFFSET = 0.003
"""Standard deviation of a cube's displacement in x and y (m): about the precision with which the policy camera's image
shows its position."""


@lru_cache
def shown_physics(shift: str = "none", scene: str = "standard") -> NicoLRealEnv:
    """Creates the physics environment for starts and open-loop execution; it is cached per process."""
    from dream_env.nicol.env import NicoLRealEnv

    return NicoLRealEnv("all", shift=shift, scene=scene)


def carry_out(
    task: str, seed: int, actions: np.ndarray, offset: float = 0.0, shift: str = "none", scene: str = "standard"
) -> NicoLRealEnv:
    """Executes actions open-loop in physics, from the start with a seed.

    Args:
        task: Name of the task.
        seed: Seed of the start.
        actions: Delta actions `(T, 4)` in [-1, 1].
        offset: Standard deviation of a displacement of every cube in x and y (m), which is fixed by the seed.
        shift: Name of a shift of physics.
        scene: Name of a scene.

    Returns:
        The environment after the actions. The next call in this process reuses it.
    """
    env = shown_physics(shift, scene)
    env.reset(seed=seed, options={"task": task})
    state = env.get_state()
    layout = state["layout"]
    places = layout.positions + offset * np.random.default_rng([seed, 2]).normal(0, 1, layout.positions.shape)
    deltas = list(checks.check_actions(actions, env.action_space, len(actions)))
    # The same as calling `step` for every action, without rendering an image in every step.
    env.set_state({**state, "layout": replace(layout, positions=places), "deltas": deltas})
    return env


class Start(NamedTuple):
    """The start of a physics episode.

    Attributes:
        image: Image of the policy camera, `(64, 64, 3)` uint8.
        proprio: Normalized set-point `(4,)`.
        goal_image: Goal image, `(64, 64, 3)` uint8.
        instruction: The instruction.
        solved: Whether the task's condition already holds.
    """

    image: np.ndarray
    proprio: np.ndarray
    goal_image: np.ndarray
    instruction: str
    solved: bool


@lru_cache(maxsize=4096)
def physics_start(task: str, seed: int, scene: str = "standard") -> Start:
    """Returns the physics start with a seed; it is cached per process, so several policies can use it."""
    env = shown_physics(scene=scene)
    obs, _ = env.reset(seed=seed, options={"task": task})
    return Start(obs["pixels"], obs["proprio"], env.goal_image, env.instruction, bool(env.truth()["condition"]))


@lru_cache(maxsize=128)
def physics_starts(
    task: str, seeds: tuple[int, ...], scene: str = "standard"
) -> tuple[InitialStates, tuple[bool, ...]]:
    """Builds initial states for dreams from the physics starts with the given seeds.

    Returns:
        The initial states, with row i for seed i, and whether each start is solved already.
    """
    image, proprio, goal_image, instruction, solved = zip(
        *(physics_start(task, seed, scene) for seed in seeds), strict=True
    )
    images, setpoints, goals = (np.stack(each) for each in (image, proprio, goal_image))
    return of_pictures(images, setpoints, goals, np.array([task] * len(seeds)), np.array(instruction)), solved
