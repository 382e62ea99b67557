"""The untrained world model, a control of studies: the trained encoder with freshly initialised dynamics."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import torch

from dream_env.initial_states import FILE
from dream_env.world_models import checkpoint

DYNAMICS = ("predictor", "object_dynamics")
"""Modules of a state-grounded world model that predict the next state."""


def untrained_dynamics(world_model: str, seed: int, out: Path) -> Path:
    """Saves a copy of a world model with fresh weights in `DYNAMICS`, together with its initial states.

    Output layers are initialised with zeros, so the untrained model predicts hardly any change; it does not move at
    random.

    Args:
        world_model: Name or folder of a state-grounded world model.
        seed: Seed of the fresh weights.
        out: Folder to save the copy in.

    Returns:
        The folder.
    """
    model: Any = copy.deepcopy(checkpoint.load(world_model))
    torch.manual_seed(seed)
    fresh = type(model)(model.config)
    for name in DYNAMICS:
        getattr(model, name).load_state_dict(getattr(fresh, name).state_dict())
    card = f"A control: fresh weights in {' and '.join(DYNAMICS)} predict hardly any change."
    checkpoint.save(model, out, f"# Untrained world model\n\n{card}\n")
    shutil.copy(checkpoint.resolve(world_model) / FILE, out / FILE)
    return out
