"""Shifted physics and varied scenes: worlds that are not quite the usual one.

A named shift changes one thing, to see what a policy survives that never met it. The varied scene draws many things
anew in every episode, so that who learns in it meets them all. Both are a `Shift`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dream_env.nicol.physics import TEXTURES, Physics

Area = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Shift:
    """What is changed of a scene; the defaults change nothing.

    Attributes:
        friction: Factor of the lateral friction of objects and table. Bullet multiplies the coefficients of two bodies:
            with half of both, the hand has half the grip on a cube and the table a quarter.
        mass: Factor of the objects' mass.
        light: Direction to the light (m); None leaves it where it is.
        brightness: Factor of the light.
        jitter: How far the policy's camera, and the point it looks at, may be off along each axis (m); uniform, drawn
            anew in every episode.
        elevation: Lowest height of the light over the horizon (degrees): drawn from there to 85, from any side; None
            leaves the light where it is.
        dimming: How much dimmer the light may be, a share; drawn.
        shadows: Share of the episodes in which objects throw shadows.
        tables: Share of the episodes in which the table has another color, most of them with a pattern.
        objects: Fewest and most objects; None for the three cubes of the standard scene.
        sizes: Smallest and largest object (m), where there are `objects`.
        spacing: Smallest distance between their centers (m).
        area: Low and high corner of the area where they stand, x and y (m).
    """

    friction: float = 1.0
    mass: float = 1.0
    light: tuple[float, float, float] | None = None
    brightness: float = 1.0
    jitter: float = 0.0
    elevation: float | None = None
    dimming: float = 0.0
    shadows: float = 0.0
    tables: float = 0.0
    objects: tuple[int, int] | None = None
    sizes: tuple[float, float] = (0.05, 0.05)
    spacing: float = 0.115
    area: Area = ((0.42, -0.36), (0.58, -0.02))

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
        if self.elevation is not None:
            changed = replace(changed, light=_light(rng, self.elevation))
        if self.dimming:
            changed = replace(changed, brightness=changed.brightness * rng.uniform(1 - self.dimming, 1))
        if self.shadows:
            changed = replace(changed, shadow=bool(rng.random() < self.shadows))
        if self.tables and rng.random() < self.tables:
            changed = replace(changed, table=_table_color(rng), texture=_texture(rng))
        if not self.jitter:
            return changed
        x, y, z, tx, ty = rng.uniform(-self.jitter, self.jitter, 5).tolist()
        (dx, dy), (px, py, pz) = physics.camera_jitter, physics.camera_shift
        return replace(changed, camera_shift=(px + x, py + y, pz + z), camera_jitter=(dx + tx, dy + ty))


def _light(rng: np.random.Generator, lowest: float) -> tuple[float, float, float]:
    """Draws the direction to a light (m), 1.6 m away."""
    side, height = rng.uniform(-np.pi, np.pi), np.radians(rng.uniform(lowest, 85))
    flat = 1.6 * np.cos(height)
    return float(flat * np.cos(side)), float(flat * np.sin(side)), float(1.6 * np.sin(height))


def _table_color(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draws a pale color, on which cubes of strong colors stand out."""
    value, tint = rng.uniform(0.45, 1.0), rng.uniform(-0.12, 0.12, 3)
    red, green, blue = np.clip(value + tint - tint.mean(), 0.2, 1.0).tolist()
    return red, green, blue


def _texture(rng: np.random.Generator) -> str:
    return str(rng.choice(TEXTURES))


SHIFTS: dict[str, Shift] = {
    "none": Shift(),
    "friction": Shift(friction=0.5),
    "mass": Shift(mass=2.0),
    "lighting": Shift(light=(-0.8, 0.8, 1.2), brightness=0.8),
    "camera": Shift(jitter=0.01),
    "table": Shift(tables=1.0),
}
"""Named shifts: half the friction, cubes twice as heavy, a dimmer light from the other side, the camera 1 cm off, a
table of another color and pattern."""
SCENES: dict[str, Shift] = {
    "standard": Shift(),
    "varied": Shift(
        jitter=0.025, elevation=35, dimming=0.25, shadows=0.5, tables=0.8, objects=(1, 5), sizes=(0.044, 0.055)
    ),
}
"""Scenes by name: three cubes on a white table, or one to five objects on any table, seen from about the same place."""
