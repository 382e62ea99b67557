"""Drivers that choose the actions of a dream when the user does not: saved policies, planners, random actions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from dream_env.agents.policies import registry
from dream_env.agents.view.controls import bounds
from dream_env.dream import DreamEnv
from dream_env.observations import ObservationBuilder, to_numpy
from dream_env.world_models.precision import insulated

YOU, RANDOM = "you", "random"
"""Names of the drivers that are not saved policies: the user, and random actions."""
PLANNERS = ("planner", "foresight")
"""Kinds of policies that plan."""
Driver = Callable[[DreamEnv], Any]
"""Chooses the next action of a dream."""


class Saved:
    """Lets a saved policy or planner choose the actions, one observation at a time.

    Args:
        policy: See `dream_env.agents.policies.protocol.Policy`.
        env: The dream environment.

    Raises:
        ValueError: If the policy does not fit the world model.
    """

    def __init__(self, policy: Any, env: DreamEnv) -> None:
        self.policy = policy
        if isinstance(env.config.world_model, str | Path):
            registry.check_encoder(policy, str(env.config.world_model))
        self.obs_builder = ObservationBuilder(env.dreams.engine.model, **registry.env_kwargs_of(policy, env.world_spec))
        self.reset()

    @property
    def proposes(self) -> Any:
        """The policy, if variations of it can be imagined; None if not.

        Planners are excluded because planning in every imagined step takes too long, and policies that need other
        observations than embeddings because imagination provides embeddings only.
        """
        usual = self.obs_builder.obs_type in ("embedding", "words") and not self.obs_builder.goal_env
        return self.policy if usual and getattr(self.policy, "kind", "") not in PLANNERS else None

    def reset(self) -> None:
        """Begins an episode."""
        self.policy.reset()

    @insulated
    def __call__(self, env: DreamEnv) -> Any:
        """Chooses the next action."""
        engine, carry = env.dreams.engine, env.dreams.carry
        with torch.inference_mode():
            goal = carry["_goal"] if engine.spec.goals else None
            seen = to_numpy(self.obs_builder.build(engine.state(carry), goal))
        parts = seen if isinstance(seen, dict) else {next(iter(engine.spec.observation.spaces)): seen}
        return self.policy.act(parts)[0]


class Random:
    """Draws uniform actions and repeats each for `HELD` steps, so that the motion covers some distance.

    Args:
        seed: Seed of the random numbers.
    """

    HELD = 5

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 2])
        self.reset()

    def reset(self) -> None:
        """Begins an episode."""
        self.left = 0

    def __call__(self, env: DreamEnv) -> Any:
        """Chooses the next action."""
        if not self.left:
            space, self.left = env.action_space, self.HELD
            if isinstance(space, spaces.Discrete):
                self.action: Any = int(space.start + self.rng.integers(space.n))
            else:
                assert isinstance(space, spaces.Box)
                self.action = self.rng.uniform(*bounds(space)).astype(np.float32)
        self.left -= 1
        return self.action
