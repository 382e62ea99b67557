"""Computes world model observations for policies that act in an environment without a world model wrapper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dream_env.observations import ObservationForm, to_numpy, to_tensors
from dream_env.world_models import checkpoint
from dream_env.world_models.precision import insulated
from dream_env.world_models.protocol import State


class Sight:
    """Converts an episode's observations for a policy, in the same way as `WorldModelWrapper`.

    The recording keeps the environment's own observations. Goals and instructions are not supported here.

    Args:
        world_model: Name or folder of the world model.
        obs_type: As in `ObservationForm`.
    """

    def __init__(self, world_model: str, obs_type: Any = "embedding") -> None:
        self.model = checkpoint.load(world_model)
        self.form = ObservationForm(self.model, obs_type)
        self.state: State = {}

    @insulated
    @torch.inference_mode()
    def __call__(self, obs: Mapping[str, np.ndarray], action: Any = None) -> dict[str, np.ndarray]:
        """Returns the policy's current observation, with entries of shape `(1, ...)`.

        Args:
            obs: The environment's observation.
            action: The action that led to it; None at the start of an episode.
        """
        expected = None
        if action is not None and getattr(self.model, "has_memory", False):
            done = torch.from_numpy(np.asarray(action)[None].copy()).to(self.model.device)
            expected, _ = self.model.step(self.state, done)
        known = {name: obs[name] for name in self.model.spec.observation.spaces if name in obs}
        self.state = self.model.encode(to_tensors(known, self.model.device), expected)
        return to_numpy(self.form.build(self.state, None))
