"""The friction grasp of a 5 cm cube: hand orientation, grasp point, thumb angle, and range of the tendon motors.

The values come from a random search in simulation over orientation, grasp point, thumb and closing. The palm faces
down and slightly back, the fingers point forward over the far side of the cube, and the thumb holds the near side.
Both hands use the same orientation, because it is its own mirror image in y. The same pose is used to push a cube.
"""

from __future__ import annotations

from math import radians

import numpy as np

from dream_env.nicol import urdf

PITCH = radians(22.0)
"""Angle by which the fingers point below the horizontal (rad)."""
ORIENTATION = urdf.quaternion(urdf.rotation((0.0, PITCH, 0.0)) @ np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]]))
"""Quaternion (x, y, z, w) of the grasp frame in the world; x is the palm normal, -y points along the fingers."""
GRASP_POINT = np.array([-0.045, 0.080, 0.012])
"""Center of a held cube in the right palm's frame (m); z is negated for the left palm."""
THUMB_ABDUCTION = 1.5
"""Angle of joint T0 at which the thumb opposes the fingers (rad)."""
MOTOR_RANGE = (0.12, 0.60)
"""Tendon motor positions in [0, 1] of an open and of a closed grasp. A wider hand would touch neighboring cubes."""


def motor(closing: float) -> float:
    """Returns the tendon motor position in [0, 1] for a hand closing in [0, 1] (0 open, 1 closed)."""
    low, high = MOTOR_RANGE
    return low + (high - low) * float(np.clip(closing, 0.0, 1.0))
