"""NICOL's world: what its data sets, world models and environments agree on."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from dream_env.nicol import constants
from dream_env.spec import WorldSpec

SPEC = WorldSpec(
    name="NicoLReal-v0",
    observation=spaces.Dict(
        {
            "pixels": spaces.Box(0, 255, (constants.IMAGE_SIZE, constants.IMAGE_SIZE, 3), np.uint8),
            "proprio": spaces.Box(-1.0, 1.0, (len(constants.PROPRIO_NAMES),), np.float32),
        }
    ),
    action=spaces.Box(-1.0, 1.0, (len(constants.ACTION_NAMES),), np.float32),
    horizon=constants.EPISODE_STEPS,
    control_hz=constants.CONTROL_HZ,
    hold_steps=constants.HOLD_STEPS,
    instructions=True,
    goals=True,
    names={"proprio": constants.PROPRIO_NAMES, "action": constants.ACTION_NAMES},
)
"""Pictures of the policy camera, the controller's set-point, and displacements of it; numbers normalized to [-1, 1]."""
