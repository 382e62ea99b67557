"""NICOL's constants (control rate, episode length, image size) and the arithmetic of its set-point."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

ControlName = Literal["delta", "position"]
CONTROL_HZ = 10
"""Control steps per second (Hz)."""
EPISODE_STEPS = 24
"""Control steps per episode of a standard task (2.4 s). Episodes are only truncated, in the dream and in physics."""
HOLD_STEPS = 3
"""Number of consecutive control steps for which a task's condition must hold to count as success."""
IMAGE_SIZE = 64
"""Side of the policy camera's square image, in pixels."""

ACTION_NAMES = ("dx", "dy", "dz", "closing")
"""Names of the numbers of an action in [-1, 1]^4: displacement of the grasp point along world x, y, z, and change of
the hand's closing. In tasks for both arms, the right arm's four numbers come first, then the left arm's."""
PROPRIO_NAMES = ("x", "y", "z", "closing")
"""Names of the numbers of a set-point: grasp point in metres and hand closing in [0, 1], normalized to [-1, 1]."""
SETPOINT_LOW = np.array([0.30, -0.42, 0.83, 0.0], np.float32)
SETPOINT_HIGH = np.array([0.74, 0.06, 1.07, 1.0], np.float32)
"""Bounds of the right arm's set-point in the world frame (m, m, m, closing); the left arm's are mirrored in y."""
SETPOINT_STEP = np.array([0.04, 0.04, 0.04, 0.25], np.float32)
"""Change of the set-point (m, m, m, closing) by an action of 1.0 in one control step."""
STEP = (2 * SETPOINT_STEP / (SETPOINT_HIGH - SETPOINT_LOW)).astype(np.float32)
"""`SETPOINT_STEP` in normalized units."""


def box(low: np.ndarray, high: np.ndarray, arms: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns lower and upper bounds of the set-points of one or both arms, each `(4 * arms,)`.

    Args:
        low: Lower bound of the right arm's set-point, `(4,)`; the left arm's bounds are mirrored in y.
        high: Upper bound of the right arm's set-point, `(4,)`.
        arms: 1 for the right arm only, or 2.
    """
    if arms == 1:
        return low, high
    mirrored_low, mirrored_high = low.copy(), high.copy()
    mirrored_low[1], mirrored_high[1] = -high[1], -low[1]
    return np.concatenate([low, mirrored_low]), np.concatenate([high, mirrored_high])


_BOXES = {len(PROPRIO_NAMES) * arms: box(SETPOINT_LOW, SETPOINT_HIGH, arms) for arms in (1, 2)}
"""Bounds of set-points, by the length of the set-point (4 or 8)."""


def integrate(proprio: Any, action: Any, step: Any = None) -> Any:
    """Moves the set-point by one action and clips it to its bounds.

    Physics and world model both use this function, so predicted proprioception cannot drift from the real one
    (V-JEPA 2-AC also integrates the end-effector pose analytically).

    Args:
        proprio: Set-point, `(..., 4)` in [-1, 1], or `(..., 8)` for both arms; a numpy array or a torch tensor.
        action: Action in [-1, 1], of the same shape and type.
        step: `STEP`, of the same type as `proprio`. None computes it, for numpy arrays only.

    Returns:
        The next set-point, in [-1, 1].
    """
    return (proprio + action * (_step(proprio) if step is None else step)).clip(-1.0, 1.0)


def _step(proprio: np.ndarray) -> np.ndarray:
    """Returns `STEP`, repeated for each arm of the set-point."""
    return np.tile(STEP, proprio.shape[-1] // len(STEP))


def normalize(setpoint: np.ndarray) -> np.ndarray:
    """Maps a set-point in metres and closing, `(..., 4)` or `(..., 8)` for both arms, to [-1, 1]."""
    low, high = _BOXES[setpoint.shape[-1]]
    return (2 * (setpoint - low) / (high - low) - 1).astype(np.float32)


def denormalize(proprio: np.ndarray) -> np.ndarray:
    """Maps a normalized set-point, `(..., 4)` or `(..., 8)` for both arms, back to metres and closing."""
    low, high = _BOXES[proprio.shape[-1]]
    return low + (proprio + 1) / 2 * (high - low)


def mirror(position: np.ndarray, arm: str) -> np.ndarray:
    """Mirrors positions `(..., 3)` in y for the left arm; returns them unchanged for the right arm.

    Mirroring is its own inverse: it maps positions from the right arm's frame, in which tasks are defined, to the
    world frame and back.
    """
    return position * np.array([1, -1, 1], position.dtype) if arm == "left" else position


def to_delta(control: ControlName, proprio: Any, action: Any, step: Any = None) -> Any:
    """Converts an action of a control mode to a delta action.

    Args:
        control: "delta": the action is a delta action already. "position": the action is the desired set-point in
            [-1, 1]; the result moves towards it, limited to one step.
        proprio: Set-point, `(..., 4)`, or `(..., 8)` for both arms.
        action: Action in [-1, 1], of the same shape.
        step: `STEP`, of the same type as `proprio`. None computes it, for numpy arrays only.
    """
    step = _step(proprio) if step is None and control != "delta" else step
    return action if control == "delta" else ((action - proprio) / step).clip(-1.0, 1.0)
