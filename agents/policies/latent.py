"""A VLA with an auxiliary task: in addition to actions, it learns to predict the embedding some steps ahead.

Additional latents of the same network, the future queries, attend to its other latents and predict the world model's
embedding (FLARE: Zheng et al. 2025, "Robot learning with implicit world modeling", section 3). No other latent attends
to them, so they are left out when acting: the policy and its speed are those of
`dream_env.agents.policies.transformer_vla`, with other weights.
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
    """Config of a policy: observations, sizes, and the prediction task. Further attributes as in the base class.

    Attributes:
        queries: Number of future queries.
        ahead: Control steps from an observation to the predicted embedding.

    Raises:
        ValueError: If a value is not accepted.
    """

    queries: int = 4
    ahead: int = 8

    def __post_init__(self) -> None:
        """Checks the numbers."""
        super().__post_init__()
        check_number("queries", self.queries, 1, 64)
        check_number("ahead", self.ahead, 1)


class LatentVLA(TransformerVLA):
    """The policy, see the module; implements the same protocols as `TransformerVLA`.

    Without its queries it is a `TransformerVLA`, with the same initial weights under the same seed.
    """

    kind = "latent"
    config_class = LatentVLAConfig
    config: LatentVLAConfig

    def __init__(self, config: LatentVLAConfig) -> None:
        super().__init__(config)
        width, numbers = config.width, config.tokens * config.channels
        with torch.random.fork_rng(devices=[]):  # keeps later random numbers the same as without queries
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
        """Sets the scale of the channels' changes over `ahead` steps, from embeddings `(N, E)` now and later."""
        apart = (later.float() - now.float()).unflatten(1, (self.config.tokens, -1)).flatten(0, 1)
        spread = apart.square().mean(0).sqrt()
        self.change.copy_(spread.clamp_min(0.05 * float(spread.square().mean().sqrt()) + 1e-6))

    @property
    def _spread(self) -> Tensor:
        return self.change.repeat(self.config.tokens)

    def foreseen(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns the predicted change of the embedding over `ahead` steps, scaled to unit spread, `(B, E)`."""
        return self.future(self.trunk.gather(obs, self.queries)[:, -len(self.queries) :])

    def future_loss(self, obs: Mapping[str, Tensor], now: Tensor, later: Tensor) -> Tensor:
        """Returns the mean squared error `(B,)` of the prediction.

        Args:
            obs: Observations, which may be noisy.
            now: Embeddings of the observations without noise, `(B, E)`.
            later: Embeddings `ahead` steps later, `(B, E)`; they get no gradients.
        """
        target = ((later - now) / self._spread).detach()
        return (self.foreseen(obs) - target).square().mean(1)

    @insulated
    @torch.no_grad()
    def imagine(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the embeddings `(B, E)` predicted for `ahead` steps after observations `(B, ...)`."""
        obs = self._tensors(observation)
        return (obs["embedding"] + self._spread * self.foreseen(self._own(obs))).cpu().numpy()
