"""The network of `dream_env.agents.policies.transformer_vla`: a few latents that attend to an observation.

In every layer (Perceiver: Jaegle et al. 2021, section 3), the latents attend to words and vectors by cross-attention,
to the tokens of the embedding by cross-attention, and to each other by self-attention.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.agents.policies import encoder_id
from dream_env.agents.policies.action_heads import HeadName
from dream_env.checks import check_bounds, check_choice
from dream_env.language import INSTRUCTION_DIM, word_vectors

_BOUNDS = (
    ("tokens", 1, 65_536),
    ("channels", 1, 1_000_000),
    ("width", 8, 1024),
    ("latents", 1, 64),
    ("depth", 1, 12),
    ("heads", 1, 16),
    ("hidden", 1, 4096),
    ("chunk", 1, 64),
    ("execute", 1, 64),
    ("modes", 1, 64),
)
SPREAD = 4
"""Number of tokens that an embedding with a single vector is mapped to."""
FEW = 32
"""Largest number of latents times tokens for which attention on a CPU is computed by `Attention._among_few`."""


@dataclass(frozen=True)
class TransformerVLAConfig:
    """Config of a policy: its observations and its sizes.

    Attributes:
        tokens: Number of tokens T of the embedding; 1 if it is a single vector.
        channels: Length C of a token.
        vectors: Vectors that it reads in addition to the embedding, such as proprioception: length by name.
        language: "words" reads the instruction word by word, "sentence" reads its embedding, "none" reads neither.
        goal: Whether it reads the goal embedding.
        compares: Whether the network has weights for goals: if the policy reads the goal, or if it was trained with
            goals but does not read any when acting.
        action_low: Lower bounds of the actions, `(A,)`.
        action_high: Upper bounds of the actions, `(A,)`.
        head: Action head, see `dream_env.agents.policies.action_heads`.
        modes: Number of Gaussians of the head "k".
        chunk: Number of actions in a chunk, which are chosen at once.
        execute: Number of these actions to execute before choosing the next chunk.
        std: Standard deviation of sampled actions, as a share of half the width between the bounds.
        width: Width of the latents.
        latents: Number of latents.
        depth: Number of layers.
        heads: Number of attention heads.
        hidden: Length of the features that the action head takes.
        world_model: Name or folder of the world model whose encoder computes the embedding.
        encoder_id: Fingerprint of that encoder, see `dream_env.agents.policies.encoder_id`.

    Raises:
        ValueError: If a value is not accepted.
    """

    tokens: int
    channels: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    vectors: Mapping[str, int] = field(default_factory=dict)
    language: str = "none"
    goal: bool = False
    compares: bool = False
    head: HeadName = "gaussian"
    modes: int = 4
    chunk: int = 4
    execute: int = 1
    std: float = 0.17
    width: int = 64
    latents: int = 8
    depth: int = 2
    heads: int = 4
    hidden: int = 128
    world_model: str = "default"
    encoder_id: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Checks the values, which may come from a damaged file."""
        check_bounds(self, _BOUNDS)
        check_choice("head", self.head, HeadName)
        check_choice("language", self.language, ("words", "sentence", "none"))
        bounds = np.array(self.action_low, float), np.array(self.action_high, float)
        if bounds[0].shape != bounds[1].shape or not bounds[0].size or not (bounds[0] < bounds[1]).all():
            raise ValueError(f"action_low={self.action_low}, action_high={self.action_high}; accepted: low below high")
        if self.execute > self.chunk or self.width % self.heads:
            raise ValueError(
                f"execute={self.execute}, chunk={self.chunk}, width={self.width}, heads={self.heads}; accepted: "
                "execute up to chunk, heads that divide width"
            )
        if not isinstance(self.std, float | int) or not 0 < self.std < math.inf:
            raise ValueError(f"std={self.std!r}; accepted: a positive number")

    @property
    def obs_type(self) -> str:
        """Which observations it takes, see `dream_env.observations.ObservationBuilder`."""
        return "words" if self.language == "words" else "embedding"

    def check_encoder(self, world_model: str) -> None:
        """Raises ValueError if a world model has another encoder than the one that the policy was trained with."""
        if self.encoder_id is not None:
            encoder_id.check(self.encoder_id, self.world_model, world_model)


class Attention(nn.Module):
    """Multi-head attention of latents `(N, B, W)` to a context `(M, B, W)`, with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.query, self.key_value, self.out = (nn.Linear(width, n * width) for n in (1, 2, 1))

    def forward(
        self, latents: Tensor, context: Tensor | None = None, hidden: Tensor | None = None, private: int = 0
    ) -> Tensor:
        """Returns the updated latents `(N, B, W)`.

        Args:
            latents: `(N, B, W)`, or `(N, 1, W)` if they are the same for the whole batch.
            context: Tokens to attend to, `(M, B, W)`; None for the latents themselves (self-attention).
            hidden: Rows of the context that are masked out, `(M, B)` bool; None for none.
            private: Number of last rows of the context to which only the same number of last latents attend.
        """
        normal = self.before(latents)
        context = normal if context is None else context
        mask = None if hidden is None else ~hidden[None]
        if private:
            mask = torch.ones(len(latents), len(context), 1, dtype=torch.bool, device=latents.device)
            mask[:-private, -private:] = False
        # The form for few takes 4/3 of the other's time for a single observation, and 2/3 for a minibatch.
        few = latents.device.type == "cpu" and len(latents) * len(context) <= FEW
        return latents + (self._among_few if few else self._among_many)(normal, context, mask)

    def _among_many(self, latents: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """Returns what the latents find where `mask` (broadcast to `(N, M, B)`) is True, `(N, B, W)`."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (
                self.query(latents.transpose(0, 1)),
                *self.key_value(context.transpose(0, 1)).chunk(2, -1),
            )
        )
        mask = None if mask is None else mask.movedim(-1, 0).unsqueeze(1).contiguous()
        found = F.scaled_dot_product_attention(query.expand(len(key), -1, -1, -1), key, value, attn_mask=mask)
        return self.out(found.permute(2, 0, 1, 3).flatten(2))

    def _among_few(self, latents: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the same as `_among_many`, faster on a CPU if there are few latents and tokens.

        `scaled_dot_product_attention` multiplies tiny matrices, one pair for each batch element and head. Products of
        whole tensors whose last dimension is the batch take half the time.
        """
        query, key, value = (
            part.unflatten(0, (self.heads, -1))
            for part in (_batch_last(self.query, latents), *_batch_last(self.key_value, context).chunk(2))
        )
        score = (query.unsqueeze(3) * key.unsqueeze(2)).sum(1) * query.shape[1] ** -0.5  # (heads, N, M, B)
        if mask is not None:
            score = score.masked_fill(~mask, -torch.inf)
        found = (score.softmax(2).unsqueeze(1) * value.unsqueeze(2)).sum(3)
        return self.out(found.flatten(2).flatten(0, 1).T).unflatten(0, found.shape[2:])


def _batch_last(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """Returns the outputs of a linear layer for inputs `(N, B, W)`, with their dimensions in the order `(W, N, B)`."""
    outputs = torch.addmm(layer.bias[:, None], layer.weight, inputs.flatten(0, 1).T)
    return outputs.unflatten(-1, inputs.shape[:2])


class Layer(nn.Module):
    """One layer: latents attend to words and vectors, then to tokens, then to each other, followed by an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        # Attention to words and vectors, to tokens, and among the latents; checkpoints have these names.
        self.told, self.seen, self.each = (Attention(width, heads) for _ in range(3))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, latents: Tensor, context: Tensor, hidden: Tensor, seen: Tensor, private: int = 0) -> Tensor:
        """Returns the updated latents `(N, B, W)`.

        Args:
            latents: `(N, B, W)`, or `(N, 1, W)` if they are the same for the whole batch.
            context: Embedded words and vectors, `(M, B, W)`.
            hidden: Rows of `context` that are masked out, `(M, B)` bool.
            seen: Embedded tokens of the observation, `(T, B, W)`.
            private: Number of last latents that the other latents do not attend to.
        """
        latents = self.each(self.seen(self.told(latents, context, hidden), seen), private=private)
        return latents + self.mlp(latents)


class Trunk(nn.Module):
    """Maps observations to features `(B, hidden)`, see the module.

    Args:
        config: Observations and sizes. With `compares` it also reads the goal, if an observation contains one.
    """

    def __init__(self, config: TransformerVLAConfig) -> None:
        super().__init__()
        self.config = config
        width, parts = config.width, 3 if config.compares else 1
        single = config.tokens == 1
        count, given = (SPREAD, SPREAD * width) if single else (config.tokens, width)
        self.enter = nn.Linear(parts * config.channels, given)
        self.look = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.place = nn.Parameter(_places(count, width))
        self.vectors = nn.ModuleDict({name: nn.Linear(n, width) for name, n in config.vectors.items()})
        self.sentence = None if config.language == "none" else nn.Linear(INSTRUCTION_DIM, width)
        self.order = nn.Parameter(0.02 * torch.randn(64, width)) if config.language == "words" else None
        self.nothing = nn.Parameter(0.02 * torch.randn(1, width))
        self.latents = nn.Parameter(0.5 * torch.randn(config.latents, width))
        self.layers = nn.ModuleList(Layer(width, config.heads) for _ in range(config.depth))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Flatten(), nn.Linear(config.latents * width, config.hidden))
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("scale", torch.ones(config.channels))
        table = torch.from_numpy(word_vectors()) if config.language == "words" else torch.zeros(0, INSTRUCTION_DIM)
        self.register_buffer("table", table, persistent=False)

    mean: Tensor
    scale: Tensor
    table: Tensor

    def measure(self, embedding: Tensor) -> None:
        """Sets the mean and standard deviation of the channels from embeddings `(N, E)`."""
        tokens = embedding.float().unflatten(-1, (self.config.tokens, -1)).flatten(0, 1)
        self.mean.copy_(tokens.mean(0))
        self.scale.copy_(tokens.std(0).clamp_min(1e-3 * tokens.std() + 1e-6))

    def tokens(self, embedding: Tensor) -> Tensor:
        """Returns the standardized tokens `(B, T, C)` of embeddings `(B, E)`."""
        return (embedding.unflatten(-1, (self.config.tokens, -1)) - self.mean) / self.scale

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Maps a batch of observations to features; a goal that is missing or NaN is masked with zeros."""
        return F.gelu(self.leave(self.gather(obs)))

    def gather(self, obs: Mapping[str, Tensor], further: Tensor | None = None) -> Tensor:
        """Returns the latents of the last layer for a batch of observations.

        Args:
            obs: As in `forward`.
            further: Additional latents `(Q, W)`, which attend to the network's own latents, but not the other way
                around.

        Returns:
            `(B, N, W)`; with `further` `(B, N + Q, W)`, of which the first N are the same as without.
        """
        tokens = self.tokens(obs["embedding"])
        if self.config.compares:
            goal = self.tokens(obs["goal"]) if "goal" in obs else torch.full_like(tokens, torch.nan)
            shown = torch.cat([goal, goal - tokens], -1).nan_to_num(0.0)
            tokens = torch.cat([tokens, shown], -1)
        seen = F.gelu(self.enter(tokens))
        seen = seen.unflatten(-1, (SPREAD, -1)).flatten(1, 2) if self.config.tokens == 1 else seen
        seen = (seen + self.place).transpose(0, 1).contiguous()  # from here on, tokens come before the batch
        seen = seen + self.look(seen)
        parts = [self.nothing.expand(1, len(tokens), -1)]
        parts += [layer(obs[name])[None] for name, layer in self.vectors.items()]
        hidden = [torch.zeros(len(parts), len(tokens), dtype=torch.bool, device=tokens.device)]
        if self.sentence is not None and self.order is not None:
            rows = obs["words"].long().T
            parts.append(self.sentence(self.table[rows]) + self.order[: len(rows), None])
            hidden.append(rows == 0)
        elif self.sentence is not None:
            parts.append(self.sentence(2.5 * obs["instruction"])[None])
            hidden.append(torch.zeros_like(hidden[0][:1]))
        context, absent = torch.cat(parts), torch.cat(hidden)
        private = 0 if further is None else len(further)
        own = self.latents if further is None else torch.cat([self.latents, further])
        latents = own[:, None]
        for layer in self.layers:
            latents = layer(latents, context, absent, seen, private)
        return latents.transpose(0, 1)


class Critic(nn.Module):
    """Estimates the values `(B,)` of observations; reads the goal if there is one, even if the policy does not."""

    def __init__(self, config: TransformerVLAConfig) -> None:
        super().__init__()
        self.trunk = Trunk(config)
        self.value = nn.Linear(config.hidden, 1)

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns the values."""
        return self.value(self.trunk(obs))[:, 0]


def _places(count: int, width: int) -> Tensor:
    """Returns the initial position embeddings of tokens, `(count, width)`.

    On a square map they are coordinates, sines and cosines plus noise; otherwise, and below 3 by 3 tokens, noise only.
    """
    side = math.isqrt(count)
    noise = 0.1 * torch.randn(count, width)
    if side < 3 or side**2 != count:
        return noise * 5
    axis = torch.linspace(-1, 1, side)
    places = torch.cartesian_prod(axis, axis)
    waves = torch.cat([places, (places * math.pi).sin(), (places * math.pi).cos(), (places * 2 * math.pi).sin()], 1)
    noise[:, : waves.shape[1]] += waves
    return noise
