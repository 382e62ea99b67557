"""Reach: hold the hand above the named cube."""

from __future__ import annotations

import numpy as np

from dream_env.nicol.language import Grammar
from dream_env.nicol.tasks.task import SimState, Task, go, steps

HOVER = 0.11
"""Height of the grasp point above the cube's center (m)."""
TOLERANCE = 0.04
"""Largest distance of the grasp point to the hover point (m); cubes are at least 12 cm apart."""


class Reach(Task):
    """Hold the grasp point within 4 cm of the point 11 cm above the named cube."""

    name = "reach"
    grammar = Grammar(
        templates=(
            "reach for the {color} {object}",
            "reach out for the {color} {object}",
            "go to the {color} {object}",
            "go above the {color} {object}",
            "get near the {color} {object}",
            "move close to the {color} {object}",
            "approach the {color} {object}",
            "move to the {color} {object}",
            "move the hand to the {color} {object}",
            "move your hand over the {color} {object}",
            "hover over the {color} {object}",
            "hold the hand above the {color} {object}",
            "keep the gripper close to the {color} {object}",
            "hold your gripper over the {color} {object}",
            "bring your hand near the {color} {object}",
            "bring the gripper above the {color} {object}",
        ),
        held_out=(
            "hover above the {color} {object}",
            "bring the gripper to the {color} {object}",
            "reach out to the {color} {object}",
            "move the gripper above the {color} {object}",
            "position your hand over the {color} {object}",
            "go near the {color} {object}",
        ),
    )

    def condition(self, now: SimState) -> bool:
        """Returns whether the hand is above the named cube."""
        return bool(np.linalg.norm(now.hand - now.cube - (0, 0, HOVER)) < TOLERANCE)

    def expert(self, now: SimState) -> np.ndarray:
        """Moves straight to the hover point with an open hand."""
        return go(now, now.cube + (0, 0, HOVER), 0.0)

    def steps_to_go(self, now: SimState) -> float:
        """Estimates the expert's steps: move to the hover point."""
        return 0.0 if self.condition(now) else steps(now.cube + (0, 0, HOVER) - now.setpoint[:3])
