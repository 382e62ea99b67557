"""The simulated table-top scene: NICOL, the objects in front of it, the tape line, and the cameras."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources

import numpy as np

from dream_env.nicol import urdf
from dream_env.nicol.bullet import pybullet
from dream_env.nicol.camera import CAMERAS, Camera
from dream_env.nicol.constants import CONTROL_HZ, mirror
from dream_env.nicol.grasp import ORIENTATION, motor
from dream_env.nicol.kinematics import ARMS, Arm, side
from dream_env.nicol.layout import (
    AREA_HIGH,
    AREA_LOW,
    BAR_LENGTH,
    BAR_WEIGHT,
    NAMED,
    PALETTE,
    SHAPES,
    Layout,
)
from dream_env.nicol.physics import Physics
from dream_env.nicol.robot import Nicol
from dream_env.nicol.tasks.task import LINE_X, TABLE_Z, SimState, in_hand

SUBSTEPS = 24
"""Physics steps per control step; one physics step is 1/240 s."""
TARGETS = 4
"""Joint targets sent per control step, interpolated linearly between the old pose and the new one."""
LINE_SIZE, LINE_COLOR = (0.012, 0.50, 0.001), (0.35, 0.35, 0.38, 1.0)
"""Size (m) and color of the tape line."""
CLOTH_SIZE = (1.0, 2.0, 0.001)
"""Size of the visual-only sheet that changes the color of the table (m); it has no collision shape."""
RENEWED = 10
"""Number of resets after which a scene connects to a new PyBullet client."""
ASSIST_DISTANCE = 0.055
"""An assisted grasp takes a cube within this distance of the grasp point (m)."""


def _disconnect(client: int) -> None:
    if pybullet.isConnected(client):
        pybullet.disconnect(client)


class TableScene:
    """NICOL at the table, simulated in PyBullet.

    Positions are in the right arm's frame; they are mirrored in y if the left arm acts alone. With both arms,
    set-points are `(8,)` and grasp points `(6,)`: the right arm's, then the left arm's, both in the world frame.
    """

    def __init__(
        self,
        arm: Arm = "right",
        assisted_grasp: bool = False,
        physics: Physics | None = None,
        gui: bool = False,
        arms: int = 1,
    ) -> None:
        """Prepares a simulation; `reset` starts it.

        Args:
            arm: The arm that acts, "right" or "left"; "right" if both act.
            assisted_grasp: Whether to fix a cube to the palm while the closed hand encloses it.
            physics: Physical properties; None for the defaults.
            gui: Whether to open PyBullet's window.
            arms: Number of arms that act, 1 or 2.

        Raises:
            RuntimeError: If `gui` is set and there is no display.
        """
        self.arm, self.assisted_grasp, self.physics = arm, assisted_grasp, physics or Physics()
        self.arms: tuple[Arm, ...] = ARMS if arms == 2 else (arm,)
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
        """Closes the simulation; this also happens when the process ends or this object is garbage-collected."""
        if self._closer is not None:
            self._closer()

    def _open(self) -> None:
        """Empties the simulation, or opens a new one every `RENEWED` resets: emptying leaks 40 KB per robot."""
        self._resets += 1
        if self._closer is not None and self._closer.alive and (self.gui or self._resets % RENEWED):
            pybullet.resetSimulation(physicsClientId=self.client)
            return
        self.close()
        self.client = pybullet.connect(pybullet.GUI if self.gui else pybullet.DIRECT)
        self._closer = weakref.finalize(self, _disconnect, self.client)

    # ------------------------------------------------------------------------------------------------ simulate

    def reset(self, layout: Layout, setpoint: np.ndarray) -> None:
        """Places objects and hands at their initial positions and lets them settle for one control step.

        Args:
            layout: The objects and their positions.
            setpoint: Grasp point (m) and closing of each hand, `(4,)` or `(8,)`.
        """
        self._build(layout)
        self._joints, self._closing = self._solve(setpoint)
        for arm, joints, closing in zip(self.arms, self._joints, self._closing, strict=True):
            self.robot.set_arm(arm, joints)
            self.robot.close_hand(arm, motor(closing), at_once=True)
        self.step(setpoint)

    def step(self, setpoint: np.ndarray) -> None:
        """Simulates one control step in which each hand moves to its set-point, `(4,)` or `(8,)`."""
        joints, closing = self._solve(setpoint)
        self._touched: list[int] = []
        for part in np.arange(1, TARGETS + 1) / TARGETS:
            for i, arm in enumerate(self.arms):
                self.robot.set_arm_target(arm, self._joints[i] + part * (joints[i] - self._joints[i]))
                self.robot.close_hand(arm, motor(self._closing[i] + part * (closing[i] - self._closing[i])))
            for _ in range(SUBSTEPS // TARGETS):
                pybullet.stepSimulation(physicsClientId=self.client)
            self._touched += [i for i in range(len(self._cubes)) if i not in self._touched and self._touches(i)]
        self._joints, self._closing = joints, closing
        if self.assisted_grasp:
            self._assist()

    def snapshot(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Returns a snapshot of the simulation for `restore`, valid until the next reset.

        Use it to try out actions. Unlike `NicoLRealEnv.get_state` it needs no replay, but it does not contain the
        solver's memory of contacts, so the simulation continues slightly differently.
        """
        return pybullet.saveState(physicsClientId=self.client), self._joints, self._closing

    def restore(self, snapshot: tuple[int, np.ndarray, np.ndarray]) -> None:
        """Restores a snapshot."""
        state, self._joints, self._closing = snapshot
        pybullet.restoreState(state, physicsClientId=self.client)

    def place_cube(self, cube: int, place: np.ndarray) -> None:
        """Teleports a cube to the x and y of `place`, `(2,)` in m, on the table or outside it; its height stays."""
        body = self._cubes[cube]
        center, turn = pybullet.getBasePositionAndOrientation(body, physicsClientId=self.client)
        moved = mirror(np.array([*place, center[2]]), self.arm)
        pybullet.resetBasePositionAndOrientation(body, moved.tolist(), turn, physicsClientId=self.client)

    # ------------------------------------------------------------------------------------------------- observe

    def objects(self) -> np.ndarray:
        """Returns the objects' centers `(N, 3)` in m."""
        poses = [pybullet.getBasePositionAndOrientation(cube, physicsClientId=self.client) for cube in self._cubes]
        return mirror(np.array([position for position, _ in poses]), self.arm)

    def hand(self) -> np.ndarray:
        """Returns the grasp point of each hand, `(3,)` or `(6,)` in m."""
        return np.concatenate([mirror(self.robot.grasp_point(arm), self.arm) for arm in self.arms])

    def ends(self) -> np.ndarray | None:
        """Returns the right and left end of each object's long axis, `(N, 2, 3)` in m; None without a bar."""
        if not self._lengths.any():
            return None
        turns = [pybullet.getBasePositionAndOrientation(body, physicsClientId=self.client)[1] for body in self._cubes]
        axes = np.array([pybullet.getMatrixFromQuaternion(turn) for turn in turns]).reshape(-1, 3, 3)[..., 1]
        half = (self._lengths[:, None] / 2 * mirror(axes, self.arm))[:, None]
        return self.objects()[:, None] + np.concatenate([-half, half], axis=1)

    def touched(self) -> list[int]:
        """Returns the objects that the robot touched in the last control step, in the order of contact."""
        return list(self._touched)

    def held(self, index: int) -> bool:
        """Returns whether a cube is in the hand, or a bar in every hand, and off the table."""
        center, ends = self.objects()[index], self.ends()
        if ends is not None:  # use the point on the bar's axis that is nearest to each hand
            axis, hands = ends[index, 1] - ends[index, 0], self.hand().reshape(-1, 3)
            along = np.clip((hands - center) @ axis / max(axis @ axis, 1e-9), -0.5, 0.5)
            return bool(in_hand(center + along[:, None] * axis, hands, float(self._sizes[index])).all())
        return bool(in_hand(center, self.hand(), float(self._sizes[index])))

    def speeds(self) -> np.ndarray:
        """Returns the objects' speeds `(N,)` in m/s."""
        moves = [pybullet.getBaseVelocity(cube, physicsClientId=self.client)[0] for cube in self._cubes]
        return np.linalg.norm(moves, axis=-1)

    def sim_state(
        self, target: int, setpoint: np.ndarray, other: int | None = None, goals: np.ndarray | None = None
    ) -> SimState:
        """Returns the simulator's state in the form that tasks use.

        Args:
            target: Index of the object that the instruction names first.
            setpoint: The controller's set-point, `(4,)` or `(8,)`.
            other: Index of the second named cube.
            goals: Goal positions of the named cubes, `(1, 2)` or `(2, 2)` in m.
        """
        return SimState(
            self.objects(),
            target,
            self.hand(),
            setpoint,
            self.held(target),
            other,
            goals,
            self._sizes,
            self.speeds(),
            tuple(self._touched),
            self.ends(),
        )

    def picture(self, camera: str) -> np.ndarray:
        """Renders the image `(H, W, 3)` uint8 of a camera of `CAMERAS`, or of NICOL's left eye ("eye").

        "workspace", the policy's camera, has another pose if both arms act.
        """
        if camera == "eye":
            # Looks at the cubes without turning the head, which is fixed: its angles would change the last digits of
            # the base's mass, and with them the contacts.
            eye, (x, y) = self.robot.frame_pose("left_eye_cam")[:3, 3], (AREA_LOW + AREA_HIGH) / 2
            view = Camera(tuple(eye), (x, self._y(y), TABLE_Z), (0.0, 0.0, 1.0), 75.0, (640, 480))
        else:
            named = "workspace_both" if camera == "workspace" and len(self.arms) == 2 else camera
            view = CAMERAS[named] if self.arm == "right" else CAMERAS[named].mirrored()
        if camera == "workspace":
            (x, y, z), (dx, dy) = view.target, self.physics.camera_jitter
            (px, py, pz), (sx, sy, sz) = view.position, self.physics.camera_shift
            view = replace(view, position=(px + sx, py + sy, pz + sz), target=(x + dx, y + dy, z))
        return view.picture(self.client, self.physics.light, self.physics.brightness, self.physics.shadow)

    # -------------------------------------------------------------------------------------------------- inside

    def _build(self, layout: Layout) -> None:
        """Builds the scene from scratch: if it were reused, the engine's caches would depend on earlier episodes."""
        self._open()
        client, physics = self.client, self.physics
        self._grip = None
        self.robot = Nicol(client, active_arms=self.arms, active_head=False)
        pybullet.setTimeStep(1 / (CONTROL_HZ * SUBSTEPS), physicsClientId=client)
        pybullet.changeDynamics(self.robot.table, -1, lateralFriction=physics.friction, physicsClientId=client)
        if len(self.arms) == 1:  # only tasks for one arm use the line
            self._box(LINE_SIZE, (LINE_X, self._y(-0.18), TABLE_Z + LINE_SIZE[2] / 2), LINE_COLOR)
        if physics.table is not None:
            self._lay_cloth(physics.table, physics.texture)
        assert layout.shapes is not None and layout.sizes is not None
        self._sizes = layout.sizes
        self._lengths = np.where(layout.shapes == SHAPES.index("bar"), BAR_LENGTH, 0.0)
        self._cubes = [self._add_object(layout, i) for i in range(len(layout))]

    def _touches(self, index: int) -> bool:
        """Returns whether the robot touches an object now; Bullet's contact points without a force are only near."""
        points = pybullet.getContactPoints(self.robot.body, self._cubes[index], physicsClientId=self.client)
        return any(point[9] > 0 for point in points)

    def _y(self, y: float) -> float:
        return -y if self.arm == "left" else y

    def _box(self, size: Sequence[float], position: Sequence[float], rgba: Sequence[float]) -> int:
        """Adds a visual-only box without a collision shape."""
        half, client = [side / 2 for side in size], self.client
        visual = pybullet.createVisualShape(pybullet.GEOM_BOX, halfExtents=half, rgbaColor=rgba, physicsClientId=client)
        return pybullet.createMultiBody(0, -1, visual, basePosition=position, physicsClientId=client)

    def _lay_cloth(self, color: tuple[float, float, float], texture: str) -> None:
        """Covers the table with a sheet of another color and pattern."""
        cloth = self._box(CLOTH_SIZE, (CLOTH_SIZE[0] / 2, 0.0, TABLE_Z - CLOTH_SIZE[2] / 2 + 3e-4), (*color, 1.0))
        if texture != "plain":
            file = str(resources.files("dream_env.assets") / "nicol" / "textures" / f"{texture}.png")
            pattern = pybullet.loadTexture(file, physicsClientId=self.client)
            pybullet.changeVisualShape(cloth, -1, textureUniqueId=pattern, physicsClientId=self.client)

    def _add_object(self, layout: Layout, index: int) -> int:
        """Adds an object of a layout on the table; returns its PyBullet id."""
        assert layout.shapes is not None and layout.sizes is not None
        client, physics, size = self.client, self.physics, float(layout.sizes[index])
        (x, y), yaw, rgba = layout.positions[index], self._y(layout.yaws[index]), PALETTE[layout.colors[index]]
        kind = SHAPES[layout.shapes[index]]
        form: dict[str, object] = {"shapeType": pybullet.GEOM_BOX, "halfExtents": [size / 2] * 3}
        length = {}
        if kind == "bar":
            form["halfExtents"] = [size / 2, BAR_LENGTH / 2, size / 2]
        elif kind != "cube":
            form = {"shapeType": pybullet.GEOM_SPHERE if kind == "ball" else pybullet.GEOM_CYLINDER, "radius": size / 2}
        if kind == "cylinder":
            length = {"length": size}
        visual = pybullet.createVisualShape(**form, **length, rgbaColor=rgba, physicsClientId=client)
        collider = pybullet.createCollisionShape(**form, **({"height": size} if length else {}), physicsClientId=client)
        place, turn = (x, self._y(y), TABLE_Z + size / 2), pybullet.getQuaternionFromEuler((0, 0, yaw))
        mass = physics.mass * (BAR_WEIGHT if kind == "bar" else 1.0)
        body = pybullet.createMultiBody(mass, collider, visual, place, turn, physicsClientId=client)
        rolling = {} if kind in NAMED else {"rollingFriction": 0.002}
        pybullet.changeDynamics(
            body, -1, lateralFriction=physics.friction, spinningFriction=0.002, **rolling, physicsClientId=client
        )
        return body

    def _solve(self, setpoint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns arm joint angles `(A, 8)` and hand closings `(A,)` of a set-point.

        The search always starts at the same rest pose, so the joint angles depend on the set-point only.
        """
        hands = np.asarray(setpoint, np.float64).reshape(len(self.arms), -1)
        places = mirror(hands[:, :3], self.arm)
        joints = [self.robot.solve_ik(arm, place, ORIENTATION) for arm, place in zip(self.arms, places, strict=True)]
        return np.stack(joints), hands[:, 3]

    def _assist(self) -> None:
        """Fixes a cube within `ASSIST_DISTANCE` to the palm while the hand is closed; releases it when it opens."""
        if self._closing[0] < 0.5:
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
