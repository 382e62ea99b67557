"""A VLA with a world model inside: beside its actions it learns to foresee the embedding some steps ahead.

A few more latents of the same network, the future queries, look at what its latents have found and foresee the world
model's embedding (FLARE: Zheng et al. 2025, "Robot learning with implicit world modeling", section 3). Nothing looks at
them, so they are left out in acting: what the VLA does, and how long it takes, is that of
`dream_env.agents.policies.transformer_vla` with other weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dream_env.agents.policies.latents import TransformerVLAConfig
from dream_env.agents.policies.transformer_vla import TransformerVLA
from dream_env.checks import check_number
from dream_env.world_models.precision import insulated


@dataclass(frozen=True)
class LatentVLAConfig(TransformerVLAConfig):
    """What a policy sees, its sizes, and what it foresees.

    Attributes:
        queries: Future queries.
        ahead: Control steps to the embedding that is foreseen.

    Raises:
        ValueError: If a number is not of the accepted kind.
    """

    queries: int = 4
    ahead: int = 8

    def __post_init__(self) -> None:
        """Checks the numbers."""
        super().__post_init__()
        check_number("queries", self.queries, 1, 64)
        check_number("ahead", self.ahead, 1)


class LatentVLA(TransformerVLA):
    """See the module; meets the protocols that `TransformerVLA` does.

    Without its queries it is a `TransformerVLA`, of the same first weights under the same seed.
    """

    kind = "latent"
    config_class = LatentVLAConfig
    config: LatentVLAConfig

    def __init__(self, config: LatentVLAConfig) -> None:
        super().__init__(config)
        width, numbers = config.width, config.tokens * config.channels
        with torch.random.fork_rng(devices=[]):  # what is drawn later is drawn as without queries
            self.queries = nn.Parameter(0.5 * torch.randn(config.queries, width))
            self.future = nn.Sequential(
                nn.LayerNorm(width),
                nn.Flatten(),
                nn.Linear(config.queries * width, config.hidden),
                nn.GELU(),
                nn.Linear(config.hidden, numbers),
            )
        self.register_buffer("change", torch.ones(config.channels))

    change: Tensor

    def measure(self, now: Tensor, later: Tensor) -> None:
        """Takes by how much channels change over `ahead` steps from embeddings `(N, E)` of two moments."""
        apart = (later.float() - now.float()).unflatten(1, (self.config.tokens, -1)).flatten(0, 1)
        spread = apart.square().mean(0).sqrt()
        self.change.copy_(spread.clamp_min(0.05 * float(spread.square().mean().sqrt()) + 1e-6))

    @property
    def _spread(self) -> Tensor:
        return self.change.repeat(self.config.tokens)

    def foreseen(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns how the embedding is expected to change over `ahead` steps, in its spreads, `(B, E)`."""
        return self.future(self.trunk.gather(obs, self.queries)[:, -len(self.queries) :])

    def future_loss(self, obs: Mapping[str, Tensor], now: Tensor, later: Tensor) -> Tensor:
        """Returns the mean squared error `(B,)` of what is foreseen.

        Args:
            obs: Observations, which may be noisy.
            now: Their embeddings without noise, `(B, E)`.
            later: Those of `ahead` steps later, `(B, E)`; without gradients.
        """
        target = ((later - now) / self._spread).detach()
        return (self.foreseen(obs) - target).square().mean(1)

    @insulated
    @torch.no_grad()
    def imagine(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the embeddings `(B, E)` that are expected `ahead` steps after observations `(B, ...)`."""
        obs = self._tensors(observation)
        return (obs["embedding"] + self._spread * self.foreseen(self._own(obs))).cpu().numpy()
