"""The critics' feature extractor for a VLA, which also reads the goal (asymmetric actor-critic: Pinto et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from dream_env.agents.nicol.vla import OBJECT_STATE_KEYS, Trunk, VLAConfig, mlp, object_state
from dream_env.language import INSTRUCTION_DIM
from dream_env.nicol.constants import PROPRIO_NAMES
from dream_env.nicol.world_model.state_estimator import CUBE, OBJECT_STATE, StateEstimator, TargetSelector
from dream_env.world_models.readout import LanguageReadout


class GoalTrunk(BaseFeaturesExtractor):
    """The critics' trunk, which compares the current state with the goal.

    For a VLA that reads the object state (`reads`), the critic reads the object state of hand and cubes, and that of
    the goal. For a VLA with a readout of the tokens (`queries`), the critic has a readout of the tokens and of their
    difference to the goal's tokens. It also reads the mean squared difference per channel, whose mean the dense reward
    is based on.

    Args:
        space: Observation space, with `goal`.
        config: Sizes of the VLA.
    """

    def __init__(self, space: spaces.Dict, config: VLAConfig) -> None:
        super().__init__(space, config.hidden)
        self.channels = config.channels
        rest = len(PROPRIO_NAMES) + INSTRUCTION_DIM
        self.readout: LanguageReadout | None = None
        if config.queries:
            self.readout = LanguageReadout(
                2 * config.channels, INSTRUCTION_DIM, config.grid, config.queries, config.values, width=32
            )
            rest += self.readout.output_dim + config.channels
        self.state_estimator: StateEstimator | None = None
        if config.reads:
            self.state_estimator = StateEstimator(config.channels, config.grid).requires_grad_(False)
        self.target_selector = TargetSelector() if config.reads else None
        rest += 2 * (len(OBJECT_STATE) + len(CUBE)) if config.reads else 0
        self.layers = mlp(rest, config.hidden)

    def ground(self, trunk: Trunk) -> None:
        """Copies the weights of the state estimator and target selector from the trunk of a VLA."""
        for mine, known in (
            (self.state_estimator, trunk.state_estimator),
            (self.target_selector, trunk.target_selector),
        ):
            if mine is not None and known is not None:
                mine.load_state_dict(known.state_dict())

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Maps a batch of observations to features `(B, hidden)`."""
        parts = [obs["proprio"], obs["instruction"]]
        if self.readout is not None:
            tokens, goal = (obs[key].unflatten(-1, (-1, self.channels)) for key in ("embedding", "goal"))
            change = goal - tokens
            parts.append(self.readout(torch.cat([tokens, change], dim=-1), obs["instruction"]))
            parts.append(change.square().mean(dim=1))
        if self.state_estimator is not None and self.target_selector is not None:
            for part in OBJECT_STATE_KEYS:
                state = object_state(self.state_estimator, obs, part)
                parts += [state, self.target_selector(state, obs["instruction"])]
        return self.layers(torch.cat(parts, dim=-1))
