"""Episodes of any robot: what is recorded comes back, whatever its cameras, vectors, actions and lengths."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from small_world import SPEC, episode, equal, write

from dream_env.data.episode import Episode
from dream_env.data.episodes import EpisodeDataset
from dream_env.data.lerobot import LeRobotStore
from dream_env.data.writer import EpisodeWriter, inspect
from dream_env.spec import WorldSpec

DISCRETE = WorldSpec("cart", spaces.Dict({"state": spaces.Box(-1, 1, (2,), np.float32)}), spaces.Discrete(3, start=-1))


def cart(seed: int, steps: int = 4) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode({"state": rng.uniform(-1, 1, (steps + 1, 2))}, rng.integers(-1, 2, steps), seed=seed)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("any") / "set", *(episode(i, 3 + i) for i in range(4)))


def test_episodes_of_any_shape_and_length_come_back(root: Path) -> None:
    data = EpisodeDataset.load(root)
    assert data.spec == SPEC and data.lengths.tolist() == [3, 4, 5, 6]
    assert all(equal(data[i], episode(i, 3 + i)) for i in range(4)) and equal(data[-1], episode(3, 6))
    assert data.solved.tolist() == [episode(i, 3 + i).success[-2:].all() for i in range(4)]
    stacked = EpisodeDataset.stack([episode(i, 3 + i) for i in range(4)], SPEC)
    assert all(equal(stacked[i], data[i]) for i in range(4))
    assert isinstance(data.observation["top"], np.memmap)
    with pytest.raises(ValueError, match="episodes have 4 to 7 frames; accepted: equal lengths"):
        data.stacked("top")
    with pytest.raises(ValueError, match="name='color'; accepted: .*top"):
        data.stacked("color")


def test_the_summary_of_own_episodes_leaves_nothing_out(root: Path, capsys: pytest.CaptureFixture) -> None:
    inspect(root)  # it has goals and labels
    assert "observation.images.goal_top" in (told := capsys.readouterr().out) and "not read" not in told


def test_everything_but_observation_and_action_is_optional(tmp_path: Path) -> None:
    spec = replace(SPEC, instructions=False, goals=False)
    bare = replace(episode(0), reward=None, success=None, goal=None, labels={}, instruction="")
    data = EpisodeDataset.load(write(tmp_path / "bare", bare, spec=spec))
    assert equal(data[0], bare) and data.reward is None and data.success is None and not data.goal
    with pytest.raises(ValueError, match="no success labels"):
        data.select(success=True)


def test_discrete_actions_come_back(tmp_path: Path) -> None:
    data = EpisodeDataset.load(write(tmp_path / "set", cart(1), cart(2, 7), spec=DISCRETE))
    assert data.spec == DISCRETE and equal(data[1], cart(2, 7)) and data.action.dtype == np.int64


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (spaces.Discrete(3, start=1), np.array([1, 3, 2])),
        (spaces.Box(0.5, 2, (2,), np.float32), np.full((3, 2), 0.7, np.float32)),
    ],
)
def test_action_spaces_without_zero_come_back(tmp_path: Path, space: spaces.Space, action: np.ndarray) -> None:
    recorded = replace(cart(1, 3), action=action)
    data = EpisodeDataset.load(write(tmp_path / "set", recorded, spec=replace(DISCRETE, action=space)))
    assert equal(data[0], recorded)


def test_selection_takes_whole_episodes(root: Path) -> None:
    data = EpisodeDataset.load(root)
    for rows in (np.array([2, 0]), np.array([False, True, False, True]), slice(1, 3), np.array([], int)):
        part = data.take(rows)
        chosen = np.arange(4)[rows]
        assert len(part) == len(chosen) and all(equal(part[i], data[j]) for i, j in enumerate(chosen))
    assert np.shares_memory(data.take(slice(1, 3)).observation["top"], data.observation["top"])
    assert len(data.select(kind="play", task="go", success=True, limit=2)) == 2
    with pytest.raises(ValueError, match="kind='dance' is not known; accepted: 'play'"):
        data.select(kind="dance")


def test_several_data_sets_load_as_one(root: Path, tmp_path: Path) -> None:
    plain = [replace(episode(i, 3), reward=None, labels={"pose": np.zeros((4, 6))}) for i in (7, 8)]
    both = EpisodeDataset.load(root, write(tmp_path / "more", *plain))
    assert len(both) == 6 and both.reward is None and set(both.labels) == {"pose"}
    assert equal(both[5], replace(plain[1], labels={"pose": np.zeros((4, 6))}))
    assert equal(replace(both[2], reward=episode(2, 5).reward, labels=episode(2, 5).labels), episode(2, 5))
    alike = EpisodeDataset.concatenate([EpisodeDataset.load(tmp_path / "more")] * 2)
    whole = np.asarray(alike.stacked("top"))
    assert whole.shape == (4, 4, 6, 8, 3) and np.array_equal(whole[3], plain[1].observation["top"])
    with pytest.raises(ValueError, match="data sets differ in .*; accepted: data sets of one robot"):
        EpisodeDataset.load(root, write(tmp_path / "cart", cart(0), spec=DISCRETE))


@pytest.mark.parametrize("other", [{"control_hz": 50}, {"hold_steps": 3}])
def test_data_sets_whose_steps_mean_something_else_are_not_joined(other: dict) -> None:
    parts = [EpisodeDataset.stack([episode(0)], spec) for spec in (SPEC, replace(SPEC, **other))]
    with pytest.raises(ValueError, match="data sets differ in (control_hz: 5 and 50|hold_steps: 2 and 3); accepted"):
        EpisodeDataset.concatenate(parts)


def test_what_only_a_simulator_knows_is_no_input_of_a_policy(root: Path) -> None:
    """LeRobot's policies take `observation.*` for inputs and `action*` for outputs, and want floats to normalize."""
    features = json.loads((root / "meta/info.json").read_text())["features"]
    inputs = {name for name in features if name.startswith(("observation.", "action"))}
    images = {f"observation.images.{name}" for name in ("top", "wrist", "goal_top")}
    assert inputs == images | {"observation.state", "observation.goal_state", "observation.force", "action"}
    assert all(features[name]["dtype"] in ("float32", "image") for name in inputs)
    privileged = {name: one["dtype"] for name, one in features.items() if name.startswith("privileged.")}
    assert privileged == dict.fromkeys(["privileged.pose", "privileged.contact", "privileged.success"], "float32")


def test_the_only_vector_is_where_lerobot_looks_for_it(tmp_path: Path) -> None:
    spec = replace(DISCRETE, observation=spaces.Dict({"joints": spaces.Box(-1, 1, (2,), np.float32)}))
    one = replace(cart(0), observation={"joints": cart(0).observation["state"]})
    root = write(tmp_path / "set", one, spec=spec)
    assert "observation.state" in json.loads((root / "meta/info.json").read_text())["features"]
    assert equal(EpisodeDataset.load(root)[0], one)


def test_home_folder_may_be_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write(Path("~/set"), episode(0))
    assert len(EpisodeDataset.load("~/set")) == len(EpisodeDataset.load(tmp_path / "set")) == 1
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "a/b"}, "kind='a/b'; accepted: words of letters"),
        ({"action": np.zeros((0, 2))}, "action is empty"),
        ({"reward": np.zeros(4)}, "reward has length 4; accepted: 3"),
        ({"success": np.zeros(3, bool)}, "success has length 3; accepted: 4"),
        ({"labels": {"pose": np.zeros(7)}}, "pose has length 7; accepted: 4"),
        ({"labels": {"pose": np.array(["a"] * 4)}}, "pose is <U1"),
        ({"labels": {"pose": np.full(4, np.inf)}}, "pose holds NaN or infinity"),
        ({"reward": np.full(3, np.nan)}, "reward holds NaN or infinity"),
        ({"action": np.full((3, 2), 1e9)}, "action holds 1000000000.0 to .*; accepted: -2.0 to 2.0"),
        ({"action": np.zeros((3, 5))}, r"action has the shape \(5,\); accepted: \(2,\)"),
        ({"goal": None}, "goal=None; accepted: one exactly if the spec has goals"),
        ({"goal": {"sound": np.zeros(3)}}, "goal has 'sound'; accepted: .*top"),
        ({"observation": {"top": np.zeros((4, 6, 8, 3), np.uint8)}}, r"observation has \['top'\]; accepted: .*wrist"),
    ],
)
def test_malformed_episodes_are_refused(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        EpisodeWriter(tmp_path / "set", SPEC).add(episode(0, **changes))


def test_names_that_would_collide_are_refused(tmp_path: Path) -> None:
    vector = SPEC.observation["state"]
    for names, message in (
        (("state", "goal_state"), "are both named"),
        (("state", "a/b"), "accepted: names of letters"),
    ):
        spec = WorldSpec("x", spaces.Dict(dict.fromkeys(names, vector)), DISCRETE.action, goals=True)
        values = dict.fromkeys(names, np.zeros((5, 3)))
        one = replace(cart(0), observation=values, goal={"state": np.zeros(3)})
        with pytest.raises(ValueError, match=message):
            EpisodeWriter(tmp_path / "set", spec).add(one)


def test_episodes_with_other_columns_are_not_mixed_in(tmp_path: Path) -> None:
    root = write(tmp_path / "set", episode(0))
    EpisodeWriter(root, SPEC).add(replace(episode(1), reward=None))
    with pytest.raises(ValueError, match=r"play-1.parquet differs from the episodes of .* in next.reward; delete this"):
        EpisodeWriter(root).close()
    with pytest.raises(ValueError, match="another world: control_hz 5, now 50; choose another folder"):
        EpisodeWriter(root, replace(SPEC, control_hz=50))
    assert LeRobotStore(root).info()["fps"] == 5


def test_a_seed_is_added_once_whatever_its_kind_is_called(tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path / "set", SPEC) as writer:
        for seed in (7, -7, 17):
            one = replace(episode(7, kind="tele-op-human"), seed=seed)
            writer.add(one)
            with pytest.raises(ValueError, match=f"seed={seed} is in .*set already"):
                writer.add(one)


def test_labels_that_only_some_episodes_have_are_left_out(tmp_path: Path) -> None:
    both, one = episode(0), episode(1, labels={"pose": episode(1).labels["pose"]})
    for episodes in ((both, one), (one, both)):
        assert set(EpisodeDataset.stack(episodes, SPEC).labels) == {"pose"}


def test_an_empty_instruction_comes_back(tmp_path: Path) -> None:
    data = EpisodeDataset.load(write(tmp_path / "set", episode(0), replace(episode(1), instruction="")))
    assert data.spec.instructions and data.instruction[0] and data.instruction[1] == ""


def test_a_folder_is_not_loaded_twice_as_its_copies_would_be_trained_and_held_out(root: Path) -> None:
    with pytest.raises(ValueError, match="are the same folder; accepted: each folder once"):
        EpisodeDataset.load(root, root.parent / "." / root.name)


def test_labels_may_have_a_slash_in_their_name(tmp_path: Path) -> None:
    one = episode(0)
    one = replace(one, labels={"left/pose": one.labels["pose"]})
    assert list(EpisodeDataset.load(write(tmp_path / "set", one)).labels) == ["left/pose"]
