"""Place: put the named cube where the goal image shows it."""

from __future__ import annotations

import numpy as np

from dream_env.nicol.language import Grammar
from dream_env.nicol.tasks.carry import carry, carry_steps, there
from dream_env.nicol.tasks.task import SimState, Task

TOLERANCE = 0.03
"""Largest horizontal distance of a cube's center to its position in the goal image (m)."""


class Place(Task):
    """Put the named cube on the table where the goal image shows it, and release it.

    The instruction does not say where the cube goes.
    """

    name = "place"
    horizon = 40
    destinations = 1
    grammar = Grammar(
        templates=(
            "put the {color} {object} where the picture shows it",
            "put the {color} {object} where it is in the picture",
            "put the {color} {object} as in the picture",
            "put the {color} {object} at its goal",
            "place the {color} {object} where the picture shows it",
            "place the {color} {object} as in the picture",
            "place the {color} {object} as shown",
            "place the {color} {object} at the goal",
            "set the {color} {object} down where the picture shows it",
            "set the {color} {object} down at the goal position",
            "bring the {color} {object} to the place in the picture",
            "bring the {color} {object} to its goal position",
            "carry the {color} {object} to its place in the picture",
            "carry the {color} {object} to the spot in the picture",
            "lay the {color} {object} down where the picture shows it",
            "drop the {color} {object} off at its goal position",
        ),
        held_out=(
            "place the {color} {object} where it lies in the picture",
            "put the {color} {object} down as the picture shows",
            "set the {color} {object} at the place in the picture",
            "bring the {color} {object} to where the picture shows it",
            "leave the {color} {object} at its goal position",
            "carry the {color} {object} to the location shown in the image",
        ),
    )

    def condition(self, now: SimState) -> bool:
        """Returns whether the named cube is at its goal position, at rest and released."""
        return there(now, now.target, now.goal(0), TOLERANCE) and now.let_go(now.target)

    def expert(self, now: SimState) -> np.ndarray:
        """Grasps the named cube, carries it to its goal position, puts it down, releases it, and rises."""
        return carry(now, now.target, now.goal(0))

    def steps_to_go(self, now: SimState) -> float:
        """Estimates the expert's steps: move above the cube, go down, close, lift, carry, lower, open."""
        return 0.0 if self.condition(now) else carry_steps(now, now.target, now.goal(0))
