"""The table-top scene: NICOL, three cubes, a tape line, physics and cameras."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dream_env.checks import check_number, shown
from dream_env.nicol import urdf
from dream_env.nicol.bullet import pybullet
from dream_env.nicol.camera import CAMERAS, Camera
from dream_env.nicol.constants import CONTROL_HZ, SETPOINT_HIGH, SETPOINT_LOW, mirror
from dream_env.nicol.grasp import ORIENTATION, motor
from dream_env.nicol.kinematics import Arm, side
from dream_env.nicol.language import COLORS
from dream_env.nicol.robot import Nicol
from dream_env.nicol.tasks.task import CUBE_SIZE, LINE_X, TABLE_Z, SimState, in_hand

COLOR_NAMES = list(COLORS)
SUBSTEPS = 24
"""Physics steps in one control step; one is 1/240 s."""
TARGETS = 4
"""Joint targets sent in one control step, evenly between the old pose and the new one."""
CUBES = 3
"""Cubes on the table."""
AREA_LOW, AREA_HIGH = np.array([0.43, -0.34]), np.array([0.56, -0.04])
"""Where cubes stand at the start: x and y of their centers (m), right arm."""
SPACING = 0.12
"""Smallest distance between two cubes' centers at the start (m)."""
PLACE_LOW, PLACE_HIGH = (bound[:2].astype(float).round(6) for bound in (SETPOINT_LOW, SETPOINT_HIGH))
"""Where a layout of one's own may put cubes: x and y of their centers (m), where the right hand reaches."""
APART = 0.071
"""Smallest distance between two cubes' centers in any layout (m): a cube's diagonal, so that none overlap."""
LINE_SIZE, LINE_COLOR = (0.012, 0.50, 0.001), (0.35, 0.35, 0.38, 1.0)
"""The tape line: its size (m) and color."""
RENEWED = 10
"""Resets after which a scene takes a new PyBullet client."""
ASSIST_DISTANCE = 0.055
"""A cube within this distance of the grasp point is taken by an assisted grasp (m)."""


@dataclass(frozen=True)
class Physics:
    """Physical properties that a test of robustness shifts.

    Attributes:
        friction: Lateral friction of cubes and table.
        mass: Mass of a cube (kg).
        light: Direction to the light (m).
        brightness: Strength of the light.
        camera_jitter: Shift of the policy camera's target in x and y (m).
        camera_shift: Shift of the policy camera itself (m).
    """

    friction: float = 1.0
    mass: float = 0.06
    light: tuple[float, float, float] = (0.4, -0.4, 1.5)
    brightness: float = 1.0
    camera_jitter: tuple[float, float] = (0.0, 0.0)
    camera_shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Checks every value, and makes tuples of lists, as YAML and JSON give them."""
        for name in ("friction", "mass", "brightness"):
            check_number(f"physics[{name!r}]", getattr(self, name), low=1e-6 if name == "mass" else 0.0, high=1000)
        for name, length in (("light", 3), ("camera_jitter", 2), ("camera_shift", 3)):
            values = _numbers(f"physics[{name!r}]", getattr(self, name), (length,))
            if np.abs(values).max() > 1000:
                raise ValueError(f"physics[{name!r}]={shown(values.tolist())}; accepted: numbers from -1000 to 1000")
            object.__setattr__(self, name, tuple(values.astype(float).tolist()))


@dataclass(frozen=True)
class Layout:
    """A start on the table, in the right arm's frame.

    Attributes:
        positions: Centers of the cubes, `(3, 2)` in m, from `PLACE_LOW` to `PLACE_HIGH` and `APART` from each other.
        yaws: Rotation of each cube about z, `(3,)` in [-pi, pi] rad.
        colors: Index of each cube's color in `list(COLORS)`, `(3,)`.

    The arrays are copies, and read-only.

    Raises:
        ValueError: If a value is not accepted.
    """

    positions: np.ndarray
    yaws: np.ndarray
    colors: np.ndarray

    def __post_init__(self) -> None:
        """Checks every array."""
        for name, shape in (("positions", (CUBES, 2)), ("yaws", (CUBES,)), ("colors", (CUBES,))):
            array = _numbers(f"layout.{name}", getattr(self, name), shape, "iu" if name == "colors" else "iuf")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        places = self.positions
        if (places < PLACE_LOW).any() or (places > PLACE_HIGH).any():
            (x, y), (far_x, far_y) = PLACE_LOW, PLACE_HIGH
            raise ValueError(
                f"layout.positions={shown(places.tolist())}; accepted: x from {x:g} to {far_x:g} and y from {y:g} to "
                f"{far_y:g} m, where the hand reaches"
            )
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[~np.eye(CUBES, dtype=bool)]
        if gaps.min() < APART:
            raise ValueError(f"layout.positions={shown(places.tolist())}; accepted: centers at least {APART:g} m apart")
        if np.abs(self.yaws).max() > np.pi:
            raise ValueError(f"layout.yaws={shown(self.yaws.tolist())}; accepted: -pi to pi")
        if len(set(self.colors.tolist())) < CUBES or not set(self.colors.tolist()) <= set(range(len(COLORS))):
            raise ValueError(
                f"layout.colors={self.colors.tolist()}; accepted: {CUBES} different ones of 0 to {len(COLORS) - 1}"
            )

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Layout:
        """Draws three cubes of different colors at least `SPACING` apart."""
        while True:
            positions = rng.uniform(AREA_LOW, AREA_HIGH, (CUBES, 2))
            gaps = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
            if gaps[~np.eye(CUBES, dtype=bool)].min() >= SPACING:
                break
        return cls(
            positions,
            rng.uniform(-0.2, 0.2, CUBES),
            rng.permutation(len(COLORS))[:CUBES].astype(np.int64),
        )


def _numbers(name: str, value: object, shape: tuple[int, ...], kinds: str = "iuf") -> np.ndarray:
    """Returns finite numbers as a new array."""
    try:
        array = np.array(value)
        fits = array.shape == shape and array.dtype.kind in kinds and bool(np.isfinite(array).all())
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        raise ValueError(f"{name}={shown(value)}; accepted: {shape[0]} finite numbers, shape {shape}")
    return array


def _disconnect(client: int) -> None:
    if pybullet.isConnected(client):
        pybullet.disconnect(client)


class TableScene:
    """NICOL before the table, simulated; positions are in the right arm's frame, mirrored in y for the left."""

    def __init__(
        self,
        arm: Arm = "right",
        assisted_grasp: bool = False,
        physics: Physics | None = None,
        gui: bool = False,
    ) -> None:
        """Prepares a simulation; `reset` opens it.

        Args:
            arm: The arm that acts, "right" or "left".
            assisted_grasp: Fixes a cube to the palm while the closed hand encloses it.
            physics: Physical properties.
            gui: Opens PyBullet's window.

        Raises:
            RuntimeError: If the window has no display to open on.
        """
        self.arm, self.assisted_grasp, self.physics = arm, assisted_grasp, physics or Physics()
        if gui and sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
            raise RuntimeError(
                "render_mode='human' opens PyBullet's window and needs a display, and DISPLAY is not set; "
                "accepted without one: 'rgb_array' or None"
            )
        self.gui = gui
        self.client, self._resets = -1, 0
        self._closer: weakref.finalize | None = None
        self._grip: int | None = None

    def close(self) -> None:
        """Closes the simulation, as the end of the process or of this object does, too."""
        if self._closer is not None:
            self._closer()

    def _open(self) -> None:
        """Empties the simulation; every few times opens another, as an emptied one keeps 40 KB of every robot."""
        self._resets += 1
        if self._closer is not None and self._closer.alive and (self.gui or self._resets % RENEWED):
            pybullet.resetSimulation(physicsClientId=self.client)
            return
        self.close()
        self.client = pybullet.connect(pybullet.GUI if self.gui else pybullet.DIRECT)
        self._closer = weakref.finalize(self, _disconnect, self.client)

    # ------------------------------------------------------------------------------------------------ simulate

    def reset(self, layout: Layout, setpoint: np.ndarray) -> None:
        """Puts cubes and hand at their start and lets them settle for one control step.

        Args:
            layout: Where the cubes stand and their colors.
            setpoint: Grasp point (m) and closing of the hand, `(4,)`.
        """
        self._build(layout)
        self._joints, self._closing = self._solve(setpoint), float(setpoint[3])
        self.robot.set_arm(self.arm, self._joints)
        self.robot.close_hand(self.arm, motor(self._closing), at_once=True)
        self.step(setpoint)

    def step(self, setpoint: np.ndarray) -> None:
        """Brings the hand to a set-point `(4,)` within one control step of physics."""
        joints, closing = self._solve(setpoint), float(setpoint[3])
        self._touched: list[int] = []
        for part in np.arange(1, TARGETS + 1) / TARGETS:
            self.robot.set_arm_target(self.arm, self._joints + part * (joints - self._joints))
            self.robot.close_hand(self.arm, motor(self._closing + part * (closing - self._closing)))
            for _ in range(SUBSTEPS // TARGETS):
                pybullet.stepSimulation(physicsClientId=self.client)
            self._touched += [i for i in range(CUBES) if i not in self._touched and self._touches(i)]
        self._joints, self._closing = joints, closing
        if self.assisted_grasp:
            self._assist()

    def place_cube(self, cube: int, place: np.ndarray) -> None:
        """Puts a cube elsewhere on the table, or beside it, at `place` `(2,)` in m, without a way there."""
        body = self._cubes[cube]
        center, turn = pybullet.getBasePositionAndOrientation(body, physicsClientId=self.client)
        moved = mirror(np.array([*place, center[2]]), self.arm)
        pybullet.resetBasePositionAndOrientation(body, moved.tolist(), turn, physicsClientId=self.client)

    # ------------------------------------------------------------------------------------------------- observe

    def objects(self) -> np.ndarray:
        """Returns the cubes' centers `(3, 3)` in m."""
        poses = [pybullet.getBasePositionAndOrientation(cube, physicsClientId=self.client) for cube in self._cubes]
        return mirror(np.array([position for position, _ in poses]), self.arm)

    def hand(self) -> np.ndarray:
        """Returns the grasp point `(3,)` in m."""
        return mirror(self.robot.hand_pose(self.arm)[0], self.arm)

    def touched(self) -> list[int]:
        """Returns the cubes that the robot touched in the last control step, in the order of contact."""
        return list(self._touched)

    def held(self, index: int) -> bool:
        """Tells whether a cube is in the hand and off the table."""
        return bool(in_hand(self.objects()[index], self.hand()))

    def sim_state(self, target: int, setpoint: np.ndarray, other: int | None = None) -> SimState:
        """Returns what a task may know, for the named cube or two and the set-point `(4,)` of the controller."""
        return SimState(self.objects(), target, self.hand(), setpoint, self.held(target), other)

    def picture(self, camera: str) -> np.ndarray:
        """Takes the picture `(H, W, 3)` uint8 of a camera of `CAMERAS`, or of NICOL's left eye ("eye")."""
        if camera == "eye":
            # Looks at the cubes without turning the head, which is welded: where it stands moves the last digits of the
            # base's mass, and with them contacts.
            eye, (x, y) = self.robot.frame_pose("left_eye_cam")[:3, 3], (AREA_LOW + AREA_HIGH) / 2
            view = Camera(tuple(eye), (x, self._y(y), TABLE_Z), (0.0, 0.0, 1.0), 75.0, (640, 480))
        else:
            view = CAMERAS[camera] if self.arm == "right" else CAMERAS[camera].mirrored()
        if camera == "workspace":
            (x, y, z), (dx, dy) = view.target, self.physics.camera_jitter
            (px, py, pz), (sx, sy, sz) = view.position, self.physics.camera_shift
            view = replace(view, position=(px + sx, py + sy, pz + sz), target=(x + dx, y + dy, z))
        return view.picture(self.client, self.physics.light, self.physics.brightness)

    # -------------------------------------------------------------------------------------------------- inside

    def _build(self, layout: Layout) -> None:
        """Builds the scene anew: reusing it would let the engine's caches carry a trace of earlier episodes."""
        self._open()
        client, physics = self.client, self.physics
        self._grip = None
        self.robot = Nicol(client, active_arms=(self.arm,), active_head=False)
        pybullet.setTimeStep(1 / (CONTROL_HZ * SUBSTEPS), physicsClientId=client)
        pybullet.changeDynamics(self.robot.table, -1, lateralFriction=physics.friction, physicsClientId=client)
        self._box(LINE_SIZE, (LINE_X, self._y(-0.18), TABLE_Z + LINE_SIZE[2] / 2), LINE_COLOR)
        size, z = (CUBE_SIZE,) * 3, TABLE_Z + CUBE_SIZE / 2
        self._cubes = [
            self._box(size, (x, self._y(y), z), COLORS[COLOR_NAMES[color]], self._y(yaw), physics.mass)
            for (x, y), yaw, color in zip(layout.positions, layout.yaws, layout.colors, strict=True)
        ]

    def _touches(self, index: int) -> bool:
        """Tells whether the robot presses on a cube now; Bullet's points without a force are near, not touching."""
        points = pybullet.getContactPoints(self.robot.body, self._cubes[index], physicsClientId=self.client)
        return any(point[9] > 0 for point in points)

    def _y(self, y: float) -> float:
        return -y if self.arm == "left" else y

    def _box(
        self,
        size: Sequence[float],
        position: Sequence[float],
        rgba: Sequence[float],
        yaw: float = 0.0,
        mass: float | None = None,
    ) -> int:
        """Adds a box; without a mass it is a picture on the table that nothing touches."""
        half, client = [side / 2 for side in size], self.client
        visual = pybullet.createVisualShape(pybullet.GEOM_BOX, halfExtents=half, rgbaColor=rgba, physicsClientId=client)
        if mass is None:
            return pybullet.createMultiBody(0, -1, visual, basePosition=position, physicsClientId=client)
        shape = pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half, physicsClientId=client)
        turn = pybullet.getQuaternionFromEuler((0, 0, yaw))
        body = pybullet.createMultiBody(mass, shape, visual, position, turn, physicsClientId=client)
        friction = self.physics.friction
        pybullet.changeDynamics(body, -1, lateralFriction=friction, spinningFriction=0.002, physicsClientId=client)
        return body

    def _solve(self, setpoint: np.ndarray) -> np.ndarray:
        """Arm joints for a set-point; the search starts at one rest pose, so the arm's shape is a function of it."""
        position = mirror(np.asarray(setpoint[:3], np.float64), self.arm)
        return self.robot.solve_ik(self.arm, position, ORIENTATION)

    def _assist(self) -> None:
        """Fixes the nearest cube to the palm while the hand is closed around it, and lets it go when it opens."""
        if self._closing < 0.5:
            self._release()
        elif self._grip is None:
            palm = self.robot.frame_pose(f"{side(self.arm)}_palm")
            link = self.robot.link(f"{side(self.arm)}_palm")
            for cube in self._cubes:
                position, turn = pybullet.getBasePositionAndOrientation(cube, physicsClientId=self.client)
                if np.linalg.norm(mirror(np.array(position), self.arm) - self.hand()) < ASSIST_DISTANCE:
                    rotation = np.array(pybullet.getMatrixFromQuaternion(turn)).reshape(3, 3)
                    offset = palm[:3, :3].T @ (np.array(position) - palm[:3, 3])
                    self._grip = pybullet.createConstraint(
                        self.robot.body,
                        link,
                        cube,
                        -1,
                        pybullet.JOINT_FIXED,
                        (0, 0, 0),
                        offset,
                        (0, 0, 0),
                        urdf.quaternion(palm[:3, :3].T @ rotation),
                        physicsClientId=self.client,
                    )
                    return

    def _release(self) -> None:
        if self._grip is not None:
            pybullet.removeConstraint(self._grip, physicsClientId=self.client)
            self._grip = None
