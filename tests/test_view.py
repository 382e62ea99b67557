"""The viewer without a page: the session, its recordings, and what keys do."""

from contextlib import closing
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from PIL import Image

from dream_env.agents.view import recording
from dream_env.agents.view.controls import controls_of
from dream_env.agents.view.session import DreamSession, Moment, SessionConfig
from dream_env.agents.view.twin import Seen, Twin
from dream_env.data.episodes import EpisodeDataset
from dream_env.nicol.spec import SPEC
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint

MOVE = np.array([0.5, -0.3, 0.1, 1.0], np.float32)


def same(one, other):
    assert one.step == other.step and one.info == other.info and one.reward == other.reward
    for part in ("state", "shown"):
        for name, array in getattr(one, part).items():
            np.testing.assert_array_equal(array, getattr(other, part)[name])


# --- the session


def test_going_back_is_exact_and_the_same_actions_lead_to_the_same_steps(session):
    for i in range(6):
        session.step(MOVE * (-1) ** i)
    before = session.moments[:]
    same(session.rewind(2), before[2])
    assert len(session.moments) == 7, "what came after stays until another step is taken"
    for moment in before[3:]:
        same(session.step(moment.action), moment)
    session.rewind(3)
    session.step(0.5 * MOVE)
    assert [m.step for m in session.moments] == [0, 1, 2, 3, 4]
    assert (session.now.state["tokens"] != before[4].state["tokens"]).any()


def test_going_back_reaches_as_far_as_the_history(toy_folder):
    session = DreamSession(SessionConfig(toy_folder, real="none", history=3))
    for _ in range(5):
        session.step(MOVE)
    assert [m.step for m in session.moments] == [2, 3, 4, 5]
    assert session.rewind(-7).step == 2 and session.rewind(99).step == 5


def test_a_dream_goes_on_after_its_horizon_as_long_as_somebody_drives(session):
    for _ in range(SPEC.horizon + 3):
        moment = session.step(MOVE)
    assert moment.step == SPEC.horizon + 3 and not moment.terminated


def test_a_policy_drives_unless_an_action_is_given(folders):
    world, clone = folders
    session = DreamSession(SessionConfig(world, {"mine": str(clone)}, real="none"))
    assert session.driver == "mine" and session.step().driver == "mine"
    assert session.step(MOVE).driver == "you"
    np.testing.assert_array_equal(session.now.action, MOVE)
    session.drive("you")
    assert not session.step().action.any()
    session.drive("random")
    assert session.step().action.any()
    with pytest.raises(ValueError, match="driver='nobody' is not known; accepted: 'you', 'mine', 'random'"):
        session.drive("nobody")


def test_a_policy_that_reads_word_by_word_is_given_the_words(toy_folder, monkeypatch):
    from dream_env.agents.policies import registry

    class Reader:
        inputs, seen = ("embedding", "words"), []

        def reset(self):
            pass

        def act(self, observation, deterministic=True):
            self.seen.append(observation["words"].copy())
            return np.tile(MOVE, (len(observation["words"]), 1))

    monkeypatch.setattr(registry, "load", lambda path: Reader())
    session = DreamSession(SessionConfig(toy_folder, {"reader": "somewhere"}, real="none"))
    session.step()
    first = session.instruction
    session.reset()
    session.step()
    assert first != session.instruction and (Reader.seen[0] != Reader.seen[1]).any()
    assert [one.label for one in session.futures(3, 2)].count("as it is") == 1


def test_actions_are_brought_into_bounds_or_refused(session):
    session.step(9 * MOVE)
    assert np.abs(session.now.action).max() == 1
    for wrong in ([1, 2], [np.nan] * 4, "left"):
        with pytest.raises(ValueError, match="accepted: finite numbers of shape"):
            session.step(wrong)


def test_a_sentence_begins_a_start_that_fits_it_or_is_refused_and_nothing_changes(session):
    session.step(MOVE)
    before = session.now
    for wrong, said in (("push the whale", "no color"), ("  ", "accepted: a sentence"), ("xqzw", "accepted")):
        with pytest.raises(ValueError, match=said):
            session.reset(instruction=wrong)
        assert session.now is before
    known = next(str(s) for s in session.env.dreams.initial_states.instruction if s.startswith("push"))
    assert session.reset(instruction=known).step == 0
    assert session.instruction == known and session.env.task_name == "push"
    assert session.reset(task="lift").step == 0 and session.env.task_name == "lift"


@pytest.mark.parametrize("seed", [-1, 1.5, True, "three", 2**64])
def test_a_seed_that_is_none_is_named_with_what_is_accepted(session, seed):
    before = session.now
    with pytest.raises(ValueError, match=rf"seed={seed!r}; accepted: None, or an integer, 0 to \d+$"):
        session.reset(seed=seed)
    assert session.now is before
    with pytest.raises(ValueError, match=rf"seed={seed!r}; accepted: an integer, 0 to \d+$"):
        SessionConfig(seed=seed)


def test_the_goal_is_the_recorded_picture_that_distances_are_taken_to(session):
    import torch

    goal = session.engine.model.encode({"pixels": torch.from_numpy(session.goal["pixels"][None])})
    embedding = session.engine.model.embedding(goal)
    np.testing.assert_allclose(embedding.numpy(), session.now.state["_goal"], atol=1e-5)


def test_temperature_0_leaves_nothing_to_chance(toy_folder):
    def end(temperature, seed):
        session = DreamSession(SessionConfig(toy_folder, real="none"))
        session.temperature = temperature
        session.env.reset(seed=seed, options={"start": 0})
        session.moments[:] = [session._moment()]
        return session.step(MOVE).state["tokens"]

    np.testing.assert_array_equal(end(0.0, 1), end(0.0, 2))
    with pytest.raises(ValueError, match="temperature=-1"):
        end(-1, 0)


def test_futures_are_what_happens_if_their_actions_are_done(session):
    session.temperature = 0.0
    before = session.now
    found = session.futures(5, 4)
    assert session.now is before and session.env.get_state()["tokens"].tobytes() == before.state["tokens"].tobytes()
    ends = [one.scores[-1] for one in found]
    assert len(found) == 5 and ends == sorted(ends) and {one.label for one in found} == {"hands off", "varied"}
    for action in found[0].actions:
        session.step(action)
    assert session.now.info["distance"] == pytest.approx(ends[0], abs=1e-4)
    assert session.now.info["success_probability"] == pytest.approx(found[0].success, abs=1e-4)
    assert np.abs(session.now.shown["pixels"].astype(int) - found[0].frames["pixels"][-1]).max() <= 1


def test_futures_of_a_policy_begin_with_what_it_does(folders):
    world, clone = folders
    session = DreamSession(SessionConfig(world, {"mine": clone}, real="none", temperature=0.0))
    own = next(one for one in session.futures(4, 3) if one.label == "as it is")
    for action in own.actions:
        np.testing.assert_allclose(session.step().action, action, atol=1e-5)


# --- the real environment


def test_physics_begins_alike_and_goes_back_with_the_dream(toy_folder):
    with closing(DreamSession(SessionConfig(toy_folder, seed=3))) as session:
        assert session.instruction == session.twin.env.unwrapped.instruction
        for _ in range(4):
            session.step(MOVE)
        before = session.moments[:]
        session.rewind(1)
        for moment in before[2:]:
            again = session.step(moment.action).real
            np.testing.assert_array_equal(again.picture, moment.real.picture)
            assert again.info == moment.real.info
        with pytest.raises(ValueError, match="no color"):
            session.reset(instruction="push the whale")
        assert session.step(MOVE).step == 5, "a sentence that is refused leaves both worlds where they are"


def test_a_sentence_that_only_physics_knows_leaves_it_where_it_was(toy_folder):
    real = []
    for sentence in (None, "stack the red cube on the green cube"):
        with closing(DreamSession(SessionConfig(toy_folder, seed=4))) as session:
            if sentence is not None:
                with pytest.raises(ValueError, match="task.*'stack' is not known"):
                    session.reset(instruction=sentence)
            real.append(session.step(MOVE).real.observation["pixels"])
    np.testing.assert_array_equal(*real)


def test_any_real_environment_stands_beside_its_dream_and_is_played_again_to_go_back(cartpole):
    with closing(DreamSession(SessionConfig(cartpole, seed=1))) as session:
        assert session.twin.name == "CartPole-v1" and session.now.real.picture.shape[-1] == 3
        np.testing.assert_allclose(session.now.shown["state"], session.now.real.observation["state"], atol=0.3)
        for action in (0, 1, 1, 0):
            session.step(action)
        before = session.now.real
        session.rewind(2)
        session.step(1)
        np.testing.assert_array_equal(session.step(0).real.observation["state"], before.observation["state"])
        with pytest.raises(ValueError, match="CartPole-v1 has no sentences"):
            session.reset(instruction="balance")
        futures = session.futures(3, 5)
        assert not futures[0].frames and futures[0].scores[-1] >= futures[-1].scores[-1], "the best reward first"


def test_a_dream_is_shown_by_itself_where_its_environment_cannot_be_made(toy_folder, cartpole, monkeypatch):
    monkeypatch.setattr("dream_env.agents.view.twin.make_real", lambda *_, **__: gym.make("Nowhere-v0"))
    with pytest.raises(gym.error.Error):
        DreamSession(SessionConfig(cartpole))  # make_real itself turns this into a ValueError
    monkeypatch.undo()
    monkeypatch.setattr("gymnasium.make", lambda *_, **__: (_ for _ in ()).throw(gym.error.NameNotFound("no")))
    assert DreamSession(SessionConfig(cartpole)).twin is None
    monkeypatch.undo()
    for real, said in (("Nowhere-v0", "cannot be made"), ("Pendulum-v1", "fitted to CartPole-v1")):
        with pytest.raises(ValueError, match=f"real='{real}'.*{said}"):
            DreamSession(SessionConfig(cartpole, real=real))


# --- what is kept


def test_what_was_driven_becomes_a_gif_at_the_speed_of_the_world(session, tmp_path):
    for _ in range(5):
        session.step(MOVE)
    session.rewind(3)
    path = recording.save_gif(session.past, session.spec, session.instruction, tmp_path / "a.gif")
    with Image.open(path) as animation:
        assert animation.n_frames == 4 and animation.info["duration"] == 100 and animation.height > recording.SIDE


def test_what_was_driven_becomes_an_episode_of_each_world(toy_folder, tmp_path):
    with closing(DreamSession(SessionConfig(toy_folder))) as session:
        with pytest.raises(ValueError, match="nothing was done yet"):
            recording.save_episode(session.past, SPEC, "", session.goal, "", tmp_path / "none")
        for _ in range(3):
            session.step(MOVE)
        for world in ("dream", "real"):
            for count in (1, 2):
                given = (session.past, session.spec, session.instruction, session.goal, session.env.task_name)
                assert recording.save_episode(*given, tmp_path / world, world) == count
            data = EpisodeDataset.load(tmp_path / world)
            assert len(data) == 2 and data.spec.action == SPEC.action and data.spec.horizon is None
            episode = data[0]
            np.testing.assert_array_equal(episode.action, np.stack([MOVE] * 3))
            assert episode.instruction == session.instruction and episode.kind == "driven"
            shown = session.now.real.observation if world == "real" else session.now.shown
            np.testing.assert_array_equal(episode.observation["pixels"][-1], shown["pixels"])
            np.testing.assert_array_equal(episode.goal["pixels"], session.goal["pixels"])


def test_an_episode_without_goals_or_pictures_is_kept_too(cartpole, tmp_path):
    with closing(DreamSession(SessionConfig(cartpole, real="none"))) as session:
        session.step(1)
        recording.save_episode(session.past, session.spec, "", session.goal, "", tmp_path / "dream")
        with pytest.raises(ValueError, match="has no pictures"):
            recording.save_gif(session.past, session.spec, "", tmp_path / "a.gif")
        with pytest.raises(ValueError, match="no real environment"):
            recording.save_episode(session.past, session.spec, "", session.goal, "", tmp_path / "real", "real")
    assert EpisodeDataset.load(tmp_path / "dream").spec.name == "CartPole-v1"


def moment(step, **seen):
    real = Seen(step, {"state": np.full(2, step, np.float32)}, None, reward=float(step), **seen)
    return Moment(step, {}, {}, real.observation, {}, None, action=np.float32([step]), real=real)


def test_a_real_episode_is_kept_up_to_its_end_though_the_dream_goes_on():
    steps = [moment(0), moment(1), moment(2, ended=True)]
    steps += [replace(moment(i), real=steps[2].real) for i in (3, 4)]
    episode = recording.episode_of(steps, "real")
    assert episode.action.ravel().tolist() == episode.reward.tolist() == [1, 2] and episode.terminated
    assert episode.observation["state"][:, 0].tolist() == [0, 1, 2]
    assert len(recording.episode_of(steps, "dream").action) == 4
    with pytest.raises(ValueError, match="the real environment had ended before"):
        recording.episode_of(steps[2:], "real")


def test_success_that_the_real_environment_tells_late_is_kept_as_the_condition_that_led_to_it():
    steps = [moment(0), *(moment(i, info={"is_success": i in (4, 5)}) for i in range(1, 8))]
    assert recording.episode_of(steps, "real", 3).success.tolist() == [i in (2, 3, 4, 5) for i in range(8)]
    assert recording.episode_of([moment(0), moment(1)], "real", 3).success is None


def test_a_large_picture_is_shown_whole_in_a_gif(tmp_path):
    picture = np.zeros((400, 600, 3), np.uint8)
    picture[-40:] = 255  # the ground at the bottom
    steps = [replace(one, real=replace(one.real, picture=picture)) for one in (moment(0), moment(1))]
    spec = WorldSpec("x", spaces.Dict({"state": spaces.Box(-9, 9, (2,))}), spaces.Box(-9, 9, (1,)))
    with Image.open(recording.save_gif(steps, spec, "", tmp_path / "a.gif")) as animation:
        assert animation.size == (384 + 24, recording.SIDE + 12 + 28 + 12)
        shown = np.asarray(animation.convert("RGB"))[-12 - recording.SIDE : -12, 12:-12]
    assert shown[:200].max() < 50 and shown[-20:].min() > 200


# --- keys


def spec_of(action, *names):
    return WorldSpec("w", spaces.Dict({"state": spaces.Box(-1, 1, (2,))}), action, names={"action": names})


def test_keys_move_nicols_hand_as_its_camera_shows_it():
    from dream_env.nicol.camera import CAMERAS

    camera = CAMERAS["workspace"]
    ahead = np.subtract(camera.target, camera.position)[:2]
    ahead = ahead / np.linalg.norm(ahead)
    sides, depth, height, hand = controls_of(SPEC).axes
    np.testing.assert_allclose(depth.up[:2], ahead, atol=1e-2)
    assert "KeyW" in depth.plus and "KeyD" in sides.plus and "ArrowUp" in depth.plus
    (right_x, right_y), (far_x, far_y) = sides.up[:2], depth.up[:2]
    assert right_x * far_y - right_y * far_x == pytest.approx(1, abs=1e-2)  # far is to the left of right
    assert height.up == (0, 0, 1, 0) and height.plus == ("KeyR",)
    assert hand.toggle and hand.minus == ("Space",) and hand.up == (0, 0, 0, 1) and hand.down == (0, 0, 0, -1)


def test_every_number_of_an_action_has_its_keys():
    one = controls_of(spec_of(spaces.Box(-2, 2, (1,)))).axes[0]
    assert one.minus[1] == "ArrowLeft" and one.down == (-2,) and one.up == (2,)
    named = controls_of(spec_of(spaces.Box(-1, 1, (4,)), "gripper", "z", "x", "y")).axes
    assert [axis.label for axis in named] == ["y", "x", "z", "gripper"] and named[-1].toggle
    assert named[0].up == (0, 0, 0, -1), "y points to the left"
    assert named[1].up == (0, 0, 1, 0), "x points ahead"
    box = spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))
    car = controls_of(spec_of(box, "steer", "gas", "brake"))
    assert car.rest == (0, 0, 0) and car.axes[1].down == (0, 0, 0) and car.axes[1].up == (0, 1, 0)
    free = controls_of(spec_of(spaces.Box(-np.inf, np.inf, (9,)))).axes
    assert free[0].up[0] == 1 and len({axis.minus for axis in free}) == 8 and free[-1].minus == ()
    keys = [key for axis in free for key in axis.minus + axis.plus]
    assert len(keys) == len(set(keys))


def test_choices_lie_on_numbers_and_arrows():
    two = controls_of(spec_of(spaces.Discrete(2))).choices
    assert [(c.value, c.keys) for c in two] == [(0, ("Digit1", "ArrowLeft")), (1, ("Digit2", "ArrowRight"))]
    many = controls_of(spec_of(spaces.Discrete(12, start=3), *"abc")).choices
    assert [c.label for c in many[:4]] == ["a", "b", "c", "4"] and many[0].value == 3 and many[-1].keys == ()


class Undrawn(CartPoleEnv):
    """CartPole that takes no `render_mode`, as an environment that draws nothing may."""

    def __init__(self) -> None:
        super().__init__()


def test_an_environment_that_cannot_draw_itself_runs_next_to_the_dream(cartpole):
    gym.register("Undrawn-v0", Undrawn, max_episode_steps=500)
    found = Twin.of("Undrawn-v0", cartpole, checkpoint.load(cartpole).spec)
    assert found.reset(0).picture is None
