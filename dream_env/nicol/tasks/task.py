"""What makes a task, and the simulator state that it is told by, in the right arm's frame."""

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
"""A cube that is off the table is held if its center is this near to the grasp point (m)."""
LINE_X = 0.63
"""Where the tape line lies across the table (m); `push` brings a cube's center beyond it."""
REST_SPEED = 0.02
"""An object that moves slower than this lies at rest (m/s)."""


@dataclass(frozen=True)
class SimState:
    """One moment on the table, mirrored to the right arm.

    Attributes:
        objects: Centers of the objects, `(N, 3)` in m.
        target: Index of the named cube.
        hand: Grasp point between thumb and fingers, `(3,)` in m; in tasks for both arms the right hand's, then the left
            one's, `(6,)`.
        setpoint: The controller's set-point `(4,)`: grasp point in m and closing in [0, 1]; of both arms `(8,)`.
        held: Whether the named cube is in the hand, or the named bar in both hands, and off the table.
        other: Index of the second cube that the sentence names, for tasks of two cubes.
        goals: Where the goal picture shows the named cubes, `(1, 2)` or `(2, 2)` in m; None in tasks without such.
        sizes: Heights of the objects, `(N,)` in m; None where all are `CUBE_SIZE`.
        speeds: Speeds of the objects, `(N,)` in m/s; None where nobody measured them.
        touched: Indices of the objects that the robot touched in the last control step.
        ends: Where the right and the left end of each object's long axis are, `(N, 2, 3)` in m; None where no object
            is long.
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
        """Center of the named cube, `(3,)` in m."""
        return self.objects[self.target]

    @property
    def second(self) -> np.ndarray:
        """Center of the second cube that is named, `(3,)` in m."""
        return self.objects[self._second()]

    @property
    def rest_z(self) -> float:
        """Height of the named cube's center while it stands on the table (m)."""
        return TABLE_Z + self.size(self.target) / 2

    def size(self, index: int) -> float:
        """Returns the height of an object (m)."""
        return CUBE_SIZE if self.sizes is None else float(self.sizes[index])

    def goal(self, index: int) -> np.ndarray:
        """Returns where the goal picture shows the first (0) or second (1) named cube: its center, `(3,)` in m.

        Raises:
            ValueError: If the task's goals are no places.
        """
        if self.goals is None:
            raise ValueError("goals=None: nothing says where the cube goes; accepted: a task with `destinations`")
        cube = self.target if index == 0 else self._second()
        return np.append(self.goals[index], TABLE_Z + self.size(cube) / 2)

    def let_go(self, index: int) -> bool:
        """Tells whether an object lies at rest and the robot does not touch it.

        Raises:
            ValueError: If nobody measured the speeds.
        """
        if self.speeds is None:
            raise ValueError("speeds=None: whether a cube rests is not known; accepted: the simulator's state")
        return bool(index not in self.touched and self.speeds[index] < REST_SPEED)

    def _second(self) -> int:
        if self.other is None:
            raise ValueError("other=None: the task's grammar names one cube; accepted: a grammar that names two")
        return self.other


def in_hand(cube: np.ndarray, hand: np.ndarray, size: float = CUBE_SIZE) -> np.ndarray:
    """Tells whether cubes `(..., 3)` are near grasp points `(..., 3)` (m) and off the table, `(...)` bool."""
    near = np.linalg.norm(cube - hand, axis=-1) < HELD_DISTANCE
    return near & (cube[..., 2] > TABLE_Z + size / 2 + 0.01)


class Task(Protocol):
    """What makes a task: its words, the condition of success, and an expert that shows it.

    A task is a class that derives from this one, in a file of its own, and an instance in `registry.TASKS`.

    Attributes:
        name: Its name.
        grammar: Its sentences; they name one cube, or two.
        shape: What they name, one of `dream_env.nicol.layout.SHAPES`.
        arms: How many arms an action moves: 1, or 2 for the right and the left one.
        horizon: Control steps of an episode, in which the expert has to be done.
        destinations: How many of the named cubes have a place of their own that only the goal picture tells.
    """

    name: ClassVar[str]
    grammar: ClassVar[Grammar]
    shape: ClassVar[str] = "cube"
    arms: ClassVar[int] = 1
    horizon: ClassVar[int] = EPISODE_STEPS
    destinations: ClassVar[int] = 0

    def condition(self, now: SimState) -> bool:
        """Tells whether the task is done at this moment; success needs it for `HOLD_STEPS` in a row."""
        ...

    def expert(self, now: SimState) -> np.ndarray:
        """Gives the scripted expert's action, `(4 * arms,)` in [-1, 1]: a pure function of the state."""
        ...

    def steps_to_go(self, now: SimState) -> float:
        """Estimates the control steps that the expert still needs until the condition holds; 0 where it does.

        It is the sum over the expert's own stages. A reward is true to the task as far as it follows this number.
        """
        ...


def steps(change: np.ndarray | float, axis: int = 0) -> float:
    """Returns the control steps that a change of the set-point takes.

    Args:
        change: Displacement along x, y, z (m) and, with four numbers, of the closing; all axes move at once.
        axis: First axis of the change, where it is a part of the four.
    """
    change = np.atleast_1d(change)
    return float((np.abs(change) / SETPOINT_STEP[axis : axis + len(change)]).max())


def go(now: SimState, position: np.ndarray, closing: float) -> np.ndarray:
    """Returns the action `(4,)` that brings the set-point toward a position (m) and a closing, as far as it goes."""
    goal = np.append(position, closing)
    return np.clip((goal - now.setpoint) / SETPOINT_STEP, -1, 1).astype(np.float32)


def height_after(now: SimState, duration: float, height: float) -> float:
    """Returns the set-point's z (m) after some control steps on the way to a height (m)."""
    reach = duration * SETPOINT_STEP[2]
    return float(now.setpoint[2] + np.clip(height - now.setpoint[2], -reach, reach))
