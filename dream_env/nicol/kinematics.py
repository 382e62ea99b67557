"""Forward and inverse kinematics of NICOL's arms (eight joints each), without a simulator.

Inverse kinematics is solved by damped least squares (Wampler 1986; Nakamura and Hanafusa 1986) over the six arm and two
wrist joints, within their limits. The search starts from a given rest pose, so the result depends only on the target
pose and the rest pose.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dream_env.nicol import urdf, urdf_data

Arm = Literal["right", "left"]
ARMS: tuple[Arm, ...] = get_args(Arm)
"""Both arms, in the order in which they appear in set-points and actions."""
Array = NDArray[np.float64]

MIRROR = np.array([-1.0, 1.0, 1.0, -1.0, 1.0, -1.0, -1.0, 1.0])
"""Joint signs that convert a right arm's joint angles to their mirror image on the left arm."""
HOME = np.array([1.57, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
"""Home position of the right arm (rad): upper arm to the side, forearm and hand forward."""
READY = np.array([1.28, 0.08, 0.48, -0.92, 0.07, -0.62, 0.61, 0.02])
"""Right arm with the hand over the table, as for a grasp (rad): default start of the inverse kinematics search."""
POSITION_TOLERANCE, ANGLE_TOLERANCE = 5e-5, 5e-4  # m, rad: the search stops below both
_ANGLE_WEIGHT = 0.3  # weight of the orientation error, in meters per radian
_STEPS = 60
_DAMPING = 1e-6
_MAX_STEP = 0.6  # rad per iteration
_RESTARTS = 6


_SIDES: dict[str, Literal["r", "l"]] = {"right": "r", "left": "l"}


def side(arm: str) -> Literal["r", "l"]:
    """Returns the prefix of an arm's links and joints in the URDF.

    Raises:
        ValueError: If `arm` is neither "right" nor "left".
    """
    if arm not in _SIDES:
        raise ValueError(f"arm={arm!r} is not known; accepted: {', '.join(map(repr, _SIDES))}")
    return _SIDES[arm]


def mirrored(arm: str, joints: Array) -> Array:
    """Returns a right arm's joint angles (8,) for `arm`: a copy, or mirrored for the left arm."""
    return joints * MIRROR if side(arm) == "l" else joints.copy()


def matrix_from_quaternion(quaternion: ArrayLike) -> Array:
    """Returns the rotation matrix (3, 3) of a quaternion (x, y, z, w), which need not be normalized."""
    q = np.asarray(quaternion, np.float64)
    x, y, z, w = q / np.sqrt(q @ q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


class ArmKinematics:
    """Kinematics of one arm, from the world frame to a tip frame that is fixed in the palm.

    Attributes:
        low: Lower joint limits, (8,) rad.
        high: Upper joint limits, (8,) rad.
        rest: Joint angles from which `inverse` starts by default, (8,) rad.
        tip: Pose (4, 4) of the tip in the palm's frame.
    """

    def __init__(self, arm: Arm, tip: Array | None = None) -> None:
        """Prepares the kinematic chain.

        Args:
            arm: "right" or "left".
            tip: Pose (4, 4) of the tip in the palm's frame; None for the `laser` frame.
        """
        prefix = side(arm)
        mount, *joints = urdf_data.arm_joints(prefix)
        laser = next(j for j in urdf_data.hand_joints(prefix) if j.child == f"{prefix}_laser")
        self.low = np.array([j.limits[0] for j in joints])
        self.high = np.array([j.limits[1] for j in joints])
        self.rest = mirrored(arm, READY)
        self.tip = urdf.transform(laser.xyz, urdf.rotation(laser.rpy)) if tip is None else tip
        base = urdf.transform((0, 0, urdf_data.TABLE_HEIGHT), np.eye(3)) @ urdf.transform(
            mount.xyz, urdf.rotation(mount.rpy)
        )
        # A joint's local transform is constant + sin(q) sine + cos(q) cosine (Rodrigues' formula).
        self._constant, self._sine, self._cosine = np.zeros((3, 8, 4, 4))
        for i, joint in enumerate(joints):
            assert joint.axis is not None
            origin = urdf.transform(joint.xyz, urdf.rotation(joint.rpy))
            if i == 0:
                origin = base @ origin
            k = np.zeros((4, 4))
            k[:3, :3] = urdf.axis_rotation(joint.axis, np.pi / 2)
            outer = np.zeros((4, 4))
            outer[:3, :3] = np.outer(joint.axis, joint.axis)
            skew = k - outer
            self._constant[i] = origin @ (outer + np.diag([0.0, 0.0, 0.0, 1.0]))
            self._sine[i] = origin @ skew
            self._cosine[i] = -origin @ skew @ skew
        self._axes = np.array([int(np.argmax(np.array(j.axis))) for j in joints])
        self._rows = np.arange(8)
        generator = np.random.default_rng(0)
        self._seeds = [self.rest, *generator.uniform(self.low, self.high, (_RESTARTS, 8))]

    def forward(self, joints: ArrayLike) -> Array:
        """Returns the pose (4, 4) of the tip in the world at joint angles (8,) rad."""
        return self._chain(np.asarray(joints, np.float64))[-1] @ self.tip

    def _chain(self, q: Array) -> Array:
        """Returns the world poses (8, 4, 4) of the joints' child links."""
        local = self._constant + np.sin(q)[:, None, None] * self._sine + np.cos(q)[:, None, None] * self._cosine
        for i in range(1, 8):
            np.dot(local[i - 1], local[i], out=local[i])
        return local

    def _linearize(self, q: Array, position: Array, turn: Array) -> tuple[Array, Array, float, float]:
        """Returns the weighted error (6,) to the target, the Jacobian (6, 8), and the errors in m and rad."""
        chain = self._chain(q)
        tip = chain[-1] @ self.tip
        delta = position - tip[:3, 3]
        relative = turn @ tip[:3, :3].T
        spin = np.array(
            [
                relative[2, 1] - relative[1, 2],
                relative[0, 2] - relative[2, 0],
                relative[1, 0] - relative[0, 1],
            ]
        )
        sine2 = float(np.sqrt(spin @ spin))
        angle = float(np.arctan2(sine2, relative[0, 0] + relative[1, 1] + relative[2, 2] - 1.0))
        spin *= angle / sine2 if sine2 > 1e-12 else 0.5
        axes = chain[self._rows, :3, self._axes]
        arms = tip[:3, 3] - chain[:, :3, 3]
        jacobian = np.empty((6, 8))
        jacobian[0] = axes[:, 1] * arms[:, 2] - axes[:, 2] * arms[:, 1]
        jacobian[1] = axes[:, 2] * arms[:, 0] - axes[:, 0] * arms[:, 2]
        jacobian[2] = axes[:, 0] * arms[:, 1] - axes[:, 1] * arms[:, 0]
        jacobian[3:] = _ANGLE_WEIGHT * axes.T
        return (
            np.concatenate([delta, _ANGLE_WEIGHT * spin]),
            jacobian,
            float(np.sqrt(delta @ delta)),
            angle,
        )

    def _search(self, q: Array, position: Array, turn: Array) -> tuple[Array, float]:
        """Runs damped least squares from `q`; returns the best joint angles and their squared weighted error."""
        best, least = q, np.inf
        for _ in range(_STEPS):
            error, jacobian, distance, angle = self._linearize(q, position, turn)
            total = float(error @ error)
            if total < least:
                best, least = q, total
            if distance < POSITION_TOLERANCE and angle < ANGLE_TOLERANCE:
                break
            free = np.ones(8)
            for _ in range(3):  # a joint that would exceed its limit is fixed, and the others are solved again
                active = jacobian * free
                square = active @ active.T
                square.flat[::7] += _DAMPING + 1e-2 * total
                step = active.T @ np.linalg.solve(square, error)
                blocked = ((q + step < self.low) & (q <= self.low)) | ((q + step > self.high) & (q >= self.high))
                if not (blocked & (free > 0)).any():
                    break
                free[blocked] = 0.0
            largest = float(np.abs(step).max())
            if largest > _MAX_STEP:
                step *= _MAX_STEP / largest
            q = np.clip(q + step, self.low, self.high)
        return best, least

    def inverse(self, position: ArrayLike, orientation: ArrayLike, rest: ArrayLike | None = None) -> Array:
        """Computes joint angles that bring the tip to a pose, as closely as joint limits and reach allow.

        Args:
            position: Target position in the world, (3,) m.
            orientation: Target quaternion (x, y, z, w).
            rest: Joint angles (8,) from which the search starts; None for `self.rest`.

        Returns:
            Joint angles (8,) rad within the limits.

        Raises:
            ValueError: If position or orientation are not finite numbers of the right length, or all zero.
        """
        position, orientation = (
            np.asarray(position, np.float64),
            np.asarray(orientation, np.float64),
        )
        for name, value, length in (("position", position, 3), ("orientation", orientation, 4)):
            if value.shape != (length,) or not np.isfinite(value).all() or not value.any():
                raise ValueError(f"{name}={value} is not valid; accepted: {length} finite numbers, not all zero")
        turn = matrix_from_quaternion(orientation)
        best, least = self.rest, np.inf
        for seed in self._seeds if rest is None else [np.asarray(rest, np.float64), *self._seeds]:
            joints, error = self._search(np.clip(seed, self.low, self.high), position, turn)
            if error < least:
                best, least = joints, error
            if least < POSITION_TOLERANCE**2 + (_ANGLE_WEIGHT * ANGLE_TOLERANCE) ** 2:
                break
        return best
