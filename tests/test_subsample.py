"""A recording of which every K-th frame is kept: frames, actions, rewards, ends and rates are those of slower steps."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import small_world
from gymnasium import spaces
from test_foreign_data import foreign  # noqa: F401  a fixture
from test_preparation import Count

from dream_env.agents import collect, subsample
from dream_env.agents.fit.common import begin
from dream_env.agents.run.cli import command, commands
from dream_env.agents.subsample import Arguments, main
from dream_env.data.episode import Episode
from dream_env.data.episodes import EpisodeDataset
from dream_env.data.pace import change
from dream_env.data.writer import EpisodeWriter, inspect
from dream_env.preparation import Preparation, make_of

SPEC = replace(small_world.SPEC, control_hz=50, horizon=13, hold_steps=3)
PLAIN: dict[str, Any] = {"terminated": False, "success": None, "reward": np.zeros(13)}
"""An episode at whose end nothing happens."""


def run(tmp_path: Path, *episodes: Episode, spec: Any = SPEC, **options: Any) -> EpisodeDataset:
    """Writes a recording, keeps every fourth frame, and returns what is left."""
    small_world.write(tmp_path / "data", *episodes, spec=spec)
    main(Arguments(**{"data": tmp_path / "data", "out": tmp_path / "slow", "frame_skip": 4, **options}))
    return EpisodeDataset.load(tmp_path / "slow")


def test_frames_rewards_and_everything_about_an_episode_are_kept(tmp_path: Path) -> None:
    whole = [small_world.episode(seed, 13, **{**PLAIN, "reward": np.arange(13) % 12}) for seed in (3, 5)]
    data = run(tmp_path, *whole)
    for one, old in zip((data[0], data[1]), whole, strict=True):
        kept = np.array([0, 4, 8, 12])
        for name, values in old.observation.items():
            np.testing.assert_array_equal(one.observation[name], values[kept])
        for name, values in old.labels.items():
            np.testing.assert_array_equal(one.labels[name], values[kept])
        assert one.reward is not None and one.reward.tolist() == [6, 22, 38], "sums of four steps"
        np.testing.assert_array_equal(one.action, old.action[[3, 7, 11]])
        assert old.goal is not None and one.goal is not None and one.goal.keys() == old.goal.keys()
        np.testing.assert_array_equal(one.goal["top"], old.goal["top"])
        for name in ("seed", "kind", "task", "instruction", "terminated"):
            assert getattr(one, name) == getattr(old, name), name


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("last", [[3, -1], [7, -1], [8, -1]]),
        ("first", [[0, 1], [4, -1], [8, -1]]),
        ("mean", [[1.5, 0.5], [5.5, -1], [8, -1]]),
        ("sum", [[6, 2], [22, -4], [8, -1]]),
    ],
)
def test_actions_become_one_as_asked(tmp_path: Path, how: Any, expected: list) -> None:
    action = np.stack([np.arange(9), np.where(np.arange(9) < 3, 1, -1)], 1).astype(np.float32)
    spec = replace(SPEC, action=spaces.Box(np.float32([0, -1]), np.float32([8, 1])))
    data = run(tmp_path, small_world.episode(1, 9, action=action, terminated=True), spec=spec, actions=how)
    np.testing.assert_array_equal(data.action[:-1], expected)
    wider = 4 if how == "sum" else 1
    space: Any = data.spec.action
    assert space.low.tolist() == [0, -wider] and space.high.tolist() == [8 * wider, wider]


def test_some_entries_are_displacements_and_others_targets(tmp_path: Path) -> None:
    old = small_world.episode(2, 8)
    data = run(tmp_path, old, sum=(1,))
    np.testing.assert_array_equal(data.action[:-1, 0], old.action[[3, 7], 0])
    np.testing.assert_allclose(data.action[:-1, 1], old.action[:, 1].reshape(2, 4).sum(1), rtol=1e-6)
    assert isinstance(data.spec.action, spaces.Box) and data.spec.action.high.tolist() == [2, 8]


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_actions_at_their_bounds_stay_within(tmp_path: Path, how: Any) -> None:
    spec = replace(SPEC, action=spaces.Box(-0.1, 0.7, (2,), np.float32))
    actions = [np.full((12, 2), bound, np.float32) for bound in (-0.1, 0.7)]
    episodes = [small_world.episode(i, 12, action=action) for i, action in enumerate(actions)]
    assert len(run(tmp_path, *episodes, spec=spec, actions=how, frame_skip=3)) == 2


@pytest.mark.parametrize(
    ("end", "frames"),
    [
        ({}, [0, 4, 8, 12]),
        ({"terminated": True}, [0, 4, 8, 12, 13]),
        ({"success": np.arange(14) == 13}, [0, 4, 8, 12, 13]),
        ({"success": np.arange(14) == 5}, [0, 4, 8, 12]),
        ({"reward": np.arange(13) == 12}, [0, 4, 8, 12, 13]),
        ({"reward": np.ones(13)}, [0, 4, 8, 12]),
        ({"goal": "end"}, [0, 4, 8, 12, 13]),
    ],
)
def test_the_last_frame_is_kept_where_something_happens(tmp_path: Path, end: dict, frames: list) -> None:
    old = small_world.episode(0, 13, **{**PLAIN, **end, "goal": small_world.episode(0, 13).goal})
    if "goal" in end:
        old = replace(old, goal={name: old.observation[name][-1] for name in ("top", "state")})
    one = run(tmp_path, old)[0]
    np.testing.assert_array_equal(one.observation["state"], old.observation["state"][frames])
    assert one.terminated == old.terminated
    if old.success is not None:
        assert one.success is not None and one.success.tolist() == old.success[frames].tolist()


def test_success_that_held_still_holds(tmp_path: Path) -> None:
    data = run(
        tmp_path, *(small_world.episode(i, 13, success=np.arange(14) > 13 - held) for i, held in ((0, 3), (2, 1)))
    )
    assert data.spec.hold_steps == 1 and data.solved.all()


def test_an_episode_that_is_too_short_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    short = {**PLAIN, "reward": None}
    episodes = [
        small_world.episode(0, 9, **short),
        small_world.episode(1, 3, **short),
        small_world.episode(2, 4, **short),
    ]
    assert run(tmp_path, *episodes).seed.tolist() == [0, 2]
    assert "2 episodes, one of 4 frames, 12.5 a second; left out as too short: 1" in capsys.readouterr().out


def test_the_spec_is_that_of_slower_steps(tmp_path: Path) -> None:
    data = run(tmp_path, small_world.episode(0, 13), frame_skip=5)
    assert (data.spec.control_hz, data.spec.horizon, data.spec.hold_steps) == (10, 3, 1)
    assert data.spec.preparation == {"skip": 5}
    assert json.loads((tmp_path / "slow/meta/info.json").read_text())["fps"] == 10
    again = Arguments(tmp_path / "slow", 2, tmp_path / "slower")
    main(again)
    spec = EpisodeDataset.load(again.out).spec
    assert (spec.control_hz, spec.horizon, spec.preparation) == (5, 2, {"skip": 10})
    with pytest.raises(ValueError, match=r"sum=\(0,\): .* frame skip of 5, in which the entries \(\) are"):
        main(replace(again, sum=(0,), out=tmp_path / "other"))


class Arm(Count):
    """Adds displacements up, and goes to its target at once."""

    metadata = {"render_fps": 60}
    action_space = spaces.Box(-1, 1, (2,), np.float32)
    observation_space = spaces.Box(-99, 99, (3,), np.float32)

    def step(self, action: Any) -> Any:
        self.count, self.last = self.count + 1, np.array([self.last[0] + action[0], action[1]])
        return self.seen(), float(action[0]), False, False, {}


@pytest.mark.parametrize("recorded", [1, 2])
def test_the_real_environment_of_the_spec_runs_at_the_rate_of_the_episodes(tmp_path: Path, recorded: int) -> None:
    import gymnasium as gym

    gym.register("SubsampledArm-v0", Arm, max_episode_steps=12)
    data, out, own = tmp_path / "data", tmp_path / "slow", tmp_path / "own"
    try:
        given = collect.Arguments(data, 2, "SubsampledArm-v0", policy="held", workers=1, hold=1)
        skips = {"skip": recorded, "skip_divided": (0,) * (recorded > 1)}
        collect.collect(replace(given, **skips))
        main(Arguments(data, 3, out, sum=(0,)))
        slow = EpisodeDataset.load(out)
        env: Any = make_of(slow.spec)
        assert env.action_space == slow.spec.action
        for episode in (slow[0], slow[1]):
            seen, _ = env.reset()
            for k, action in enumerate(episode.action):
                np.testing.assert_allclose(seen[:2], episode.observation["state"][k][:2], atol=1e-5)
                seen, reward, _, truncated, _ = env.step(action)
                assert episode.reward is not None and reward == pytest.approx(episode.reward[k], abs=1e-5)
            assert truncated and seen[0] == 12
        # What is recorded at this rate from the start is of the same world, so both can be joined, as coevolve does.
        collect.collect(replace(given, out=own, seed=1, **collect.prepared(Preparation.of(slow.spec.preparation))))
        assert len(EpisodeDataset.load(out, own)) == 4
    finally:
        del gym.registry["SubsampledArm-v0"]


@pytest.mark.parametrize("killed", [False, True])
def test_an_interrupted_run_goes_on_to_what_it_would_have_been(tmp_path: Path, monkeypatch: Any, killed: bool) -> None:
    episodes = [small_world.episode(i, 13) for i in range(5)]
    whole = run(tmp_path, *episodes)
    args, add, added = Arguments(tmp_path / "data", 4, tmp_path / "broken"), EpisodeWriter.add, []

    def failing(self: EpisodeWriter, episode: Episode, order: int | None = None) -> None:
        added.append(episode.seed)
        if len(added) == 3:
            raise KeyboardInterrupt
        add(self, episode, order)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(EpisodeWriter, "add", failing)
        if killed:  # nothing is consolidated
            broken.setattr(EpisodeWriter, "close", lambda self: 0)
        main(args)
    assert (args.out / "meta/info.json").exists() != killed
    main(args)
    again = EpisodeDataset.load(args.out)
    assert all(small_world.equal(whole[i], again[i]) for i in range(5)) and len(again) == 5
    with monkeypatch.context() as broken:
        broken.setattr(EpisodeWriter, "add", failing)  # nothing is done again
        main(args)
    small_world.write(args.data, small_world.episode(7, 13), spec=SPEC)
    main(args)
    assert EpisodeDataset.load(args.out).seed.tolist() == [0, 1, 2, 3, 4, 7]


def test_other_settings_and_other_folders_are_refused(tmp_path: Path) -> None:
    run(tmp_path, small_world.episode(0, 13))
    args = Arguments(tmp_path / "data", 4, tmp_path / "slow")
    with pytest.raises(ValueError, match="other settings: actions 'last', now 'mean'; accepted"):
        main(replace(args, actions="mean"))
    with pytest.raises(ValueError, match="other settings: frame_skip 4, now 2; accepted"):
        main(replace(args, frame_skip=2))
    with pytest.raises(ValueError, match="is what the run reads; accepted: a new folder"):
        main(replace(args, out=args.data))
    small_world.write(tmp_path / "others", small_world.episode(0, 13), spec=SPEC)
    with pytest.raises(ValueError, match="out=.*others holds other episodes; accepted: a new folder"):
        main(replace(args, out=tmp_path / "others"))
    (args.out / "meta/subsample.json").unlink()
    with pytest.raises(ValueError, match="out=.*slow holds other episodes; accepted"):
        main(args)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_skip": 1}, "frame_skip=1; accepted: an integer, at least 2"),
        ({"frame_skip": 14}, "frame_skip=14: the longest episode has 13 steps; accepted: 2 to 13"),
        ({"actions": "median"}, "actions='median' is not known; accepted: 'last', 'first', 'mean', 'sum'"),
        ({"sum": (2,)}, r"sum=\(2,\); accepted: entries of the action, 0 to 1"),
        ({"spec": replace(SPEC, name="NicoLReal-v0")}, "NicoLReal-v0 has a fixed control rate; accepted"),
    ],
)
def test_errors_name_what_is_accepted(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path, small_world.episode(0, 13), **options)
    assert not (tmp_path / "slow").exists()


@pytest.mark.parametrize("options", [{"actions": "sum"}, {"actions": "mean"}, {"sum": (0,)}])
def test_discrete_actions_are_not_added(tmp_path: Path, options: dict) -> None:
    spec, action = replace(SPEC, action=spaces.Discrete(9)), np.arange(8)
    old = small_world.episode(0, 8, action=action)
    assert run(tmp_path, old, spec=spec).action[:-1].tolist() == [3, 7]
    with pytest.raises(ValueError, match=r"of Discrete\(9\); accepted: 'last' or 'first'"):
        main(Arguments(tmp_path / "data", 4, tmp_path / "none", **options))


def test_a_recording_of_lerobot_becomes_a_data_set_of_ours(foreign: Path, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "slow"
    command("subsample", ["--data", str(foreign), "--frame-skip", "2", "--actions", "sum", "--out", str(out)])
    data, old = EpisodeDataset.load(out), EpisodeDataset.load(foreign)
    assert data.spec.name == "arm" and data.spec.control_hz == 10 and data.spec.instructions
    assert data.lengths.tolist() == [1, 3], "of 3 and 5 steps; the second ends with success"
    assert data.seed.tolist() == old.seed.tolist() and data.instruction.tolist() == ["do this", "do that"]
    np.testing.assert_array_equal(data[1].observation["top"], old[1].observation["top"][[0, 2, 4, 5]])
    np.testing.assert_allclose(data[1].action[:, 0], [0.9, 1.3, 0.8], rtol=1e-5)
    assert isinstance(data.spec.action, spaces.Box)
    np.testing.assert_allclose(data.spec.action.high, [1.8, 0], atol=1e-6)
    assert data.solved.tolist() == [False, True]


def test_a_fast_recording_is_told_in_its_summary_and_by_a_fit(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    time = np.arange(101)[:, None] / 50 * 2 * np.pi
    slow, fast = (np.concatenate([np.sin(rate * time), np.cos(rate * time), 0 * time], 1) for rate in (0.5, 5))
    assert change([slow], 0 * time[:, 0]) == pytest.approx(0.06, abs=0.01) and change([], time[:, 0]) is None
    for name, state, hz in (("calm", slow, 50), ("quick", fast, 50), ("rare", slow, 10)):
        one = small_world.episode(0, 100)
        one = replace(one, observation={**one.observation, "state": state, "force": state[:, :1]})
        small_world.write(tmp_path / name, one, replace(one, seed=1), spec=replace(SPEC, control_hz=hz))
        inspect(tmp_path / name)
        fit = SimpleNamespace(data=(tmp_path / name,), out=tmp_path / "model", held_out=0.1, seed=0, threads=1)
        begin(fit, "dynamics", EpisodeDataset.load(tmp_path / name))
        said = f"python -m agents.subsample --data {tmp_path / name} --frame-skip 5 --out"
        shown = capsys.readouterr().out
        assert shown.count(said) == shown.count("recorded at 50 frames per second") == 2 * (name == "calm")


def test_the_command_is_listed() -> None:
    assert commands()["subsample"] == Path(subsample.__file__)
    assert "| `agents.subsample` |" in (Path(__file__).parents[1] / "README.md").read_text()
