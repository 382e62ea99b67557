"""NICOL's worlds, with one arm and with both: what data sets, world models and environments agree on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gymnasium import spaces

from dream_env.nicol import constants
from dream_env.nicol.tasks.registry import TASKS
from dream_env.spec import WorldSpec


def _spec(name: str, arms: tuple[str, ...]) -> WorldSpec:
    """Returns the world in which an action moves so many arms; their names stand before those of the numbers."""
    names = {
        key: tuple(f"{arm} {number}".strip() for arm in arms for number in own)
        for key, own in (("proprio", constants.PROPRIO_NAMES), ("action", constants.ACTION_NAMES))
    }
    picture = spaces.Box(0, 255, (constants.IMAGE_SIZE, constants.IMAGE_SIZE, 3), np.uint8)
    proprio = spaces.Box(-1.0, 1.0, (len(names["proprio"]),), np.float32)
    return WorldSpec(
        name=name,
        observation=spaces.Dict({"pixels": picture, "proprio": proprio}),
        action=spaces.Box(-1.0, 1.0, (len(names["action"]),), np.float32),
        horizon=constants.EPISODE_STEPS,
        control_hz=constants.CONTROL_HZ,
        hold_steps=constants.HOLD_STEPS,
        instructions=True,
        goals=True,
        names=names,
    )


SPEC = _spec("NicoLReal-v0", ("",))
"""Pictures of the policy camera, the controller's set-point, and displacements of it; numbers normalized to [-1, 1]."""
BOTH_ARMS = _spec("NicoLBothArms-v0", ("right", "left"))
"""The same of both arms, `(8,)`: a world of its own, and an environment's id of its own."""


def spec_of(task: str) -> WorldSpec:
    """Returns the world of a task, or of "all", with its horizon."""
    if task not in TASKS:
        return SPEC
    return replace((SPEC, BOTH_ARMS)[TASKS[task].arms - 1], horizon=TASKS[task].horizon)
