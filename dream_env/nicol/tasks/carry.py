"""Pick and place (grasp a cube, carry it, put it down, release it, rise), shared by the experts of several tasks."""

from __future__ import annotations

import numpy as np

from dream_env.nicol.constants import SETPOINT_LOW
from dream_env.nicol.tasks.task import HELD_DISTANCE, TABLE_Z, SimState, go, height_after, steps

HOVER = 0.12
"""Height of the grasp point above a cube's center before the hand comes down and after it released the cube (m)."""
GRASP_Z = 0.035
"""Height of the grasp point above the table, or above the object that the cube is on, at which the hand closes (m)."""
GRASP_X = 0.015
"""Distance along x from a cube's center to the grasp point when the hand comes down around the cube (m)."""
GRIP = 0.65
"""Closing of the hand around a cube. A fully closed hand twists the cube, which then falls over when released."""
LET_GO = 0.35
"""Closing below which the hand no longer touches the cube."""
SETTLES = 3
"""Control steps that hand and cube need to settle during a carry."""
GRIPPED = GRIP - 0.08
"""Closing above which the hand holds a cube."""
CLEAR = 0.085
"""Height of a carried cube's center above its resting height at which it clears other cubes (m)."""
NEAR = 0.012
"""Horizontal distance below which the hand comes down to a cube, or a carried cube to its goal position (m)."""
DOWN = 0.006
"""Largest vertical distance of a cube to its goal position at which it is released (m)."""
SLIP = 0.028
"""Horizontal distance to its goal position below which a cube is left there; the opening hand moves it a little (m)."""
FALL = 0.03
"""Largest height above its goal position at which a cube is released if the hand cannot go further down (m)."""


def carry(now: SimState, index: int, place: np.ndarray) -> np.ndarray:
    """Returns the expert's action `(4,)` for carrying a cube to a goal position.

    Args:
        now: The current state.
        index: Index of the cube.
        place: Goal position of the cube's center, `(3,)` in m; it may be on top of another cube.
    """
    cube, setpoint = now.objects[index], now.setpoint
    offset, around = now.hand - cube, cube[:2] + (GRASP_X, 0.0)
    if _to_let_go(now, index, place):
        if setpoint[3] > 0.05:
            return go(now, setpoint[:3], 0.0)
        aside = float(np.linalg.norm(setpoint[:2] - around))
        centered = aside < 2 * NEAR or setpoint[2] > cube[2] + 0.06
        # First center the hand around the cube, so that neither fingers nor thumb drag it along.
        return go(now, np.append(around, cube[2] + HOVER if centered else setpoint[2]), 0.0)
    if setpoint[3] > GRIPPED and np.linalg.norm(offset) < HELD_DISTANCE:
        goal, apart = place + offset, float(np.linalg.norm(place[:2] - cube[:2]))
        high = max(place[2], TABLE_Z + now.size(index) / 2) + CLEAR
        if apart < (NEAR if cube[2] > high - 0.03 else 2 * NEAR):  # the tolerance is larger once the cube goes down
            return go(now, goal, GRIP)
        if cube[2] < high - 0.03:  # first lift the cube over anything in the way
            return go(now, np.append(setpoint[:2], high + offset[2]), GRIP)
        return go(now, np.append(goal[:2], high + offset[2]), GRIP)
    above, aside = setpoint[2] - cube[2], float(np.linalg.norm(setpoint[:2] - around))
    low = cube[2] - now.size(index) / 2 + GRASP_Z
    around_it = aside < (NEAR if above > 0.06 else 2 * NEAR)
    if (setpoint[3] > 0.12 and above < 0.04 and aside < 0.05) or (setpoint[2] < low + 0.01 and around_it):
        return go(now, setpoint[:3], GRIP)
    if around_it and setpoint[3] < 0.12:
        return go(now, np.append(around, low), 0.0)
    return go(now, np.append(around, cube[2] + HOVER), 0.0)


def _to_let_go(now: SimState, index: int, place: np.ndarray) -> bool:
    """Returns whether the hand should open: the cube is at its goal position, or above it and cannot go lower."""
    apart, (_, _, height, closing) = now.objects[index] - place, now.setpoint
    lowest = height < SETPOINT_LOW[2] + 0.002
    across = float(np.linalg.norm(apart[:2]))
    falls = apart[2] < FALL and (across < NEAR and lowest or across < SLIP and closing < GRIPPED)
    return there(now, index, place, SLIP) or bool(falls)


def there(now: SimState, index: int, place: np.ndarray, tolerance: float = SLIP) -> bool:
    """Returns whether a cube is at a position: within `tolerance` (m) horizontally and `DOWN` vertically."""
    apart = now.objects[index] - place
    return bool(np.linalg.norm(apart[:2]) < tolerance and abs(apart[2]) < DOWN)


def carry_steps(now: SimState, index: int, place: np.ndarray) -> float:
    """Estimates the control steps that `carry` takes until the cube is released at its goal position."""
    cube, setpoint = now.objects[index], now.setpoint
    let_go = max(1.0, steps(setpoint[3] - LET_GO, axis=3))
    if _to_let_go(now, index, place):
        return let_go
    opened, close = steps(GRIP - LET_GO, axis=3) + SETTLES, steps(GRIP, axis=3)
    across = steps(place[:2] - cube[:2])
    if setpoint[3] > 0.12 and np.linalg.norm(now.hand - cube) < HELD_DISTANCE:
        far = np.linalg.norm(place[:2] - cube[:2]) > NEAR
        up = steps(max(0.0, max(place[2], TABLE_Z + now.size(index) / 2) + CLEAR - 0.03 - cube[2])) if far else 0.0
        down = steps(CLEAR if far else max(0.0, cube[2] - place[2]))
        return steps(max(0.0, GRIP - setpoint[3]), axis=3) + up + across + down + opened
    over = max(steps(cube[:2] - setpoint[:2]), steps(setpoint[3], axis=3))
    low = steps(max(0.0, height_after(now, over, cube[2] + HOVER) - cube[2]))
    up = steps(max(0.0, place[2] - cube[2]) + CLEAR - 0.03)
    return over + low + close + up + across + steps(CLEAR) + opened
