"""Renders goal images in physics (the scene after the scripted expert has acted) and draws episodes that have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dream_env.checks import shown
from dream_env.nicol import constants
from dream_env.nicol.episode_start import Crowded, EpisodeStart, check_arms, draw_start, draw_task
from dream_env.nicol.kinematics import Arm
from dream_env.nicol.physics import Physics
from dream_env.nicol.scene import TableScene
from dream_env.nicol.shift import Shift
from dream_env.nicol.tasks import STANDARD, TASKS

DRAWS = 10
"""Number of starts that a reset draws before it gives up because the expert failed in all of them."""
GOALS = 512
"""Number of goal images that are cached, so that the expert acts only once in starts that are used repeatedly."""


class GoalRenderer:
    """Renders the scene after the scripted expert has acted, and caches the images.

    The expert acts in a separate simulation: a snapshot of the physics engine would not restore the start exactly, and
    the window then shows only the episode.

    Args:
        arm: The arm that acts.
        assisted_grasp: As in `TableScene`.
    """

    def __init__(self, arm: Arm, assisted_grasp: bool) -> None:
        self.arm, self.assisted_grasp = arm, assisted_grasp
        self._scene: TableScene | None = None
        self._goals: dict[tuple[Any, ...], np.ndarray | None] = {}

    def picture(self, start: EpisodeStart, physics: Physics) -> np.ndarray | None:
        """Lets the expert do an episode's task and renders the policy camera's image of the result.

        Args:
            start: The start of the episode.
            physics: Physical properties, used instead of the episode's.

        Returns:
            The image `(64, 64, 3)` uint8, or None if the expert failed: at the end, the task's condition had not held
            for `HOLD_STEPS` steps.
        """
        layout = start.layout
        goals = None if start.goals is None else start.goals.tobytes()
        arrays = (*vars(layout).values(), start.start)
        key = (start.task_name, start.target, start.other, physics, goals, *(a.tobytes() for a in arrays))
        if key not in self._goals:
            picture = self._act(start, physics)
            if len(self._goals) >= GOALS:
                self._goals.pop(next(iter(self._goals)))
            self._goals[key] = picture
        return self._goals[key]

    def close(self) -> None:
        """Closes the simulation; the next image that is not cached opens a new one."""
        if self._scene is not None:
            self._scene.close()
        self._scene = None

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state for copying and pickling: everything except the simulation."""
        return vars(self) | {"_scene": None}

    def _act(self, start: EpisodeStart, physics: Physics) -> np.ndarray | None:
        """Runs the expert until success holds and the hand stands still, or the task's horizon is reached."""
        arms = TASKS[start.task_name].arms
        if self._scene is None or len(self._scene.arms) != arms:
            self.close()
            self._scene = TableScene(self.arm, self.assisted_grasp, arms=arms)
        scene, task, proprio, held_for = self._scene, TASKS[start.task_name], start.start, 0
        scene.physics = physics
        scene.reset(start.layout, constants.denormalize(proprio))
        now = scene.sim_state(start.target, constants.denormalize(proprio), start.other, start.goals)
        for _ in range(task.horizon):
            action = task.expert(now)
            if held_for >= constants.HOLD_STEPS and np.abs(action).max() < 0.05:
                break
            proprio = constants.integrate(proprio, action)
            scene.step(constants.denormalize(proprio))
            now = scene.sim_state(start.target, constants.denormalize(proprio), start.other, start.goals)
            held_for = held_for + 1 if task.condition(now) else 0
        return scene.picture("workspace") if held_for >= constants.HOLD_STEPS else None


def draw_episode(
    rng: np.random.Generator,
    task: str,
    options: Mapping[str, Any],
    world: tuple[Physics, Shift, Shift],
    goals: GoalRenderer,
    tasks: Sequence[str] = STANDARD,
) -> tuple[EpisodeStart, np.ndarray]:
    """Draws the start of an episode; draws again while the expert fails.

    If the expert fails, it tries again with the default friction and mass before another start is drawn.

    Args:
        rng: The environment's random generator.
        task: The environment's task, or "all".
        options: Checked options of the reset.
        world: The environment's physical properties, its shift, and its scene.
        goals: Renders the goal image.
        tasks: What "all" stands for.

    Returns:
        The start of the episode, and the goal image `(64, 64, 3)` uint8.

    Raises:
        ValueError: If the options are not accepted, or the expert fails in every start that is drawn.
    """
    name = draw_task(rng, task, options, tasks)
    for draw in range(DRAWS):
        try:
            start = draw_start(rng, name, options, *world)
        except Crowded:
            if options.get("layout") is not None or draw == DRAWS - 1:
                raise
            continue
        check_arms(task, start)
        usual = replace(start.physics, friction=Physics.friction, mass=Physics.mass)
        for physics in (start.physics, usual):
            if (goal := goals.picture(start, physics)) is not None:
                return start, goal
    raise ValueError(
        f"the expert of {start.task_name!r} failed within {TASKS[start.task_name].horizon} steps in {DRAWS} starts, "
        f"last with layout.positions={shown(start.layout.positions.tolist())}; accepted: a layout, an instruction and "
        "physics in which the task can be done"
    )
