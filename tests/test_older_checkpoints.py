"""Checkpoints of world models whose fields and weights had other names."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from dream_env.world_models import checkpoint
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.unified.model import UnifiedModel


@pytest.mark.parametrize("kind", ["slots", "unified"])
def test_older_names_load(kind, tmp_path):
    shipped = checkpoint.load("unlabelled")
    model = SlotModel(replace(shipped.config, rewards=True), shipped.spec)
    if kind == "unified":
        model = UnifiedModel.around(model, is_policy=False)
    checkpoint.save(model, tmp_path, "card")

    config = json.loads((tmp_path / "config.json").read_text())
    for values in (config, config.get("base_config", {})):
        for new, old in {"colors": "colours", "is_policy": "acts"}.items():
            if new in values:
                values[old] = values.pop(new)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "model.safetensors")
    for old, new in type(model).RENAMED_WEIGHTS.items():
        weights = {old + name.removeprefix(new) if name.startswith(new) else name: w for name, w in weights.items()}
    assert len(weights.keys() - model.state_dict().keys()) >= 5
    save_file(weights, tmp_path / "model.safetensors")

    loaded = checkpoint.load(tmp_path)
    if kind == "unified":
        assert loaded.config.is_policy is False and loaded.base.config.colors == shipped.config.colors
    assert all(torch.equal(part, loaded.state_dict()[name]) for name, part in model.state_dict().items())
