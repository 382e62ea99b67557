"""The fit of World Models (V and M): a second round, and numbers that it refuses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_vmc import TINY, squares

from dream_env.agents.fit.vmc.arguments import Arguments
from dream_env.agents.fit.vmc.command import fit
from dream_env.data.episode import Episode
from dream_env.data.episodes import EpisodeDataset
from dream_env.initial_states import InitialStates


def test_a_second_round_begins_with_the_first_ones_model(tmp_path: Any) -> None:
    data = squares()
    first, _ = fit(Arguments((), tmp_path / "first", **TINY), data)
    again = TINY | {"picture_updates": 0, "latent": None, "memory": None}
    second, _ = fit(Arguments((), tmp_path / "second", init=str(tmp_path / "first"), **again), squares(9, 1))
    before, after = first.state_dict(), second.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("vae."))
    assert not torch.equal(before["rnn.head.weight"], after["rnn.head.weight"])
    for wrong in ({"latent": 5}, {"memory": 9}):
        with pytest.raises(ValueError, match="accepted: its own"):
            fit(Arguments((), tmp_path / "third", init=str(tmp_path / "first"), **(again | wrong)), data)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fit(Arguments((), tmp_path / "third", init=str(tmp_path / "nowhere"), **again), data)


def test_a_second_round_without_ends_still_predicts_them_and_holds_out_the_same(tmp_path: Any) -> None:
    data = squares()
    first, before = fit(Arguments((), tmp_path / "first", **TINY), data)
    endless = replace(data, terminated=np.zeros(len(data), bool))
    again = TINY | {"latent": None, "memory": None, "init": str(tmp_path / "first"), "seed": 5, "most_starts": 4}
    second, after = fit(Arguments((), tmp_path / "second", **again), endless)
    assert second.config.terminates and torch.equal(second.end_shift, first.end_shift)
    assert len(InitialStates.load(tmp_path / "second" / "initial_states.npz")) == 4
    assert after["held_out_seeds"] == before["held_out_seeds"] and 0 < len(after["held_out_seeds"]) < len(data)


@pytest.mark.parametrize("terminated", [True, False])
def test_episodes_of_one_step_are_measured(tmp_path: Any, terminated: bool) -> None:
    data = squares()
    one = Episode({"pixels": data.observation["pixels"][:2]}, np.array([1]), np.ones(1), terminated)
    short = EpisodeDataset.stack([replace(one, seed=i) for i in range(4)], data.spec)
    _, found = fit(Arguments((), tmp_path, **TINY), short)
    assert np.isfinite([*found["M"]["likelihood"].values(), *found["reward_error"].values()]).all()


@pytest.mark.parametrize(
    "wrong",
    [{"held_out": 0.0}, {"held_out": 1.0}, {"begun": 1.5}, {"updates": 0}, {"picture_updates": 0}]
    + [{"updates": -1}, {"window": 0}, {"windows": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"starts": 0}],
)
def test_numbers_that_cannot_be_are_refused(wrong: dict[str, Any], tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*accepted"):
        fit(Arguments((), tmp_path, **(TINY | wrong)), squares(3))
