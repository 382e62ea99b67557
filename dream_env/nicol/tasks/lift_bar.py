"""Lift bar: lift the named bar, which is too heavy for one hand, with both arms, and keep it level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dream_env.nicol.constants import SETPOINT_STEP
from dream_env.nicol.language import BAR_WORDS, Grammar
from dream_env.nicol.tasks.task import HELD_DISTANCE, TABLE_Z, SimState, Task, height_after, steps

CLEARANCE = 0.06
"""Height above their resting height that both ends must exceed (m)."""
LEVEL = 0.03
"""Largest difference in height between the two ends (m), which is four degrees."""
GRIP = 0.15
"""Distance from the bar's center at which the hands grasp it (m)."""
HOVER = 0.12
"""Height of a grasp point above the bar's axis before the hand comes down (m)."""
GRASP_Z = TABLE_Z + 0.03
"""Height of the grasp points at which the hands close (m)."""
LIFT_Z = TABLE_Z + 0.15
"""Height to which the expert lifts the bar's axis (m)."""
AHEAD = 0.015
"""Distance along x beyond the bar's axis at which the grasp points come down (m); closing hands pull the bar towards
the grasp points."""
OPEN = 0.12
"""Closing below which a hand comes down around a bar."""
NEAR = 0.015
"""Horizontal distance to its grasp position below which a hand comes down (m); doubled once it is low."""
CLOSED, STILL_CLOSED = 0.9, 0.6
"""Closing of both hands above which they start to lift, and above which they keep holding a bar in the air."""


class LiftBar(Task):
    """Lift both ends of the named bar more than 6 cm above their resting height, level within 3 cm.

    The condition depends on the bar's pose only, not on what holds it. One hand alone cannot do it: grasped at its
    middle, the bar of 1.2 kg slips through the fingers or rotates in them; grasped elsewhere, its far end stays on the
    table.
    """

    name = "lift_bar"
    shape = "bar"
    arms = 2
    horizon = 32
    grammar = Grammar(
        templates=(
            "lift the {color} {object} with both hands",
            "lift the {color} {object} with both arms",
            "lift the {color} {object} with two hands",
            "lift up the {color} {object} with both hands",
            "lift the {color} {object} and keep it level",
            "lift the long {color} {object}",
            "raise the {color} {object} with both hands",
            "raise the {color} {object} with both arms",
            "raise the long {color} {object} and keep it level",
            "pick up the {color} {object} with both hands",
            "pick the {color} {object} up with two arms",
            "hold the {color} {object} up with both hands",
            "hold the long {color} {object} in the air",
            "take the {color} {object} off the table with both hands",
            "grasp the {color} {object} with both hands and lift it",
        ),
        held_out=(
            "raise the {color} {object} with two hands",
            "pick up the long {color} {object} and keep it level",
            "hold the {color} {object} level in the air",
            "grab the {color} {object} with both hands and raise it",
            "hoist the {color} {object} with both arms",
            "use both hands to lift the {color} {object}",
        ),
        nouns=BAR_WORDS,
    )

    def condition(self, now: SimState) -> bool:
        """Returns whether both ends of the named bar are high enough, and at about the same height."""
        right, left = self._ends(now)[:, 2] - now.rest_z
        return bool(min(right, left) > CLEARANCE and abs(right - left) < LEVEL)

    def expert(self, now: SimState) -> np.ndarray:
        """Moves both open hands down to the bar, closes them once both are down, and lifts once both are closed."""
        hands, grips = now.setpoint.reshape(2, 4), self.grips(now)
        goals, around, places = hands.copy(), self._around(now), grips[:, :2] + (AHEAD, 0.0)
        if around.all():
            goals[:, 3] = 1.0
            in_air = self._ends(now)[:, 2].min() > now.rest_z + 0.01
            if (hands[:, 3] > (STILL_CLOSED if in_air else CLOSED)).all():
                # Keep the hands at their distance on the bar and at one height, or the bar rotates in the fingers.
                goals[:, :2] = hands[:, :2].mean(0) + [(0, -GRIP), (0, GRIP)]
                goals[:, 2] += LIFT_Z - grips[:, 2]
        else:
            aside, above = np.linalg.norm(hands[:, :2] - places, axis=1), hands[:, 2] - grips[:, 2]
            down = (aside < np.where(above > HOVER / 2, NEAR, 2 * NEAR)) & (hands[:, 3] < OPEN)
            goals[:, :2], goals[:, 3] = places, 0.0
            goals[:, 2] = np.where(down | around, GRASP_Z, grips[:, 2] + HOVER)
        return np.clip((goals - hands) / SETPOINT_STEP, -1, 1).ravel().astype(np.float32)

    def steps_to_go(self, now: SimState) -> float:
        """Estimates the expert's steps: both hands above the bar, down, close, lift; the slower hand counts."""
        if self.condition(now):
            return 0.0
        hands, grips = now.setpoint.reshape(2, 4), self.grips(now)
        up = 1 + steps(max(0.0, now.rest_z + CLEARANCE - self._ends(now)[:, 2].min()))
        if self._around(now).all():
            return steps(1 - hands[:, 3].min(), axis=3) + up
        arrived = 0.0
        for hand, grip in zip(hands, grips, strict=True):
            across = max(steps(grip[:2] + (AHEAD, 0.0) - hand[:2]), steps(hand[3], axis=3))
            height = height_after(replace(now, setpoint=hand), across, grip[2] + HOVER)
            arrived = max(arrived, across + steps(max(0.0, height - GRASP_Z)))
        return arrived + steps(1.0, axis=3) + up

    @classmethod
    def grips(cls, now: SimState) -> np.ndarray:
        """Returns the points on the named bar's axis that the right and left hand grasp, `(2, 3)` in m."""
        apart = cls._ends(now) - now.cube
        return now.cube + GRIP * apart / np.linalg.norm(apart, axis=1, keepdims=True)

    @staticmethod
    def _ends(now: SimState) -> np.ndarray:
        """Returns the right and the left end of the named bar, `(2, 3)` in m."""
        if now.ends is None:
            raise ValueError("ends=None: the pose of the bar is not known; accepted: the simulator's state")
        return now.ends[now.target]

    @classmethod
    def _around(cls, now: SimState) -> np.ndarray:
        """Returns which hands are open and down around the bar, or closed and holding it, `(2,)` bool."""
        hands, grips = now.setpoint.reshape(2, 4), cls.grips(now)
        held = np.linalg.norm(now.hand.reshape(2, 3) - grips, axis=1) < HELD_DISTANCE
        aside = np.linalg.norm(hands[:, :2] - grips[:, :2] - (AHEAD, 0.0), axis=1)
        return np.where(hands[:, 3] > OPEN, held, (aside < 2 * NEAR) & (hands[:, 2] - grips[:, 2] < 0.03))
