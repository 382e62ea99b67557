"""Push: push the named cube over the tape line, away from the robot."""

from __future__ import annotations

import numpy as np

from dream_env.nicol.language import Grammar
from dream_env.nicol.tasks.task import LINE_X, TABLE_Z, SimState, Task, go, height_after, steps

BEHIND = 0.11
"""Distance behind the cube's center at which the grasp point comes down (m)."""
TRAVEL_Z = TABLE_Z + 0.145
"""Height of the grasp point at which the hand clears the cubes (m)."""
PUSH_Z = TABLE_Z + 0.05
"""Height of the grasp point while the hand pushes (m)."""
MARGIN = 0.015
"""Distance beyond the line to which the expert pushes the cube (m)."""
CONTACT = 0.06
"""Distance of the grasp point before the line at which the cube is certainly over it (m). Hand and cube touch when the
grasp point is 8 to 9 cm behind the cube's center."""


class Push(Task):
    """Push the named cube until its center has crossed the line at x = 0.63 m, with the cube still on the table."""

    name = "push"
    grammar = Grammar(
        templates=(
            "push the {color} {object} over the line",
            "push the {color} {object} across the line",
            "push the {color} {object} away",
            "push the {color} {object} forward",
            "push the {color} {object} to the other side of the line",
            "slide the {color} {object} over the line",
            "slide the {color} {object} away",
            "shove the {color} {object} past the line",
            "shove the {color} {object} forward",
            "shove the {color} {object} over the border",
            "move the {color} {object} across the line",
            "drive the {color} {object} beyond the line",
            "press the {color} {object} away",
            "force the {color} {object} forward",
            "drive the {color} {object} away",
            "sweep the {color} {object} over the line",
        ),
        held_out=(
            "shove the {color} {object} away",
            "slide the {color} {object} beyond the line",
            "nudge the {color} {object} over the line",
            "thrust the {color} {object} forward",
            "push the {color} {object} past the border",
            "drive the {color} {object} across the edge",
        ),
    )

    def condition(self, now: SimState) -> bool:
        """Returns whether the named cube is beyond the line, on the table."""
        return bool(now.cube[0] > LINE_X and abs(now.cube[2] - TABLE_Z - now.size(now.target) / 2) < 0.02)

    def expert(self, now: SimState) -> np.ndarray:
        """Comes down behind the named cube with an open hand and pushes it straight forward."""
        cube, setpoint = now.cube, now.setpoint
        behind, aside = cube[0] - setpoint[0], abs(setpoint[1] - cube[1])
        if cube[0] > LINE_X + MARGIN:
            return go(now, setpoint[:3], 0.0)
        if self._pushing(now):
            return go(now, np.array([LINE_X + 0.1, cube[1], PUSH_Z]), 0.0)
        if abs(behind - BEHIND) < 0.02 and aside < 0.012:
            return go(now, np.array([*setpoint[:2], PUSH_Z]), 0.0)
        return go(now, np.array([cube[0] - BEHIND, cube[1], TRAVEL_Z]), 0.0)

    def steps_to_go(self, now: SimState) -> float:
        """Estimates the expert's steps: move behind the cube, go down, push; or release a cube held beyond the line."""
        if self.condition(now):
            return 0.0
        if now.cube[0] > LINE_X + MARGIN:
            return 1 + steps(now.setpoint[3], axis=3)
        if self._pushing(now):
            return steps(max(0.0, LINE_X - CONTACT - now.setpoint[0]))
        behind = now.cube[:2] - (BEHIND, 0)
        across = steps(behind - now.setpoint[:2])
        down = steps(max(0.0, height_after(now, across, TRAVEL_Z) - PUSH_Z - 0.02))
        return across + down + steps(LINE_X - CONTACT - behind[0])

    def _pushing(self, now: SimState) -> bool:
        """Returns whether the hand is down behind the named cube."""
        behind, aside = now.cube[0] - now.setpoint[0], abs(now.setpoint[1] - now.cube[1])
        return bool(now.setpoint[2] < PUSH_Z + 0.02 and -0.04 < behind < BEHIND + 0.03 and aside < 0.03)
