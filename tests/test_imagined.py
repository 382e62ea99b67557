"""Pictures of what policies with a world model inside imagine: which episode, what stands in which row, how large."""

from dataclasses import replace
from pathlib import Path

import blocks
import numpy as np
import pytest
import torch
from PIL import Image

from dream_env.agents.policies import registry
from dream_env.agents.policies.latent import LatentVLA, LatentVLAConfig
from dream_env.agents.studies.imagined import drawings
from dream_env.agents.studies.imagined.arguments import Arguments
from dream_env.agents.studies.imagined.command import chosen, draw
from dream_env.data.episodes import EpisodeDataset
from dream_env.world_models import checkpoint
from dream_env.world_models.slots.config import SlotConfig
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.unified.model import UnifiedModel

FUSED = Path(__file__).parents[1] / "results" / "fused.json"


@pytest.fixture(scope="module")
def data():
    return blocks.dataset(10)


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(0)
    config = SlotConfig(picture_size=32, width=16, net_width=16, net_dim=8)
    return SlotModel(config, data.spec).eval().requires_grad_(False)


def policy_of(model, ahead=2):
    sizes = {"tokens": 1, "channels": model.embedding_dim, "action_low": (-1.0,) * 2, "action_high": (1.0,) * 2}
    vectors = {
        name: data_space.shape[0]
        for name, data_space in model.spec.observation.spaces.items()
        if name in model.observed
    }
    return LatentVLA(LatentVLAConfig(**sizes, vectors=vectors, ahead=ahead, width=8, hidden=8, latents=2)).eval()


def test_demonstrations_of_the_tasks_that_succeeded_are_drawn(data):
    some = replace(data, kind=np.array(["demo"] * 6 + ["play"] * 4), task=np.array(["a", "b"] * 5))
    some.success = np.ones(int(data.offsets[-1]), bool)
    some.success[data.offsets[4] : data.offsets[5]] = False
    args = Arguments(fused=FUSED)
    assert chosen(some, args).tolist() == [0, 1, 2, 3, 5]
    assert chosen(some, replace(args, tasks=("b",))).tolist() == [1, 3, 5]
    with pytest.raises(ValueError, match="episode=5: 5 may be drawn"):
        chosen(some, replace(args, episode=5))
    with pytest.raises(ValueError, match="tasks='c'"):
        chosen(some, replace(args, tasks=("c",)))


def test_the_nearest_frames_are_those_of_the_embedding(data, model, monkeypatch):
    """A policy that foresees nothing but now: nearest are, among the same episode's frames, the ones that are seen."""
    policy, shown = policy_of(model), {}
    monkeypatch.setattr(drawings, "foreseen", lambda policy, frames, rows: frames.embedding[rows].float())
    monkeypatch.setattr(drawings, "labelled", lambda rows, *rest: shown.update(rows) or Image.new("RGB", (9, 99)))
    picture = drawings.latent(policy, model, data, 3, np.array([3]))
    seen, nearest, later = shown.values()
    np.testing.assert_array_equal(seen, nearest)
    assert not np.array_equal(seen, later) and picture.height == 99 and picture.width > 60


def test_dreams_begin_with_what_is_seen_and_are_under_the_recorded_actions(data, model, monkeypatch):
    shown = {}
    monkeypatch.setattr(drawings, "labelled", lambda rows, *rest: shown.update(rows))
    unified = UnifiedModel.around(model, width=16, hidden=16, features=8).eval()
    drawings.dreams({"one": unified, "other": model}, data, 2)
    assert list(shown) == ["what happened", "one", "other"]
    np.testing.assert_array_equal(shown["one"][0], shown["other"][0])
    begin = data.offsets[2]
    np.testing.assert_array_equal(shown["what happened"][0], data.observation[model.spec.pictures[0]][begin])


def test_files_are_small_and_of_what_was_named(data, model, tmp_path, monkeypatch):
    monkeypatch.setattr(EpisodeDataset, "load", lambda *roots: data)
    checkpoint.save(model, tmp_path / "base", "card")
    checkpoint.save(UnifiedModel.around(model, width=16, hidden=16, features=8), tmp_path / "unified", "card")
    policy = policy_of(model)
    policy.config = replace(policy.config, world_model=str(tmp_path / "base"))
    registry.save(policy, tmp_path / "latent", "card")
    given = Arguments(data=tmp_path, base=str(tmp_path / "base"), out=tmp_path / "out", fused=FUSED)
    given = replace(given, latent=str(tmp_path / "latent"), unified=str(tmp_path / "unified"))
    assert draw(given) == ["policies_latent.png", "policies_unified.png", "policies_fused.png"]
    for file in (tmp_path / "out").iterdir():
        assert 3_000 < file.stat().st_size < 60_000
    with pytest.raises(ValueError, match="latent=.* is of kind 'unified'; accepted: .*--policy latent"):
        draw(replace(given, latent=str(tmp_path / "unified")))


def test_something_has_to_be_named():
    with pytest.raises(ValueError, match="nothing to draw"):
        Arguments()
    with pytest.raises(ValueError, match="data=None"):
        Arguments(latent="x")
