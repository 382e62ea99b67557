"""A policy as the prior of plans: imagined rollouts of the policy and of variations of its actions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.planners.problem import ActionBox, Noise
from dream_env.agents.planners.rollout import Imagined, imagine, repeat
from dream_env.agents.planners.states import goal_embedding
from dream_env.agents.policies import registry
from dream_env.observations import ObservationBuilder, ObsType
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import State, WorldModel


@dataclass
class Prior:
    """Proposes the actions of a policy, in a closed loop with imagined states.

    Attributes:
        policy: See `dream_env.agents.policies.protocol.Policy`. Copied, because imagined rollouts reset it.
        std: Standard deviation of the noise on its actions, as a share of half the action box.
        beta: Exponent of the spectrum of that noise, see `Noise.colored`: at 2, a variation lasts the whole horizon.
    """

    policy: Any
    std: float = 0.3
    beta: float = 2.0

    def __post_init__(self) -> None:
        """Copies the policy."""
        self.policy = copy.copy(self.policy)

    @property
    def obs_type(self) -> ObsType:
        """Type of the observations that the policy reads."""
        return registry.obs_type_of(self.policy)

    def variations(self, noise: Noise, box: ActionBox, count: int, horizon: int) -> Tensor:
        """Returns the noise to add to the policy's actions, `(B, count, H, A)`; zero for the first variation.

        Raises:
            ValueError: If `count` is below 1.
        """
        if count < 1:
            raise ValueError(f"an empty prior: {count} proposals; accepted: 1 or more, or no prior")
        drawn = noise.colored(count, horizon, len(box.low), self.beta) * self.std * box.spread
        drawn[:, 0] = 0
        return drawn

    def chunks(
        self, observation: Mapping[str, np.ndarray], noise: Noise, box: ActionBox, count: int, horizon: int
    ) -> Tensor | None:
        """Returns chunks of actions that a policy with modes proposes, see `TransformerVLA.propose`.

        Args:
            observation: Arrays `(B, ...)` by name.
            noise: Random numbers that select the proposals.
            box: Box of the actions.
            count: Number of proposals K.
            horizon: Steps H.

        Returns:
            Candidates `(B, K, H, A)`, NaN where the policy acts without changes: after the chunk, and in all steps of
            the first candidate. None for a policy without modes.
        """
        if not getattr(self.policy, "has_modes", False):
            return None
        drawn = noise.normal(count, self.policy.noise_numbers)
        proposed = torch.as_tensor(self.policy.propose(observation, count, drawn), device=box.low.device)
        known = min(horizon, proposed.shape[2])
        chunks = torch.full((len(proposed), count, horizon, len(box.low)), torch.nan, device=box.low.device)
        chunks[:, 1:, :known] = proposed[:, 1:, :known]
        return chunks

    def imagine(
        self,
        model: WorldModel,
        box: ActionBox,
        state: State,
        goal: State | None,
        variations: Tensor,
        chance: Tensor | None = None,
        temperature: float = 1.0,
        chunks: Tensor | None = None,
    ) -> Imagined:
        """Imagines rollouts of the policy with variations added to its actions.

        Args:
            model: The world model.
            box: Box of its actions.
            state: Initial states, B rows.
            goal: Goals, B rows: states, or a result of `dream_env.agents.planners.states.goal_of`; None without goals.
            variations: What to add to the policy's actions, `(B, K, H, A)`.
            chance: Uniform random numbers `(B, D, H, noise_dim)` for D noise samples, the same for all K variations;
                None for the most likely future.
            temperature: As in `WorldModel.step`.
            chunks: Candidates that replace the policy's actions except where they are NaN, `(B, K, H, A)`.

        Returns:
            Rollouts of N = B * K * D rows; their actions are candidates.
        """
        count, several, horizon, _ = variations.shape
        draws = 1 if chance is None else chance.shape[1]
        rows = repeat(state, several * draws)
        goals = None if goal is None else repeat(goal, several * draws)
        shown = None if goals is None else goal_embedding(model, goals)
        added = variations.repeat_interleave(draws, 1).flatten(0, 1)
        instead = None if chunks is None else chunks.repeat_interleave(draws, 1).flatten(0, 1)
        noise = None
        if chance is not None:
            noise = chance[:, None].expand(-1, several, -1, -1, -1).flatten(0, 2).transpose(0, 1)
        builder = ObservationBuilder(model, self.obs_type)
        self.policy.reset()
        chosen: list[Tensor] = []

        def choose(t: int, now: State) -> Tensor:
            own = self.act(builder, now, shown)
            chosen.append(varied(own, added[:, t], box, None if instead is None else instead[:, t]))
            return box.actions(chosen[-1])

        imagined = imagine(model, rows, choose, horizon, goals, noise, temperature)
        imagined.actions = chosen
        return imagined

    def act(self, builder: ObservationBuilder, state: State, goal: Tensor | None) -> np.ndarray:
        """Returns the policy's actions in imagined states, given the embeddings of their goals."""
        built = builder.build(state, goal)
        parts = {next(iter(builder.model.spec.observation)): built} if isinstance(built, Tensor) else built
        return self.policy.act({name: part.cpu().numpy() for name, part in parts.items()})


def varied(actions: np.ndarray, added: Tensor, box: ActionBox, instead: Tensor | None = None) -> Tensor:
    """Returns candidates `(N, A)` within the box: a policy's actions plus `added` `(N, A)`.

    Where `instead` `(N, A)` is not NaN, it replaces this sum.
    """
    candidates = box.candidates(torch.as_tensor(actions, device=added.device)) + added
    return box.clip(candidates if instead is None else torch.where(instead.isnan(), candidates, instead))


def load_policy(path: str, world_model: str | None = None) -> Any:
    """Loads a policy, and checks that it fits a world model.

    Args:
        path: See `dream_env.agents.policies.registry.load`.
        world_model: Name or folder of the world model whose encoder the policy will use; None skips the check.

    Raises:
        ValueError: If the policy was trained with another encoder, or in environments with `goal_env=True`.
    """
    policy = registry.load_once(path)
    if world_model is not None:
        registry.check_encoder(policy, world_model)
        if registry.env_kwargs_of(policy, checkpoint.load(world_model).spec)["goal_env"]:
            raise ValueError(
                f"policy={path!r} reads the observations of goal_env=True, which imagination does not show; accepted: "
                "a policy of environments without goal_env"
            )
    return policy
