"""NICOL's description, kinematics, hands and grasp, against the figures of the published model."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import numpy as np
import pybullet as p
import pytest

from dream_env.nicol import grasp, urdf, urdf_data
from dream_env.nicol.kinematics import HOME, MIRROR, ArmKinematics, matrix_from_quaternion
from dream_env.nicol.robot import FINGER_GAIN, THUMB_GAIN, Nicol, hand_targets, tendon
from dream_env.nicol.tasks.lift import GRASP_Z


@pytest.fixture
def client() -> Iterator[int]:
    """A PyBullet client of its own."""
    client = p.connect(p.DIRECT)
    yield client
    p.disconnect(client)


def frames_at(client: int, pose: dict[str, float]) -> dict[str, np.ndarray]:
    """World position of every link of the URDF file with joints at `pose`."""
    body = p.loadURDF(str(urdf.URDF_PATH), useFixedBase=True, physicsClientId=client)
    infos = [
        p.getJointInfo(body, i, physicsClientId=client) for i in range(p.getNumJoints(body, physicsClientId=client))
    ]
    for i, info in enumerate(infos):
        p.resetJointState(body, i, pose.get(info[1].decode(), 0.0), physicsClientId=client)
    states = p.getLinkStates(body, range(len(infos)), computeForwardKinematics=1, physicsClientId=client)
    return {info[12].decode(): np.array(s[4]) for info, s in zip(infos, states, strict=True)}


def test_file_is_what_the_generator_writes() -> None:
    assert urdf.URDF_PATH.read_text(encoding="utf-8") == urdf.full().to_xml()


def test_fifty_joints_and_28_motors() -> None:
    root = ElementTree.parse(urdf.URDF_PATH).getroot()
    names = {j.attrib["name"] for j in root.iter("joint") if j.attrib["type"] == "revolute"}
    hand = [f"joint{f}{i}" for f in "TIMRL" for i in (1, 2, 3)] + ["jointT0"]
    arm = [f"joint{i}" for i in range(1, 9)]
    assert names == {"joint_head_z", "joint_head_y"} | {f"{s}_{j}" for s in "rl" for j in arm + hand}
    assert len(names) == 50
    tendons = ("T0", "T", "I", "M", "LR")  # five motors drive the sixteen joints of a hand
    assert 2 + 2 * (len(arm) + len(tendons)) == 28


def test_forward_kinematics_of_the_file(client: int) -> None:
    frames = frames_at(client, {"r_joint1": np.pi / 2, "l_joint1": -np.pi / 2})
    expected = {
        "r_forearm": (0.384, -0.5135, 1.173), "r_palm": (0.568, -0.5135, 1.173), "r_laser": (0.6130, -0.5132, 1.173),
        "r_tool0": (0.6499, -0.5124, 1.160), "r_Itip": (0.6997, -0.4984, 1.2141), "r_Ttip": (0.6045, -0.5068, 1.2574),
        "l_Itip": (0.6997, 0.4984, 1.2141), "l_Ttip": (0.6039, 0.5086, 1.2576),
        "left_eye_link": (0.305, 0.0455, 1.5255),
        "realsense_color_optical_frame": (0.859, 0.035, 1.950), "r_link1": (-0.027, -0.0605, 1.173),
    }  # fmt: skip
    for name, position in expected.items():
        assert np.abs(frames[name] - position).max() < 1e-3, name


def test_tables_and_pybullet_agree_and_arms_mirror(client: int) -> None:
    rng, right, left = np.random.default_rng(0), ArmKinematics("right"), ArmKinematics("left")
    robot = Nicol(client)
    for _ in range(20):
        q = rng.uniform(right.low, right.high)
        robot.set_arm("right", q)
        robot.set_arm("left", q * MIRROR)
        for arm, chain, joints in (("right", right, q), ("left", left, q * MIRROR)):
            position, orientation = robot.hand_pose(arm, "laser")
            pose = chain.forward(joints)
            assert np.abs(position - pose[:3, 3]).max() < 1e-5
            assert np.abs(matrix_from_quaternion(orientation) - pose[:3, :3]).max() < 1e-5
        mirror = right.forward(q)[:3, 3] * (1, -1, 1)
        assert np.abs(left.forward(q * MIRROR)[:3, 3] - mirror).max() < 1e-5


def test_reach_matches_the_published_workspace() -> None:
    chain, rng = ArmKinematics("right"), np.random.default_rng(0)
    points = np.array([chain.forward(rng.uniform(chain.low, chain.high))[:3, 3] for _ in range(20_000)])
    assert 0.82 < points[:, 0].max() < 0.851
    assert 0.44 < points[:, 1].max() < 0.479


@pytest.mark.parametrize("arm", ["right", "left"])
def test_inverse_kinematics_hits_reachable_poses(arm: str) -> None:
    chain, rng, errors, times = ArmKinematics(arm), np.random.default_rng(1), [], []
    for _ in range(1000):
        target = chain.forward(rng.uniform(chain.low, chain.high))
        start = time.perf_counter()
        q = chain.inverse(target[:3, 3], urdf.quaternion(target[:3, :3]))
        times.append(time.perf_counter() - start)
        pose = chain.forward(q)
        assert (q >= chain.low).all() and (q <= chain.high).all()
        cosine = (np.trace(pose[:3, :3].T @ target[:3, :3]) - 1) / 2
        errors.append(
            (
                np.linalg.norm(pose[:3, 3] - target[:3, 3]),
                np.degrees(np.arccos(np.clip(cosine, -1, 1))),
            )
        )
    distance, angle = np.array(errors).T
    assert np.median(distance) < 1e-3 and np.median(angle) < 0.5
    assert np.mean((distance < 1e-3) & (angle < 0.5)) > 0.95
    assert np.median(times) < 5e-3  # 0.6 ms on an idle core; the margin is for a shared one


def test_inverse_kinematics_has_no_memory_and_leaves_the_simulation_alone(client: int) -> None:
    robot = Nicol(client, active_arms=("right",), active_head=False)
    before = robot.arm_joints("right")
    first = robot.solve_ik("right", (0.5, -0.2, 0.9), grasp.ORIENTATION)
    robot.solve_ik("right", (0.4, -0.3, 1.0), grasp.ORIENTATION)
    assert (robot.solve_ik("right", (0.5, -0.2, 0.9), grasp.ORIENTATION) == first).all()
    assert (robot.arm_joints("right") == before).all()
    near = robot.solve_ik("right", (0.51, -0.2, 0.9), grasp.ORIENTATION)
    assert np.abs(near - first).max() < 0.2  # a small move of the hand is a small move of the arm


def test_home_touches_nothing(client: int) -> None:
    robot = Nicol(client)
    for _ in range(240):
        p.stepSimulation(physicsClientId=client)
    assert not p.getContactPoints(physicsClientId=client)
    for arm, sign in (("right", 1.0), ("left", -1.0)):
        assert np.abs(robot.arm_joints(arm) - (HOME if sign > 0 else HOME * MIRROR)).max() < 0.02
        assert robot.hand_pose(arm)[0][2] > urdf_data.TABLE_HEIGHT + 0.2


def test_tendons_bend_one_joint_after_another() -> None:
    limits = np.array(urdf_data.FINGER_LIMITS)
    bends = np.array([tendon(c, limits, FINGER_GAIN) for c in np.linspace(0, 1, 50)])
    assert (np.diff(bends, axis=0) >= 0).all() and (bends <= limits).all()
    assert (bends[bends[:, 1] > 0, 0] == limits[0]).all()
    thumb = tendon(0.3, urdf_data.THUMB_LIMITS, THUMB_GAIN, (1, 0, 2))
    assert thumb[1] > 0 and thumb[0] == thumb[2] == 0
    targets = hand_targets(0.7)
    assert len(targets) == 16
    assert all(targets[f"jointR{i}"] == targets[f"jointL{i}"] for i in (1, 2, 3))


def test_head_looks_at_a_point(client: int) -> None:
    robot = Nicol(client)
    for point in ((0.6, 0.3, 0.8), (0.6, -0.2, 0.9)):
        robot.look_at(point)
        for _ in range(480):
            p.stepSimulation(physicsClientId=client)
        eyes = [robot.frame_pose(f"{side}_eye_cam") for side in ("left", "right")]
        center, gaze = (eyes[0][:3, 3] + eyes[1][:3, 3]) / 2, eyes[0][:3, 2]
        aim = np.subtract(point, center)
        assert gaze @ aim / np.linalg.norm(aim) > np.cos(np.radians(2))


@pytest.mark.parametrize("arm", ["right", "left"])
def test_friction_grasp_lifts_a_cube(client: int, arm: str) -> None:
    robot = Nicol(client, active_arms=(arm,), active_head=False, active_tips=False)
    shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=[0.025] * 3, physicsClientId=client)
    at = np.array([0.5, -0.2 if arm == "right" else 0.2, GRASP_Z])
    cube = p.createMultiBody(0.06, shape, basePosition=(at[0], at[1], 0.825), physicsClientId=client)
    p.changeDynamics(cube, -1, lateralFriction=1.0, physicsClientId=client)
    robot.set_arm(arm, robot.solve_ik(arm, at + (0, 0, 0.1), grasp.ORIENTATION))
    robot.close_hand(arm, grasp.motor(0.0), at_once=True)
    heights = [0.06, 0.02, 0, 0] + [0] * 5 + [0.04, 0.08, 0.12] + [0.12] * 5
    closings = [0] * 4 + [0.2, 0.4, 0.6, 0.8, 1] + [1] * 8
    for height, closing in zip(heights, closings, strict=True):
        robot.set_arm_target(arm, robot.solve_ik(arm, at + (0, 0, height), grasp.ORIENTATION))
        robot.close_hand(arm, grasp.motor(closing))
        for _ in range(24):
            p.stepSimulation(physicsClientId=client)
    assert p.getBasePositionAndOrientation(cube, physicsClientId=client)[0][2] > 0.825 + 0.09


def test_bad_arguments_are_named(client: int) -> None:
    robot = Nicol(client, active_arms=("right",), active_head=False)
    with pytest.raises(ValueError, match="arm='left' is welded"):
        robot.arm_joints("left")
    with pytest.raises(ValueError, match="arm='top' is not known"):
        robot.solve_ik("top", (0.5, 0, 1), (0, 0, 0, 1))
    with pytest.raises(ValueError, match="position"):
        robot.solve_ik("right", (np.nan, 0, 1), (0, 0, 0, 1))
    with pytest.raises(ValueError, match="active_head=False"):
        robot.look_at((0.5, 0, 0.8))
    with pytest.raises(ValueError, match="no_such_joint"):
        urdf.merged({"no_such_joint": 0.0})
