"""NICOL's own numbers: control rate, episode length, camera, and the arithmetic of its set-point."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

ControlName = Literal["delta", "position"]
CONTROL_HZ = 10
"""Control steps per second."""
EPISODE_STEPS = 24
"""Control steps per episode (2.4 s); every episode runs to its end, in both worlds."""
HOLD_STEPS = 3
"""Success counts once its condition has held for this many control steps in a row."""
IMAGE_SIZE = 64
"""Side of the policy camera's square picture, in pixels."""

ACTION_NAMES = ("dx", "dy", "dz", "closing")
"""One action in [-1, 1]^4: displacement of the grasp point along world x, y, z and of the hand's closing; in tasks for
both arms those of the right arm, then those of the left one."""
PROPRIO_NAMES = ("x", "y", "z", "closing")
"""The controller's set-point: grasp point in metres and hand closing in [0, 1], normalized to [-1, 1]."""
SETPOINT_LOW = np.array([0.30, -0.42, 0.83, 0.0], np.float32)
SETPOINT_HIGH = np.array([0.74, 0.06, 1.07, 1.0], np.float32)
"""Box of the right arm's set-point, world frame (m, m, m, closing); the left arm's is mirrored in y."""
SETPOINT_STEP = np.array([0.04, 0.04, 0.04, 0.25], np.float32)
"""Change of the set-point by one unit of action (m, m, m, closing) in one control step."""
STEP = (2 * SETPOINT_STEP / (SETPOINT_HIGH - SETPOINT_LOW)).astype(np.float32)
"""`SETPOINT_STEP` in normalized units."""


def box(low: np.ndarray, high: np.ndarray, arms: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bounds of the set-points of one or both arms, each `(4 * arms,)`.

    Args:
        low: Lower bound of the right arm's set-point, `(4,)`; the left arm's is its mirror image in y.
        high: Upper bound.
        arms: 1 for the right arm alone, or 2.
    """
    if arms == 1:
        return low, high
    mirrored_low, mirrored_high = low.copy(), high.copy()
    mirrored_low[1], mirrored_high[1] = -high[1], -low[1]
    return np.concatenate([low, mirrored_low]), np.concatenate([high, mirrored_high])


_BOXES = {len(PROPRIO_NAMES) * arms: box(SETPOINT_LOW, SETPOINT_HIGH, arms) for arms in (1, 2)}
"""Bounds of set-points by the length of these."""


def integrate(proprio: Any, action: Any, step: Any = None) -> Any:
    """Moves the set-point by one action, clipped to its box.

    Physics and dream both move by this line, so proprioception cannot drift in a dream (V-JEPA 2-AC integrates the
    end-effector pose analytically as well).

    Args:
        proprio: Set-point, `(..., 4)` in [-1, 1], or `(..., 8)` of both arms; a numpy array or a torch tensor.
        action: Action in [-1, 1], of the same shape and kind.
        step: `STEP`, of the same kind; None for that of a numpy array.

    Returns:
        The next set-point, in [-1, 1].
    """
    return (proprio + action * (_step(proprio) if step is None else step)).clip(-1.0, 1.0)


def _step(proprio: np.ndarray) -> np.ndarray:
    """Returns `STEP` for each arm of a set-point."""
    return np.tile(STEP, proprio.shape[-1] // len(STEP))


def normalize(setpoint: np.ndarray) -> np.ndarray:
    """Maps a set-point `(..., 4)`, or `(..., 8)` of both arms, in metres and closing to [-1, 1]."""
    low, high = _BOXES[setpoint.shape[-1]]
    return (2 * (setpoint - low) / (high - low) - 1).astype(np.float32)


def denormalize(proprio: np.ndarray) -> np.ndarray:
    """Maps a normalized set-point `(..., 4)`, or `(..., 8)` of both arms, back to metres and closing."""
    low, high = _BOXES[proprio.shape[-1]]
    return low + (proprio + 1) / 2 * (high - low)


def mirror(position: np.ndarray, arm: str) -> np.ndarray:
    """Mirrors world positions `(..., 3)` in y for the left arm; the right arm's stay.

    The mirror is its own inverse: it maps a task's right-handed frame to the world and back.
    """
    return position * np.array([1, -1, 1], position.dtype) if arm == "left" else position


def to_delta(control: ControlName, proprio: Any, action: Any, step: Any = None) -> Any:
    """Turns an action of a control mode into a delta action.

    Args:
        control: "delta": the action is one; "position": the action names the set-point in [-1, 1]^4 itself, and is
            approached as far as one step goes.
        proprio: Set-point, `(..., 4)`, or `(..., 8)` of both arms.
        action: Action in [-1, 1], of the same shape.
        step: `STEP`, of the same kind; None for that of a numpy array.
    """
    step = _step(proprio) if step is None and control != "delta" else step
    return action if control == "delta" else ((action - proprio) / step).clip(-1.0, 1.0)
