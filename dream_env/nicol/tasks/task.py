"""The `Task` protocol, and the simulator state that tasks take as input, in the right arm's frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from dream_env.nicol.constants import EPISODE_STEPS, SETPOINT_STEP
from dream_env.nicol.language import Grammar

TABLE_Z = 0.80
"""Height of the table top (m)."""
CUBE_SIZE = 0.05
"""Side of a cube (m)."""
HELD_DISTANCE = 0.07
"""Distance of a cube's center to the grasp point below which a cube off the table counts as held (m)."""
LINE_X = 0.63
"""x of the tape line across the table (m); `push` moves a cube's center beyond it."""
REST_SPEED = 0.02
"""Speed below which an object counts as at rest (m/s)."""


@dataclass(frozen=True)
class SimState:
    """The simulator's state at one moment, in the right arm's frame (mirrored if the left arm acts).

    Attributes:
        objects: Centers of the objects, `(N, 3)` in m.
        target: Index of the object that the instruction names first.
        hand: Grasp point between thumb and fingers, `(3,)` in m; in tasks for both arms `(6,)`, the right hand's first.
        setpoint: The controller's set-point, `(4,)`: grasp point in m and closing in [0, 1]; `(8,)` for both arms.
        held: Whether the target is in the hand (a bar: in both hands) and off the table.
        other: Index of the second named cube, in tasks that name two; else None.
        goals: Positions at which the goal image shows the named cubes, `(1, 2)` or `(2, 2)` in m; None in tasks without
            goal positions.
        sizes: Heights of the objects, `(N,)` in m; None if all are `CUBE_SIZE`.
        speeds: Speeds of the objects, `(N,)` in m/s; None if they are not known.
        touched: Indices of the objects that the robot touched in the last control step.
        ends: Right and left end of each object's long axis, `(N, 2, 3)` in m; None if there is no bar.
    """

    objects: np.ndarray
    target: int
    hand: np.ndarray
    setpoint: np.ndarray
    held: bool
    other: int | None = None
    goals: np.ndarray | None = None
    sizes: np.ndarray | None = None
    speeds: np.ndarray | None = None
    touched: tuple[int, ...] = ()
    ends: np.ndarray | None = None

    @property
    def cube(self) -> np.ndarray:
        """Center of the target, `(3,)` in m."""
        return self.objects[self.target]

    @property
    def second(self) -> np.ndarray:
        """Center of the second named cube, `(3,)` in m.

        Raises:
            ValueError: If the task names only one.
        """
        return self.objects[self._second()]

    @property
    def rest_z(self) -> float:
        """Height of the target's center while it rests on the table (m)."""
        return TABLE_Z + self.size(self.target) / 2

    def size(self, index: int) -> float:
        """Returns the height of an object (m)."""
        return CUBE_SIZE if self.sizes is None else float(self.sizes[index])

    def goal(self, index: int) -> np.ndarray:
        """Returns the goal position of the first (0) or second (1) named cube's center, `(3,)` in m.

        Raises:
            ValueError: If the task has no goal positions.
        """
        if self.goals is None:
            raise ValueError("goals=None: the cube has no goal position; accepted: a task with `destinations`")
        cube = self.target if index == 0 else self._second()
        return np.append(self.goals[index], TABLE_Z + self.size(cube) / 2)

    def let_go(self, index: int) -> bool:
        """Returns whether an object is at rest and the robot does not touch it.

        Raises:
            ValueError: If the speeds are not known.
        """
        if self.speeds is None:
            raise ValueError("speeds=None: whether a cube rests is not known; accepted: the simulator's state")
        return bool(index not in self.touched and self.speeds[index] < REST_SPEED)

    def _second(self) -> int:
        if self.other is None:
            raise ValueError("other=None: the task's grammar names one cube; accepted: a grammar that names two")
        return self.other


def in_hand(cube: np.ndarray, hand: np.ndarray, size: float = CUBE_SIZE) -> np.ndarray:
    """Returns whether cubes `(..., 3)` are near grasp points `(..., 3)` (m) and off the table, `(...)` bool."""
    near = np.linalg.norm(cube - hand, axis=-1) < HELD_DISTANCE
    return near & (cube[..., 2] > TABLE_Z + size / 2 + 0.01)


class Task(Protocol):
    """A task: its instructions, its success condition, and a scripted expert.

    A task is a class that derives from this one, in its own file, with an instance in `registry.TASKS`.

    Attributes:
        name: Name of the task.
        grammar: Its sentences, which name one object or two.
        shape: Shape of the named objects, one of `dream_env.nicol.layout.SHAPES`.
        arms: Number of arms that an action moves: 1, or 2 for the right and the left arm.
        horizon: Control steps of an episode, within which the expert has to succeed.
        destinations: Number of named cubes with a goal position, which only the goal image shows.
    """

    name: ClassVar[str]
    grammar: ClassVar[Grammar]
    shape: ClassVar[str] = "cube"
    arms: ClassVar[int] = 1
    horizon: ClassVar[int] = EPISODE_STEPS
    destinations: ClassVar[int] = 0

    def condition(self, now: SimState) -> bool:
        """Returns whether the task is done in this state; success requires it for `HOLD_STEPS` steps in a row."""
        ...

    def expert(self, now: SimState) -> np.ndarray:
        """Returns the scripted expert's action, `(4 * arms,)` in [-1, 1]. It depends on the state only."""
        ...

    def steps_to_go(self, now: SimState) -> float:
        """Estimates the control steps that the expert needs until the condition holds; 0 if it holds.

        The estimate is the sum over the expert's stages. A reward is faithful to the task to the degree that it agrees
        with this number.
        """
        ...


def steps(change: np.ndarray | float, axis: int = 0) -> float:
    """Returns the number of control steps (not rounded) that a change of the set-point takes.

    Args:
        change: Change along x, y, z (m) and of the closing, or a part of these; all axes move at the same time.
        axis: Index of the first axis in `change`, among these four.
    """
    change = np.atleast_1d(change)
    return float((np.abs(change) / SETPOINT_STEP[axis : axis + len(change)]).max())


def go(now: SimState, position: np.ndarray, closing: float) -> np.ndarray:
    """Returns the action `(4,)` that moves the set-point towards a position (m) and a closing, by at most one step."""
    goal = np.append(position, closing)
    return np.clip((goal - now.setpoint) / SETPOINT_STEP, -1, 1).astype(np.float32)


def height_after(now: SimState, duration: float, height: float) -> float:
    """Returns the set-point's z (m) after `duration` control steps on the way to `height` (m)."""
    reach = duration * SETPOINT_STEP[2]
    return float(now.setpoint[2] + np.clip(height - now.setpoint[2], -reach, reach))
