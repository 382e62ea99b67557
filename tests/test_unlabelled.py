"""The study of the world model without labels: what it counts."""

import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch

from dream_env.agents.eval.results import EpisodeResult, save_results
from dream_env.agents.studies.unlabelled import command, labelled, lifts
from dream_env.agents.studies.unlabelled.arguments import Arguments
from dream_env.agents.studies.unlabelled.command import HEAD, markdown, practice_figures, probe_figures, robot_figures
from dream_env.agents.studies.unlabelled.probe import Seen, fit_probe
from dream_env.world_models import checkpoint
from dream_env.world_models.slots.reader import FEATURES, SEEN


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "results.json").write_text('{"world_model": "here"}')
    monkeypatch.setattr(command.checkpoint, "sha256", lambda folder: folder.name)
    return tmp_path


def result(label, world, seed, success, **changes):
    return EpisodeResult(
        label=label,
        world=world,
        task="push",
        seed=seed,
        spoken="push the red block",
        success=success,
        total=0.0,
        distance=1.0,
        **({"solved_at_start": False} | changes),
    )


def test_a_gain_is_of_the_same_starts_and_solved_ones_do_not_count(folder):
    rows = [result("clone", "physics", i, i < 10) for i in range(20)]
    rows += [result("practised", "physics", i, i < 15) for i in range(20)]
    rows += [result(label, "physics", 99, label == "clone", solved_at_start=True) for label in ("clone", "practised")]
    save_results(rows, folder / "episodes.jsonl")
    found = practice_figures((folder,))
    assert found["gain_points"] == pytest.approx(25.0) and 0 < found["gain_low_points"] < 25
    assert found["practice_checkpoint_sha256"] == ["here"]
    assert found["policy_spearman"] is None  # of physics alone, and two policies, nothing can be said


def test_seeds_of_a_practice_are_taken_together(folder, tmp_path):
    """The first seed gains on 5 of 20 starts, the second loses on 3."""
    other = tmp_path / f"{folder.name}-1"
    shutil.copytree(folder, other)
    for where, won in ((folder, 15), (other, 7)):
        rows = [result("clone", "physics", i, i < 10) for i in range(20)]
        save_results(
            [*rows, *(result("practised", "physics", i, i < won) for i in range(20))], where / "episodes.jsonl"
        )
    found = practice_figures((folder, other))
    assert found["gain_points"] == pytest.approx(5.0) and [*found["gains"]] == [folder.name]
    assert len(found["practice"]) == 4


def test_policies_are_ranked_by_both_worlds(folder):
    rows = []
    for share, label in enumerate(["a", "b", "c", "d"]):
        for world in ("physics", "dream"):
            rows += [result(label, world, i, i < 4 * share + (world == "dream")) for i in range(20)]
    save_results(rows, folder / "episodes.jsonl")
    assert practice_figures((folder,))["policy_spearman"] == pytest.approx(1.0)


def test_the_probe_finds_places_that_slots_tell():
    torch.manual_seed(0)
    slots = torch.rand(20, 5, 3, FEATURES)
    slots[..., SEEN] = 1
    cubes = torch.stack([30 * slots[..., 0], 20 * slots[..., 1], 80 + slots[..., 2]], -1)
    probe = fit_probe(Seen(slots, slots, cubes, slots[None, :0]), updates=400)
    assert (probe(slots) - cubes).norm(dim=-1).median() < 1.0


def test_episodes_that_all_were_fitted_to_are_refused():
    class Data:
        labels = {"objects": np.zeros((4, 9)), "colors": np.zeros((4, 3)), "hand": np.zeros((4, 3))}
        seed = np.arange(4)

    with pytest.raises(ValueError, match="fitted to all"):
        probe_figures(None, Data(), {"held_out_seeds": [7]})
    Data.labels = {}
    with pytest.raises(ValueError, match="no labels"):
        probe_figures(None, Data(), {"held_out_seeds": [1]})


def test_another_robot_s_figures_are_those_of_its_study(tmp_path):
    file = tmp_path / "your_robot.json"
    with pytest.raises(FileNotFoundError, match="agents.studies.your_robot"):
        robot_figures(file)
    file.write_text(json.dumps({"summary": {"panda_reach": 0.9, "panda_push": 0.5}, "cases": {}}))
    assert robot_figures(file) == {"panda_reach": 0.9, "panda_push": 0.5}
    assert {*robot_figures(file)} < {*HEAD}


def test_the_page_shows_every_figure_that_was_measured():
    page = markdown(dict.fromkeys(HEAD, 1.5) | {HEAD[0]: None})
    assert HEAD[0] not in page and all(name in page for name in HEAD[1:])
    assert json.dumps(dict.fromkeys(HEAD))


def test_unknown_parts_are_refused():
    with pytest.raises(ValueError, match="parts"):
        Arguments(parts=("all",))


def test_the_shipped_model_dreams_of_nicol_and_pays_the_squared_distance():
    folder = checkpoint.resolve("unlabelled")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4e6
    env = gym.make("dream_env:NicoLDream-v0", world_model="unlabelled")
    obs, info = env.reset(seed=0)
    apart = ((obs["embedding"] - obs["goal"]) ** 2).sum()
    assert 1 < apart < 40  # about the control steps to go
    _, reward, *_ = env.step(np.zeros(4, np.float32))
    assert reward == pytest.approx(-apart / len(obs["goal"]), abs=0.1)


def test_told_positions_are_measured_in_centimeters_of_the_cube_that_has_the_color():
    """Eight episodes with another color missing in each; the first cube is lifted in the second half of each."""
    steps, count = 25, 8

    class Data:
        offsets = np.arange(count + 1) * steps
        observation = {"pixels": np.arange(count * steps)}
        labels = {
            "objects": np.zeros((count * steps, 9), np.float32),
            "colors": np.array([[c for c in range(4) if c != i % 4] for i in range(count)]).repeat(steps, 0),
        }
        __len__ = lambda self: count  # noqa: E731

    heights = 0.1 * (np.arange(count * steps) % steps > steps // 2)
    Data.labels["objects"][:, 2] = heights
    Data.labels["objects"][:, 4] = 0.3

    class Model:
        """Slot 3 - c is the cube of color c; told 2 cm aside, and 1 cm too low while it is lifted."""

        def encode(self, seen):
            slots = torch.zeros(len(seen["pixels"]), 4, FEATURES)
            for row, color in enumerate(Data.labels["colors"][seen["pixels"].numpy()]):
                slots[row, 3 - color, SEEN] = 1
            return {"slots": slots, "frame": seen["pixels"]}

        def positions(self, state):
            told = torch.full((len(state["frame"]), 4, 3), torch.nan)
            for row, frame in enumerate(state["frame"]):
                place = torch.tensor(Data.labels["objects"][frame]).view(3, 3) + torch.tensor([0.02, 0, 0])
                place[0, 2] -= 0.01 * bool(heights[frame])
                told[row, 3 - Data.labels["colors"][frame]] = place
            return told

    found = labelled.centimeters(Model(), Data(), np.array([2]))
    assert found == pytest.approx(
        {"moved_cm": 2.24, "moved_height_cm": 1.0, "lifted_height_cm": 1.0, "resting_cm": 2.0}
    )


def test_a_hand_that_closes_at_a_cube_and_rises_tries_to_lift_it():
    steps, cases = (
        25,
        {"taken": (0.0, 1.0, 0.1), "open": (0.0, -1.0, 0.1), "aside": (0.2, 1.0, 0.1), "low": (0, 1.0, 0.01)},
    )

    class Data:
        offsets = np.arange(len(cases) + 1) * steps
        labels = {"objects": np.zeros((len(cases) * steps, 9)), "hand": np.zeros((len(cases) * steps, 3))}
        observation = {"proprio": np.zeros((len(cases) * steps, 4))}

    for i, (aside, closing, rise) in enumerate(cases.values()):
        rows = slice(i * steps, (i + 1) * steps)
        Data.labels["objects"][rows, 3:] = 1.0  # the other cubes are far away
        Data.labels["hand"][rows, 0] = aside
        Data.labels["hand"][rows, 2] = np.linspace(0, rise, steps)
        Data.observation["proprio"][rows, 3] = closing
    found = lifts.tries(Data(), np.arange(len(cases)))
    assert found.any(1).tolist() == [True, False, False, False] and not found[:, 1:].any()
