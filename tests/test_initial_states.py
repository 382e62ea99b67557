"""Initial states: their file, their encoding, and how they are made of episodes."""

import numpy as np
import pytest
import torch
import toy
from dreams import assert_same

from dream_env.initial_states import BLOCK, InitialStates
from dream_env.nicol import constants, episodes
from dream_env.nicol.dream import NicoLDreamEnv
from dream_env.nicol.episodes import Episode, EpisodeDataset
from dream_env.nicol.initial_states import from_episodes

COLUMNS = ("goal", "task", "instruction", "step")


def arrays(**changes):
    """What the toy's initial states are made of, with changes; names of parts change the observation."""
    one = toy.initial_states()
    given = {name: getattr(one, name) for name in ("observation", "goal_observation", *COLUMNS)}
    parts = {name: changes.pop(name) for name in ("pixels", "proprio") if name in changes}
    return given | {"observation": given["observation"] | parts} | changes


def test_states_survive_their_file(tmp_path):
    one = toy.initial_states()
    one.save(tmp_path / "states.npz")
    again = InitialStates.load(tmp_path / "states.npz")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
    for part in ("observation", "goal_observation"):
        assert_same(getattr(one, part), getattr(again, part))
    assert InitialStates.load(tmp_path / "states.npz") is again
    assert [path.name for path in tmp_path.iterdir()] == ["states.npz"]


class Rounding(toy.ToyWorldModel):
    """Its encoding depends on the size of the batch, as the last bits of matrix products do."""

    def encode(self, observation, previous=None):
        """Adds the size of the batch."""
        state = super().encode(observation)
        return {**state, "tokens": state["tokens"] + len(state["tokens"])}


def test_a_state_is_the_same_whatever_was_encoded_before():
    model, one, other = Rounding(), toy.initial_states(), toy.initial_states()
    other.states(model, np.arange(1, 20)), other.goals(model, np.arange(3, 15))
    rows = np.array([3, 17])
    assert_same(one.states(model, rows), other.states(model, rows))
    assert_same(one.goals(model, rows), other.goals(model, rows))


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "states.npz"
    with pytest.raises(FileNotFoundError, match="states.npz does not exist"):
        InitialStates.load(path)
    toy.initial_states().save(path)
    whole = path.read_bytes()
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    foreign = (tmp_path / "foreign.npz").read_bytes()
    pickled = np.array([{}], object)
    np.save(tmp_path / "pickled.npy", pickled, allow_pickle=True)
    contents = (whole[: len(whole) // 2], b"", b"hello", foreign)
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(ValueError, match="plain.npy holds no initial states"):
        InitialStates.load(tmp_path / "plain.npy")
    for content in (*contents, (tmp_path / "pickled.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="states.npz holds no initial states or is damaged"):
            InitialStates.load(path)


def test_bad_arrays_are_named():
    changes = {
        "pixels": np.zeros((24, 64, 64, 3), np.uint16),
        "proprio": np.full((24, 4), np.nan, np.float32),
        "goal": np.full(24, 12),
        "task": np.zeros(24),
        "step": np.zeros(24),
    }
    for name, array in changes.items():
        with pytest.raises(ValueError, match=f"initial states: {name}"):
            InitialStates(**arrays(**{name: array}))
    with pytest.raises(ValueError, match="parts differ in length"):
        InitialStates(**arrays(proprio=np.zeros((23, 4), np.float32)))
    with pytest.raises(ValueError, match="no rows"):
        InitialStates(**arrays(observation={}))


def test_each_row_is_encoded_once():
    states, model, calls = toy.initial_states(), toy.ToyWorldModel(), []
    encode = model.encode
    model.encode = lambda observation: calls.append(len(observation["pixels"])) or encode(observation)
    rows = np.array([3, 1, 3])
    tokens = states.states(model, rows)["tokens"]
    expected = encode({name: torch.from_numpy(part[rows]) for name, part in states.observation.items()})
    np.testing.assert_allclose(tokens.numpy(), expected["tokens"].detach().numpy(), atol=1e-5)
    states.states(model, np.array([1, 2]))
    states.states(model, np.array([9]))
    assert calls == [BLOCK, BLOCK]


def test_task_without_the_starts_asked_for_is_refused():
    states = InitialStates(**arrays(step=np.zeros(24, int)))
    with pytest.raises(ValueError, match="no mid-episode states of task 'lift' .*starts='episode' .--starts episode"):
        NicoLDreamEnv("lift", world_model=toy.ToyWorldModel(), initial_states=states, starts="any")


def test_encoded_rows_take_part_in_gradients_after_a_dream_used_them():
    states, model = toy.initial_states(), toy.ToyWorldModel()
    NicoLDreamEnv(world_model=model, initial_states=states).reset(seed=0)
    weight = torch.ones(1, requires_grad=True)
    (states.states(model, np.arange(24))["tokens"] * weight).sum().backward()
    assert weight.grad is not None and not states.states(model, np.arange(2))["tokens"].requires_grad


def episode(kind="expert", task="lift", solved_from=20, seed=0):
    """A recorded episode in which the hand closes at step 9 and holds the cube from step 11."""
    frames = np.arange(constants.EPISODE_STEPS + 1)
    parts = {name: np.zeros(shape, dtype) for name, (shape, dtype) in episodes.arrays(constants.EPISODE_STEPS).items()}
    parts["images"] += frames[:, None, None, None].astype(np.uint8)
    parts["goal_image"] += np.uint8(200 + seed)
    parts["proprio"][:, 3] = np.where(frames < 9, -1, 1)
    parts["held"], parts["condition"] = frames >= 11, frames >= solved_from
    words = f"{task} the red cube"
    return Episode(seed=seed, kind=kind, task=task, instruction=words, target=0, **parts)


def test_solvable_unsolved_starts_are_taken():
    recorded = [
        episode(seed=0),
        episode("play", seed=1),
        episode(solved_from=99, seed=2),
        episode(solved_from=0, seed=3),
        episode("demo", "reach", solved_from=6, seed=4),
        episode(seed=5),
    ]
    episodes = EpisodeDataset.stack(recorded)
    states = from_episodes(episodes, middles=2)
    assert states.goal_observation["pixels"][:, 0, 0, 0].tolist() == [200, 204, 205]
    assert states.tasks == ("lift", "reach")
    lift, reach = states.step[states.goal == 0], states.step[states.task == "reach"]
    assert lift[0] == 0 and {8, 10} <= set(lift) and (lift[1:] >= 3).all() and (lift <= 18).all()
    assert reach[0] == 0 and (reach < 6).all()
    np.testing.assert_array_equal(states.observation["pixels"][:, 0, 0, 0], states.step)
    few = from_episodes(episodes, limit=1)
    assert few.goal_observation["pixels"][:, 0, 0, 0].tolist() == [200, 204]
    with pytest.raises(ValueError, match="no usable start"):
        from_episodes(EpisodeDataset.stack([episode("play")]))
