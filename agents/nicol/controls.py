"""How keys move NICOL's hand: as the policy's camera shows it, left is left."""

from __future__ import annotations

from dream_env.agents.view.controls import DOWN_UP, LEFT_RIGHT, LOWER_RAISE, TOGGLES, Axis

AHEAD = (-0.343, -0.939)
"""Direction on the table in which the policy's camera looks, of length 1; here as numbers, since the cameras come with
the physics engine."""


def axes() -> tuple[Axis, ...]:
    """Returns the ways to move: along the table as in the picture, up and down, and the hand's opening and closing."""
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
