"""The study of World Models (2018): cells that are kept, a report with holes, and a film."""

import json
from dataclasses import replace

import exact_cartpole
import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

from dream_env.agents.data.behaviors import Job, make_env, record
from dream_env.agents.policies import registry
from dream_env.agents.policies.controller import Controller, ControllerConfig
from dream_env.agents.studies.general.picture_cartpole import ENV_ID
from dream_env.agents.studies.world_models_2018 import cells, command, ends, pooled, races, report
from dream_env.agents.studies.world_models_2018.arguments import Arguments
from dream_env.agents.studies.world_models_2018.film import film
from dream_env.initial_states import InitialStates
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.vmc import VMCConfig, VMCModel

KEYS = {
    "takecover": {"temperature", "dream_mean", "dream_std", "real_mean", "real_std", "episodes"},
    "carracing": {"controller", "mean", "std", "episodes", "budget"},
}
"""What the rows of the result file have to hold."""


@pytest.fixture
def args(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "DREAMS", 8)
    monkeypatch.setattr(cells, "MEMORY", ("embedding",))
    sizes = {
        "generations": 2,
        "population": 4,
        "dreams": 8,
        "rollouts": 2,
        "episodes": 3,
        "components": 0,
        "racing_components": 0,
        "racing_generations": 2,
        "racing_dreams": 2,
        "racing_steps": 10,
        "seeds": (0, 1),
        "racing_seeds": (0, 1),
        "workers": 1,
    }
    return Arguments(
        takecover=exact_cartpole.save(tmp_path / "exact"),
        carracing=tmp_path / "exact",
        only=("takecover", "carracing"),
        temperatures=(0.5, 1.0),
        work=tmp_path / "work",
        out=tmp_path / "out",
        precision="float32",
        **sizes,
    )


def test_the_study_writes_its_tables_and_makes_no_cell_twice(args, monkeypatch):
    command.main(args)
    found = json.loads((args.out / "world_models_2018.json").read_text())
    for table, keys in KEYS.items():
        assert all(keys <= row.keys() for row in found[table])
    assert [row["temperature"] for row in found["takecover"]] == [0.5, 1.0]
    assert found["takecover_best_real"] == max(row["real_mean"] for row in found["takecover"])
    assert all([one["seed"] for one in row["seeds"]] == [0, 1] for row in found["takecover"])
    assert all(row["episodes"] == 6 for row in found["takecover"])
    assert {row["controller"] for row in found["carracing"]} == {"z", "z, h", "random"}
    assert {row["evolved_in"] for row in found["carracing"]} == {"game", "dream", None}
    assert found["carracing_memory_over_z"]["game"]["episodes"] == 4
    assert set(found["takecover_controls"]) == {"random", "zero", "unevolved"}
    assert found["takecover_random"] == found["takecover_controls"]["random"]["real_mean"]
    assert found["nicol_reach_physics"] is found["generation_rate_over_vector_env"] is None
    assert "Take Cover" in (args.out / "world_models_2018.md").read_text()
    monkeypatch.setattr(cells, "evolve", lambda *_: pytest.fail("evolved again"))
    command.main(replace(args, workers=2))
    again = json.loads((args.out / "world_models_2018.json").read_text())
    assert again["takecover"] == found["takecover"]


def test_a_study_of_nothing_has_only_holes(args):
    command.main(replace(args, only=(), takecover=None, carracing=None))
    found = json.loads((args.out / "world_models_2018.json").read_text())
    assert all(found[name] is None for name in ("takecover", "carracing", "takecover_random", "takecover_best_real"))


def test_an_untrained_memory_has_the_same_eyes(tmp_path):
    spec = WorldSpec.of_env(gym.make(ENV_ID))
    model = VMCModel(VMCConfig(latent=4, channels=(4, 4, 4, 4), memory=8), spec).eval()
    checkpoint.save(model, tmp_path / "model", "For tests.")
    zero, none = np.zeros(1, np.int64), np.array([""])
    starts = InitialStates({"pixels": np.zeros((1, 64, 64, 3), np.uint8)}, {}, zero, none, none, zero)
    starts.save(tmp_path / "model" / "initial_states.npz")
    folder = races.untrained(tmp_path / "model", tmp_path / "untrained")
    made = checkpoint.load(str(folder)).state_dict()
    for name, part in model.state_dict().items():
        same = np.array_equal(made[name], part)
        assert same or name.startswith("rnn."), name
    assert not np.array_equal(made["rnn.head.weight"], model.rnn.head.weight)


def test_intervals_count_seeds_as_well_as_episodes():
    rng = np.random.default_rng(0)
    near, far = ([rng.normal(shift, 10, 50).tolist() for shift in shifts] for shifts in ((0, 0, 0), (-50, 0, 50)))
    widths = [np.ptp(pooled.interval(groups)) for groups in (near, far)]
    assert widths[0] < 8 and widths[1] > 40
    low, high = pooled.interval(near)
    assert low < np.mean(near) < high


def test_a_lead_is_taken_seed_by_seed_on_the_same_tracks():
    tracks = np.array([100.0, 900.0, 400.0])
    ours = [{"returns": (tracks + gain).tolist()} for gain in (5, 15)]
    others = [{"returns": [*tracks.tolist(), 9999.0]}] * 2  # one has driven on
    found = pooled.lead(ours, others)
    assert found["difference"] == 10 and found["seeds"] == [5, 15] and found["episodes"] == 6
    assert found["low"] == 5 and found["high"] == 15


def test_ends_that_are_certain_are_foreseen(tmp_path, monkeypatch):
    monkeypatch.setattr(ends, "GAMES", 2)
    monkeypatch.setattr(ends, "DREAMS", 3)
    env = gym.make(ENV_ID)
    model = VMCModel(VMCConfig(latent=4, channels=(2, 2, 2, 2), memory=4), WorldSpec.of_env(env, name=ENV_ID))
    zero, none = np.zeros(1, np.int64), np.array([""])
    starts = InitialStates({"pixels": env.reset(seed=0)[0][None]}, {}, zero, none, none, zero)
    for shift, lengths in ((50.0, 1), (-50.0, model.spec.horizon)):
        model.end_shift.fill_(shift)
        folder = tmp_path / f"model{shift}"
        checkpoint.save(model, folder, "For tests.")
        starts.save(folder / "initial_states.npz")
        found = ends.looked_at("held", folder, 0)
        assert found["dream"] == pytest.approx(lengths) and found["dream_threshold"] == lengths
        steps = found["games"] * found["game"]
        assert found["expected"] == pytest.approx(steps if shift > 0 else 0, abs=1e-3)
        assert found["threshold"] == (found["came"] if shift > 0 else 0)


def test_rows_of_nicol_are_told_in_per_cent():
    row = {"init": "none", "temperature": 1.0, "weights": 36, "dream_success": 0.99, "dream_success_before": 0.0}
    row |= {"physics_success": 0.96, "low": 0.9, "high": 0.98, "episodes": 99, "minutes": 1.0}
    found = report.summary({"nicol_none_1": row}, (1.0,), "the command")
    assert found["nicol_reach_physics"] == 0.96
    assert "96% (90% to 98%)" in report.text(found)


def test_a_controller_is_recorded_as_it_plays(tmp_path):
    env = gym.make(ENV_ID)
    model = VMCModel(VMCConfig(latent=4, channels=(2, 2, 2, 2), memory=4), WorldSpec.of_env(env, name=ENV_ID))
    checkpoint.save(model.eval(), tmp_path / "model", "For tests.")
    made = Controller(ControllerConfig.of(model, str(tmp_path / "model"), ("embedding", "hidden")))
    made.weights[-made.outputs :] = torch.tensor([0.0, 1.0])
    registry.save(made, tmp_path / "controller", "For tests.")
    episode = record(make_env(ENV_ID), Job(0, "policy", 5, ENV_ID, str(tmp_path / "controller"), max_steps=4))
    assert episode.action.tolist() == [1] * 4 and set(episode.observation) == {"pixels"}
    seen, _ = env.reset(seed=5)
    assert np.array_equal(episode.observation["pixels"][0], seen), "recorded as the environment shows it"


def test_a_film_shows_dream_and_game(tmp_path):
    env = gym.make(ENV_ID)
    spec = WorldSpec.of_env(env, name=ENV_ID)
    model = VMCModel(VMCConfig(latent=4, channels=(2, 2, 2, 2), memory=4, mixtures=2), spec)
    checkpoint.save(model, tmp_path / "model", "For tests.")
    picture, zero, none = env.reset(seed=0)[0][None], np.zeros(1, np.int64), np.array([""])
    InitialStates({"pixels": picture}, {}, zero, none, none, zero).save(tmp_path / "model" / "initial_states.npz")
    made = Controller(ControllerConfig.of(checkpoint.load(tmp_path / "model"), str(tmp_path / "model")))
    registry.save(made, tmp_path / "controller", "For tests.")
    film(str(tmp_path / "controller"), tmp_path / "model", 1.0, tmp_path / "film.gif", 0)
    with Image.open(tmp_path / "film.gif") as shown:
        assert shown.n_frames > 2 and np.asarray(shown.convert("RGB")).std() > 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"only": ("takeaway",)},
        {"population": 2},
        {"episodes": 0},
        {"seeds": (1, 1)},
        {"racing_seeds": ()},
        {"temperatures": (-1.0,)},
    ],
)
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="accepted"):
        Arguments(**wrong)


def test_a_world_model_that_is_missing_is_told_before_any_cell_is_made(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        command.work(Arguments(carracing=tmp_path / "nowhere", work=tmp_path / "work"))
    assert not (tmp_path / "work").exists()
