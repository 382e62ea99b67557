"""The untrained world model, a control of studies: the trained encoder with freshly initialised dynamics."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dream_env.checks import check_choice
from dream_env.initial_states import FILE
from dream_env.world_models import checkpoint

DYNAMICS = {"state_grounded": ("predictor.", "object_dynamics."), "slots": ("dynamics.",)}
"""Prefixes of the weights that predict the next state, by the kind of the world model."""


def untrained_dynamics(world_model: str, seed: int, out: Path) -> Path:
    """Saves a copy of a world model with fresh weights in `DYNAMICS`, together with its initial states.

    The untrained model predicts hardly any change; it does not move at random.

    Args:
        world_model: Name or folder of a world model of a kind in `DYNAMICS`.
        seed: Seed of the fresh weights.
        out: Folder to save the copy in.

    Returns:
        The folder.

    Raises:
        ValueError: If the world model is of another kind.
    """
    model: Any = checkpoint.load(world_model)
    check_choice("world_model's kind", model.kind, DYNAMICS)
    torch.manual_seed(seed)
    fresh = type(model)(model.config, model.spec)
    if model.kind == "slots":  # in the state-grounded model, output layers begin as zeros
        for net in (fresh.dynamics.net, fresh.dynamics.own_net):
            if net is not None:
                nn.init.zeros_(net.weights[-1])
    own = {name: value for name, value in fresh.state_dict().items() if name.startswith(DYNAMICS[model.kind])}
    fresh.load_state_dict({**model.state_dict(), **own})
    card = "A control: the encoder is trained; the dynamics have fresh weights, which predict hardly any change."
    checkpoint.save(fresh, out, f"# Untrained world model\n\n{card}\n")
    shutil.copy(checkpoint.resolve(world_model) / FILE, out / FILE)
    return out
