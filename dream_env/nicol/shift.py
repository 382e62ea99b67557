"""Shifted physics: worlds that are not quite the one a policy practiced for, to see what it survives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dream_env.nicol.scene import Physics


@dataclass(frozen=True)
class Shift:
    """What is changed of a scene's physics; the defaults change nothing.

    Attributes:
        friction: Factor of the lateral friction of cubes and table. Bullet multiplies the coefficients of two bodies:
            with half of both, the hand has half the grip on a cube and the table a quarter.
        mass: Factor of the cubes' mass.
        light: Direction to the light (m); None leaves it where it is.
        brightness: Factor of the light.
        jitter: How far the policy's camera, and the point it looks at, may be off along each axis (m); uniform, drawn
            anew in every episode.
    """

    friction: float = 1.0
    mass: float = 1.0
    light: tuple[float, float, float] | None = None
    brightness: float = 1.0
    jitter: float = 0.0

    def apply(self, physics: Physics, rng: np.random.Generator) -> Physics:
        """Returns the physics of one episode.

        Args:
            physics: What is shifted.
            rng: The episode's generator; asked only where there is something to draw.
        """
        changed = replace(
            physics,
            friction=physics.friction * self.friction,
            mass=physics.mass * self.mass,
            light=self.light or physics.light,
            brightness=physics.brightness * self.brightness,
        )
        if not self.jitter:
            return changed
        x, y, z, tx, ty = rng.uniform(-self.jitter, self.jitter, 5).tolist()
        (dx, dy), (px, py, pz) = physics.camera_jitter, physics.camera_shift
        return replace(changed, camera_shift=(px + x, py + y, pz + z), camera_jitter=(dx + tx, dy + ty))


SHIFTS: dict[str, Shift] = {
    "none": Shift(),
    "friction": Shift(friction=0.5),
    "mass": Shift(mass=2.0),
    "lighting": Shift(light=(-0.8, 0.8, 1.2), brightness=0.8),
    "camera": Shift(jitter=0.01),
}
"""Named shifts: half the friction, cubes twice as heavy, a dimmer light from the other side, the camera 1 cm off."""
