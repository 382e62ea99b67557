"""The start bank: its file, its encoding, and how it is made of episodes."""

import numpy as np
import pytest
import torch
import toy

from dream_env.data.episodes import ARRAYS, Episode, EpisodeDataset
from dream_env.dream import NicoLDreamEnv
from dream_env.initial_states import InitialStates
from dream_env.nicol import constants

NAMES = ("images", "proprio", "goal_images", "goal", "task", "instruction", "step")


def arrays():
    """The arrays of the toy's bank."""
    bank = toy.bank()
    return {name: getattr(bank, name) for name in NAMES}


def test_bank_survives_its_file(tmp_path):
    bank = toy.bank()
    bank.save(tmp_path / "bank.npz")
    again = InitialStates.load(tmp_path / "bank.npz")
    for name in NAMES:
        np.testing.assert_array_equal(getattr(bank, name), getattr(again, name))
    assert InitialStates.load(tmp_path / "bank.npz") is again
    assert [path.name for path in tmp_path.iterdir()] == ["bank.npz"]


def test_bad_bank_files_are_named(tmp_path):
    path = tmp_path / "bank.npz"
    with pytest.raises(FileNotFoundError, match="no start bank"):
        InitialStates.load(path)
    toy.bank().save(path)
    whole = path.read_bytes()
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    foreign = (tmp_path / "foreign.npz").read_bytes()
    pickled = np.array([{}], object)
    np.save(tmp_path / "pickled.npy", pickled, allow_pickle=True)
    contents = (whole[: len(whole) // 2], b"", b"hello", foreign)
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(ValueError, match="plain.npy is no start bank"):
        InitialStates.load(tmp_path / "plain.npy")
    for content in (*contents, (tmp_path / "pickled.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="bank.npz is no start bank or is truncated"):
            InitialStates.load(path)


def test_bad_bank_arrays_are_named():
    changes = {
        "images": np.zeros((24, 32, 32, 3), np.uint8),
        "proprio": np.zeros((23, 4), np.float32),
        "goal": np.full(24, 12),
        "task": np.zeros(24),
        "goal_images": np.zeros((12, 64, 64, 3), np.uint16),
        "step": np.zeros(24),
    }
    changes_of_proprio = (np.full((24, 4), np.nan, np.float32), np.zeros((24, 4)), np.full((24, 4), 1.5, np.float32))
    for array in changes_of_proprio:
        with pytest.raises(ValueError, match="start bank: proprio"):
            InitialStates(**{**arrays(), "proprio": array})
    for name, array in changes.items():
        with pytest.raises(ValueError, match=f"start bank: {name}"):
            InitialStates(**{**arrays(), name: array})


def test_bank_encodes_each_row_once():
    bank, model, calls = toy.bank(), toy.ToyWorldModel(), []
    encode = model.encode
    model.encode = lambda images, proprio: calls.append(len(images)) or encode(images, proprio)
    rows = np.array([3, 1, 3])
    tokens = bank.states(model, rows).tokens
    expected = encode(torch.from_numpy(bank.images[rows]), torch.from_numpy(bank.proprio[rows]))
    np.testing.assert_array_equal(tokens.numpy(), expected.tokens.detach().numpy())
    bank.states(model, np.array([1, 2]))
    assert calls == [2, 1]


def test_task_without_the_starts_asked_for_is_refused():
    bank = InitialStates(**{**arrays(), "step": np.zeros(24, int)})
    with pytest.raises(ValueError, match="0 mid-episode states of task 'lift'"):
        NicoLDreamEnv("lift", world_model=toy.ToyWorldModel(), bank=bank, starts="any")


def test_encoded_rows_take_part_in_gradients_after_a_dream_used_them():
    bank, model = toy.bank(), toy.ToyWorldModel()
    NicoLDreamEnv(world_model=model, bank=bank).reset(seed=0)
    weight = torch.ones(1, requires_grad=True)
    (bank.states(model, np.arange(24)).tokens * weight).sum().backward()
    assert weight.grad is not None and not bank.states(model, np.arange(2)).tokens.requires_grad


def episode(kind="expert", task="lift", solved_from=20, seed=0):
    """A recorded episode in which the hand closes at step 9 and holds the cube from step 11."""
    frames = np.arange(constants.EPISODE_STEPS + 1)
    arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in ARRAYS.items()}
    arrays["images"] += frames[:, None, None, None].astype(np.uint8)
    arrays["goal_image"] += np.uint8(200 + seed)
    arrays["proprio"][:, 3] = np.where(frames < 9, -1, 1)
    arrays["held"], arrays["condition"] = frames >= 11, frames >= solved_from
    words = f"{task} the red cube"
    return Episode(seed=seed, kind=kind, task=task, instruction=words, target=0, **arrays)


def test_bank_takes_solvable_unsolved_starts():
    recorded = [
        episode(seed=0),
        episode("play", seed=1),
        episode(solved_from=99, seed=2),
        episode(solved_from=0, seed=3),
        episode("demo", "reach", solved_from=6, seed=4),
        episode(seed=5),
    ]
    episodes = EpisodeDataset.stack(recorded)
    bank = InitialStates.from_episodes(episodes, middles=2)
    assert bank.goal_images[:, 0, 0, 0].tolist() == [200, 204, 205]
    assert bank.tasks == ("lift", "reach")
    lift, reach = bank.step[bank.goal == 0], bank.step[bank.task == "reach"]
    assert lift[0] == 0 and {8, 10} <= set(lift) and (lift[1:] >= 3).all() and (lift <= 18).all()
    assert reach[0] == 0 and (reach < 6).all()
    np.testing.assert_array_equal(bank.images[:, 0, 0, 0], bank.step)
    few = InitialStates.from_episodes(episodes, limit=1)
    assert few.goal_images[:, 0, 0, 0].tolist() == [200, 204]
    with pytest.raises(ValueError, match="no start"):
        InitialStates.from_episodes(EpisodeDataset.stack([episode("play")]))
