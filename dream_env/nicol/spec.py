"""World specifications of NICOL with one arm and with both arms, shared by datasets, world models and environments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gymnasium import spaces

from dream_env.nicol import constants
from dream_env.nicol.tasks.registry import TASKS
from dream_env.spec import WorldSpec


def _spec(name: str, arms: tuple[str, ...]) -> WorldSpec:
    """Returns the specification for actions that move `arms`, whose names are prefixes of the number names."""
    names = {
        key: tuple(f"{arm} {number}".strip() for arm in arms for number in numbers)
        for key, numbers in (("proprio", constants.PROPRIO_NAMES), ("action", constants.ACTION_NAMES))
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
"""One arm: images of the policy camera, the controller's set-point, and changes of it; normalized to [-1, 1]."""
BOTH_ARMS = _spec("NicoLBothArms-v0", ("right", "left"))
"""Both arms: the same with set-points and actions `(8,)`; it has its own environment id."""


def spec_of(task: str) -> WorldSpec:
    """Returns the specification of a task, or of "all", with the task's horizon."""
    if task not in TASKS:
        return SPEC
    return replace((SPEC, BOTH_ARMS)[TASKS[task].arms - 1], horizon=TASKS[task].horizon)
