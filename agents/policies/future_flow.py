"""A generator of futures: a flow from noise to the embeddings that come, given what is seen and said now.

Rectified flow (Liu et al. 2023, "Flow straight and fast", section 2) in the world model's embedding, by a small
transformer whose layers are told the flow's time (Peebles and Xie 2023, "Scalable diffusion models with transformers",
section 3.2, adaLN-Zero).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.agents.policies.latents import SPREAD, TransformerVLAConfig, Trunk

_TIMES = 32
"""Numbers that tell the flow's time."""


class FlowLayer(nn.Module):
    """Tokens `(B, N, W)` look at each other and at a context; the time and the scene tell how much of it counts."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = (nn.Linear(width, n * width) for n in (1, 2, 1))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.told = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)

    def forward(self, tokens: Tensor, context: Tensor, told: Tensor) -> Tensor:
        """Maps tokens to tokens; `told` `(B, W)` is time and scene."""
        shift, scale, gate, shift2, scale2, gate2 = self.told(F.silu(told))[:, None].chunk(6, -1)
        normal = F.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale) + shift
        every = torch.cat([context, normal], 1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(normal), *self.key_value(every).chunk(2, -1))
        )
        tokens = tokens + gate * self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        normal = F.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale2) + shift2
        return tokens + gate2 * self.mlp(normal)


class FutureFlow(nn.Module):
    """Generates how embeddings change until each of some moments, and the next states of the robot's own vector.

    All of it is in units of its spread, see `measure`.

    Args:
        config: What is seen, and the sizes.
        moments: Number M of moments.
        path: Numbers P of the robot's own states; 0 for none.
    """

    def __init__(self, config: TransformerVLAConfig, moments: int, path: int = 0) -> None:
        super().__init__()
        self.config, self.moments, self.path = config, moments, path
        width, channels = config.width, config.channels
        self.trunk = Trunk(config)
        spread = SPREAD if config.tokens == 1 else 1
        count = moments * config.tokens * spread
        self.enter = nn.Linear(2 * channels, spread * width)
        self.leave = nn.Linear(spread * width, channels)
        self.place = nn.Parameter(0.5 * torch.randn(count, width))
        self.enter_path = nn.Linear(path, width) if path else None
        self.leave_path = nn.Linear(width, path) if path else None
        self.scene = nn.Sequential(nn.Flatten(), nn.Linear(config.latents * width, width))
        self.time = nn.Sequential(nn.Linear(_TIMES, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(FlowLayer(width, config.heads) for _ in range(config.depth))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("change", torch.ones(moments, channels))
        self.register_buffer("path_scale", torch.ones(path))

    change: Tensor
    path_scale: Tensor

    @property
    def numbers(self) -> int:
        """Length D of what is generated: of every moment the embedding, then the path."""
        return self.moments * self.config.tokens * self.config.channels + self.path

    def measure(self, changes: Tensor, path: Tensor) -> None:
        """Takes the spread of changes `(N, M, E)` and paths `(N, P)`, as differences to now."""
        parts = changes.float().unflatten(2, (self.config.tokens, -1)).transpose(1, 2).flatten(0, 1)
        spread = parts.square().mean(0).sqrt()
        self.change.copy_(spread.clamp_min(0.05 * float(spread.square().mean().sqrt()) + 1e-6))
        if self.path:
            self.path_scale.copy_(path.float().square().mean(0).sqrt().clamp_min(1e-6))

    def packed(self, changes: Tensor, path: Tensor) -> Tensor:
        """Returns changes `(B, M, E)` and paths `(B, P)` in units of their spread, `(B, D)`."""
        units = changes.unflatten(2, (self.config.tokens, -1)) / self.change[:, None]
        return torch.cat([units.flatten(1), path / self.path_scale], 1)

    def unpacked(self, made: Tensor) -> tuple[Tensor, Tensor]:
        """Undoes `packed`."""
        numbers = made[:, : self.numbers - self.path].unflatten(1, (self.moments, self.config.tokens, -1))
        return (numbers * self.change[:, None]).flatten(2), made[:, self.numbers - self.path :] * self.path_scale

    def look(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns what the flow has to know of observations: the trunk's latents, and standardized tokens."""
        return self.trunk.gather(obs), self.trunk.tokens(obs["embedding"])

    def velocity(self, seen: tuple[Tensor, Tensor], made: Tensor, time: Tensor) -> Tensor:
        """Returns the flow's velocity `(B, D)` where it stands `(B, D)`, at a time `(B,)` from 0, noise, to 1."""
        latents, now = seen
        waves = time[:, None] * math.pi * torch.arange(1, _TIMES // 2 + 1, device=time.device)
        told = self.time(torch.cat([waves.sin(), waves.cos()], 1)) + self.scene(latents)
        parts = made[:, : self.numbers - self.path].unflatten(1, (self.moments * self.config.tokens, -1))
        tokens = self.enter(torch.cat([parts, now.repeat(1, self.moments, 1)], -1))
        tokens = tokens.unflatten(-1, (-1, self.config.width)).flatten(1, 2) + self.place
        if self.enter_path is not None:
            tokens = torch.cat([tokens, self.enter_path(made[:, -self.path :])[:, None]], 1)
        for layer in self.layers:
            tokens = layer(tokens, latents, told)
        tokens = F.layer_norm(tokens, tokens.shape[-1:])
        count = len(self.place)
        whole = self.leave(tokens[:, :count].unflatten(1, (parts.shape[1], -1)).flatten(2)).flatten(1)
        return torch.cat([whole, self.leave_path(tokens[:, -1])], 1) if self.leave_path is not None else whole

    def loss(self, obs: Mapping[str, Tensor], target: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the loss `(B,)` of flow matching.

        Args:
            obs: Observations.
            target: What came, as of `packed`, `(B, D)`.
            generator: Source of noise and times: more of the early ones, where most is decided (Black et al. 2024,
                "pi0", appendix B).
        """
        noise = torch.randn(target.shape, generator=generator)
        time = 1 - torch.rand(len(target), generator=generator) ** (1 / 1.5)
        between = noise + time[:, None] * (target - noise)
        return (self.velocity(self.look(obs), between, time) - (target - noise)).square().mean(1)

    def generate(self, obs: Mapping[str, Tensor], steps: int, noise: Tensor | None = None) -> Tensor:
        """Generates futures `(B, D)`, as of `packed`.

        Args:
            obs: Observations.
            steps: Euler steps; 1 gives about the mean of the futures.
            noise: Where the flow begins, `(B, D)`; None in the middle of the noise.
        """
        seen = self.look(obs)
        made = seen[1].new_zeros(len(seen[1]), self.numbers) if noise is None else noise
        for step in range(steps):
            made = made + self.velocity(seen, made, made.new_full((len(made),), step / steps)) / steps
        return made
