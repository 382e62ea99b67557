"""Shifted physics and varied scenes, both described by a `Shift`.

A named shift changes one property, to test how robust a policy is that was not trained with the change. The varied
scene draws many properties in every episode, for training on all of them (domain randomization).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dream_env.nicol.physics import TEXTURES, Physics

Area = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Shift:
    """Changes to a scene; the defaults change nothing.

    Attributes:
        friction: Factor of the lateral friction of objects and table. Bullet multiplies the coefficients of the two
            bodies in contact: with a factor of 0.5, friction between hand and cube is halved, and friction between cube
            and table is a quarter.
        mass: Factor of the objects' mass.
        light: Direction to the light (m); None keeps it.
        brightness: Factor of the light's strength.
        jitter: Largest displacement along each axis (m) of the policy camera and of the point it looks at; drawn
            uniformly in every episode.
        elevation: Smallest elevation of the light above the horizon (degrees). In every episode the elevation is drawn
            from this value to 85 and the azimuth from all directions. None keeps the light's direction.
        dimming: Largest fraction by which the light is dimmed; drawn uniformly in every episode.
        shadows: Fraction of the episodes in which objects cast shadows.
        tables: Fraction of the episodes in which the table has another color, most of them with a pattern.
        objects: Smallest and largest number of objects; None for the three cubes of the standard scene.
        sizes: Smallest and largest size of an object (m); used only if `objects` is set.
        spacing: Smallest distance between the centers of the `objects` (m).
        area: Lower and upper corner, x and y (m), of the area in which the `objects` are placed.
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
        """Returns the physical properties of one episode.

        Args:
            physics: The properties before the shift.
            rng: The episode's random generator; used only if the shift has something to draw.
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
    """Draws the direction to a light (m), at a distance of 1.6 m and at least `lowest` degrees above the horizon."""
    side, height = rng.uniform(-np.pi, np.pi), np.radians(rng.uniform(lowest, 85))
    flat = 1.6 * np.cos(height)
    return float(flat * np.cos(side)), float(flat * np.sin(side)), float(1.6 * np.sin(height))


def _table_color(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draws a pale color, on which the strongly colored cubes remain visible."""
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
"""Named shifts: half the friction, cubes twice as heavy, a dimmer light from the other side, a camera displaced by up
to 1 cm along each axis, and a table of another color and pattern."""
SCENES: dict[str, Shift] = {
    "standard": Shift(),
    "varied": Shift(
        jitter=0.025, elevation=35, dimming=0.25, shadows=0.5, tables=0.8, objects=(1, 5), sizes=(0.044, 0.055)
    ),
}
"""Scenes by name: three cubes on a white table; or one to five objects, with varied table, light and camera pose."""
