"""Shifted physics: every shift changes what it says and nothing else, and what the hand touches is known."""

import numpy as np
import pybullet
import pytest

from dream_env.agents.evaluate import command as evaluate
from dream_env.agents.nicol import rollouts
from dream_env.agents.nicol.rollouts import Batch
from dream_env.nicol.camera import CAMERAS
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.layout import Layout
from dream_env.nicol.shift import SHIFTS

LAYOUT = Layout(np.array([[0.46, -0.30], [0.50, -0.18], [0.46, -0.06]]), np.zeros(3), np.array([0, 1, 2]))


def begun(shift, seed=0, **options):
    env = NicoLRealEnv("push", shift=shift)
    obs, _ = env.reset(seed=seed, options=options)
    return env, obs["pixels"].astype(int)


def dynamics(env, body):
    return pybullet.getDynamicsInfo(body, -1, physicsClientId=env.scene.client)


@pytest.mark.parametrize(("shift", "mass", "friction"), [("none", 1, 1), ("mass", 2, 1), ("friction", 1, 0.5)])
def test_mass_and_friction_reach_the_engine(shift, mass, friction):
    usual, (env, _) = NicoLRealEnv().physics, begun(shift)
    for cube in env.scene._cubes:
        assert dynamics(env, cube)[:2] == pytest.approx((mass * usual.mass, friction * usual.friction))
    assert dynamics(env, env.scene.robot.table)[1] == pytest.approx(friction * usual.friction)
    assert (env.scene.physics == usual) == (shift == "none")
    env.close()


def test_lighting_and_camera_change_the_picture_and_not_the_scene():
    env, usual = begun("none")
    there = env.truth()["objects"]
    env.close()
    for shift in ("lighting", "camera", "friction", "mass"):
        env, seen = begun(shift)
        assert np.array_equal(env.truth()["objects"], there) or shift in ("friction", "mass")
        assert (np.abs(seen - usual).mean() > 2) == (shift in ("lighting", "camera")), shift
        if shift == "lighting":
            assert seen.mean() < usual.mean() - 10, "dimmer"
        env.close()


def test_a_dim_picture_leaves_no_trace_in_the_next():
    env, usual = begun("none")
    camera, client = CAMERAS["workspace"], env.scene.client
    camera.picture(client, (-1, 1, 1), 0.5)
    assert np.array_equal(camera.picture(client), usual)
    env.close()


def test_camera_is_off_anew_in_every_episode_and_alike_for_a_seed():
    env, first = begun("camera", 3)
    again, _ = env.reset(seed=3)
    drawn, state = env.scene.physics, env.get_state()
    assert np.array_equal(again["pixels"], first)
    env.reset(seed=4)
    assert env.scene.physics != drawn
    for off in (*env.scene.physics.camera_shift, *env.scene.physics.camera_jitter):
        assert 0 < abs(off) <= SHIFTS["camera"].jitter
    back, _ = env.reset(options={"state": state})
    assert np.array_equal(back["pixels"], first), "a state brings its camera along"
    env.close()


def test_no_shift_draws_nothing():
    after = []
    for shift in ("none", "friction", "camera"):
        env, _ = begun(shift)
        after.append(env.np_random.random())
        env.close()
    assert after[0] == after[1] != after[2]


def test_unknown_shift_is_named():
    with pytest.raises(ValueError, match="shift='wind' is not known; accepted: 'none', 'friction'"):
        NicoLRealEnv(shift="wind")
    with pytest.raises(ValueError, match="shift='wind' is not known"):
        evaluate.Settings({"x": "zero"}, world_model=None, shift="wind")


def test_evaluation_is_shifted_in_physics_only(tmp_path):
    settings = evaluate.Settings({"x": "expert"}, ("push",), 2, world_model="nowhere", shift="mass")
    assert settings.worlds == ("physics",) and {b.shift for b in settings.batches()} == {"mass"}
    heavy, usual = (
        rollouts._reset_physics(Batch("expert", "x", "physics", "push", (5,), None, shift=shift), 5)[0]
        for shift in ("mass", "none")
    )
    assert heavy.scene.physics.mass == 2 * usual.scene.physics.mass


def test_the_cube_that_is_touched_is_told():
    env, _ = begun("none", layout=LAYOUT, instruction="push the green cube over the line")
    assert env.truth()["touched"] == (), "the expert's own way to the goal picture does not count"
    for _ in range(EPISODE_STEPS):
        env.step(env.expert_action())
    assert env.truth()["touched"] == (1,)
    env.reset(options={"state": env.get_state()})
    assert env.truth()["touched"] == (1,)
    env.close()


def test_an_outcome_says_which_cube_was_touched_first():
    push, reach = (rollouts.play(Batch("expert", "x", "physics", t, (100_001,), None))[0] for t in ("push", "reach"))
    assert push.touched == push.named and reach.touched is None
    (swapped,) = rollouts.play(Batch("expert", "x", "physics", "push", (100_001,), None, "swapped"))
    assert swapped.touched == push.named != swapped.told, "the expert does not listen"
    (absent,) = rollouts.play(Batch("expert", "x", "physics", "push", (100_001,), None, "absent"))
    assert absent.told is None
