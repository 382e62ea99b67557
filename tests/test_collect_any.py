"""Collection of any Gymnasium environment: what acts, what is recorded, and what is refused."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from small_world import equal

from dream_env.agents.collect import Arguments, collect
from dream_env.agents.data import behaviors
from dream_env.agents.run import cli
from dream_env.data.episodes import EpisodeDataset
from dream_env.data.lerobot import LeRobotStore
from dream_env.preparation import Pictures, make, make_of
from dream_env.spec import WorldSpec


class Picture(gym.Env):
    """A bright square that walks to the right and ends its episode there; success is told at the end only."""

    observation_space = spaces.Box(0, 255, (12, 10, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(0, 4))
        return self.picture(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.place += int(action)
        done = self.place >= 8
        return self.picture(), float(action), done, False, {"success": done}

    def picture(self) -> np.ndarray:
        picture = np.zeros((12, 10, 3), np.uint8)
        picture[:, self.place : self.place + 2] = 200
        return picture


class Parts(Picture):
    """A flat Dict of a picture and a vector in double precision, which leaves its own space."""

    observation_space = spaces.Dict({"eye": Picture.observation_space, "place": spaces.Box(0.0, 5.0, (1,), np.float64)})
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float64)

    def picture(self) -> Any:
        return {"eye": super().picture(), "place": np.array([float(self.place)])}

    def step(self, action: Any) -> Any:
        assert action.dtype == np.float64 and self.action_space.contains(action)
        return super().step(action[0] > 0)


class Screen(Picture):
    """A Dict of a picture and a number of 64 bits, as games have it, whose steps pay 1 until the end."""

    observation_space = spaces.Dict({"health": spaces.Discrete(9), "screen": Picture.observation_space})

    def __init__(self, quick: int = 1, name: str = "") -> None:
        self.quick, self.name = quick, name

    def picture(self) -> Any:
        return {"health": 3, "screen": super().picture()}

    def step(self, action: Any) -> Any:
        seen, _, done, *others = super().step(self.quick * action)
        return seen, 1.0, done, *others


class Wrong(Picture):
    observation_space = spaces.Tuple((Picture.observation_space,))  # type: ignore[assignment]


class Goal(Picture):
    """Shows its goal as a picture of its only camera."""

    goal_image = np.full((12, 10, 3), 7, np.uint8)


class Late(Picture):
    """Tells success in the last step only, as Stable-Baselines3 expects it."""

    def step(self, action: Any) -> Any:
        *others, done, truncated, info = super().step(1)
        return *others, done, truncated, {"is_success": True} if done else {}


class Fragile(gym.Env):
    """Walks for three steps; then, in every second episode, fails in one way or the other."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, fault: str = "raise") -> None:
        self.fault = fault

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps, self.ill = 0, (seed or 0) % 2 == 1
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        ill = self.ill and self.steps == 3
        if ill and self.fault == "raise":
            raise RuntimeError("the arm fell off")
        seen = np.full(1, np.nan if ill and self.fault == "observation" else 0, np.float32)
        return seen, float("nan") if ill and self.fault == "reward" else 0.0, self.steps == 5, False, {}


for small in (Picture, Parts, Screen, Wrong, Goal, Late, Fragile):
    gym.register(f"Small{small.__name__}-v0", small, max_episode_steps=30)
gym.register("SmallEndless-v0", Picture)
gym.register("SmallScreen-v1", Screen)


def arguments(out: Path, env: str = "SmallPicture-v0", episodes: int = 6, **others: Any) -> Arguments:
    return Arguments(out, episodes, env, **{"workers": 1, **others})


def test_pictures_terminations_and_success_are_recorded(tmp_path: Path) -> None:
    assert collect(arguments(tmp_path / "set")) == 6
    data = EpisodeDataset.load(tmp_path / "set")
    assert data.spec.pictures == ("pixels",) and data.spec.action == spaces.Discrete(2) and data.spec.horizon == 30
    assert not data.spec.instructions and set(data.kind) == {"random"} and set(data.task) == {"SmallPicture-v0"}
    assert len(set(data.lengths.tolist())) > 1, "episodes end when they are over"
    for i in range(6):
        one = data[i]
        places = one.observation["pixels"][:, 0, :, 0].argmax(1)
        assert one.terminated == (places[-1] == 8) and one.success is not None and one.success[-1] == one.terminated
        assert np.array_equal(np.diff(places), one.action) and np.array_equal(one.reward, one.action)
    assert data.solved.tolist() == data.terminated.tolist() and data.terminated.any()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise", "RuntimeError: the arm fell off"),
        ("observation", "observation holds NaN or infinity; accepted: finite numbers"),
        ("reward", "reward=nan; accepted: a finite number"),
    ],
)
def test_an_environment_that_fails_is_named_and_the_episodes_before_it_are_kept(fault, said, tmp_path: Path) -> None:
    words = ["--env", "SmallFragile-v0", "--env-options", f"fault={fault}", "--episodes", "20", "--workers", "1"]
    args = arguments(tmp_path, "SmallFragile-v0", 20, env_options=f"fault={fault}")
    order = [job.seed % 2 for job in args.jobs()].index(1)
    with pytest.raises(SystemExit) as end:
        cli.command("collect", [*words, "--out", str(tmp_path / "set")])
    seed = args.jobs()[order].seed
    kept = "the finished episodes are kept; mend it, or take another --seed"
    assert str(end.value).endswith(f"collect: env='SmallFragile-v0', seed={seed}, step=3: {said}; {kept}")
    if order:
        assert len(EpisodeDataset.load(tmp_path / "set")) == order


def test_goal_pictures_are_recorded(tmp_path: Path) -> None:
    collect(arguments(tmp_path / "set", "SmallGoal-v0", 2))
    data = EpisodeDataset.load(tmp_path / "set")
    assert data.spec.goals and np.array_equal(data.goal["pixels"][0], Goal.goal_image)


def test_goal_pictures_are_prepared_as_those_of_observations(tmp_path: Path) -> None:
    collect(arguments(tmp_path / "set", "SmallGoal-v0", 1, crop=(2, 2, 0, 0), size=8))
    assert EpisodeDataset.load(tmp_path / "set").goal["pixels"].shape == (1, 8, 8, 3)


def test_success_may_be_told_in_the_last_step_only(tmp_path: Path) -> None:
    collect(arguments(tmp_path / "set", "SmallLate-v0", 3))
    data = EpisodeDataset.load(tmp_path / "set")
    assert data.success is not None and data.success.sum() == 3 and data.solved.all()


def test_episodes_that_are_cut_off_before_they_tell_success_have_none(tmp_path: Path) -> None:
    collect(arguments(tmp_path / "set", "SmallLate-v0", 8, max_steps=6))  # from the places 0 to 3 to place 8
    data = EpisodeDataset.load(tmp_path / "set")
    assert data.solved.tolist() == data.terminated.tolist() and 0 < data.solved.sum() < 8
    rows = LeRobotStore(tmp_path / "set").rows(stats=True)
    assert [row["success"] for row in rows] == data.solved.tolist()
    assert all(row["stats/next.success/count"] == [len(data[i]) + 1] for i, row in enumerate(rows))


def test_success_is_dropped_where_the_folder_has_none(tmp_path: Path) -> None:
    first = arguments(tmp_path / "set", "SmallLate-v0", 1, max_steps=6)
    seed = next(i for i in range(9) if Late().reset(seed=replace(first, seed=i).jobs()[0].seed)[0][0, :2].any())
    collect(replace(first, seed=seed))
    with pytest.warns(UserWarning, match="tell no success, so it is dropped"):
        collect(replace(first, seed=seed, episodes=8))
    data = EpisodeDataset.load(tmp_path / "set")
    assert data.success is None and len(data) == 8 and data.terminated.any()


def test_dicts_are_recorded_within_their_spaces(tmp_path: Path) -> None:
    collect(arguments(tmp_path / "set", "SmallParts-v0", policy="correlated"))
    data = EpisodeDataset.load(tmp_path / "set")
    assert data.spec.pictures == ("eye",) and data.spec.vectors == ("place",)
    assert data.observation["place"].dtype == data.action.dtype == np.float32
    assert data.observation["place"].max() == 5.0, "what is shown beyond its space is clipped to it"


def test_the_same_command_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    root = tmp_path / "set"
    assert collect(arguments(root, "Pendulum-v1", 2, max_steps=9)) == 2
    assert collect(arguments(root, "Pendulum-v1", 5, max_steps=9)) == 5
    assert collect(arguments(tmp_path / "two", "Pendulum-v1", 5, max_steps=9, workers=2)) == 5
    one, two = EpisodeDataset.load(root), EpisodeDataset.load(tmp_path / "two")
    assert all(equal(one[i], two[i]) for i in range(5)) and one.lengths.tolist() == [9] * 5
    assert one.spec.name == "Pendulum-v1" and one.spec.horizon == 9 and one.success is None
    with pytest.raises(ValueError, match="another world: horizon 9, now 200"):
        collect(arguments(root, "Pendulum-v1", 6))


def test_options_of_an_environment_may_be_lists(tmp_path: Path) -> None:
    one = arguments(
        tmp_path / "set", "SmallScreen-v1", 1, part="screen", max_steps=7, env_options='name=["a", {"b": 1}],quick=2'
    )
    assert collect(one) == 1 and collect(replace(one, episodes=2)) == 2
    env: Any = make_of(EpisodeDataset.load(tmp_path / "set").spec).unwrapped
    assert (env.name, env.quick) == (["a", {"b": 1}], 2)


SHOWN: dict[str, Any] = {"part": "screen", "crop": (2, 2, 1, 1), "size": 16, "skip": 3, "max_steps": 7}


def test_pictures_are_prepared_on_the_way_and_made_so_again(tmp_path: Path) -> None:
    one = arguments(tmp_path / "set", "test_collect_any:SmallScreen-v1", policy="held", env_options="quick=2", **SHOWN)
    assert collect(one) == 6
    data = EpisodeDataset.load(tmp_path / "set")
    assert data.spec.pictures == ("pixels",) and not data.spec.vectors and data.spec.horizon == 7
    assert data.observation["pixels"].shape[1:] == (16, 16, 3) and data.terminated.any()
    assert data.spec == WorldSpec.from_json(json.loads(json.dumps(data.spec.to_json())))
    for i in range(6):
        paid, right = data[i].reward, data[i].action
        assert paid is not None and (paid[:-1] == 3).all(), "rewards of skipped steps are added up"
        assert data[i].terminated or len(right) == 7
    env = make_of(data.spec)
    seen, _ = env.reset(seed=int(data.seed[0]))
    assert np.array_equal(seen, data[0].observation["pixels"][0]) and env.observation_space.contains(seen)
    for k, action in enumerate(data[0].action):
        seen, reward, terminated, truncated, _ = env.step(action)
        assert np.array_equal(seen, data[0].observation["pixels"][k + 1]) and reward == data[0].reward[k]  # type: ignore
    assert (terminated, truncated or terminated) == (data[0].terminated, True)


def test_how_long_actions_are_held_is_told(tmp_path: Path) -> None:
    collect(arguments(tmp_path / "set", "Pendulum-v1", 1, policy="held", hold=1, max_steps=40))
    assert (np.diff(EpisodeDataset.load(tmp_path / "set")[0].action[:, 0]) != 0).all()


def test_other_lengths_of_holding_are_other_episodes(tmp_path: Path) -> None:
    one = arguments(tmp_path / "set", "Pendulum-v1", 2, policy="held", max_steps=40)
    assert [collect(each) for each in (one, replace(one, hold=30), one, replace(one, hold=30))] == [2, 4, 4, 4]
    with pytest.raises(
        ValueError, match="hold=30: none of random holds actions; accepted: a policy or mix with 'held'"
    ):
        collect(replace(one, hold=30, policy="random"))


def test_data_sets_that_were_prepared_in_other_ways_are_not_joined(tmp_path: Path) -> None:
    for skip in (1, 2):
        collect(arguments(tmp_path / str(skip), episodes=1, skip=skip))
    with pytest.raises(ValueError, match="differ in preparation: {} and .*'skip': 2.*; accepted"):
        EpisodeDataset.load(tmp_path / "1", tmp_path / "2")


def test_time_limits_are_of_skipped_steps(tmp_path: Path) -> None:
    collect(arguments(tmp_path / "set", "SmallScreen-v0", part="screen", skip=4, episodes=2, env_options="name=a"))
    assert EpisodeDataset.load(tmp_path / "set").spec.horizon == 8  # of 30 steps


def test_small_things_survive_resizing() -> None:
    picture = np.zeros((80, 80, 3), np.uint8)
    picture[41, 41] = 255  # falls between the points of a resizing that only interpolates

    class Dot(Picture):
        observation_space = spaces.Box(0, 255, (80, 80, 3), np.uint8)

        def picture(self) -> np.ndarray:
            return picture

    assert Pictures(Dot(), size=16).reset()[0].max() > 5


def test_no_window_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    make("CartPole-v1")
    assert os.environ["SDL_VIDEODRIVER"] == "dummy"


def test_random_policies_move_as_they_say() -> None:
    space = spaces.Box(-2.0, 6.0, (1,), np.float32)

    def acts(kind: str, seed: int = 0, space: spaces.Space = space, **given: Any) -> np.ndarray:
        acting = behaviors.BEHAVIORS[kind](space, np.random.default_rng(seed), {}, **given)
        return np.array([next(acting) for _ in range(3000)]).ravel()

    uniform, held, smooth = acts("random"), acts("held"), acts("correlated")
    assert uniform.min() < -1.9 and uniform.max() > 5.9 and abs(np.corrcoef(uniform[1:], uniform[:-1])[0, 1]) < 0.1
    runs = np.diff(np.flatnonzero(np.diff(held, prepend=np.nan)))
    assert set(runs) == set(range(1, behaviors.HELD + 1))
    longer = np.diff(np.flatnonzero(np.diff(acts("held", hold=30), prepend=np.nan)))
    assert set(longer) <= set(range(1, 31)) and longer.max() > 25
    assert np.corrcoef(smooth[1:], smooth[:-1])[0, 1] > 0.8 and abs(smooth.mean() - 2) < 1
    assert set(acts("held", space=spaces.Discrete(3, start=4))) == {4, 5, 6}
    assert np.array_equal(acts("held", 3), acts("held", 3)) and not np.array_equal(acts("held", 3), acts("held", 4))


def test_a_saved_policy_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Always:
        """Answers as the `Policy` protocol says: batched."""

        def reset(self) -> None:
            """Has no memory."""

        def act(self, observation: dict, deterministic: bool = True) -> np.ndarray:
            assert observation["pixels"].shape == (1, 12, 10, 3)
            return np.ones(1, int)

    monkeypatch.setattr(behaviors, "load_policy", lambda path: Always())
    collect(arguments(tmp_path / "set", policy=str(tmp_path)))
    data = EpisodeDataset.load(tmp_path / "set")
    assert set(data.kind) == {"policy"} and data.terminated.all() and all(data[i].action.all() for i in range(6))


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"env": "Pendulum-v9"}, "env='Pendulum-v9' cannot be made: .*"),
        ({"env": "SmallWrong-v0"}, "env='SmallWrong-v0': observation .*Tuple.*; accepted: .*flat Dict"),
        ({"env": "SmallPicture-v0", "size": 4000}, "size=4000 is larger than the pictures; accepted: 8 to 64"),
        ({"env": "FrozenLake-v1"}, "observation .*Discrete.*; accepted: a float vector"),
        ({"env": "SmallEndless-v0"}, "max_steps=None; accepted: a number, as SmallEndless-v0 has no time limit"),
        ({"max_steps": 0}, "max_steps=0; accepted: 1 or more"),
        ({"task": "push"}, "task='push'; accepted: none"),
        ({"mix": "expert"}, "mix behavior='expert' is not known; accepted: 'random', 'held'"),
        ({"policy": "policy"}, "policy"),
        ({"policy": "randm"}, "policy='randm' .*; accepted: random, held, correlated, or a folder of a saved policy"),
        ({"policy": "correlated"}, "accepted: actions in a Box"),
        ({"env": "SmallScreen-v0"}, "observation 'health' is Discrete.*; accepted: a float vector"),
        (
            {"env": "SmallScreen-v0", "part": "eye"},
            "part='eye' is not in observations .*; accepted: .*'screen'",
        ),
        ({"part": "screen"}, "part='screen' is not in observations .*; accepted: none"),
        ({"env": "Pendulum-v1", "size": 64}, "have no picture; accepted: pictures"),
        ({"crop": (6, 6, 0, 0)}, "leaves nothing of 12 x 10 pixels"),
        ({"crop": (-1, 0, 0, 0)}, "crop=.*; accepted: top, bottom"),
        ({"hold": 0}, "hold=0; accepted: 1 or more"),
        ({"size": 2}, "size=2; accepted: at least 8"),
        ({"skip": 0}, "skip=0; accepted: at least 1"),
        ({"env_options": "quick"}, "env_options='quick'; accepted: NAME=VALUE"),
        ({"env_options": "slow=1"}, "env='SmallPicture-v0' cannot be made: .*slow"),
        ({"env": "NicoLReal-v0", "size": 32}, "accepted for NicoLReal-v0: none"),
    ],
)
def test_what_cannot_be_recorded_is_refused_first(others: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        collect(arguments(tmp_path / "set", **others))


def test_commands_end_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["collect", "--out", str(tmp_path / "set"), "--env", "Nothing-v0"])
    with pytest.raises(SystemExit, match="env='Nothing-v0' cannot be made") as error:
        cli.command("collect")
    assert "\n" not in str(error.value)


def test_home_folder_may_be_a_tilde(tmp_path: Path) -> None:
    """`--out=~/data` reaches Python as it stands: a shell expands it only after a space."""
    package = os.environ.get("PYTHONPATH", str(Path(__file__).parents[1]))
    env = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": package}
    command = "-m dream_env.agents.collect --env CartPole-v1 --episodes 2 --workers 1 --out=~/set"
    subprocess.run([sys.executable, *command.split()], env=env, cwd=tmp_path, check=True, capture_output=True)
    assert len(EpisodeDataset.load(tmp_path / "set")) == 2 and not (tmp_path / "~").exists()
