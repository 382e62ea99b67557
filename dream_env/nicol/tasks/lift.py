"""Lift: grasp the named cube and hold it up."""

from __future__ import annotations

import numpy as np

from dream_env.nicol.language import Grammar
from dream_env.nicol.tasks.task import TABLE_Z, SimState, Task, go, height_after, steps

CLEARANCE = 0.06
"""Height above its resting height that the cube must exceed (m)."""
HOVER = 0.12
"""Height of the grasp point above the cube's center before the hand comes down (m)."""
GRASP_Z = TABLE_Z + 0.03
"""Height of the grasp point at which the hand closes (m)."""
LIFT_Z = TABLE_Z + 0.18
"""Height to which the expert lifts the grasp point (m)."""


class Lift(Task):
    """Hold the named cube in the hand at least 6 cm above the table."""

    name = "lift"
    grammar = Grammar(
        templates=(
            "lift the {color} {object}",
            "lift the {color} {object} up",
            "lift the {color} {object} into the air",
            "pick up the {color} {object}",
            "pick the {color} {object} off the table",
            "raise the {color} {object}",
            "raise the {color} {object} up",
            "raise the {color} {object} off the table",
            "elevate the {color} {object}",
            "grab the {color} {object}",
            "take the {color} {object} off the table",
            "grasp the {color} {object} and lift it",
            "lift and hold the {color} {object}",
            "grip and raise the {color} {object}",
            "hold the {color} {object} up in the air",
            "carry the {color} {object} upward",
        ),
        held_out=(
            "raise the {color} {object} into the air",
            "grab the {color} {object} and raise it",
            "hoist the {color} {object} up",
            "pinch and lift the {color} {object}",
            "take the {color} {object} and pick it up",
            "get the {color} {object} off the table",
        ),
    )

    def condition(self, now: SimState) -> bool:
        """Returns whether the named cube is in the hand and high enough."""
        return bool(now.held and now.cube[2] - TABLE_Z - now.size(now.target) / 2 > CLEARANCE)

    def expert(self, now: SimState) -> np.ndarray:
        """Comes down on the cube with an open hand, closes, and lifts; opens and starts again if the cube is lost."""
        cube, setpoint = now.cube, now.setpoint
        above, aside = setpoint[2] - cube[2], np.linalg.norm(setpoint[:2] - cube[:2])
        grasping = self._grasping(now)
        if now.held or (grasping and setpoint[3] > 0.99):
            return go(now, np.append(setpoint[:2], LIFT_Z), 1.0)
        if grasping or (above < 0.015 and aside < 0.012):
            return go(now, setpoint[:3], 1.0)
        if aside < 0.012 and setpoint[3] < 0.1:
            return go(now, np.append(cube[:2], GRASP_Z), 0.0)
        return go(now, np.append(cube[:2], cube[2] + HOVER), 0.0)

    def steps_to_go(self, now: SimState) -> float:
        """Estimates the expert's steps: move above the cube with an open hand, go down, close, lift."""
        if self.condition(now):
            return 0.0
        setpoint, cube = now.setpoint, now.cube
        up = 1 + steps(max(0.0, now.rest_z + CLEARANCE - cube[2]))
        if now.held:
            return up
        if self._grasping(now):
            return steps(1 - setpoint[3], axis=3) + up
        across = max(steps(cube[:2] - setpoint[:2]), steps(setpoint[3], axis=3))
        down = steps(max(0.0, height_after(now, across, cube[2] + HOVER) - GRASP_Z))
        return across + down + steps(1.0, axis=3) + up

    def _grasping(self, now: SimState) -> bool:
        """Returns whether the hand is closing around the named cube."""
        above, aside = now.setpoint[2] - now.cube[2], np.linalg.norm(now.setpoint[:2] - now.cube[:2])
        return bool(now.setpoint[3] > 0.1 and above < 0.04 and aside < 0.05)
