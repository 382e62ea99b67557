"""What a fit of kind slots measures, and the initial states that it saves, for episodes of any lengths."""

import json

import blocks
import numpy as np
import pytest
import torch

from dream_env.agents.fit.constants import QUANTILE
from dream_env.agents.fit.slots import command
from dream_env.agents.fit.slots.arguments import Arguments
from dream_env.agents.fit.slots.figures import open_loop
from dream_env.data.episodes import EpisodeDataset
from dream_env.initial_states import FILE, InitialStates

SHORT = {"updates": 2, "distance_updates": 2, "own_updates": 2, "picture_size": 32, "width": 16, "batch": 4, "ahead": 2}


def fitted(out, data, **changes):
    return command.fit(Arguments(data=(), out=out, **(SHORT | changes)), data)


def uneven(lengths):
    episodes = [blocks.episode(i, steps) for i, steps in enumerate(lengths)]
    return EpisodeDataset.stack(episodes, blocks.spec())


def test_figures_of_few_held_out_episodes_are_json(tmp_path):
    fitted(tmp_path, blocks.dataset(8), held_out=0.1)  # one held-out episode, which is solved or is not
    found = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert None in (found["success"]["found"], found["success"]["false"]) and found["success"]["other_goal"] is None


def test_disagreement_is_not_measured_after_the_end_of_episodes(tmp_path):
    made = fitted(tmp_path, uneven([8, 1] * 5), held_out=0.5)
    steps = int((made.held_out.last - made.held_out.first).max())
    _, spread, _ = open_loop(made.model, made.held_out, steps)
    there = torch.arange(steps) < (made.held_out.last - made.held_out.first)[:, None]
    assert made.figures["disagreement_quantile"] == pytest.approx(spread[there].quantile(QUANTILE).item(), rel=1e-3)
    assert steps == 8 and not there.all()


def test_initial_states_are_read_without_the_pictures_of_whole_episodes(tmp_path, monkeypatch):
    monkeypatch.setattr(EpisodeDataset, "__getitem__", lambda self, i: pytest.fail("a whole episode was read"))
    data = uneven([8, 1, 3, 5, 2, 7, 4, 6])
    fitted(tmp_path, data)
    found = InitialStates.load(tmp_path / FILE)
    solved = np.flatnonzero(data.solved)
    assert (found.step == 0).sum() == len(solved) == len(found.goal_observation["camera0"])
    first = found.goal[found.step == 0]
    assert np.array_equal(found.observation["hand"][found.step == 0], data.observation["hand"][data.offsets[solved]])
    assert np.array_equal(found.goal_observation["camera0"][first], data.goal["camera0"][solved])
