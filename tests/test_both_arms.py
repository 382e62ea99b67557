"""The task for both arms: its world, what success is, its expert, and that one hand cannot do it."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import dream_env  # noqa: F401  (registers the ids)
from dream_env.agents.data.behaviors import Job
from dream_env.agents.evaluate.arguments import Arguments
from dream_env.agents.evaluate.command import check_general, main, world_of
from dream_env.agents.nicol import behaviors
from dream_env.agents.nicol.rollouts import Batch, play
from dream_env.agents.run.worlds import make_dream
from dream_env.agents.view.controls import controls_of
from dream_env.agents.view.twin import Twin
from dream_env.data import episodes as general
from dream_env.initial_states import InitialStates
from dream_env.nicol import constants
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.episode_start import draw_start
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.nicol.language import COLORS
from dream_env.nicol.layout import BAR_LENGTH, BAR_SPACING, Layout
from dream_env.nicol.physics import Physics
from dream_env.nicol.shift import SCENES, SHIFTS
from dream_env.nicol.spec import SPEC, spec_of
from dream_env.nicol.tasks import TASKS, SimState, task_of
from dream_env.world_models import checkpoint
from dream_env.world_models.dynamics import DynamicsConfig, DynamicsModel

ONE_ARM = tuple(name for name, task in TASKS.items() if task.arms == 1)
BAR = TASKS["lift_bar"]
ENDS = np.array([[[0.5, -0.22, 0.90], [0.5, 0.22, 0.90]], [[0.6, -0.22, 0.8225], [0.6, 0.22, 0.8225]]])
NOW = SimState(
    objects=ENDS.mean(1),
    target=0,
    hand=np.array([0.5, -0.15, 0.9, 0.5, 0.15, 0.9]),
    setpoint=np.array([0.5, -0.15, 0.9, 1.0, 0.5, 0.15, 0.9, 1.0]),
    held=True,
    sizes=np.full(2, 0.045),
    ends=ENDS,
)


@pytest.fixture
def env():
    env = NicoLRealEnv("lift_bar")
    yield env
    env.close()


def moved(right=0.0, left=0.0):
    """The moment `NOW` with the ends of the named bar so much higher."""
    ends = ENDS.copy()
    ends[0, :, 2] += (right, left)
    return replace(NOW, ends=ends, objects=ends.mean(1))


@pytest.mark.parametrize("task", [*ONE_ARM, "all"])
def test_the_worlds_of_one_arm_are_what_they_were(task):
    env = NicoLRealEnv(task)
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
    assert env.observation_space["proprio"] == gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
    assert spec_of(task) == replace(SPEC, horizon=env._max_episode_steps)


def test_the_spec_of_old_data_and_of_the_shipped_model_is_what_it_was():
    assert SPEC.to_json() == {
        "name": "NicoLReal-v0",
        "observation": {
            "pixels": {"type": "Box", "shape": [64, 64, 3], "dtype": "uint8", "low": 0.0, "high": 255.0},
            "proprio": {"type": "Box", "shape": [4], "dtype": "float32", "low": -1.0, "high": 1.0},
        },
        "action": {"type": "Box", "shape": [4], "dtype": "float32", "low": -1.0, "high": 1.0},
        "horizon": 24,
        "control_hz": 10,
        "hold_steps": 3,
        "instructions": True,
        "goals": True,
        "names": {"proprio": ["x", "y", "z", "closing"], "action": ["dx", "dy", "dz", "closing"]},
    }
    assert checkpoint.load("state_grounded").spec == SPEC


def test_starts_of_one_arm_are_drawn_as_before():
    given = Physics(), SHIFTS["none"], SCENES["standard"]
    start = draw_start(np.random.default_rng(7), "stack", {}, *given)
    assert start.instruction == "stack the yellowish box onto the reddish block"
    places = [[0.438, -0.2165], [0.5293, -0.0954], [0.5249, -0.306]]
    np.testing.assert_array_equal(start.layout.positions.round(4), places)
    np.testing.assert_allclose(start.start, [-0.77153, -0.782852, 0.018531, -1.0], atol=1e-5)


def test_the_world_of_both_arms():
    env = gym.make("NicoLBothArms-v0")
    world = env.unwrapped.world
    assert env.action_space.shape == env.observation_space["proprio"].shape == (8,)
    assert (world.name, world.horizon) == ("NicoLBothArms-v0", BAR.horizon)
    assert world.names["action"][3:5] == ("right closing", "left dx")
    assert len(controls_of(world).axes) == 8, "the viewer has keys for every number"
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_the_left_arms_set_point_is_the_right_ones_mirrored():
    low, high = constants.box(constants.SETPOINT_LOW, constants.SETPOINT_HIGH, 2)
    right = np.array([0.5, -0.3, 0.9, 0.2])
    both = np.append(right, right * [1, -1, 1, 1])
    assert (low <= both).all() and (both <= high).all()
    proprio = constants.normalize(both)
    np.testing.assert_array_equal(proprio[:4], constants.normalize(right))
    np.testing.assert_allclose(proprio[4:], proprio[:4] * [1, -1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(constants.denormalize(proprio), both, atol=1e-6)
    action = np.linspace(-1, 1, 8).astype(np.float32)
    after = [constants.integrate(proprio[i : i + 4], action[i : i + 4]) for i in (0, 4)]
    np.testing.assert_array_equal(constants.integrate(proprio, action), np.concatenate(after))
    goal = constants.to_delta("position", proprio, constants.integrate(proprio, action))
    np.testing.assert_allclose(goal, action, atol=1e-5)


@pytest.mark.parametrize(
    ("now", "done"),
    [
        (NOW, True),
        (moved(right=0.02), True),
        (moved(right=0.04), False),
        (moved(-0.02, -0.02), False),
        (replace(NOW, target=1), False),
    ],
)
def test_success_is_told_by_both_ends(now, done):
    assert BAR.condition(now) is done and (BAR.steps_to_go(now) == 0) == done
    with pytest.raises(ValueError, match="ends=None"):
        BAR.condition(replace(now, ends=None))


def test_expert_does_what_the_goal_picture_shows(env):
    for seed in (50_000, 50_001):
        first, _ = env.reset(seed=seed)
        ends = env.sim_state().ends
        np.testing.assert_allclose(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1), BAR_LENGTH, atol=1e-6)
        assert (ends[:, 0, 1] < ends[:, 1, 1]).all() and not env.truth()["condition"] and not env.truth()["held"]
        told, done = [], []
        for _ in range(env.episode_steps):
            told.append(BAR.steps_to_go(env.sim_state()))
            done.append(env.truth()["condition"])
            obs, _, _, truncated, info = env.step(env.expert_action())
        assert truncated and info["is_success"] and env.truth()["held"]
        assert abs(told[0] - done.index(True)) < 2, "the estimate is what the expert needs"
        far, near = (np.abs(env.goal_image.astype(int) - one["pixels"]).mean() for one in (first, obs))
        assert near < far / 3


def one_hand(env, hand, along):
    """Plays the expert for one hand, which is told that the other one does the same; that one stays where it is.

    Args:
        env: The env after its reset.
        hand: 0 for the right one, 1 for the left one.
        along: Where the hand grasps the bar: 1 where the expert does, 0 at its middle.
    """
    for _ in range(env.episode_steps):
        now = env.sim_state()
        grips = BAR.grips(now)
        shift = (1 - along) * (now.cube - grips[hand])
        setpoint, point = now.setpoint.reshape(2, 4).copy(), now.hand.reshape(2, 3).copy()
        for part in (setpoint, point):  # the other hand as far from its end as this one from its own
            part[1 - hand, :3] = part[hand, :3] + grips[1 - hand] - grips[hand]
        setpoint[1 - hand, 3] = setpoint[hand, 3]
        told = replace(
            now, objects=now.objects + shift, ends=now.ends + shift, setpoint=setpoint.ravel(), hand=point.ravel()
        )
        action = BAR.expert(told).reshape(2, 4)
        action[1 - hand] = 0
        *_, info = env.step(action.ravel())
    return info["is_success"]


@pytest.mark.parametrize(("hand", "along"), [(0, 1.0), (1, 1.0), (0, 0.0), (1, 0.0)])
def test_one_hand_alone_cannot_do_it(env, hand, along):
    env.reset(seed=hand)
    assert not one_hand(env, hand, along)
    assert env.target in env.truth()["touched"]


@pytest.mark.parametrize(
    ("made", "options", "why"),
    [
        (
            "lift_bar",
            {"task": "lift"},
            "task='lift' moves 1 arm.s.; accepted by an env that was made with task='lift_bar'",
        ),
        ("reach", {"task": "lift_bar"}, "task='lift_bar' moves 2 arm.s."),
        ("reach", {"instruction": "lift the red bar with both hands"}, "task='lift_bar' moves 2 arm.s."),
        ("lift_bar", {"instruction": "lift the red cube"}, "task='lift' moves 1 arm.s."),
        ("lift_bar", {"layout": Layout.draw(np.random.default_rng(0))}, "has 0 bars; accepted by 'lift_bar': 1"),
    ],
)
def test_a_task_for_other_arms_is_refused(made, options, why):
    env = NicoLRealEnv(made)
    with pytest.raises(ValueError, match=why):
        env.reset(seed=0, options=options)
    env.close()


@pytest.mark.parametrize("given", [{"arm": "left"}, {"assisted_grasp": True}])
def test_what_is_for_one_arm_is_refused(given):
    with pytest.raises(ValueError, match="accepted by 'lift_bar', which takes both arms: 'right' and False"):
        NicoLRealEnv("lift_bar", **given)


def test_bars_lie_apart():
    for seed in range(20):
        bars = Layout.draw(np.random.default_rng(seed), SCENES["varied"], shape="bar")
        assert bars.of("bar") == [0, 1] and bars.of("cube") == []
        assert abs(np.diff(bars.positions[:, 0])[0]) >= BAR_SPACING and (bars.colors < len(COLORS)).all()
    with pytest.raises(ValueError, match="layout: a bar at"):
        replace(bars, positions=np.array([[0.5, 0.0], [0.6, 0.0]]))


def test_bars_are_spoken_of_by_their_own_words():
    assert task_of("lift the red bar") == task_of("raise the blue rail using both hands") == "lift_bar"
    assert task_of("lift the red cube") == "lift", "words of another task do not change what is meant"
    with pytest.raises(ValueError, match="names 2 colors; accepted by 'lift_bar': 1"):
        task_of("hoist the red bar and the blue bar")


def test_a_state_goes_on_exactly(env):
    env.reset(seed=3, options={"instruction": "lift the green bar with both hands"})
    assert env.instruction == "lift the green bar with both hands"
    for _ in range(3):
        env.step(env.expert_action())
    state = env.get_state()
    after = [env.step(np.full(8, 0.5))[0]["pixels"] for _ in range(2)]
    env.set_state(state)
    np.testing.assert_array_equal(after, [env.step(np.full(8, 0.5))[0]["pixels"] for _ in range(2)])


def test_episodes_of_both_arms_are_those_of_a_robot_of_their_own():
    env = behaviors.make_env("lift_bar")
    spec = behaviors.spec_of(env, None)
    kinds = ("demo", "attempt", "play")
    episodes = [behaviors.record(env, Job(0, kind, 5, "lift_bar")) for kind in kinds]
    data = general.EpisodeDataset.stack(episodes, spec)
    assert data.spec.name == "NicoLBothArms-v0" and episodes[0].success[-3:].all()
    assert [episode.action.shape for episode in episodes] == [(32, 8)] * len(kinds)
    assert all(np.abs(episode.action[:, half]).max() > 0.2 for episode in episodes for half in (slice(4), slice(4, 8)))
    assert data.labels["hand"].shape[1:] == (6,) and episodes[0].labels["shapes"][0].tolist() == [3, 3, -1, -1, -1]
    with pytest.raises(ValueError, match="varied scenes|proprio is"):
        EpisodeDataset.of(data)


def test_a_world_model_of_both_arms_dreams_beside_physics(tmp_path):
    config = DynamicsConfig(members=2, width=16, latent=4, channels=(4, 4, 4), picture_size=16)
    checkpoint.save(DynamicsModel(config, spec_of("lift_bar")), tmp_path / "model", "For tests.")
    folder = str(tmp_path / "model")
    twin = Twin.of("auto", folder, spec_of("lift_bar"))
    assert twin is not None and twin.name == "NicoLBothArms-v0"
    seen = twin.reset(3)
    parts, goal = ({name: part[None] for name, part in twin.start()[key].items()} for key in ("observation", "goal"))
    states = InitialStates(
        parts, goal, np.zeros(1, int), np.array(["lift_bar"]), np.array(["red bar"]), np.zeros(1, int)
    )
    dream = make_dream(folder, obs_type="native", initial_states=states)
    obs, _ = dream.reset(seed=0, options=twin.start())
    np.testing.assert_array_equal(obs["proprio"].round(5), seen.observation["proprio"].round(5))
    assert (
        twin.step(np.zeros(8, np.float32), seen).step == 1
        and dream.step(np.zeros(8, np.float32))[0].keys() == obs.keys()
    )
    twin.close()
    with pytest.raises(
        ValueError, match="fitted to NicoLReal-v0.*accepted: world_model=None.*fitted to NicoLBothArms-v0"
    ):
        gym.make("NicoLReal-v0", task="lift_bar")


def test_evaluation_plays_it_in_physics():
    assert world_of(["lift_bar"]) == "NicoLBothArms-v0" and world_of(ONE_ARM) == "NicoLReal-v0"
    with pytest.raises(ValueError, match="tasks=lift,lift_bar move one arm and both"):
        world_of(["lift", "lift_bar"])
    won = [play(Batch(policy, policy, "physics", "lift_bar", (7,), None))[0].success for policy in ("expert", "zero")]
    assert won == [True, False]


def test_evaluation_refuses_what_is_of_another_world(tmp_path):
    asked = Arguments(policy=("zero",), out=tmp_path / "x", episodes=1, world_model="unlabelled", tasks=("lift_bar",))
    with pytest.raises(
        ValueError, match="tasks=lift_bar are of NicoLBothArms-v0, and world_model='unlabelled' of NicoL"
    ):
        main(asked)
    check_general(replace(asked, tasks=()), "NicoLBothArms-v0")
    check_general(asked, "NicoLBothArms-v0")
    for wrong in ({"tasks": ("reach",)}, {"goal": "other"}, {"instruction": "swapped"}, {"scene": "varied"}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.* accepted in the world NicoLBothArms-v0: none"):
            check_general(replace(asked, **wrong), "NicoLBothArms-v0")
    with pytest.raises(ValueError, match="policy='expert' in the world NicoLBothArms-v0.*--world-model None"):
        check_general(replace(asked, policy=("expert",)), "NicoLBothArms-v0")
    assert not (tmp_path / "x").exists()
