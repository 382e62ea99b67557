"""The goal picture in physics: the scene that the scripted expert leaves behind."""

from __future__ import annotations

from typing import Any

import numpy as np

from dream_env.nicol import constants
from dream_env.nicol.kinematics import Arm
from dream_env.nicol.scene import Layout, Physics, TableScene
from dream_env.nicol.tasks import TASKS

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
        self._goals: dict[tuple[Any, ...], np.ndarray] = {}

    def picture(self, task: str, target: int, physics: Physics, layout: Layout, start: np.ndarray) -> np.ndarray:
        """Lets the expert do a task and takes the policy's picture.

        Args:
            task: Name of the task.
            target: Index of the named cube.
            physics: Physical properties.
            layout: Where the cubes stand.
            start: The set-point at the start, normalized, `(4,)`.

        Returns:
            The picture `(64, 64, 3)` uint8.
        """
        key = (task, target, physics, *(a.tobytes() for a in (layout.positions, layout.yaws, layout.colors, start)))
        if key not in self._goals:
            picture = self._act(task, target, physics, layout, start)
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

    def _act(self, name: str, target: int, physics: Physics, layout: Layout, start: np.ndarray) -> np.ndarray:
        """Does a task until it is done and the hand stands still, or the episode's steps are used up."""
        if self._scene is None:
            self._scene = TableScene(self.arm, self.assisted_grasp)
        scene, task, proprio, held_for = self._scene, TASKS[name], start, 0
        scene.physics = physics
        scene.reset(layout, constants.denormalize(start))
        for _ in range(constants.EPISODE_STEPS):
            action = task.expert(scene.sim_state(target, constants.denormalize(proprio)))
            if held_for >= constants.HOLD_STEPS and np.abs(action).max() < 0.05:
                break
            proprio = constants.integrate(proprio, action)
            scene.step(constants.denormalize(proprio))
            done = task.condition(scene.sim_state(target, constants.denormalize(proprio)))
            held_for = held_for + 1 if done else 0
        return scene.picture("workspace")
