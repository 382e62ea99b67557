"""The numbers from which `dream_env.nicol.urdf` writes NICOL's robot description.

They describe joints (origin, axis, limits, effort, velocity, damping) and links (mass and primitive shapes). Lengths
are in meters, angles in radians, masses in kilograms.

Sources of the numbers:
    [B]   NICOL.urdf of Knowledge Technology, University of Hamburg (kinematics, limits, arrangement)
    [OM]  ROBOTIS OpenMANIPULATOR-P description and e-manual, Apache-2.0 (motors, sizes)
    [SD]  Seed Robotics RH8D description, MIT, after N. Frick's NICOL hand, MIT (finger limits, masses)
    [fit] boxes and cylinders of this package, fitted to published bounding boxes and inertias
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

Triple = tuple[float, float, float]
ZERO: Triple = (0.0, 0.0, 0.0)
X: Triple = (1.0, 0.0, 0.0)
Y: Triple = (0.0, 1.0, 0.0)
Z: Triple = (0.0, 0.0, 1.0)

TABLE_HEIGHT = 0.8
"""World z of the table top (m), where `base_link` is located [B]."""

COLORS: dict[str, tuple[float, float, float, float]] = {
    "white": (0.93, 0.93, 0.92, 1.0),
    "table": (0.86, 0.85, 0.83, 1.0),
    "aluminum": (0.62, 0.64, 0.66, 1.0),
    "dark": (0.16, 0.16, 0.18, 1.0),
    "black": (0.07, 0.07, 0.08, 1.0),
    "light": (0.72, 0.73, 0.75, 1.0),
    "orange": (1.0, 0.50, 0.08, 1.0),
}


@dataclass(frozen=True)
class Shape:
    """One primitive shape in its link's frame.

    `size` is (x, y, z) for a box, or (radius, length) for a cylinder along z. `role` is "v" for visual, "c" for
    collision, or "vc" for both.
    """

    size: tuple[float, ...]
    xyz: Triple = ZERO
    color: str = "dark"
    rpy: Triple = ZERO
    role: str = "vc"


@dataclass(frozen=True)
class Joint:
    """A joint with its URDF origin; it is fixed if `axis` is None."""

    name: str
    parent: str
    child: str
    xyz: Triple
    rpy: Triple = ZERO
    axis: Triple | None = None
    limits: tuple[float, float] = (0.0, 0.0)
    effort: float = 0.0
    velocity: float = 0.0
    damping: float = 0.0


# ---------------------------------------------------------------------------------------- the arms
# name, parent, child, xyz, rpy, axis [B]; limits of the right arm [B]; effort (N m) and speed (rad/s) of the Dynamixel
# PH54-200, PH54-100 and PH42-020 motors [OM], and of the wrist, where they are tuned for simulation [SD]; damping.
_ARM: list[tuple] = [
    ("joint1", "link1", "link2", (0, 0, 0.126), (0, 0, -pi / 2), Z, (0, 2.5), 44.7, 3.04, 0.1),
    ("joint2", "link2", "link3", (0, 0.069, 0.033), ZERO, Y, (-1.5, 1.8), 44.7, 3.04, 0.1),
    ("joint3", "link3", "link4", (0.03, -0.0115, 0.264), ZERO, Y, (-2.25, 1.5), 25.3, 3.06, 0.1),
    ("joint4", "link4", "link5", (0.195, -0.0575, 0.03), ZERO, X, (-2.9, 2.9), 25.3, 3.06, 0.1),
    ("joint5", "link5", "link6", (0.063, 0.045, 0), ZERO, Y, (-pi / 2, pi / 2), 5.1, 3.06, 0.01),
    ("joint6", "link6", "forearm", (0.123, -0.045, 0), (pi / 2, 0, pi / 2), Z, (-pi, pi), 5.1, 3.06, 0.01),
    ("joint7", "forearm", "palm_axis", (0, 0, 0.184), (pi / 2, 0, 0), Z, (-pi / 4, pi / 4), 10.0, 3.0, 1e-4),
    ("joint8", "palm_axis", "palm", ZERO, (0, pi / 2, 0), Z, (-pi / 4, pi / 4), 10.0, 3.0, 1e-4),
]
_ARM_BASE = {"r": ((-0.027, -0.0605, 0.373), (pi / 2, 0, 0)), "l": ((-0.027, 0.0605, 0.373), (-pi / 2, pi, 0))}

# --------------------------------------------------------------------------------------- the hands
# Knuckles of the right hand in the palm's frame [B]; for the left hand, z, roll and pitch are negated [B].
_KNUCKLES: dict[str, tuple[Triple, Triple]] = {
    "I": ((-0.0043044918, 0.0812907302, 0.0367863551), (-0.08267713, 0.17715231, -2.93857995)),
    "M": ((-0.0012008743, 0.0828960623, 0.0118294206), (0.00408466, 0.08719979, -2.92246721)),
    "R": ((-0.0011171786, 0.0818708881, -0.0130285291), (0.0838954, -0.08902792, -2.92922802)),
    "L": ((-0.0031705239, 0.0731417977, -0.0376310382), (0.17169385, -0.1774821, -2.95156384)),
}
# The thumb's abduction joint is calibrated per hand [B]: xyz, rpy, axis.
_THUMB_BASE: dict[str, tuple[Triple, Triple, Triple]] = {
    "r": ((-0.0083412575, 0.0157859987, 0.0379541955), (-2.32630737, -0.08846098, -0.27946053), (0.0, 0.0, -1.0)),
    "l": ((-0.0083412575, 0.0157859987, -0.0379541955), (0.81691375, -0.05987591, 2.83509995), Z),
}
FINGERS = ("I", "M", "R", "L")
FINGER_LIMITS = (1.57, 1.57, 1.0)
"""Upper limits of proximal, middle and tip joint (rad), index to little finger [SD]; T0 keeps 0 to pi/2 of [B]."""
THUMB_LIMITS = (0.8, 1.57, 0.4)
_FINGER_MOTOR = (1.0, 8.0, 1e-4)  # effort (N m), velocity (rad/s) and damping: tuned for simulation, not measured
_BUMPER = ((0.00674, -0.01638, 0.0), (0.0, 0.0, -0.35))  # fingertip pad [B]
# Palm distance sensor, the default tip for inverse kinematics [B].
_LASER = ((-0.00030337, 0.04498324, 0.0), (0.0, 0.0, pi))

# ---------------------------------------------------------------------------------------- the head
_HEAD = [
    Joint("joint_neck", "base_link", "neck_link", (0, 0, 0.425)),
    Joint(
        "joint_head_z", "neck_link", "tilt_link", (0.187, -0.001, 0.1415), ZERO, Z, (-pi / 2, pi / 2), 44.7, 6.5, 0.01
    ),
    Joint("joint_head_y", "tilt_link", "face_link", (0.007, 0, 0.0605), ZERO, Y, (-0.583, 1.282), 44.7, 6.5, 0.01),
    Joint("joint_left_eye", "face_link", "left_eye_link", (0.111, 0.0465, 0.0985)),
    Joint("joint_right_eye", "face_link", "right_eye_link", (0.111, -0.0465, 0.0985)),
    Joint("joint_left_eye_cam", "left_eye_link", "left_eye_cam", ZERO, (-pi / 2, 0, -pi / 2)),
    Joint("joint_right_eye_cam", "right_eye_link", "right_eye_cam", ZERO, (-pi / 2, 0, -pi / 2)),
]
_STAND = [
    Joint("joint_base", "world", "base_link", (0, 0, TABLE_HEIGHT)),
    Joint("joint_plate", "base_link", "plate_link", ZERO),
    Joint("joint_frame", "base_link", "frame_link", ZERO),
    # Color optical frame of the D435 on the front beam: z forward, looking down and back at the table.
    Joint("joint_realsense", "base_link", "realsense_color_optical_frame", (0.859, 0.035, 1.15), (2.89027, 0, -pi / 2)),
]


def hand_joints(side: str) -> list[Joint]:
    """Returns the 16 revolute joints of a hand (T0 to T3, and 1 to 3 of I, M, R and L) and its fixed frames."""
    sign = 1.0 if side == "r" else -1.0

    def mirrored(pose: tuple[Triple, Triple]) -> tuple[Triple, Triple]:
        (x, y, z), (roll, pitch, yaw) = pose
        return (x, y, sign * z), (sign * roll, sign * pitch, yaw)

    def finger(name: str, steps: list[tuple[str, Triple, Triple]], limits: Triple) -> list[Joint]:
        links = [f"{side}_{name}{part}" for part in ("proximal", "middle", "tip")]
        joints, parent = [], steps[0][0]
        for i, ((_, xyz, rpy), child, upper) in enumerate(zip(steps, links, limits, strict=True), start=1):
            joints.append(Joint(f"{side}_joint{name}{i}", parent, child, xyz, rpy, Z, (0.0, upper), *_FINGER_MOTOR))
            parent = child
        joints.append(Joint(f"{side}_joint{name}bumper", parent, f"{side}_{name}bumper", *_BUMPER))
        return joints

    palm, base = f"{side}_palm", f"{side}_thumb_base"
    xyz, rpy, axis = _THUMB_BASE[side]
    joints = [Joint(f"{side}_jointT0", palm, base, xyz, rpy, axis, (0.0, pi / 2), *_FINGER_MOTOR)]
    joints += finger(
        "T",
        [
            (base, (0, -0.0111644427, 0.005490292), (pi / 2, -1.01753528, -pi / 2)),
            ("", (0, -0.0215859928, 0), ZERO),
            ("", (0, -0.0215859928, 0), (0, 0, 0.078)),
        ],
        THUMB_LIMITS,
    )
    for name in FINGERS:
        joints += finger(
            name,
            [
                (palm, *mirrored(_KNUCKLES[name])),
                ("", (0, -0.0258749732, 0), (0, 0, -0.015)),
                ("", (0, -0.0258749732, 0), ZERO),
            ],
            FINGER_LIMITS,
        )
    joints.append(Joint(f"{side}_joint_tool0", palm, f"{side}_tool0", *mirrored(_KNUCKLES["R"])))
    joints.append(Joint(f"{side}_joint_laser", palm, f"{side}_laser", *_LASER))
    return joints


def arm_joints(side: str) -> list[Joint]:
    """Returns an arm's mount and its eight revolute joints; only joint1's limits differ between the sides."""
    joints = [Joint(f"{side}_joint_mount", "base_link", f"{side}_link1", *_ARM_BASE[side])]
    for name, parent, child, xyz, rpy, axis, (low, high), *motor in _ARM:
        limits = (-high, -low) if (side, name) == ("l", "joint1") else (low, high)
        ends = f"{side}_{parent}", f"{side}_{child}"
        joints.append(Joint(f"{side}_{name}", *ends, xyz, rpy, axis, limits, *motor))
    return joints


def all_joints() -> list[Joint]:
    """Returns every joint, parents before children."""
    joints = [*_STAND, *_HEAD]
    for side in ("r", "l"):
        joints += [*arm_joints(side), *hand_joints(side)]
    return joints


# --------------------------------------------------------------------------------- masses and shapes
# Arm masses [B], hand masses [SD]; sizes of link1, link2 and link5 [B], all others [fit].
_STAND_LINKS: dict[str, tuple[float, list[Shape]]] = {
    "plate_link": (20.0, [Shape((1.0, 2.0, 0.02), (0.5, 0, -0.01), "table")]),
    "frame_link": (
        30.0,
        [
            Shape((0.045, 0.1, 1.0), (-0.0225, 0, 0.5), "aluminum"),
            Shape((0.02, 0.1, 0.14), (0.011, 0, 0.4), "aluminum"),
            *(Shape((0.045, 0.045, 1.0), (x, y, 0.5), "aluminum") for x in (0.0225, 0.9775) for y in (-0.9775, 0.9775)),
            *(Shape((0.045, 1.91, 0.045), (x, 0, 0.92), "aluminum") for x in (0.0225, 0.9775)),
            *(Shape((0.91, 0.045, 0.045), (0.5, y, 0.92), "aluminum") for y in (-0.9775, 0.9775)),
        ],
    ),
    "realsense_color_optical_frame": (0.07, [Shape((0.09, 0.025, 0.025), (0.033, 0, -0.014), "light", role="v")]),
}
_HEAD_LINKS: dict[str, tuple[float, list[Shape]]] = {
    "neck_link": (0.57, [Shape((0.05, 0.06, 0.20), (0.09, 0, 0.07), "light", (0, 0.9, 0))]),
    "tilt_link": (0.15, [Shape((0.04, 0.042, 0.08), (0, 0, 0.02), "dark")]),
    "face_link": (
        0.759,
        [
            Shape((0.105, 0.24), (0, 0, 0.115), "white"),
            Shape((0.012, 0.070, 0.010), (0.102, 0, 0.028), "orange", role="v"),
            Shape((0.012, 0.036, 0.008), (0.095, 0.0465, 0.135), "orange", (0, 0, 0.45), "v"),
            Shape((0.012, 0.036, 0.008), (0.095, -0.0465, 0.135), "orange", (0, 0, -0.45), "v"),
        ],
    ),
    "left_eye_link": (0.008, [Shape((0.012, 0.02), (-0.011, 0, 0), "black", (0, pi / 2, 0), "v")]),
    "right_eye_link": (0.008, [Shape((0.012, 0.02), (-0.011, 0, 0), "black", (0, pi / 2, 0), "v")]),
}
_ARM_LINKS: dict[str, tuple[float, list[Shape]]] = {
    "link1": (0.902296, [Shape((0.055, 0.055, 0.13), (0, 0, 0.055))]),
    "link2": (0.985121, [Shape((0.055, 0.1325, 0.055), (0, -0.002, 0.033))]),
    "link3": (
        1.501407,
        [
            Shape((0.058, 0.144, 0.05), (0, -0.069, 0)),
            Shape((0.058, 0.054, 0.23), (0.008, -0.069, 0.14), "black"),
            Shape((0.06, 0.118, 0.06), (0.03, -0.069, 0.264)),
        ],
    ),
    "link4": (
        1.330903,
        [Shape((0.047, 0.12, 0.047), (0, -0.0575, 0)), Shape((0.19, 0.055, 0.055), (0.125, -0.0575, 0.03), "black")],
    ),
    "link5": (0.449696, [Shape((0.047, 0.08, 0.05), (0.061, 0, 0))]),
    "link6": (
        0.444892,
        [Shape((0.04, 0.096, 0.042), (0.003, -0.045, 0)), Shape((0.084, 0.042, 0.042), (0.081, -0.045, 0), "black")],
    ),
    "forearm": (
        0.4,
        [Shape((0.08, 0.064, 0.14), (0, 0.0025, 0.08), "light"), Shape((0.04, 0.04, 0.044), (0, 0, 0.162), "black")],
    ),
    "palm_axis": (0.1, [Shape((0.042, 0.04, 0.024), (0, -0.009, 0), "black")]),
    "palm": (0.3, [Shape((0.028, 0.084, 0.09), (0.004, 0.043, 0.0), "light")]),
    "thumb_base": (0.02, [Shape((0.016, 0.02, 0.024), (0, -0.004, 0.004), "black")]),
    "Tproximal": (0.037673, [Shape((0.016, 0.0216, 0.016), (0, -0.0108, 0), "black")]),
    "Tmiddle": (0.037673, [Shape((0.015, 0.0216, 0.0155), (0, -0.0108, 0), "light")]),
    "Ttip": (0.01349695, [Shape((0.013, 0.0235, 0.015), (0, -0.0098, 0), "black")]),
}
for _finger in FINGERS:
    _ARM_LINKS[f"{_finger}proximal"] = (0.0459655, [Shape((0.016, 0.0259, 0.0165), (0, -0.013, 0), "black")])
    _ARM_LINKS[f"{_finger}middle"] = (0.0259655, [Shape((0.015, 0.0259, 0.016), (0, -0.013, 0), "light")])
    _ARM_LINKS[f"{_finger}tip"] = (0.01349695, [Shape((0.013, 0.0235, 0.015), (0, -0.0098, 0), "black")])


def link_table(name: str) -> tuple[float, list[Shape]]:
    """Returns the mass and shapes of a link; frames without a body have a mass of one gram and no shape."""
    bare = name[2:] if name[:2] in ("r_", "l_") else name
    for table in (_STAND_LINKS, _HEAD_LINKS, _ARM_LINKS):
        if bare in table:
            return table[bare]
    return 1e-3, []
