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
"""One action in [-1, 1]^4: displacement of the grasp point along world x, y, z and of the hand's closing."""
PROPRIO_NAMES = ("x", "y", "z", "closing")
"""The controller's set-point: grasp point in metres and hand closing in [0, 1], normalized to [-1, 1]."""
SETPOINT_LOW = np.array([0.30, -0.42, 0.83, 0.0], np.float32)
SETPOINT_HIGH = np.array([0.74, 0.06, 1.07, 1.0], np.float32)
"""Box of the right arm's set-point, world frame (m, m, m, closing); the left arm's is mirrored in y."""
SETPOINT_STEP = np.array([0.04, 0.04, 0.04, 0.25], np.float32)
"""Change of the set-point by one unit of action (m, m, m, closing) in one control step."""
STEP = (2 * SETPOINT_STEP / (SETPOINT_HIGH - SETPOINT_LOW)).astype(np.float32)
"""`SETPOINT_STEP` in normalized units."""


def integrate(proprio: Any, action: Any, step: Any = STEP) -> Any:
    """Moves the set-point by one action, clipped to its box.

    Physics and dream both move by this line, so proprioception cannot drift in a dream (V-JEPA 2-AC integrates the
    end-effector pose analytically as well).

    Args:
        proprio: Set-point, `(..., 4)` in [-1, 1]; a numpy array or a torch tensor.
        action: Action, `(..., 4)` in [-1, 1], of the same kind.
        step: `STEP`, of the same kind.

    Returns:
        The next set-point, `(..., 4)` in [-1, 1].
    """
    return (proprio + action * step).clip(-1.0, 1.0)


def normalize(setpoint: np.ndarray) -> np.ndarray:
    """Maps a set-point `(..., 4)` in metres and closing to [-1, 1]."""
    return (2 * (setpoint - SETPOINT_LOW) / (SETPOINT_HIGH - SETPOINT_LOW) - 1).astype(np.float32)


def denormalize(proprio: np.ndarray) -> np.ndarray:
    """Maps a normalized set-point `(..., 4)` back to metres and closing."""
    return SETPOINT_LOW + (proprio + 1) / 2 * (SETPOINT_HIGH - SETPOINT_LOW)


def mirror(position: np.ndarray, arm: str) -> np.ndarray:
    """Mirrors world positions `(..., 3)` in y for the left arm; the right arm's stay.

    The mirror is its own inverse: it maps a task's right-handed frame to the world and back.
    """
    return position * np.array([1, -1, 1], position.dtype) if arm == "left" else position


def to_delta(control: ControlName, proprio: Any, action: Any, step: Any = STEP) -> Any:
    """Turns an action of a control mode into a delta action.

    Args:
        control: "delta": the action is one; "position": the action names the set-point in [-1, 1]^4 itself, and is
            approached as far as one step goes.
        proprio: Set-point, `(..., 4)`.
        action: Action, `(..., 4)` in [-1, 1].
        step: `STEP`, of the same kind.
    """
    return action if control == "delta" else ((action - proprio) / step).clip(-1.0, 1.0)
