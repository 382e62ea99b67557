"""Any environment: recorded, fitted, dreamed, and back in the real one."""

import json
import re
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from dream_env.agents.data.behaviors import Job, World, record
from dream_env.agents.fit.common import initial_states
from dream_env.agents.fit.dynamics import figures as dynamics_figures
from dream_env.agents.fit.dynamics.command import Arguments, fit
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.slots.arguments import Arguments as SlotArguments
from dream_env.agents.fit.vmc.arguments import Arguments as VMCArguments
from dream_env.agents.studies.general.arguments import Arguments as StudyArguments
from dream_env.agents.studies.general.cases import CASES
from dream_env.agents.studies.general.command import main as general
from dream_env.agents.studies.general.picture_cartpole import ENV_ID
from dream_env.agents.studies.general.practice import evaluate
from dream_env.data.episodes import EpisodeDataset
from dream_env.initial_states import InitialStates
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.wrappers import WorldModelWrapper

TINY = {"updates": 3, "picture_updates": 2, "width": 16, "members": 2, "batch": 4, "latent": 4, "threads": 1}


def recorded(env, count=4):
    spec = WorldSpec.of_env(env)
    episodes = [record(World(env, spec), Job(i, "random", i, "")) for i in range(count)]
    return EpisodeDataset.stack(episodes, spec)


@pytest.fixture(scope="module")
def pendulum():
    return recorded(gym.make("Pendulum-v1", max_episode_steps=60), 10)


@pytest.fixture(scope="module")
def cartpole():
    return recorded(gym.make(ENV_ID))


def test_windows_end_with_their_episodes(cartpole):
    data = Recorded.of(cartpole, 64)
    window = data.windows(data.first, 500)
    for row, episode in enumerate(cartpole):
        steps = len(episode.action)
        assert window.known[row].sum() == steps
        assert np.array_equal(window.action[row, :steps], episode.action)
        assert window.terminated[row].nonzero()[:, 0].tolist() == [steps - 1]
        last = data.observation["pixels"][window.frame[row, steps]]
        assert np.array_equal(last, episode.observation["pixels"][-1])
        assert (window.frame[row, steps:] == window.frame[row, steps]).all()


def test_taken_episodes_are_those_that_were_asked_for(cartpole):
    taken = Recorded.of(cartpole, 32).take(np.array([1, 3]))
    assert taken.observation["pixels"].shape[1:] == (32, 32, 3)
    for row, i in enumerate((1, 3)):
        frames = slice(int(taken.first[row]), int(taken.last[row]))
        assert np.array_equal(taken.action[frames], cartpole[i].action)
        assert np.array_equal(taken.reward[frames], cartpole[i].reward)
    assert taken.terminated.nonzero()[:, 0].tolist() == (taken.last - 1).tolist() and taken.frames == taken.last[-1] + 1


def test_drawn_windows_begin_where_something_was_done(cartpole):
    data = Recorded.of(cartpole, 64)
    window = data.draw(300, 4, torch.Generator().manual_seed(0), starts=0.5)
    assert window.known[:, 0].all()
    begun = torch.isin(window.frame[:, 0], data.first).float().mean()
    assert 0.45 < begun < 0.75


def test_a_fit_learns_how_a_pendulum_swings(tmp_path, pendulum):
    settings = TINY | {"updates": 300, "width": 64, "batch": 32, "learning_rate": 3e-3}
    found = fit(Arguments(data=(), out=tmp_path, **settings), pendulum).figures
    error = found["open_loop_error"]
    assert error["predicted"]["1"] < 0.1 * error["copied"]["1"]
    assert error["predicted"]["5"] < 0.1 * error["copied"]["5"]
    assert found["reward_error"]["rms"] < 0.5 * found["reward_error"]["std"]
    assert "terminated" not in found  # a pendulum never ends


def test_a_fit_writes_what_a_dream_needs(tmp_path, cartpole):
    fit(Arguments(data=(), out=tmp_path, **TINY), cartpole)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "README.md", "metrics.json", "spec.json", "initial_states.npz"} <= names
    model = checkpoint.load(tmp_path)
    assert model.spec == cartpole.spec and model.has_memory and model.config.terminates
    env = gym.make("Dream-v0", world_model=str(tmp_path))
    env.reset(seed=0)
    obs, reward, *_ = env.step(1)
    assert env.observation_space.contains(obs) and np.isfinite(reward)
    twin = WorldModelWrapper(gym.make(ENV_ID), str(tmp_path))
    assert twin.observation_space == env.observation_space and twin.action_space == env.action_space
    memory = slice(model.embedding_dim - model.config.memory, None)
    assert not twin.reset(seed=0)[0]["embedding"][memory].any()  # nothing is remembered at a start
    assert twin.step(1)[0]["embedding"][memory].any()


def test_success_in_the_real_environment_has_one_name_and_is_missed_if_it_is_the_reward(tmp_path, cartpole):
    fit(Arguments(data=(), out=tmp_path, **TINY), cartpole)
    real = WorldModelWrapper(gym.make(ENV_ID), str(tmp_path), reward="success")
    real.reset(seed=0)
    with pytest.raises(ValueError, match="reward='success': env .* reports no success; accepted: .*another reward"):
        real.step(1)

    class Tells(gym.Wrapper):
        def step(self, action):
            return *self.env.step(action)[:4], {"success": 1.0}  # as Meta-World does

    real = WorldModelWrapper(Tells(gym.make(ENV_ID)), str(tmp_path), reward="success")
    assert "is_success" not in real.reset(seed=0)[1]
    _, reward, *_, info = real.step(1)
    assert reward == 1 and info["is_success"] is True


def test_a_fit_goes_on_where_it_was_killed(tmp_path, pendulum, monkeypatch):
    whole = fit(Arguments(data=(), out=tmp_path / "whole", **TINY), pendulum).model
    args = Arguments(data=(), out=tmp_path / "parts", **TINY)
    with monkeypatch.context() as patch:
        patch.setattr(
            "dream_env.agents.fit.dynamics.command.measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            fit(args, pendulum, save_seconds=0.0)
    again = fit(args, pendulum).model
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    with pytest.raises(ValueError, match="data_checksum .*, now .*; accepted: the same settings, or another folder"):
        fit(args, replace(pendulum, action=-pendulum.action))
    file = args.out / "last" / "training.pt"
    state = torch.load(file, weights_only=True)
    state["settings"] = re.sub(r'"data_checksum": \d+, ', "", state["settings"])  # of an older version
    torch.save(state, file)
    fit(args, pendulum)
    with pytest.raises(ValueError, match="updates"):
        fit(replace(args, updates=4), pendulum)


def test_instructions_that_no_dream_could_begin_with_are_refused_before_the_fit(tmp_path, pendulum):
    spec = replace(pendulum.spec, instructions=True)
    words = np.array(["hold it up"] * (len(pendulum) - 1) + [""])
    with pytest.raises(ValueError, match=f"episode {len(pendulum) - 1} has the instruction ''; accepted: words"):
        fit(Arguments(data=(), out=tmp_path, **TINY), replace(pendulum, spec=spec, instruction=words))


def test_instructions_in_any_language_are_fitted_and_dreamed(tmp_path, pendulum):
    said = np.array([["把红块推开", "把蓝块推开"][i % 2] for i in range(len(pendulum))])
    data = replace(pendulum, spec=replace(pendulum.spec, instructions=True), instruction=said)
    fit(Arguments(data=(), out=tmp_path, **TINY), data)
    env = gym.make("dream_env:Dream-v0", world_model=tmp_path)
    seen = [env.reset(seed=0, options={"instruction": text})[0]["instruction"] for text in (said[0], said[1], "歌唱")]
    assert seen[0] @ seen[1] > 0.5 * seen[0] @ seen[0] > seen[0] @ seen[2]
    with pytest.raises(ValueError, match="has no known word; accepted: a sentence"):
        env.reset(options={"instruction": "?"})


def test_initial_states_are_recorded_frames(cartpole):
    states = initial_states(cartpole, each=3)
    assert len(states) == 12 and (states.step == 0).sum() == 4
    assert initial_states(cartpole, each=1).step.tolist() == initial_states(cartpole, each=0).step.tolist() == [0] * 4
    for kind in (Arguments, SlotArguments, VMCArguments):
        with pytest.raises(ValueError, match="starts=0; accepted: a finite number, at least 1"):
            kind(data=(), out=Path("x"), starts=0)
        with pytest.raises(ValueError, match="most_starts=2; accepted: a finite number, at least 3"):
            kind(data=(), out=Path("x"), starts=3, most_starts=2)
    assert np.array_equal(states.observation["pixels"][0], cartpole[0].observation["pixels"][0])


def test_initial_states_are_at_most_as_many_as_asked_for(tmp_path, pendulum):
    fit(Arguments(data=(), out=tmp_path, starts=2, most_starts=7, **TINY), pendulum)
    states = InitialStates.load(tmp_path / "initial_states.npz")
    assert len(states) == 6 and (states.step == 0).sum() == 3


def test_open_loop_begins_with_what_was_seen(tmp_path, cartpole):
    fitted = fit(Arguments(data=(), out=tmp_path, **TINY), cartpole)
    data, code = fitted.held_out, fitted.codes
    window = data.windows(data.first[:1], 6)
    found, told = dynamics_figures.open_loop(fitted.model, code, window, recall=3)
    assert found.shape[:2] == (1, 4) and len(told) == 3
    assert torch.equal(found[0, 0], code[window.frame[0, 3]])
    strip = dynamics_figures.picture_strip(fitted.model, data, code, 0, (0, 2, 4))
    assert strip.shape == (3 * 64, 3 * 64, 3) and strip.dtype == torch.uint8


def test_a_fit_needs_two_episodes(tmp_path, pendulum):
    with pytest.raises(ValueError, match="at least 2"):
        fit(Arguments(data=(), out=tmp_path), pendulum.take(slice(1)))


def test_random_actions_of_cartpole_last_about_twenty_steps():
    assert 15 < np.mean(evaluate(gym.make("CartPole-v1"), None, 100)) < 30


def test_a_picture_shows_where_cart_and_pole_are():
    env = gym.make(ENV_ID)
    first, _ = env.reset(seed=0)
    env.unwrapped.state = (1.2, 0.0, 0.2, 0.0)
    moved = env.get_wrapper_attr("observation")(np.array(env.unwrapped.state))
    dark = [np.argwhere(image.sum(-1) < 330)[:, 1].mean() for image in (first, moved)]
    assert dark[1] - dark[0] == pytest.approx(64 * 1.2 / 4.8, abs=2)


def test_the_short_study_writes_every_environments_entry(tmp_path):
    args = {"out": tmp_path, "work": tmp_path / "work", "seeds": 1, "evaluated": 1, "workers": 1}
    general(StudyArguments(short=True, **args))
    entries = json.loads((tmp_path / "general.json").read_text())
    assert [each["env"] for each in entries] == [case.name for case in CASES]
    for each in entries:
        assert {"trained_in_dream", "trained_in_real", "random", "episodes", "minutes"} <= each.keys()
    assert "Pendulum-v1" in Path(tmp_path / "general.md").read_text()
