"""Imagined episodes are data like recorded ones, and what cannot be trusted is left out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dream_env.agents.planners.foresight import looking
from dream_env.agents.planners.planner import Planner, PlannerConfig
from dream_env.agents.planners.prior import Prior
from dream_env.agents.planners.problem import Noise
from dream_env.agents.synthesize import command as synthesize
from dream_env.agents.synthesize.arguments import Arguments
from dream_env.data.episodes import EpisodeDataset
from dream_env.data.writer import EpisodeWriter
from dream_env.initial_states import FILE, InitialStates
from dream_env.nicol.spec import SPEC
from dream_env.rewards import metric_distance
from dream_env.world_models import checkpoint


def test_the_filter_asks_for_success_that_holds_agreement_and_progress():
    held = torch.ones(6, 5, dtype=torch.bool)
    held[1, -1] = False  # lost at the end
    disagreement = torch.zeros(6, 4)
    disagreement[2, 1] = 0.5  # one step that the ensemble does not know
    confirmed, nearer = torch.tensor([3, 3, 3, 2, 3, 4]), torch.tensor([True, True, True, True, False, True])
    dreamt = synthesize.Dreamt([], torch.zeros(6, 4, 1), held, disagreement, confirmed, nearer)
    assert dreamt.kept(3, 3, 0.1).tolist() == [True, False, False, False, False, True]
    assert dreamt.kept(3, 3, None).tolist() == [True, False, True, False, False, True]
    assert dreamt.kept(3, 2, 0.1).tolist() == [True, False, False, True, False, True]


def test_a_data_set_of_dreams_is_read_as_any_other(tmp_path, capsys):
    args = Arguments(task="reach", episodes=3, variants=2, draws=2, agree=2, out=tmp_path / "dreamt")
    synthesize.main(args)
    assert "3 episodes, passed the filter, of " in capsys.readouterr().out
    data = EpisodeDataset.load(args.out)
    assert data.spec == SPEC and len(data) == 3
    assert set(data.kind) == {"dream"} and set(data.task) == {"reach"}
    assert data.success is not None and all(data.success[end - 3 : end].all() for end in data.offsets[1:])
    assert data.observation["pixels"].shape[1:] == (64, 64, 3) and np.std(data.observation["pixels"][10]) > 5
    assert (data.labels["disagreement"] >= 0).all() and {"disagreement", "parent_episode"} <= set(data.labels)
    about = json.loads((args.out / "meta" / "dream.json").read_text())
    assert (
        about["source"] == "dream"
        and about["world_model"] == "unlabelled"
        and about["policy"] == "unlabelled"
        and about["imagined"] >= 3
    )
    with pytest.raises(ValueError, match="agree=5"):
        Arguments(agree=5)


def test_an_interrupted_run_goes_on_to_what_it_would_have_been(tmp_path, monkeypatch, capsys):
    """Killed in the second round; then asked for more; other settings are refused."""
    quick = {"task": "reach", "variants": 1, "draws": 1, "agree": 1, "filtered": False}
    synthesize.main(Arguments(out=tmp_path / "whole", episodes=synthesize.STARTS + 4, **quick))
    said = capsys.readouterr().out
    assert f"{synthesize.STARTS + 4} episodes, imagined and written without a filter" in said
    whole = EpisodeDataset.load(tmp_path / "whole")
    args = Arguments(out=tmp_path / "broken", episodes=synthesize.STARTS + 2, **quick)
    add, added = EpisodeWriter.add, []

    def failing(self, episode):
        if len(added) == synthesize.STARTS + 1:
            raise KeyboardInterrupt
        added.append(episode)
        add(self, episode)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(EpisodeWriter, "add", failing)
        synthesize.main(args)
    synthesize.main(args)
    synthesize.main(replace(args, episodes=synthesize.STARTS + 4))
    found = EpisodeDataset.load(args.out)
    assert found.seed.tolist() == whole.seed.tolist() and (found.action == whole.action).all()
    assert json.loads((args.out / "meta" / "dream.json").read_text())["imagined"] == synthesize.STARTS + 4
    with pytest.raises(ValueError, match=r"other settings: std 0.2, now 0.5"):
        synthesize.main(replace(args, std=0.5))


def test_recorded_episodes_are_left_alone(tmp_path, written):
    before = sorted(written.rglob("*"))
    with pytest.raises(ValueError, match="holds episodes of kinds .*; accepted: a new folder"):
        synthesize.main(Arguments(task="reach", episodes=1, out=written))
    assert sorted(written.rglob("*")) == before


def test_it_gives_up_where_nothing_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(
        synthesize.Dreamt, "kept", lambda self, *limits: torch.zeros(len(self.actions), dtype=torch.bool)
    )
    args = Arguments(task="reach", episodes=1, variants=1, draws=1, agree=1, tries=2, out=tmp_path / "dreamt")
    with pytest.raises(ValueError, match="0 of 2 imagined episodes passed the filter"):
        synthesize.main(args)


def test_what_looks_ahead_acts_in_batches_of_dreams(tmp_path):
    """Foresight of the clone, a planner's file, and the model without labels; each in its own data set."""
    quick = {"task": "reach", "episodes": 1, "variants": 2, "draws": 1, "agree": 1, "filtered": False}
    short = {"samples": 8, "iterations": 1, "elites": 2}
    for world in ("state_grounded", "unlabelled"):
        planner = Planner(PlannerConfig(world, "cem", short, execute=6, horizon=6))
        planner.save(tmp_path / f"{world}.json")
        args = Arguments(str(tmp_path / f"{world}.json"), world_model=world, out=tmp_path / world, **quick)
        synthesize.main(args)
        assert len(EpisodeDataset.load(args.out)) == 1
    with pytest.raises(ValueError, match="imagines with world_model='unlabelled'; accepted: 'state_grounded'"):
        synthesize.main(
            Arguments(str(tmp_path / "unlabelled.json"), world_model="state_grounded", out=tmp_path / "other", **quick)
        )
    model, starts = checkpoint.load("state_grounded"), InitialStates.load(checkpoint.resolve("state_grounded") / FILE)
    rows = np.flatnonzero((starts.task == "push") & (starts.step == 0))[:6]
    state, goal = synthesize.begun(model, starts, rows)

    def far(candidates):
        prior = Prior(looking("few", "state_grounded", candidates), 0.0)
        dreamt = synthesize.dream(model, prior, state, goal, 1, 1, Noise(list(range(6))))
        return metric_distance(model.metric(dreamt.states[-1]), model.metric(goal)).mean()

    assert far(6) < 0.5 * far(0)
