"""The goal picture in physics: the scene that the scripted expert leaves behind; and episodes that have one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dream_env.checks import shown
from dream_env.nicol import constants
from dream_env.nicol.episode import Crowded, EpisodeStart, check_arms, draw_start, draw_task
from dream_env.nicol.kinematics import Arm
from dream_env.nicol.physics import Physics
from dream_env.nicol.scene import TableScene
from dream_env.nicol.shift import Shift
from dream_env.nicol.tasks import TASKS

DRAWS = 10
"""Starts that are drawn before a reset gives up, where the expert misses the goal that it is to show."""
GOALS = 512
"""Goal pictures that are remembered: whoever plays the same starts again waits for the expert once."""


class GoalRenderer:
    """Shows the expert's end of an episode.

    The expert acts in a simulation of its own: an engine's snapshot would not bring back all of the start, and the
    window shows the episode only.

    Args:
        arm: The arm that acts.
        assisted_grasp: As in `TableScene`.
    """

    def __init__(self, arm: Arm, assisted_grasp: bool) -> None:
        self.arm, self.assisted_grasp = arm, assisted_grasp
        self._scene: TableScene | None = None
        self._goals: dict[tuple[Any, ...], np.ndarray | None] = {}

    def picture(self, start: EpisodeStart, physics: Physics) -> np.ndarray | None:
        """Lets the expert do an episode's task and takes the policy's picture.

        Args:
            start: How the episode begins.
            physics: Physical properties, in place of the episode's.

        Returns:
            The picture `(64, 64, 3)` uint8, or None where the expert misses: the task's condition has not held for
            `HOLD_STEPS` at the end.
        """
        layout = start.layout
        arrays = (*vars(layout).values(), start.start, np.array(start.goals))
        key = (start.task_name, start.target, start.other, physics, *(a.tobytes() for a in arrays))
        if key not in self._goals:
            picture = self._act(start, physics)
            if len(self._goals) >= GOALS:
                self._goals.pop(next(iter(self._goals)))
            self._goals[key] = picture
        return self._goals[key]

    def close(self) -> None:
        """Ends the simulation; the next new picture opens another one."""
        if self._scene is not None:
            self._scene.close()
        self._scene = None

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy or a pickle takes along: all but the simulation."""
        return vars(self) | {"_scene": None}

    def _act(self, start: EpisodeStart, physics: Physics) -> np.ndarray | None:
        """Does a task until it is done and the hand stands still, or the episode's steps are used up."""
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
) -> tuple[EpisodeStart, np.ndarray]:
    """Draws a start, and another where the expert misses its goal.

    Args:
        rng: The env's generator.
        task: The env's task, or "all".
        options: Options of the reset, checked.
        world: The env's physical properties, its shift, and its scene.
        goals: Shows the goal.

    Returns:
        How the episode begins, and the goal's picture `(64, 64, 3)` uint8.

    Raises:
        ValueError: If the options are not accepted, or the expert misses its goal in every start that is drawn.
    """
    name = draw_task(rng, task, options)
    for _ in range(DRAWS):
        try:
            start = draw_start(rng, name, options, *world)
        except Crowded:
            if options.get("layout") is not None:
                raise
            continue
        check_arms(task, start)
        usual = replace(start.physics, friction=Physics.friction, mass=Physics.mass)
        for physics in (start.physics, usual):
            if (goal := goals.picture(start, physics)) is not None:
                return start, goal
    raise ValueError(
        f"the expert of {start.task_name!r} misses its goal within {TASKS[start.task_name].horizon} steps in {DRAWS} "
        f"starts, the last of them {shown(start.layout.positions.tolist())}; accepted: a layout, an instruction and "
        "physics in which the task can be done"
    )
