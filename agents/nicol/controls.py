"""Keyboard controls of NICOL's hand: directions are those of the policy camera's image."""

from __future__ import annotations

from dream_env.agents.view.controls import DOWN_UP, LEFT_RIGHT, LOWER_RAISE, TOGGLES, Axis

AHEAD = (-0.343, -0.939)
"""Unit vector on the table in the policy camera's viewing direction. It is hard-coded because importing the cameras
would import PyBullet."""


def axes() -> tuple[Axis, ...]:
    """Returns the control axes: left and right, near and far, up and down, and closing of the hand."""
    x, y = AHEAD

    def axis(label: str, keys: tuple[tuple[str, ...], tuple[str, ...]], up: tuple[float, ...]) -> Axis:
        return Axis(label, *keys, tuple(-x for x in up), up)

    closing = (0.0, 0.0, 0.0, 1.0)
    return (
        axis("left, right", LEFT_RIGHT, (y, -x, 0.0, 0.0)),
        axis("near, far", DOWN_UP, (x, y, 0.0, 0.0)),
        axis("down, up", LOWER_RAISE, (0.0, 0.0, 1.0, 0.0)),
        Axis("hand", (TOGGLES[0],), (), (0.0, 0.0, 0.0, -1.0), closing, True),
    )
