"""Kinds that other packages add as entry points."""

import json

import pytest

from dream_env.agents.policies import registry
from dream_env.hub.push import kind_of
from dream_env.world_models import checkpoint

SOURCE = """
from dataclasses import dataclass
import numpy as np
import torch
from gymnasium import spaces
from dream_env.spec import WorldSpec

@dataclass(frozen=True)
class Config:
    size: float = 1.0

class Wander(torch.nn.Module):
    kind, config_class, inputs = "wander", Config, ("state",)
    def __init__(self, config):
        super().__init__()
        self.config, self.weight = config, torch.nn.Parameter(torch.ones(1))
    def reset(self):
        pass
    def act(self, observation, deterministic=True):
        return np.zeros((len(observation["state"]), 1), np.float32)

class Cart(torch.nn.Module):
    kind, config_class = "cart", Config
    def __init__(self, config, spec):
        super().__init__()
        self.config, self.spec, self.weight = config, spec, torch.nn.Parameter(torch.ones(1))

SPEC = WorldSpec("Cart-v0", spaces.Dict({"state": spaces.Box(-1, 1, (2,), np.float32)}), spaces.Box(-1, 1, (1,)))
"""
POINTS = "[dream_env.policies]\nwander = own_kinds:Wander\n[dream_env.world_models]\ncart = own_kinds:Cart\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with a policy and a world model."""
    site, about = tmp_path / "site", tmp_path / "site" / "own_kinds-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "own_kinds.py").write_text(SOURCE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-kinds\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(site)
    import own_kinds

    return own_kinds


def test_kinds_of_an_installed_package_are_loaded(package, tmp_path):
    registry.save(package.Wander(package.Config(2.0)), tmp_path / "policy", "card")
    checkpoint.save(package.Cart(package.Config(3.0), package.SPEC), tmp_path / "model", "card")
    assert registry.load(tmp_path / "policy").config.size == 2
    model = checkpoint.load(tmp_path / "model")
    assert (model.config.size, model.spec.name) == (3, "Cart-v0")
    assert [kind_of(tmp_path / name) for name in ("policy", "model")] == ["policy", "world model"]


def test_an_unknown_kind_lists_those_of_installed_packages(package, tmp_path):
    registry.save(package.Wander(package.Config()), tmp_path, "card")
    (tmp_path / "config.json").write_text(json.dumps({"kind": "nothing"}))
    with pytest.raises(ValueError, match="kind is 'nothing'; accepted: .*wander"):
        registry.load(tmp_path)
    with pytest.raises(ValueError, match="kind 'nothing'; accepted: .*'cart'"):
        checkpoint.load(tmp_path)
