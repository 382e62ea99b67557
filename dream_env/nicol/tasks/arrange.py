"""Arrange: put two named cubes where the goal image shows them."""

from __future__ import annotations

import numpy as np

from dream_env.nicol.language import Grammar
from dream_env.nicol.tasks.carry import HOVER, carry, carry_steps, there
from dream_env.nicol.tasks.place import TOLERANCE
from dream_env.nicol.tasks.task import SimState, Task

RISE = 6.0
"""Control steps to rise from a released cube and start moving to the next one."""


class Arrange(Task):
    """Put both named cubes on the table where the goal image shows them, and release them.

    The instruction does not say where the cubes go.
    """

    name = "arrange"
    horizon = 70
    destinations = 2
    grammar = Grammar(
        templates=(
            "arrange the {color} {object} and the {other_color} {other_object} as in the picture",
            "arrange the {color} {object} and the {other_color} {other_object} as shown",
            "put the {color} {object} and the {other_color} {other_object} where the picture shows them",
            "put the {color} {object} and the {other_color} {other_object} at their goals",
            "put both the {color} {object} and the {other_color} {other_object} as in the picture",
            "place the {color} {object} and the {other_color} {other_object} where the picture shows them",
            "place both the {color} {object} and the {other_color} {other_object} as shown",
            "bring the {color} {object} and the {other_color} {other_object} to their goals",
            "carry the {color} {object} and the {other_color} {other_object} to their places in the picture",
            "set the {color} {object} and the {other_color} {other_object} down as in the picture",
        ),
        held_out=(
            "arrange both the {color} {object} and the {other_color} {other_object} like in the picture",
            "bring the {color} {object} and the {other_color} {other_object} to where the picture shows them",
            "place the {color} {object} and the {other_color} {other_object} at their goals",
            "set both the {color} {object} and the {other_color} {other_object} as shown in the image",
        ),
    )

    def condition(self, now: SimState) -> bool:
        """Returns whether both named cubes are at their goal positions, at rest and released."""
        return all(there(now, cube, place, TOLERANCE) and now.let_go(cube) for cube, place in self._moves(now))

    def expert(self, now: SimState) -> np.ndarray:
        """Places the first named cube at its goal position, then the second one; then stays above the nearer one."""
        moves = [move for move in self._moves(now) if not self._done(now, *move)]
        if not moves:
            return carry(now, *min(self._moves(now), key=lambda move: _distance(now, move[0])))
        return carry(now, *moves[0])

    def steps_to_go(self, now: SimState) -> float:
        """Estimates the expert's steps for the cubes that are not placed yet."""
        if self.condition(now):
            return 0.0
        left = [carry_steps(now, *move) for move in self._moves(now) if not self._done(now, *move)]
        return sum(left) + RISE * (len(left) - 1) if left else 1.0

    @staticmethod
    def _moves(now: SimState) -> list[tuple[int, np.ndarray]]:
        """Returns index and goal position, `(3,)` in m, of the two named cubes."""
        assert now.other is not None, "its sentences name two cubes"
        return [(now.target, now.goal(0)), (now.other, now.goal(1))]

    @staticmethod
    def _done(now: SimState, cube: int, place: np.ndarray) -> bool:
        """Returns whether a cube is at its goal position and the hand has risen from it."""
        return there(now, cube, place) and _distance(now, cube) > HOVER - 0.03


def _distance(now: SimState, cube: int) -> float:
    return float(np.linalg.norm(now.hand - now.objects[cube]))
