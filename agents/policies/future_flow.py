"""Generative model of futures: a flow from noise to future embeddings, given the current observation and instruction.

It is a rectified flow (Liu et al. 2023, "Flow straight and fast", section 2) in the world model's embedding space. The
network is a small transformer whose layers are conditioned on the flow's time (Peebles and Xie 2023, "Scalable
diffusion models with transformers", section 3.2, adaLN-Zero).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.agents.policies.latents import SPREAD, TransformerVLAConfig, Trunk

_TIMES = 32
"""Length of the flow's time embedding."""


class FlowLayer(nn.Module):
    """Transformer layer: tokens `(B, N, W)` attend to each other and to a context, modulated by time and scene."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = (nn.Linear(width, n * width) for n in (1, 2, 1))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.told = nn.Linear(width, 6 * width)  # adaLN; checkpoints have this name
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)

    def forward(self, tokens: Tensor, context: Tensor, condition: Tensor) -> Tensor:
        """Returns the updated tokens.

        Args:
            tokens: `(B, N, W)`.
            context: Further tokens to attend to, `(B, M, W)`.
            condition: Sum of the embeddings of time and scene, `(B, W)`.
        """
        shift, scale, gate, shift2, scale2, gate2 = self.told(F.silu(condition))[:, None].chunk(6, -1)
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
    """Generates the changes of the embedding up to several future steps, and a path of a vector of the robot.

    Both are scaled to unit spread, see `measure`.

    Args:
        config: Observations and sizes, as of a policy.
        moments: Number M of future steps at which the embedding is generated.
        path: Length P of the path: its steps times the length of the vector; 0 for no path.
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
        """Length D of a generated sample: the embedding at every future step, followed by the path."""
        return self.moments * self.config.tokens * self.config.channels + self.path

    def measure(self, changes: Tensor, path: Tensor) -> None:
        """Sets the scales from recorded changes `(N, M, E)` and paths `(N, P)`, both relative to the current step."""
        parts = changes.float().unflatten(2, (self.config.tokens, -1)).transpose(1, 2).flatten(0, 1)
        spread = parts.square().mean(0).sqrt()
        self.change.copy_(spread.clamp_min(0.05 * float(spread.square().mean().sqrt()) + 1e-6))
        if self.path:
            self.path_scale.copy_(path.float().square().mean(0).sqrt().clamp_min(1e-6))

    def packed(self, changes: Tensor, path: Tensor) -> Tensor:
        """Returns changes `(B, M, E)` and paths `(B, P)` as scaled samples `(B, D)`."""
        units = changes.unflatten(2, (self.config.tokens, -1)) / self.change[:, None]
        return torch.cat([units.flatten(1), path / self.path_scale], 1)

    def unpacked(self, made: Tensor) -> tuple[Tensor, Tensor]:
        """Inverts `packed`."""
        numbers = made[:, : self.numbers - self.path].unflatten(1, (self.moments, self.config.tokens, -1))
        return (numbers * self.change[:, None]).flatten(2), made[:, self.numbers - self.path :] * self.path_scale

    def look(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the conditioning of the flow for observations: the trunk's latents, and standardized tokens."""
        return self.trunk.gather(obs), self.trunk.tokens(obs["embedding"])

    def velocity(self, seen: tuple[Tensor, Tensor], made: Tensor, time: Tensor) -> Tensor:
        """Returns the flow's velocity `(B, D)`.

        Args:
            seen: Result of `look`.
            made: Current point of the flow, `(B, D)`.
            time: From 0 (noise) to 1 (sample), `(B,)`.
        """
        latents, now = seen
        waves = time[:, None] * math.pi * torch.arange(1, _TIMES // 2 + 1, device=time.device)
        condition = self.time(torch.cat([waves.sin(), waves.cos()], 1)) + self.scene(latents)
        parts = made[:, : self.numbers - self.path].unflatten(1, (self.moments * self.config.tokens, -1))
        tokens = self.enter(torch.cat([parts, now.repeat(1, self.moments, 1)], -1))
        tokens = tokens.unflatten(-1, (-1, self.config.width)).flatten(1, 2) + self.place
        if self.enter_path is not None:
            tokens = torch.cat([tokens, self.enter_path(made[:, -self.path :])[:, None]], 1)
        for layer in self.layers:
            tokens = layer(tokens, latents, condition)
        tokens = F.layer_norm(tokens, tokens.shape[-1:])
        count = len(self.place)
        whole = self.leave(tokens[:, :count].unflatten(1, (parts.shape[1], -1)).flatten(2)).flatten(1)
        return torch.cat([whole, self.leave_path(tokens[:, -1])], 1) if self.leave_path is not None else whole

    def loss(self, obs: Mapping[str, Tensor], target: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the flow matching loss `(B,)`.

        Args:
            obs: Observations.
            target: Recorded futures, as returned by `packed`, `(B, D)`.
            generator: Source of noise and times. Early times are sampled more often, because they decide most of the
                result (Black et al. 2024, "pi0", appendix B).
        """
        noise = torch.randn(target.shape, generator=generator)
        time = 1 - torch.rand(len(target), generator=generator) ** (1 / 1.5)
        between = noise + time[:, None] * (target - noise)
        return (self.velocity(self.look(obs), between, time) - (target - noise)).square().mean(1)

    def generate(self, obs: Mapping[str, Tensor], steps: int, noise: Tensor | None = None) -> Tensor:
        """Generates futures `(B, D)`, scaled as by `packed`.

        Args:
            obs: Observations.
            steps: Euler steps; 1 gives approximately the mean of the futures.
            noise: Start of the flow, standard normal `(B, D)`; None starts at zero.
        """
        seen = self.look(obs)
        made = seen[1].new_zeros(len(seen[1]), self.numbers) if noise is None else noise
        for step in range(steps):
            made = made + self.velocity(seen, made, made.new_full((len(made),), step / steps)) / steps
        return made
