"""Writes NICOL's URDF from `dream_env.nicol.urdf_data`: `python -m dream_env.nicol.urdf [path]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import pi
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dream_env.files import replacing
from dream_env.nicol.urdf_data import COLORS, ZERO, Joint, Shape, Triple, all_joints, link_table

URDF_PATH = Path(__file__).resolve().parents[2] / "assets" / "nicol" / "nicol.urdf"
INERTIA_FLOOR = 1e-6
"""Smallest principal inertia of a link (kg m^2); smaller values of the finger links would make the solver stiff."""


# ------------------------------------------------------------------------------------------ geometry
def rotation(rpy: Triple) -> NDArray[np.float64]:
    """Returns the rotation matrix (3, 3) of URDF roll, pitch, yaw (rad, fixed axes)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def axis_rotation(axis: Triple, angle: float) -> NDArray[np.float64]:
    """Returns the rotation matrix (3, 3) by `angle` (rad) about a unit `axis` (Rodrigues' formula)."""
    x, y, z = axis
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * k + (1.0 - np.cos(angle)) * (k @ k)


def roll_pitch_yaw(matrix: NDArray[np.float64]) -> Triple:
    """Returns roll, pitch and yaw of a rotation matrix: the inverse of `rotation`.

    It is exact for a pitch in (-pi/2, pi/2); at a pitch of -pi/2 or pi/2, yaw is set to 0.
    """
    horizontal = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    pitch = float(np.arctan2(-matrix[2, 0], horizontal))
    if horizontal < 1e-9:
        return float(np.arctan2(-matrix[1, 2], matrix[1, 1])), pitch, 0.0
    return (
        float(np.arctan2(matrix[2, 1], matrix[2, 2])),
        pitch,
        float(np.arctan2(matrix[1, 0], matrix[0, 0])),
    )


def quaternion(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the quaternion (x, y, z, w) with w >= 0 of a rotation matrix (3, 3)."""
    m = matrix
    squares = np.array(
        [
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
            1 + m[0, 0] + m[1, 1] + m[2, 2],
        ]
    )
    rows = np.array(
        [
            [squares[0], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[0, 1] + m[1, 0], squares[1], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[2], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]],
        ]
    )
    q = rows[int(np.argmax(squares))]
    q = q / np.sqrt(q @ q)
    return -q if q[3] < 0 else q


def transform(xyz: ArrayLike, turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the homogeneous transform (4, 4) of a translation and a rotation matrix."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, xyz
    return pose


def _triple(values: NDArray[np.float64]) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])


def _volume_and_inertia(shape: Shape) -> tuple[float, NDArray[np.float64]]:
    """Returns volume and diagonal inertia per unit mass (3,) of a primitive about its center."""
    if len(shape.size) == 3:
        a, b, c = np.square(shape.size)
        return float(np.prod(shape.size)), np.array([b + c, a + c, a + b]) / 12.0
    radius, length = shape.size
    side = (3 * radius**2 + length**2) / 12.0
    return pi * radius**2 * length, np.array([side, side, radius**2 / 2.0])


def inertial(mass: float, shapes: Sequence[Shape]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the center of mass (3,) and the inertia about it (3, 3) of primitives with the same density."""
    if not shapes:
        return np.zeros(3), INERTIA_FLOOR * np.eye(3)
    parts = [(*_volume_and_inertia(s), rotation(s.rpy), np.array(s.xyz)) for s in shapes]
    total = sum(volume for volume, *_ in parts)
    center = sum((volume * at for volume, _, _, at in parts), np.zeros(3)) / total
    tensor = np.zeros((3, 3))
    for volume, diagonal, turn, at in parts:
        arm = at - center
        tensor += (
            volume / total * mass * (turn @ np.diag(diagonal) @ turn.T + arm @ arm * np.eye(3) - np.outer(arm, arm))
        )
    values, vectors = np.linalg.eigh(tensor)
    return center, vectors @ np.diag(np.maximum(values, INERTIA_FLOOR)) @ vectors.T


# ----------------------------------------------------------------------------------------------- XML
def _numbers(values: tuple[float, ...] | NDArray[np.float64]) -> str:
    return quoteattr(" ".join(f"{round(float(v), 9) + 0.0:.9g}" for v in values))


def _geometry(tag: str, shape: Shape) -> list[str]:
    if len(shape.size) == 3:
        form = f"<box size={_numbers(shape.size)}/>"
    else:
        form = f"<cylinder radius={_numbers(shape.size[:1])} length={_numbers(shape.size[1:])}/>"
    lines = [
        f"    <{tag}>",
        f"      <origin xyz={_numbers(shape.xyz)} rpy={_numbers(shape.rpy)}/>",
        f"      <geometry>{form}</geometry>",
    ]
    if tag == "visual":
        rgba = _numbers(COLORS[shape.color])
        lines.append(f'      <material name="{shape.color}"><color rgba={rgba}/></material>')
    return [*lines, f"    </{tag}>"]


def _link(name: str, mass: float, shapes: Sequence[Shape]) -> list[str]:
    center, tensor = inertial(mass, shapes)
    i = {
        key: _numbers((tensor[r, c],))
        for key, r, c in (
            ("ixx", 0, 0),
            ("ixy", 0, 1),
            ("ixz", 0, 2),
            ("iyy", 1, 1),
            ("iyz", 1, 2),
            ("izz", 2, 2),
        )
    }
    lines = [
        f'  <link name="{name}">',
        "    <inertial>",
        f'      <origin xyz={_numbers(center)} rpy="0 0 0"/>',
        f"      <mass value={_numbers((mass,))}/>",
        "      <inertia " + " ".join(f"{key}={value}" for key, value in i.items()) + "/>",
        "    </inertial>",
    ]
    for tag, mark in (("visual", "v"), ("collision", "c")):
        for shape in shapes:
            if mark in shape.role:
                lines += _geometry(tag, shape)
    return [*lines, "  </link>"]


def _joint(joint: Joint) -> list[str]:
    lines = [
        f'  <joint name="{joint.name}" type="{"fixed" if joint.axis is None else "revolute"}">',
        f'    <parent link="{joint.parent}"/>',
        f'    <child link="{joint.child}"/>',
        f"    <origin xyz={_numbers(joint.xyz)} rpy={_numbers(joint.rpy)}/>",
    ]
    if joint.axis is not None:
        low, high = (_numbers((v,)) for v in joint.limits)
        lines += [
            f"    <axis xyz={_numbers(joint.axis)}/>",
            f"    <limit lower={low} upper={high} effort={_numbers((joint.effort,))} "
            f"velocity={_numbers((joint.velocity,))}/>",
            f"    <dynamics damping={_numbers((joint.damping,))}/>",
        ]
    return [*lines, "  </joint>"]


@dataclass(frozen=True)
class Model:
    """A robot description.

    Attributes:
        joints: The joints, parents before children.
        bodies: Mass and shapes of each link, by name.
        frames: For each link of the unmerged robot, the link that it was merged into, and its pose (4, 4) in that
            link's frame; empty for the unmerged robot.
    """

    joints: list[Joint]
    bodies: dict[str, tuple[float, list[Shape]]]
    frames: dict[str, tuple[str, NDArray[np.float64]]]

    def to_xml(self) -> str:
        """Returns the URDF text."""
        lines = [
            '<?xml version="1.0"?>',
            "<!-- Written by `python -m dream_env.nicol.urdf`; edit the tables there. -->",
            '<robot name="nicol">',
            *_link("world", *self.bodies["world"]),
        ]
        for joint in self.joints:
            lines += [*_link(joint.child, *self.bodies[joint.child]), *_joint(joint)]
        return "\n".join([*lines, "</robot>", ""])


def full() -> Model:
    """Returns NICOL with every link and joint of its original description: 50 revolute joints."""
    joints = all_joints()
    return Model(joints, {name: link_table(name) for name in ("world", *(j.child for j in joints))}, {})


def merged(frozen: Mapping[str, float], without_collision: Collection[str] = ()) -> Model:
    """Returns NICOL with links merged across fixed and frozen joints, which makes physics faster.

    Args:
        frozen: Joint names, and the angles (rad) at which these joints are fixed.
        without_collision: Links whose shapes are visual only.

    Raises:
        ValueError: If `frozen` names a joint that is not a revolute joint of NICOL.
    """
    joints = all_joints()
    if unknown := set(frozen) - {j.name for j in joints if j.axis is not None}:
        raise ValueError(f"frozen={sorted(unknown)} are not revolute joints of NICOL; accepted: names in its URDF")
    frames = {"world": ("world", np.eye(4))}
    masses, shapes, moving = {"world": 0.0}, {"world": list[Shape]()}, []
    for joint in joints:
        carrier, pose = frames[joint.parent]
        pose = pose @ transform(joint.xyz, rotation(joint.rpy))
        if joint.axis is None or joint.name in frozen:
            if joint.axis is not None:
                pose = pose @ transform(ZERO, axis_rotation(joint.axis, frozen[joint.name]))
        else:
            moving.append(
                replace(
                    joint,
                    parent=carrier,
                    xyz=_triple(pose[:3, 3]),
                    rpy=roll_pitch_yaw(pose[:3, :3]),
                )
            )
            carrier, pose = joint.child, np.eye(4)
            masses[carrier], shapes[carrier] = 0.0, []
        frames[joint.child] = (carrier, pose)
        mass, parts = link_table(joint.child)
        masses[carrier] += mass
        for part in parts:
            at = pose @ transform(part.xyz, rotation(part.rpy))
            role = part.role.replace("c", "") if joint.child in without_collision else part.role
            shapes[carrier].append(replace(part, xyz=_triple(at[:3, 3]), rpy=roll_pitch_yaw(at[:3, :3]), role=role))
    return Model(moving, {name: (masses[name], shapes[name]) for name in masses}, frames)


def write(path: str | os.PathLike[str] = URDF_PATH) -> Path:
    """Writes the full URDF to `path` atomically, and returns the path."""
    with replacing(path) as part:
        part.write_text(full().to_xml(), encoding="utf-8")
    return Path(path)


if __name__ == "__main__":
    print(write(*sys.argv[1:2]))
