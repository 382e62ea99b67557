"""`NicoLReal-v0`: contract, determinism, scenes, experts, errors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from typing import Any

import gymnasium as gym
import numpy as np
import pybullet
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import dream_env  # noqa: F401  (registers the ids)
from dream_env.language import embed
from dream_env.nicol import real
from dream_env.nicol.camera import CAMERAS
from dream_env.nicol.constants import EPISODE_STEPS, SETPOINT_HIGH, SETPOINT_LOW
from dream_env.nicol.control import PositionControl
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.language import COLORS
from dream_env.nicol.layout import COLOR_NAMES, SPACING, Layout
from dream_env.nicol.tasks import STANDARD, TASKS
from dream_env.nicol.tasks.task import CUBE_SIZE, TABLE_Z

LAYOUT = Layout(np.array([[0.46, -0.30], [0.50, -0.18], [0.46, -0.06]]), np.zeros(3), np.array([0, 1, 2]))


@pytest.fixture
def env():
    env = NicoLRealEnv("all")
    yield env
    env.close()


def play(env: gym.Env, seed: int, steps: int = 12) -> str:
    """Plays random actions and returns a hash of everything observed."""
    digest = hashlib.sha256()
    obs, _ = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        obs, reward, *_ = env.step(rng.uniform(-1, 1, 4).astype(np.float32))
        digest.update(b"".join(np.ascontiguousarray(obs[key]).tobytes() for key in sorted(obs)))
        digest.update(np.float64(reward).tobytes())
    return digest.hexdigest()


@pytest.mark.filterwarnings("error")
def test_checkers_without_a_world_model() -> None:
    env = gym.make("NicoLReal-v0", task="all").unwrapped
    check_env(env, skip_render_check=not os.environ.get("DISPLAY"))
    sb3_check_env(env)
    env.close()


@pytest.mark.parametrize("form", [{}, {"obs_type": "pixels"}, {"goal_env": True}], ids=str)
def test_both_worlds_have_one_contract(toy_folder, form: dict[str, Any]) -> None:
    physics, dream = (gym.make(f"NicoL{world}-v0", world_model=toy_folder, **form) for world in ("Real", "Dream"))
    assert physics.observation_space == dream.observation_space and physics.action_space == dream.action_space
    bare = real.make(world_model=toy_folder, **form)
    check_env(bare, skip_render_check=True)
    sb3_check_env(bare)
    bare.close()


def test_render_modes() -> None:
    env = gym.make("NicoLReal-v0", render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (360, 480, 3)
    env.close()
    listing = gym.make("NicoLReal-v0", render_mode="rgb_array_list")  # Gymnasium makes it of "rgb_array"
    listing.reset(seed=0)
    assert [frame.shape for frame in listing.render()] == [(360, 480, 3)]
    listing.close()
    if not os.environ.get("DISPLAY"):
        with pytest.raises(RuntimeError, match="DISPLAY"):
            gym.make("NicoLReal-v0", render_mode="human").reset()


def test_same_seed_same_rollout_in_two_processes(env: NicoLRealEnv) -> None:
    here = play(env, 3)
    play(env, 4)
    assert play(env, 3) == here, "an earlier episode changed a later one"
    code = (
        "import sys; sys.path.insert(0, 'tests'); from test_real import *;print('hash', play(NicoLRealEnv('all'), 3))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split()[-1] == here


def test_scene_at_reset(env: NicoLRealEnv) -> None:
    for seed in range(10):
        env.reset(seed=seed)
        truth = env.truth()
        assert np.allclose(truth["objects"][:, 2], TABLE_Z + CUBE_SIZE / 2, atol=2e-3), "cubes stand on the table"
        gaps = np.linalg.norm(truth["objects"][:, None] - truth["objects"][None], axis=-1)
        assert gaps[~np.eye(3, dtype=bool)].min() > SPACING - 5e-3
        assert len(set(truth["colors"])) == 3
        assert COLOR_NAMES[truth["colors"][truth["target"]]]
        assert not truth["condition"] and not truth["held"], "no start is already solved"
        assert np.linalg.norm(truth["hand"] - env.sim_state().setpoint[:3]) < 0.01
        assert np.linalg.norm(truth["objects"] - truth["hand"], axis=1).min() > 0.08


def test_hand_follows_setpoint_everywhere(env: NicoLRealEnv) -> None:
    env.reset(seed=0)
    rng, setpoint, errors = np.random.default_rng(0), env.sim_state().setpoint.astype(float), []
    for _ in range(10):
        goal = rng.uniform([*SETPOINT_LOW[:2], 0.97, 0], [*SETPOINT_HIGH[:3], 0])
        for _ in range(12):
            setpoint += np.clip(goal - setpoint, -0.04, 0.04)
            env.scene.step(setpoint)
        errors.append(np.linalg.norm(env.scene.hand() - setpoint[:3]))
    assert np.median(errors) < 0.002 and max(errors) < 0.005


def test_goal_picture_shows_the_task_done(env: NicoLRealEnv) -> None:
    options = {"task": "push", "layout": LAYOUT, "instruction": "push the green cube over the line"}
    obs, _ = env.reset(seed=1, options=options)
    changed = np.abs(env.goal_image.astype(int) - obs["pixels"]).max(-1) > 40
    assert changed.sum() > 30
    for _ in range(EPISODE_STEPS):
        obs, _, _, _, info = env.step(env.expert_action())
    assert info["is_success"]
    assert np.abs(env.goal_image.astype(int) - obs["pixels"]).mean() < 1, "the goal is the expert's own last picture"


@pytest.mark.parametrize("task", STANDARD)
def test_experts_succeed(task: str) -> None:
    assert expert_success(task, range(100_000, 100_015)) >= 14 / 15


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_experts_succeed_on_200_held_out_seeds(task: str) -> None:
    assert expert_success(task, range(100_000, 100_200)) >= 0.95


def expert_success(task: str, seeds: range) -> float:
    env = NicoLRealEnv(task)
    results = []
    for seed in seeds:
        env.reset(seed=seed)
        for _ in range(env.episode_steps):
            *_, info = env.step(env.expert_action())
        results.append(info["is_success"])
    env.close()
    return float(np.mean(results))


def test_success_must_be_held(env: NicoLRealEnv) -> None:
    env.reset(seed=0, options={"task": "reach"})
    history = []
    for _ in range(EPISODE_STEPS):
        *_, info = env.step(env.expert_action())
        history.append((env.truth()["condition"], info["is_success"]))
    first = next(i for i, (condition, _) in enumerate(history) if condition)
    assert [success for _, success in history[first : first + 3]] == [False, False, True]


def test_state_round_trip_is_exact(env: NicoLRealEnv) -> None:
    env.reset(seed=5, options={"task": "lift"})
    for _ in range(6):
        env.step(env.expert_action())
    state = env.get_state()
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)
    first = [env.step(a)[0]["pixels"] for a in actions]
    objects = env.scene.objects()
    env.reset(seed=9)
    env.reset(options={"state": state})
    again = [env.step(a)[0]["pixels"] for a in actions]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert np.allclose(objects, env.scene.objects(), atol=1e-9)


def test_left_arm_mirrors_the_right() -> None:
    right, left = (NicoLRealEnv("reach", arm=arm) for arm in ("right", "left"))
    for env in (right, left):
        env.reset(seed=2)
        for _ in range(10):
            *_, info = env.step(env.expert_action())
        assert info["is_success"]
    assert np.allclose(right.sim_state().hand, left.sim_state().hand, atol=0.01)
    there, mirrored = left.scene.robot.hand_pose("left")[0], right.scene.robot.hand_pose("right")[0] * (1, -1, 1)
    assert there[1] > 0 and np.allclose(there, mirrored, atol=0.01)
    right.close(), left.close()


@pytest.mark.parametrize("goal_env", [False, True])
def test_position_control_goes_where_told_in_both_worlds(toy_folder, goal_env) -> None:
    goal = np.array([0.2, -0.3, 0.8, -1.0], np.float32)
    for world in ("Real", "Dream"):
        env = PositionControl(gym.make(f"NicoL{world}-v0", world_model=toy_folder, goal_env=goal_env, reward="bounded"))
        env.reset(seed=0)
        for _ in range(12):
            obs, *_ = env.step(goal)
        assert np.allclose(obs["observation"][:4] if goal_env else obs["proprio"], goal, atol=1e-5), world
        env.close()
    with pytest.raises(ValueError, match="accepted: an env with 'proprio'"):
        PositionControl(gym.make("CartPole-v1"))


def test_spoken_changes_the_words_and_not_the_target(env: NicoLRealEnv) -> None:
    told, meant = "reach for the red cube", "reach for the blue cube"
    options = {"task": "reach", "layout": LAYOUT, "instruction": meant, "spoken": told}
    obs, _ = env.reset(seed=0, options=options)
    assert env.target == 2 and np.array_equal(obs["instruction"], embed(told))


@pytest.mark.parametrize("arm", ["right", "left"])
def test_the_robots_eye_sees_every_cube(arm: str) -> None:
    env = NicoLRealEnv("reach", arm=arm, camera="eye", render_mode="rgb_array")
    for seed in range(3):
        env.reset(seed=seed)
        picture = env.render().astype(int)
        for i in env.layout.colors:
            color = np.array(list(COLORS.values())[i][:3]) * 255
            near = np.abs(picture / picture.max(-1, keepdims=True) - color / color.max()).max(-1) < 0.1
            assert near.sum() > 20
    env.close()


@pytest.mark.parametrize("camera", ["video", "frame", "eye", "workspace"])
def test_cameras_show_something(camera: str) -> None:
    env = NicoLRealEnv("reach", camera=camera, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.std() > 5
    env.close()


def test_shifted_physics_is_felt() -> None:
    plain = NicoLRealEnv("push")
    shifted = NicoLRealEnv("push", physics={"camera_jitter": (0.03, 0.0)})
    first, second = plain.reset(seed=0)[0], shifted.reset(seed=0)[0]
    assert not np.array_equal(first["pixels"], second["pixels"])
    plain.close(), shifted.close()


@pytest.mark.parametrize(
    ("kwargs", "names"),
    [
        ({"task": "dance"}, "reach"),
        ({"arm": "middle"}, "left"),
        ({"camera": "phone"}, "video"),
        ({"physics": {"gravity": 0}}, "friction"),
        ({"physics": {"mass": -1.0}}, r"physics\['mass'\]=-1.0"),
        ({"physics": {"mass": float("nan")}}, r"physics\['mass'\]=nan"),
        ({"physics": {"friction": "high"}}, r"physics\['friction'\]='high'"),
        ({"physics": {"light": [1.0, 2.0]}}, "3 finite numbers"),
        ({"physics": 0.5}, "a dict"),
        ({"task": np.array(["reach", "push"])}, "task=array"),
        ({"camera": ["video"]}, "camera="),
        ({"assisted_grasp": "no"}, "True or False"),
        ({"horizon": 0}, "horizon=0"),
        ({"physics": {"mass": 1e300}}, "mass"),
    ],
)
def test_bad_arguments_name_what_is_accepted(kwargs: dict, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        NicoLRealEnv(**kwargs)


def test_bad_options_and_actions(env: NicoLRealEnv) -> None:
    with pytest.raises(ValueError, match="layout"):
        env.reset(options={"scene": 1})
    with pytest.raises(ValueError, match="yellow"):
        env.reset(options={"layout": LAYOUT, "instruction": "lift the yellow cube"})
    env.reset(seed=0)
    for action in (np.full(4, np.nan), np.zeros(3), np.zeros((1, 4))):
        with pytest.raises(ValueError, match="accepted"):
            env.step(action)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instruction": 3}, "'instruction'.=3; accepted: a sentence"),
        ({"spoken": None}, "'spoken'.=None; accepted: a sentence"),
        ({"task": "dance"}, "task='dance'"),
        ({"layout": [[0.5, -0.2]]}, "accepted: a `dream_env.nicol.layout.Layout`"),
        ({"state": {}}, "state lacks.*get_state"),
        ({"state": {}, "task": "push"}, "accepted: .state. alone"),
    ],
)
def test_bad_options_are_named(env: NicoLRealEnv, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        env.reset(seed=0, options=options)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"positions": np.zeros((2, 2))}, r"layout.positions"),
        ({"positions": "abc"}, r"layout.positions='abc'"),
        ({"positions": np.full((3, 2), 1e300)}, r"x from 0.3 to 0.74 and y from -0.42 to 0.06 m"),
        ({"positions": np.array([[0.1, 0], [0.5, -0.2], [0.5, 0]])}, "where the hand reaches"),
        ({"positions": np.full((3, 2), [0.5, -0.2])}, "centers at least 0.071 m apart"),
        ({"yaws": np.full(3, np.nan)}, "layout.yaws"),
        ({"yaws": np.full(3, 1e300)}, "layout.yaws.*-pi to pi"),
        ({"colors": np.array([0, 0, 1])}, "layout.colors"),
    ],
)
def test_impossible_layouts_are_refused(change: dict, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        Layout(**{**vars(LAYOUT), **change})


def test_without_an_episode_there_is_nothing_to_step_or_draw() -> None:
    env = NicoLRealEnv("all", render_mode="rgb_array")
    for _ in range(2):
        for call in (lambda: env.step(np.zeros(4)), env.render):
            with pytest.raises(gym.error.ResetNeeded, match="before reset"):
                call()
        env.reset(seed=0)
        env.close()


def test_lists_as_yaml_gives_them_are_taken_for_physics() -> None:
    env = NicoLRealEnv("all", physics={"light": [0.4, -0.4, 1.5]})
    plain = NicoLRealEnv("all")
    pictures = [one.reset(seed=0)[0]["pixels"] for one in (env, plain)]
    np.testing.assert_array_equal(*pictures)
    env.close(), plain.close()


@pytest.mark.slow
def test_control_steps_per_second() -> None:
    env = NicoLRealEnv("all")
    spent, steps = 0.0, 0
    for seed in range(20):
        env.reset(seed=seed)
        began = time.process_time()
        for _ in range(EPISODE_STEPS):
            env.step(env.expert_action())
        spent, steps = spent + time.process_time() - began, steps + EPISODE_STEPS
    print(f"{steps / spent:.0f} control steps per CPU second, each with the policy's picture")
    assert steps / spent >= 150
    env.close()


def test_assisted_grasp_holds_the_cube_to_the_palm() -> None:
    env = NicoLRealEnv("lift", assisted_grasp=True)
    env.reset(seed=0)
    offsets = []
    for _ in range(EPISODE_STEPS):
        *_, info = env.step(env.expert_action())
        offsets.append(env.scene.objects()[env.target] - env.scene.hand())
    assert info["is_success"]
    assert np.linalg.norm(offsets[-1] - offsets[-4]) < 0.005, "a fixed cube does not creep in the hand"
    env.close()


def test_the_camera_sees_the_cube_that_the_hand_grasps():
    """A cube fills about 80 pixels; hidden under the hand, neither policy nor dream could tell what becomes of it."""
    camera, seen = CAMERAS["workspace"], []
    view = pybullet.computeViewMatrix(camera.position, camera.target, camera.up)
    projection = pybullet.computeProjectionMatrixFOV(camera.fov, 1, 0.05, 6.0)
    env = NicoLRealEnv("lift")
    for seed in range(4):
        env.reset(seed=seed)
        for _ in range(EPISODE_STEPS):
            env.step(env.expert_action())
            now, client = env.sim_state(), env.scene.client
            if np.linalg.norm(now.hand - now.cube) < 0.09:
                shape = {"renderer": pybullet.ER_TINY_RENDERER, "shadow": 0, "physicsClientId": client}
                mask = pybullet.getCameraImage(*camera.size, view, projection, **shape)[4]
                seen.append(int((np.asarray(mask) == env.scene._cubes[now.target]).sum()))
    env.close()
    assert len(seen) > 30 and np.percentile(seen, 10) >= 30, np.percentile(seen, [0, 10, 50])


def test_the_expert_shows_a_goal_once_and_elsewhere(monkeypatch):
    """Who plays the same starts again does not wait for it again, and the episode keeps no trace of it."""
    env, fresh = (NicoLRealEnv("lift") for _ in range(2))
    env.reset(seed=3)
    goal, end = env.goal_image, [env.step(np.ones(4))[0]["pixels"] for _ in range(3)][-1]
    monkeypatch.setattr(fresh._goals, "picture", lambda *args: goal)
    fresh.reset(seed=3)
    np.testing.assert_array_equal([fresh.step(np.ones(4))[0]["pixels"] for _ in range(3)][-1], end)
    monkeypatch.setattr(env._goals._scene, "reset", lambda *args: pytest.fail("shown again"))
    env.reset(seed=3)
    np.testing.assert_array_equal(env.goal_image, goal)
    with pytest.raises(pytest.fail.Exception):
        env.reset(seed=4)
    env.close()
    assert env._goals._scene is None


def test_physics_is_imported_without_a_word_and_errors_are_heard_afterwards():
    code = "import dream_env.nicol.bullet, sys; print('heard', file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "" and found.stderr == "heard\n"
