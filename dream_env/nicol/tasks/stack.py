"""Stack: put the named cube on another named one."""

from __future__ import annotations

import numpy as np

from dream_env.nicol.language import Grammar
from dream_env.nicol.tasks.carry import carry, carry_steps
from dream_env.nicol.tasks.task import TABLE_Z, SimState, Task

TOLERANCE = 0.025
"""Largest distance between the two cubes' centers, across the table (m): half a cube's side."""


class Stack(Task):
    """Put the first named cube on the second one, and let it go; the second one still stands on the table.

    The words of both orders ("the red cube on the blue one", and the other way round) are the same, and so is their
    embedding: which cube goes on top is told by the order of the words, and by the goal picture.
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
        """Tells whether the named cube rests on the other one, let go, and that one stands on the table."""
        apart, place = now.cube - now.second, self._place(now)
        below = abs(now.second[2] - TABLE_Z - now.size(now.other or 0) / 2) < 0.01
        on_top = np.linalg.norm(apart[:2]) < TOLERANCE and abs(now.cube[2] - place[2]) < 0.01
        return bool(below and on_top and now.let_go(now.target))

    def expert(self, now: SimState) -> np.ndarray:
        """Grasps the named cube, carries it over the other one, puts it down there, and rises."""
        return carry(now, now.target, self._place(now))

    def steps_to_go(self, now: SimState) -> float:
        """Estimates the expert's steps: over the cube, down, close, up, across, down, open."""
        return 0.0 if self.condition(now) else carry_steps(now, now.target, self._place(now))

    @staticmethod
    def _place(now: SimState) -> np.ndarray:
        """Returns where the named cube's center goes, `(3,)` in m."""
        height = (now.size(now.target) + now.size(now.other or 0)) / 2
        return now.second + (0, 0, height)
