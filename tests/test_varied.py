"""Scenes that vary: what is drawn, from what, and that it reaches the picture, physics and the recorded episode."""

import numpy as np
import pybullet
import pytest

from dream_env.agents.collect import Arguments
from dream_env.agents.data.behaviors import Job
from dream_env.agents.nicol import behaviors
from dream_env.data import episodes as general
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.layout import COLOR_NAMES, OBJECTS, PALETTE, SHAPES, Layout
from dream_env.nicol.physics import TEXTURES, Physics
from dream_env.nicol.shift import SCENES, SHIFTS
from dream_env.nicol.tasks.task import TABLE_Z

VARIED = SCENES["varied"]


@pytest.fixture(scope="module")
def env():
    env = NicoLRealEnv("lift", scene="varied")
    yield env
    env.close()


def test_layouts_hold_one_to_five_objects_apart_from_each_other():
    rng = np.random.default_rng(0)
    drawn = [Layout.draw(rng, VARIED, cubes) for cubes in (1, 2) * 60]
    assert {len(one) for one in drawn} == {1, 2, 3, 4, 5}
    assert {SHAPES[i] for one in drawn for i in one.shapes} == {*SHAPES} - {"bar"}
    for one, cubes in zip(drawn, (1, 2) * 60, strict=True):
        assert len(one.of("cube")) >= cubes and len(set(one.colors.tolist())) == len(one)
        assert all(one.colors[i] < len(COLOR_NAMES) for i in one.of("cube"))
        gaps = np.linalg.norm(one.positions[:, None] - one.positions[None], axis=-1)
        assert (gaps[~np.eye(len(one), dtype=bool)] >= VARIED.spacing).all()
        assert (one.sizes >= VARIED.sizes[0]).all() and (one.sizes <= VARIED.sizes[1]).all()


def test_physics_is_drawn_within_its_bounds():
    rng = np.random.default_rng(0)
    drawn = [VARIED.apply(Physics(), rng) for _ in range(300)]
    heights = np.degrees([np.arcsin(one.light[2] / np.linalg.norm(one.light)) for one in drawn])
    assert heights.min() >= 35 and heights.max() <= 85 and heights.std() > 10
    assert {one.texture for one in drawn if one.table is not None} == set(TEXTURES)
    assert 0.7 < np.mean([one.table is not None for one in drawn]) < 0.9
    assert 0.4 < np.mean([one.shadow for one in drawn]) < 0.6
    assert np.abs([one.camera_shift for one in drawn]).max() <= VARIED.jitter
    assert {(one.friction, one.mass) for one in drawn} == {(Physics.friction, Physics.mass)}
    assert SHIFTS["table"].apply(Physics(), rng).table is not None


def test_the_same_seed_draws_the_same_scene(env):
    first = [env.reset(seed=seed)[0]["pixels"] for seed in (1, 2)]
    state, goal = env.get_state(), env.goal_image
    again = [env.reset(seed=seed)[0]["pixels"] for seed in (1, 2)]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(*first)
    env.reset(seed=3)
    env.set_state(state)
    np.testing.assert_array_equal(env.last_observation["pixels"], first[1])
    np.testing.assert_array_equal(env.goal_image, goal)


def test_objects_stand_on_the_table_and_stay(env):
    for seed in range(6):
        env.reset(seed=seed)
        now = env.sim_state()
        assert np.allclose(now.objects[:, 2], TABLE_Z + now.sizes / 2, atol=2e-3)
        for _ in range(5):
            env.step(np.array([0, 0, 1, 0]))
        moved = np.linalg.norm(env.sim_state().objects - now.objects, axis=1)
        assert moved.max() < 3e-3, "a ball does not roll away by itself"
        assert env.layout.shapes[env.target] == 0 and COLOR_NAMES[env.layout.colors[env.target]]


def test_every_object_is_seen():
    layout = Layout(
        np.array([[0.46, -0.34], [0.46, -0.2], [0.46, -0.06], [0.58, -0.27], [0.58, -0.13]]),
        np.zeros(5),
        np.array([0, 4, 5, 2, 3]),
        np.array([0, 1, 2, 0, 0]),
        np.full(5, 0.045),
    )
    env = NicoLRealEnv("reach")
    env.reset(seed=0, options={"layout": layout, "instruction": "go to the red cube"})
    for texture in TEXTURES:
        env.scene.physics = Physics(table=(0.5, 0.6, 0.7), texture=texture, shadow=True)
        env.scene.reset(layout, np.array([0.35, -0.2, 1.07, 0.0]))
        picture = env.scene.picture("workspace").astype(float)
        for i in layout.colors:
            color = np.array(PALETTE[i][:3])
            near = np.abs(picture / (picture.max(-1, keepdims=True) + 1) - color / color.max()).max(-1) < 0.12
            assert near.sum() >= 12, (texture, i)
    kinds = [pybullet.getCollisionShapeData(body, -1, env.scene.client)[0][2] for body in env.scene._cubes]
    assert kinds[:3] == [pybullet.GEOM_BOX, pybullet.GEOM_SPHERE, pybullet.GEOM_CYLINDER]
    env.close()


def test_table_and_shadows_change_the_picture_and_not_physics():
    env = NicoLRealEnv("reach")
    env.reset(seed=0)
    pictures, ends = [], []
    for physics in (
        Physics(),
        Physics(shadow=True),
        Physics(table=(0.5, 0.6, 0.7)),
        Physics(table=(1, 1, 1), texture="wood"),
    ):
        env.scene.physics = physics
        env.scene.reset(env.layout, np.array([0.5, -0.2, 0.85, 0.0]))
        pictures.append(env.scene.picture("workspace").astype(int))
        ends.append(env.scene.objects())
    for i in range(1, 4):
        assert np.abs(pictures[i] - pictures[0]).mean() > 1
        np.testing.assert_array_equal(ends[i], ends[0])
    env.close()


def test_an_episode_tells_its_scene():
    env = behaviors.make_env("lift", None, "varied")
    one = behaviors.record(env, Job(0, "expert", 3, "lift", scene="varied"))
    layout, seen = env.start.layout, env.scene.physics
    labels = {name: value[0] for name, value in one.labels.items()}
    assert labels["shapes"].tolist() == [*layout.shapes, *[-1] * (OBJECTS - len(layout))]
    assert labels["colors"].tolist() == [*layout.colors, *[-1] * (OBJECTS - len(layout))]
    np.testing.assert_allclose(labels["sizes"][: len(layout)], layout.sizes, atol=1e-6)
    np.testing.assert_allclose(labels["scene"][:4], [*seen.light, seen.brightness], atol=1e-6)
    with pytest.raises(ValueError, match="holds varied scenes"):
        EpisodeDataset.of(general.EpisodeDataset.stack([one], behaviors.spec_of(env, None)))


def test_collect_takes_a_scene():
    usual, varied = (Arguments(out="x", episodes=3, task="lift", scene=scene).jobs() for scene in (None, "varied"))
    assert {job.scene for job in varied} == {"varied"}
    assert not {job.seed for job in usual} & {job.seed for job in varied}
    with pytest.raises(ValueError, match="scene='night'"):
        Arguments(out="x", scene="night").jobs()
    with pytest.raises(ValueError, match="no scenes to choose from"):
        Arguments(out="x", env="Pendulum-v1", scene="varied").jobs()


def test_bad_scenes_are_named():
    with pytest.raises(ValueError, match="scene='night' is not known; accepted: 'standard', 'varied'"):
        NicoLRealEnv(scene="night")
    for wrong in ({"table": (2, 0, 0)}, {"texture": "brick"}, {"shadow": "yes"}):
        with pytest.raises(ValueError, match="physics"):
            Physics(**wrong)
    for wrong in ({"sizes": np.full(3, 0.2)}, {"shapes": np.array([0, 0, 7])}, {"colors": np.array([0, 1, 5])}):
        with pytest.raises(ValueError, match="layout"):
            Layout(**{"positions": LAYOUT.positions, "yaws": LAYOUT.yaws, "colors": LAYOUT.colors, **wrong})


LAYOUT = Layout(np.array([[0.46, -0.30], [0.50, -0.18], [0.46, -0.06]]), np.zeros(3), np.array([0, 1, 2]))


def test_a_sentence_may_name_fewer_cubes_than_the_envs_own_task():
    env = NicoLRealEnv("stack", scene="varied")
    for seed in range(12):
        env.reset(seed=seed, options={"instruction": "lift the red cube"})
        assert env.task_name == "lift"
    env.close()
