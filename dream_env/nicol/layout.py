"""The layout of an episode's table: number, positions, shapes, sizes and colors of the objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dream_env.checks import check_array, shown
from dream_env.nicol.constants import SETPOINT_HIGH, SETPOINT_LOW
from dream_env.nicol.language import COLORS
from dream_env.nicol.shift import Shift
from dream_env.nicol.tasks.task import CUBE_SIZE

COLOR_NAMES = list(COLORS)
"""Names of the colors that instructions use; cubes and bars have these colors."""
PALETTE = [*COLORS.values(), (0.95, 0.45, 0.05, 1.0), (0.50, 0.15, 0.65, 1.0)]
"""Colors of objects, RGBA: those of `COLORS`, then orange and purple, which only balls and cylinders have."""
PALETTE_NAMES = [*COLORS, "orange", "purple"]
SHAPES = ("cube", "ball", "cylinder", "bar")
NAMED = ("cube", "bar")
"""Shapes that instructions name."""
CUBES = 3
"""Number of cubes on the table of the standard scene."""
OBJECTS = 5
"""Largest number of objects on a table."""
AREA_LOW, AREA_HIGH = np.array([0.43, -0.34]), np.array([0.56, -0.04])
"""Bounds of the cubes' initial positions for the right arm: x and y of their centers (m)."""
SPACING = 0.12
"""Smallest distance between two cubes' centers at the start (m)."""
PLACE_LOW, PLACE_HIGH = (bound[:2].astype(float).round(6) for bound in (SETPOINT_LOW, SETPOINT_HIGH))
"""Bounds of positions in any layout, within reach of the right hand: x and y of the objects' centers (m)."""
APART = 0.071
"""Smallest distance between two objects' centers in any layout (m): a cube's diagonal, so that cubes cannot overlap."""
BARS = 2
"""Number of bars on the table in tasks about bars. Their long axes point from the robot's right to its left."""
BAR_LENGTH, BAR_SIZE, BAR_WEIGHT = 0.44, 0.045, 20.0
"""Length of a bar (m), its height and width (m), and its mass as a multiple of another object's mass."""
BAR_LOW, BAR_HIGH = np.array([0.42, -0.04]), np.array([0.60, 0.04])
"""Bounds of the bars' initial positions, within reach of both hands: x and y of their centers (m)."""
BAR_SPACING = 0.14
"""Smallest distance along x between two bars' centers, so that a hand fits between them (m)."""
BAR_YAW = 0.12
"""Largest initial rotation of a bar about z (rad); it is small because the hands cannot rotate with the bar."""
SIZE_LOW, SIZE_HIGH = 0.035, 0.06
"""Smallest and largest object that the hand can hold (m)."""
TRIES = 2000
"""Number of positions drawn for the objects of a varied scene before starting again with an empty table."""


@dataclass(frozen=True)
class Layout:
    """N objects on the table at the start of an episode, in the right arm's frame.

    The arrays are copied and made read-only.

    Attributes:
        positions: Centers of the objects, `(N, 2)` in m, from `PLACE_LOW` to `PLACE_HIGH` and at least `APART` from
            each other.
        yaws: Rotation of each object about z, `(N,)` in [-pi, pi] rad.
        colors: Index of each object's color in `PALETTE`, `(N,)`, all different; cubes and bars have one of `COLORS`.
        shapes: Index of each object's shape in `SHAPES`, `(N,)`; None for cubes.
        sizes: Height of each object (m), `(N,)`; None for `CUBE_SIZE`.

    Raises:
        ValueError: If a value is not accepted.
    """

    positions: np.ndarray
    yaws: np.ndarray
    colors: np.ndarray
    shapes: np.ndarray | None = None
    sizes: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks every array."""
        count = len(self.colors) if np.ndim(self.colors) == 1 else CUBES
        if not 1 <= count <= OBJECTS:
            raise ValueError(f"layout.colors are {count}; accepted: 1 to {OBJECTS} objects")
        if self.shapes is None:
            object.__setattr__(self, "shapes", np.zeros(count, np.int64))
        if self.sizes is None:
            object.__setattr__(self, "sizes", np.full(count, CUBE_SIZE))
        for name in ("positions", "yaws", "colors", "shapes", "sizes"):
            shape, whole = (count, 2) if name == "positions" else (count,), name in ("colors", "shapes")
            array = check_array(f"layout.{name}", getattr(self, name), shape, "iu" if whole else "iuf")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        places = self.positions
        if (places < PLACE_LOW).any() or (places > PLACE_HIGH).any():
            (x, y), (far_x, far_y) = PLACE_LOW, PLACE_HIGH
            raise ValueError(
                f"layout.positions={shown(places.tolist())}; accepted: x from {x:g} to {far_x:g} and y from {y:g} to "
                f"{far_y:g} m, where the hand reaches"
            )
        if _gap(places) < APART:
            raise ValueError(f"layout.positions={shown(places.tolist())}; accepted: centers at least {APART:g} m apart")
        if np.abs(self.yaws).max() > np.pi:
            raise ValueError(f"layout.yaws={shown(self.yaws.tolist())}; accepted: -pi to pi")
        assert self.shapes is not None and self.sizes is not None
        if self.shapes.min() < 0 or self.shapes.max() >= len(SHAPES):
            raise ValueError(f"layout.shapes={self.shapes.tolist()}; accepted: 0 to {len(SHAPES) - 1}")
        if self.sizes.min() < SIZE_LOW or self.sizes.max() > SIZE_HIGH:
            raise ValueError(f"layout.sizes={self.sizes.tolist()}; accepted: {SIZE_LOW} to {SIZE_HIGH} m")
        known = np.where(np.isin(self.shapes, [SHAPES.index(name) for name in NAMED]), len(COLORS), len(PALETTE))
        if len({*self.colors.tolist()}) < count or (self.colors < 0).any() or (self.colors >= known).any():
            raise ValueError(
                f"layout.colors={self.colors.tolist()}; accepted: {count} different ones of 0 to {len(COLORS) - 1}"
            )
        self._check_bars()

    def _check_bars(self) -> None:
        """Raises ValueError if a bar could overlap another object, or is rotated too far to be grasped."""
        assert self.shapes is not None
        for i in self.of("bar"):
            others = np.delete(self.positions[:, 0], i)
            if np.abs(others - self.positions[i, 0]).min(initial=1.0) < BAR_SPACING or abs(self.yaws[i]) > 2 * BAR_YAW:
                raise ValueError(
                    f"layout: a bar at {self.positions[i].tolist()} with yaw {self.yaws[i]:g}; accepted: bars that are "
                    f"{BAR_SPACING:g} m along x from anything else, with yaws of {2 * BAR_YAW:g} at most"
                )

    def __len__(self) -> int:
        """Returns the number of objects."""
        return len(self.colors)

    def of(self, shape: str) -> list[int]:
        """Returns the indices of the objects of a shape."""
        return np.flatnonzero(self.shapes == SHAPES.index(shape)).tolist()

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Shift | None = None, cubes: int = 1, shape: str = "cube") -> Layout:
        """Draws a random layout: three cubes of different colors at least `SPACING` apart, a varied scene, or two bars.

        Args:
            rng: The episode's random generator.
            scene: The scene. None, or a scene without `objects`, draws the three cubes.
            cubes: Smallest number of cubes in a varied scene.
            shape: "cube", or "bar" to draw two bars in any scene.
        """
        if shape == "bar":
            return cls._draw_bars(rng)
        if scene is not None and scene.objects is not None:
            return cls._draw_varied(rng, scene, cubes)
        while True:
            positions = rng.uniform(AREA_LOW, AREA_HIGH, (CUBES, 2))
            if _gap(positions) >= SPACING:
                break
        return cls(
            positions,
            rng.uniform(-0.2, 0.2, CUBES),
            rng.permutation(len(COLORS))[:CUBES].astype(np.int64),
        )

    @classmethod
    def _draw_bars(cls, rng: np.random.Generator) -> Layout:
        """Draws two bars of different colors."""
        while True:
            positions = rng.uniform(BAR_LOW, BAR_HIGH, (BARS, 2))
            if abs(positions[0, 0] - positions[1, 0]) >= BAR_SPACING:
                break
        return cls(
            positions,
            rng.uniform(-BAR_YAW, BAR_YAW, BARS),
            rng.permutation(len(COLORS))[:BARS].astype(np.int64),
            np.full(BARS, SHAPES.index("bar")),
            np.full(BARS, BAR_SIZE),
        )

    @classmethod
    def _draw_varied(cls, rng: np.random.Generator, scene: Shift, cubes: int) -> Layout:
        """Draws a varied scene: at least `cubes` cubes, and at most one ball and one cylinder among the others."""
        assert scene.objects is not None
        count = int(rng.integers(max(cubes, scene.objects[0]), scene.objects[1] + 1))
        shapes = np.zeros(count, np.int64)
        others = rng.permutation([1, 2, 0])[: count - cubes]  # 0: one more cube
        shapes[cubes : cubes + len(others)] = others
        colors = np.zeros(count, np.int64)
        named = shapes == 0
        colors[named] = rng.permutation(len(COLORS))[: named.sum()]
        colors[~named] = len(COLORS) + rng.permutation(len(PALETTE) - len(COLORS))[: (~named).sum()]
        sizes = rng.uniform(*scene.sizes, count)
        positions = np.zeros((0, 2))
        while len(positions) < count:
            positions = rng.uniform(scene.area[0], scene.area[1], (1, 2))
            for _ in range(TRIES):
                if len(positions) == count:
                    break
                place = rng.uniform(scene.area[0], scene.area[1], (1, 2))
                if _gap(np.concatenate([positions, place])) >= scene.spacing:
                    positions = np.concatenate([positions, place])
        order = rng.permutation(count)  # otherwise the first objects would always have more free space around them
        return cls(positions[order], rng.uniform(-0.2, 0.2, count), colors, shapes, sizes)


def _gap(places: np.ndarray) -> float:
    """Returns the smallest distance between any two of the positions `(N, 2)`; infinity for a single one."""
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return float(gaps[~np.eye(len(places), dtype=bool)].min(initial=np.inf))
