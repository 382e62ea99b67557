"""Stack: put the first named cube on the second one."""

from __future__ import annotations

import numpy as np

from dream_env.nicol.language import Grammar
from dream_env.nicol.tasks.carry import carry, carry_steps
from dream_env.nicol.tasks.task import TABLE_Z, SimState, Task

TOLERANCE = 0.025
"""Largest horizontal distance between the two cubes' centers (m), which is half the side of a cube."""


class Stack(Task):
    """Put the first named cube on the second one, and release it, while the second one stays on the table.

    Both orders ("the red cube on the blue cube", and the other way round) consist of the same words, so their
    embeddings are equal. Which cube goes on top follows from the order of the words, and from the goal image.
    """

    name = "stack"
    horizon = 40
    grammar = Grammar(
        templates=(
            "stack the {color} {object} on the {other_color} {other_object}",
            "stack the {color} {object} on top of the {other_color} {other_object}",
            "stack the {color} {object} onto the {other_color} {other_object}",
            "put the {color} {object} on the {other_color} {other_object}",
            "put the {color} {object} on top of the {other_color} {other_object}",
            "put the {color} {object} onto the {other_color} {other_object}",
            "place the {color} {object} on the {other_color} {other_object}",
            "place the {color} {object} on top of the {other_color} {other_object}",
            "set the {color} {object} on the {other_color} {other_object}",
            "set the {color} {object} down on the {other_color} {other_object}",
            "pile the {color} {object} on the {other_color} {other_object}",
            "lay the {color} {object} on top of the {other_color} {other_object}",
        ),
        held_out=(
            "pile the {color} {object} on top of the {other_color} {other_object}",
            "place the {color} {object} onto the {other_color} {other_object}",
            "set the {color} {object} on top of the {other_color} {other_object}",
            "build a stack with the {color} {object} on the {other_color} {other_object}",
        ),
    )

    def condition(self, now: SimState) -> bool:
        """Returns whether the first cube rests on the second one, released, and the second one is on the table."""
        apart, place = now.cube - now.second, self._place(now)
        below = abs(now.second[2] - TABLE_Z - now.size(now.other or 0) / 2) < 0.01
        on_top = np.linalg.norm(apart[:2]) < TOLERANCE and abs(now.cube[2] - place[2]) < 0.01
        return bool(below and on_top and now.let_go(now.target))

    def expert(self, now: SimState) -> np.ndarray:
        """Grasps the first cube, carries it above the second one, puts it down there, releases it, and rises."""
        return carry(now, now.target, self._place(now))

    def steps_to_go(self, now: SimState) -> float:
        """Estimates the expert's steps: move above the cube, go down, close, lift, carry, lower, open."""
        return 0.0 if self.condition(now) else carry_steps(now, now.target, self._place(now))

    @staticmethod
    def _place(now: SimState) -> np.ndarray:
        """Returns the goal position of the first cube's center, `(3,)` in m."""
        height = (now.size(now.target) + now.size(now.other or 0)) / 2
        return now.second + (0, 0, height)
