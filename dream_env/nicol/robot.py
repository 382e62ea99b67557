"""NICOL in a PyBullet client: position-controlled arms, tendon-driven hands, and a head that can be turned.

Joints that a simulation never moves are fixed when the robot is loaded (`urdf.merged`), because the cost of a PyBullet
substep grows with the square of the number of degrees of freedom. Links of an arm and its hand do not collide with each
other, and links of the trunk and head do not collide with each other or with the table; all other pairs collide.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dream_env.nicol import urdf, urdf_data
from dream_env.nicol.bullet import pybullet as p
from dream_env.nicol.grasp import GRASP_POINT, THUMB_ABDUCTION
from dream_env.nicol.kinematics import HOME, Arm, ArmKinematics, mirrored, side

Array = NDArray[np.float64]

HEAD_HOME = (0.0, 0.5)
"""Yaw and pitch of the head in the home position (rad), the neutral pose of the Chatty demos."""
TIME_STEP = 1.0 / 240.0
SOLVER_ITERATIONS = 20
FINGER_GAIN, THUMB_GAIN = 0.45 * 2 * np.pi, 0.35 * 2 * np.pi
"""Summed joint travel (rad) of a finger and of the thumb over the motor's full range, measured on NICOL."""
_ARM_GAIN, _HAND_GAIN = 0.2, 0.2  # fraction of the position error that a motor removes in one substep
_FRICTION = {"hand": 1.3, "table": 1.0}
# Collision groups: PyBullet's defaults for free (1) and static (2) bodies, then the robot's trunk and its two sides.
_FREE, _STATIC, _BODY, _SIDE = 1, 2, 4, {"r": 8, "l": 16}


def tendon(closing: float, limits: ArrayLike, gain: float, order: tuple[int, ...] = (0, 1, 2)) -> Array:
    """Returns the joint angles (3,) of a finger whose tendon bends one joint after another.

    Args:
        closing: Motor position, 0 open to 1 closed.
        limits: Upper limits of proximal, middle and tip joint, (3,) rad.
        gain: Summed joint travel at closing 1 (rad).
        order: Order in which the joints bend. Fingers bend the proximal joint first, the thumb its middle joint.
    """
    limits, angles, left = (
        np.asarray(limits, np.float64),
        np.zeros(3),
        gain * float(np.clip(closing, 0.0, 1.0)),
    )
    for joint in order:
        angles[joint] = min(left, limits[joint])
        left -= angles[joint]
    return angles


def hand_targets(closing: float, thumb_abduction: float = THUMB_ABDUCTION) -> dict[str, float]:
    """Returns the angles (rad) of a hand's 16 joints at a common closing of all tendons in [0, 1].

    The names have no prefix for the side.
    """
    thumb = tendon(closing, urdf_data.THUMB_LIMITS, THUMB_GAIN, (1, 0, 2))
    finger = tendon(closing, urdf_data.FINGER_LIMITS, FINGER_GAIN)
    targets = {"jointT0": thumb_abduction}
    for name in ("T", *urdf_data.FINGERS):
        angles = thumb if name == "T" else finger
        targets |= {f"joint{name}{i}": float(angle) for i, angle in enumerate(angles, start=1)}
    return targets


def _home() -> dict[str, float]:
    """Returns the angle of every joint in the home position (rad)."""
    home = {j.name: 0.0 for j in urdf_data.all_joints() if j.axis is not None}
    home["joint_head_z"], home["joint_head_y"] = HEAD_HOME
    for arm in ("right", "left"):
        home |= {f"{side(arm)}_joint{i}": float(q) for i, q in enumerate(mirrored(arm, HOME), start=1)}
        home |= {f"{side(arm)}_{name}": angle for name, angle in hand_targets(0.0).items()}
    return home


@lru_cache
def _welded(arms: tuple[Arm, ...], active_head: bool, active_tips: bool) -> tuple[urdf.Model, str]:
    """Returns NICOL with inactive joints fixed at their home angles, and its URDF text.

    The result is cached because the robot is loaded again in every episode. See `Nicol` for the arguments.
    """
    active = {side(arm) for arm in arms}
    frozen = {
        name: angle
        for name, angle in _home().items()
        if (name[0] not in active if "head" not in name else not active_head)
        or (not active_tips and name[-1] == "3" and name[-2] in "TIMRL")
    }
    model = urdf.merged(frozen, without_collision=("plate_link",))
    return model, model.to_xml()


class Nicol:
    """The robot, loaded into a connected PyBullet client.

    Attributes:
        body: PyBullet id of the robot.
        table: PyBullet id of the table plate, a separate static body.
        joints: Index of every movable joint by name.
        kinematics: `ArmKinematics` of each arm, with the grasp point as the tip.
    """

    def __init__(
        self,
        client: int,
        active_arms: Collection[Arm] = ("right", "left"),
        active_head: bool = True,
        active_tips: bool = False,
    ) -> None:
        """Loads NICOL in its home position.

        Args:
            client: Id of a connected PyBullet client.
            active_arms: Arms that can move; the joints of any other arm are fixed in the home position.
            active_head: Whether the head can move.
            active_tips: Whether the outermost joint of each digit can bend. On the real hand it hardly bends (0.0 to
                0.1 rad, middle finger 0.5). With this joint fixed, physics is faster and the grasp of `nicol.grasp`,
                which was found in that setting, is firmer.

        Raises:
            ValueError: If an arm is not "right" or "left".
        """
        self.client = client
        self.arms = tuple(active_arms)
        model, xml = _welded(self.arms, active_head, active_tips)
        self._frames = model.frames
        self.body = self._load(xml)
        self.joints: dict[str, int] = {}
        self._links = {"world": -1}
        for index in range(p.getNumJoints(self.body, physicsClientId=client)):
            info = p.getJointInfo(self.body, index, physicsClientId=client)
            self.joints[info[1].decode()] = index
            self._links[info[12].decode()] = index
        self._effort = {j.name: j.effort for j in model.joints}
        home = _home()
        self._rest = {name: home[name] for name in self.joints}
        grasp = urdf.transform(GRASP_POINT, urdf.rotation((0, 0, np.pi)))
        mirror = np.diag([1.0, 1.0, -1.0, 1.0])
        self.kinematics = {
            "right": ArmKinematics("right", grasp),
            "left": ArmKinematics("left", urdf.transform(mirror[:3, :3] @ GRASP_POINT, grasp[:3, :3])),
        }
        p.setPhysicsEngineParameter(
            fixedTimeStep=TIME_STEP, numSolverIterations=SOLVER_ITERATIONS, physicsClientId=client
        )
        p.setGravity(0, 0, -9.81, physicsClientId=client)
        self.table = self._add_table()
        self._set_contacts()
        self.home()

    def _load(self, xml: str) -> int:
        flags = p.URDF_USE_SELF_COLLISION | p.URDF_USE_INERTIA_FROM_FILE
        handle, path = tempfile.mkstemp(suffix=".urdf")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(xml)
            return p.loadURDF(path, useFixedBase=True, flags=flags, physicsClientId=self.client)
        finally:
            os.remove(path)

    def _add_table(self) -> int:
        """Adds the table plate as a static body: contacts with it are much cheaper than with a link of the robot."""
        (plate,) = urdf_data.link_table("plate_link")[1]
        center = np.add(plate.xyz, (0, 0, urdf_data.TABLE_HEIGHT))
        shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=np.array(plate.size) / 2, physicsClientId=self.client)
        table = p.createMultiBody(0, shape, basePosition=center, physicsClientId=self.client)
        p.changeVisualShape(table, -1, rgbaColor=(0, 0, 0, 0), physicsClientId=self.client)
        return table

    def _set_contacts(self) -> None:
        c = self.client
        p.setCollisionFilterGroupMask(self.table, -1, _STATIC, ~_BODY, physicsClientId=c)
        p.changeDynamics(self.table, -1, lateralFriction=_FRICTION["table"], physicsClientId=c)
        for name, link in self._links.items():
            group = _SIDE.get(name[0] if name[1] == "_" else "", _BODY)
            mask = (_FREE | _BODY | _SIDE["r"] | _SIDE["l"]) & ~group
            if group != _BODY:
                mask |= _STATIC
            p.setCollisionFilterGroupMask(self.body, link, group, mask, physicsClientId=c)
            p.changeDynamics(self.body, link, lateralFriction=_FRICTION["hand"], physicsClientId=c)

    def home(self) -> None:
        """Resets every joint to its home angle with zero velocity, and holds it there."""
        for name, index in self.joints.items():
            p.resetJointState(self.body, index, self._rest[name], physicsClientId=self.client)
        self._hold(self._rest, _ARM_GAIN)

    def _hold(self, targets: dict[str, float], gain: float) -> None:
        names = [name for name in targets if name in self.joints]
        p.setJointMotorControlArray(
            self.body,
            [self.joints[name] for name in names],
            p.POSITION_CONTROL,
            targetPositions=[targets[name] for name in names],
            forces=[self._effort[name] for name in names],
            positionGains=[gain] * len(names),
            physicsClientId=self.client,
        )

    def _arm_names(self, arm: Arm) -> list[str]:
        if side(arm) not in {side(a) for a in self.arms}:
            raise ValueError(f"arm={arm!r} is welded; accepted: the active arms {self.arms}")
        return [f"{side(arm)}_joint{i}" for i in range(1, 9)]

    def arm_joints(self, arm: Arm) -> Array:
        """Returns the angles of an arm's joints, (8,) rad."""
        indices = [self.joints[name] for name in self._arm_names(arm)]
        return np.array([s[0] for s in p.getJointStates(self.body, indices, physicsClientId=self.client)])

    def set_arm(self, arm: Arm, joints: ArrayLike) -> None:
        """Resets an arm to joint angles (8,) rad with zero velocity, and holds it there."""
        for name, angle in zip(self._arm_names(arm), np.asarray(joints, np.float64), strict=True):
            p.resetJointState(self.body, self.joints[name], angle, physicsClientId=self.client)
        self.set_arm_target(arm, joints)

    def set_arm_target(self, arm: Arm, joints: ArrayLike) -> None:
        """Sets the target angles (8,) rad of an arm's motors, clipped to the joint limits."""
        chain = self.kinematics[arm]
        angles = np.clip(np.asarray(joints, np.float64), chain.low, chain.high)
        self._hold(dict(zip(self._arm_names(arm), angles.tolist(), strict=True)), _ARM_GAIN)

    def close_hand(
        self,
        arm: Arm,
        closing: float,
        thumb_abduction: float = THUMB_ABDUCTION,
        at_once: bool = False,
    ) -> None:
        """Drives all digits of a hand by their tendons; the motors have limited effort and stop at an object.

        Args:
            arm: "right" or "left".
            closing: 0 open to 1 closed.
            thumb_abduction: Angle of the thumb's base joint (rad); by default the thumb opposes the fingers.
            at_once: Resets the joints to the target angles instead of only driving them there.
        """
        self._arm_names(arm)
        targets = {f"{side(arm)}_{name}": angle for name, angle in hand_targets(closing, thumb_abduction).items()}
        if at_once:
            for name in targets.keys() & self.joints.keys():
                p.resetJointState(self.body, self.joints[name], targets[name], physicsClientId=self.client)
        self._hold(targets, _HAND_GAIN)

    def look_at(self, point: ArrayLike) -> None:
        """Turns the head so that the eyes look at a world point (3,) m."""
        if "joint_head_z" not in self.joints:
            raise ValueError("active_head=False welded the head; accepted: a Nicol with active_head=True")
        yaw_axis = np.array([0.187, -0.001, 0.425 + 0.1415 + 0.0605 + urdf_data.TABLE_HEIGHT])
        x, y, z = np.asarray(point, np.float64) - yaw_axis
        distance = float(np.hypot(x, y))
        # The eyes are 0.0985 m above the pitch axis, so the head has to pitch down by this angle in addition.
        lift = np.arcsin(np.clip(0.0985 / max(np.hypot(distance - 0.007, z), 0.2), 0, 1))
        yaw, pitch = float(np.arctan2(y, x)), float(-np.arctan2(z, distance - 0.007) + lift)
        self._hold(
            {
                "joint_head_z": np.clip(yaw, -1.57, 1.57),
                "joint_head_y": np.clip(pitch, -0.583, 1.282),
            },
            _ARM_GAIN,
        )

    def link(self, name: str) -> int:
        """Returns PyBullet's index of the link that a link of NICOL's URDF is merged into; -1 for the fixed base."""
        self._check_frame(name)
        return self._links[self._frames[name][0]]

    def _check_frame(self, frame: str) -> None:
        if frame not in self._frames:
            raise ValueError(f"frame={frame!r} is not known; accepted: a link name of NICOL's URDF")

    def frame_pose(self, frame: str) -> Array:
        """Returns the world pose (4, 4) of any link of NICOL's URDF, including merged ones such as `left_eye_cam`.

        Raises:
            ValueError: If NICOL has no such link.
        """
        self._check_frame(frame)
        carrier, offset = self._frames[frame]
        if carrier == "world":
            return offset.copy()
        state = p.getLinkState(self.body, self._links[carrier], computeForwardKinematics=1, physicsClientId=self.client)
        turn = np.array(p.getMatrixFromQuaternion(state[5])).reshape(3, 3)
        return urdf.transform(state[4], turn) @ offset

    def hand_pose(self, arm: Arm, frame: str = "grasp") -> tuple[Array, Array]:
        """Returns a hand's position (3,) m and quaternion (x, y, z, w) in the world.

        Args:
            arm: "right" or "left".
            frame: "grasp" for the grasp point between thumb and fingers, which is the tip of `solve_ik`; or "laser" for
                NICOL's palm sensor. Both have x along the palm's normal and -y along the fingers.
        """
        if frame == "grasp":
            pose = self._grasp(arm)
        elif frame == "laser":
            pose = self.frame_pose(f"{side(arm)}_laser")
        else:
            raise ValueError(f"frame={frame!r} is not known; accepted: 'grasp', 'laser'")
        return pose[:3, 3].copy(), urdf.quaternion(pose[:3, :3])

    def grasp_point(self, arm: Arm) -> Array:
        """Returns the position of a hand's grasp point in the world, (3,) m; see `hand_pose`."""
        return self._grasp(arm)[:3, 3].copy()

    def _grasp(self, arm: Arm) -> Array:
        return self.frame_pose(f"{side(arm)}_palm") @ self.kinematics[arm].tip

    def solve_ik(self, arm: Arm, position: ArrayLike, orientation: ArrayLike, rest: ArrayLike | None = None) -> Array:
        """Computes joint angles (8,) rad that bring the grasp point to a world pose; see `ArmKinematics.inverse`."""
        side(arm)
        return self.kinematics[arm].inverse(position, orientation, rest)
