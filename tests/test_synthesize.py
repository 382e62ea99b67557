"""Imagined episodes are data like recorded ones, and what cannot be trusted is left out."""

import json

import numpy as np
import pytest
import torch

from dream_env.agents.synthesize import command as synthesize
from dream_env.agents.synthesize.arguments import Arguments
from dream_env.data.episodes import EpisodeDataset
from dream_env.nicol.spec import SPEC


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


def test_a_data_set_of_dreams_is_read_as_any_other(tmp_path):
    args = Arguments(task="reach", episodes=3, variants=2, draws=2, agree=2, out=tmp_path / "dreamt")
    synthesize.main(args)
    data = EpisodeDataset.load(args.out)
    assert data.spec == SPEC and len(data) == 3
    assert set(data.kind) == {"dream"} and set(data.task) == {"reach"}
    assert data.success is not None and all(data.success[end - 3 : end].all() for end in data.offsets[1:])
    assert data.observation["pixels"].shape[1:] == (64, 64, 3) and np.std(data.observation["pixels"][10]) > 5
    assert (data.labels["disagreement"] >= 0).all() and {"disagreement", "parent_episode"} <= set(data.labels)
    about = json.loads((args.out / "meta" / "dream.json").read_text())
    assert about["source"] == "dream" and about["world_model"] == "default" and about["imagined"] >= 3
    with pytest.raises(ValueError, match="agree=5"):
        Arguments(agree=5)


def test_it_gives_up_where_nothing_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(
        synthesize.Dreamt, "kept", lambda self, *limits: torch.zeros(len(self.actions), dtype=torch.bool)
    )
    args = Arguments(task="reach", episodes=1, variants=1, draws=1, agree=1, tries=2, out=tmp_path / "dreamt")
    with pytest.raises(ValueError, match="0 of 2 imagined episodes passed the filter"):
        synthesize.main(args)
