"""The physical properties of a scene: friction, mass, light, camera displacement and the look of the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dream_env.checks import check_array, check_choice, check_number, shown

TEXTURES = ("plain", "checks", "stripes", "wood", "speckles")
"""Patterns of the table, stored in assets/nicol/textures."""


@dataclass(frozen=True)
class Physics:
    """Physical properties of a scene, which a robustness test shifts and a varied scene draws at random.

    Attributes:
        friction: Lateral friction of objects and table.
        mass: Mass of an object (kg).
        light: Direction to the light (m).
        brightness: Strength of the light.
        camera_jitter: Displacement of the point that the policy camera looks at, in x and y (m).
        camera_shift: Displacement of the policy camera in x, y and z (m).
        shadow: Whether objects cast shadows; an image with shadows takes three times as long to render.
        table: Color of the table, RGB in [0, 1]; None for the default white table.
        texture: Pattern of the table, one of `TEXTURES`; used only if `table` is set.
    """

    friction: float = 1.0
    mass: float = 0.06
    light: tuple[float, float, float] = (0.4, -0.4, 1.5)
    brightness: float = 1.0
    camera_jitter: tuple[float, float] = (0.0, 0.0)
    camera_shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shadow: bool = False
    table: tuple[float, float, float] | None = None
    texture: str = "plain"

    def __post_init__(self) -> None:
        """Checks every value, and converts lists (from YAML and JSON) to tuples."""
        for name in ("friction", "mass", "brightness"):
            check_number(f"physics[{name!r}]", getattr(self, name), low=1e-6 if name == "mass" else 0.0, high=1000)
        for name, length in (("light", 3), ("camera_jitter", 2), ("camera_shift", 3), ("table", 3)):
            if name == "table" and self.table is None:
                continue
            values = check_array(f"physics[{name!r}]", getattr(self, name), (length,))
            if np.abs(values).max() > 1000:
                raise ValueError(f"physics[{name!r}]={shown(values.tolist())}; accepted: numbers from -1000 to 1000")
            object.__setattr__(self, name, tuple(values.astype(float).tolist()))
        if self.table is not None and not all(0 <= value <= 1 for value in self.table):
            raise ValueError(f"physics['table']={shown(self.table)}; accepted: red, green and blue from 0 to 1")
        check_choice("physics['shadow']", self.shadow, [False, True])
        check_choice("physics['texture']", self.texture, TEXTURES)
