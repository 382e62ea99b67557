"""The friction grasp of a 5 cm cube: one hand orientation, one thumb preset, two ends of the tendons.

Found by a random search over orientation, grasp point, thumb and closing in simulation: the palm looks
down and slightly back, the fingers point forward over the far side of the cube and the thumb holds the
near side. Both hands share it, because it is its own mirror image in y. The same pose pushes a cube.
"""

from __future__ import annotations

from math import radians

import numpy as np

from dream_env.nicol import urdf

PITCH = radians(22.0)
"""How far the fingers point below the horizon, rad."""
ORIENTATION = urdf.quaternion(urdf.rotation((0.0, PITCH, 0.0)) @ np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]]))
"""Quaternion (x, y, z, w) of the grasp frame (x palm normal, -y fingers) in the world."""
GRASP_POINT = np.array([-0.045, 0.080, 0.012])
"""Where the center of a held cube is, in the right palm's frame, m; z is negated for the left."""
THUMB_ABDUCTION = 1.5
"""Angle of joint T0 at which the thumb opposes the fingers, rad."""
MOTOR_RANGE = (0.12, 0.60)
"""Tendon motors of an open and of a closed grasp. Wider open, the fingers would reach the neighbors of a cube."""


def motor(closing: float) -> float:
    """Tendon motor position in [0, 1] for a grasp that is `closing` (0 open to 1 closed)."""
    low, high = MOTOR_RANGE
    return low + (high - low) * float(np.clip(closing, 0.0, 1.0))
