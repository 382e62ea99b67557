"""The starts of physics for dreams: both worlds begin an episode in the same state, so its outcomes can be compared."""

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
"""Standard deviation of a cube's displacement in x and y (m): about what can be read off the policy's picture."""


@lru_cache
def shown_physics(shift: str = "none", scene: str = "standard") -> NicoLRealEnv:
    """Makes the process's physics env that shows starts, and what follows from them."""
    from dream_env.nicol.env import NicoLRealEnv

    return NicoLRealEnv("all", shift=shift, scene=scene)


def carry_out(
    task: str, seed: int, actions: np.ndarray, offset: float = 0.0, shift: str = "none", scene: str = "standard"
) -> NicoLRealEnv:
    """Carries out actions in physics, open loop, from the start that a seed stands for.

    Args:
        task: Name of the task.
        seed: Seed of the start.
        actions: Deltas `(T, 4)` in [-1, 1].
        offset: Standard deviation of a displacement of every cube in x and y (m), which the seed fixes.
        shift: Name of a shift of physics.
        scene: Name of a scene.

    Returns:
        The env as it is afterwards; the process's next call uses it again.
    """
    env = shown_physics(shift, scene)
    env.reset(seed=seed, options={"task": task})
    state = env.get_state()
    layout = state["layout"]
    places = layout.positions + offset * np.random.default_rng([seed, 2]).normal(0, 1, layout.positions.shape)
    deltas = list(checks.check_actions(actions, env.action_space, len(actions)))
    # As `step` does, without a picture of every step.
    env.set_state({**state, "layout": replace(layout, positions=places), "deltas": deltas})
    return env


class Start(NamedTuple):
    """How physics begins an episode.

    Attributes:
        image: The camera's picture, `(64, 64, 3)` uint8.
        proprio: Set-point `(4,)`.
        goal_image: `(64, 64, 3)` uint8.
        instruction: The sentence.
        solved: Whether the condition of success holds already.
    """

    image: np.ndarray
    proprio: np.ndarray
    goal_image: np.ndarray
    instruction: str
    solved: bool


@lru_cache(maxsize=4096)
def physics_start(task: str, seed: int, scene: str = "standard") -> Start:
    """Resets physics to the start that a seed stands for, once per process however many policies begin there."""
    env = shown_physics(scene=scene)
    obs, _ = env.reset(seed=seed, options={"task": task})
    return Start(obs["pixels"], obs["proprio"], env.goal_image, env.instruction, bool(env.truth()["condition"]))


@lru_cache(maxsize=128)
def physics_starts(
    task: str, seeds: tuple[int, ...], scene: str = "standard"
) -> tuple[InitialStates, tuple[bool, ...]]:
    """Makes the bank in which a dream finds the starts that physics has for these seeds.

    Returns:
        The bank, row i for seed i, and whether each start is solved already.
    """
    image, proprio, goal_image, instruction, solved = zip(
        *(physics_start(task, seed, scene) for seed in seeds), strict=True
    )
    images, setpoints, goals = (np.stack(each) for each in (image, proprio, goal_image))
    return of_pictures(images, setpoints, goals, np.array([task] * len(seeds)), np.array(instruction)), solved
