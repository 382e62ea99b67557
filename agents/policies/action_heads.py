"""What makes a chunk of actions of features: one Gaussian, several of them, or a flow that can go many ways."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

HeadName = Literal["gaussian", "k", "flow"]
FLOW_STEPS = 8
"""Steps in which a flow is integrated."""
_TIMES = 16
"""Numbers that tell a flow its time."""


class GaussianHead(nn.Module):
    """A Gaussian around one chunk, of a fixed standard deviation.

    Args:
        features: Length F of the features.
        numbers: Length D of a chunk: its steps times the numbers of an action.
        std: Standard deviation.
    """

    def __init__(self, features: int, numbers: int, std: float) -> None:
        super().__init__()
        self.std = std
        self.mean = nn.Linear(features, numbers)

    def likeliest(self, features: Tensor) -> Tensor:
        """Returns the likeliest chunks `(B, D)` in [-1, 1]."""
        return torch.tanh(self.mean(features))

    def draw(self, features: Tensor, count: int, noise: Tensor | None = None) -> Tensor:
        """Draws chunks `(B, count, D)` by standard normal noise of that shape; the first of each row is the likeliest.

        Without noise it is drawn by torch's generator.
        """
        return _around(self.likeliest(features)[:, None].expand(-1, count, -1), self.std, noise=noise)

    def loss(self, features: Tensor, chunk: Tensor, known: Tensor) -> Tensor:
        """Returns the loss `(B,)` of recorded chunks `(B, D)`, of which a part is `known` `(B, D)`."""
        return ((self.likeliest(features) - chunk).square() * known).sum(1) / known.sum(1)


class KHead(nn.Module):
    """K Gaussians with weights: a mixture density network (Bishop 1994, section 3); arguments as of `GaussianHead`.

    Args:
        features: Length of the features.
        numbers: Length of a chunk.
        std: Standard deviation of each.
        modes: Number K of Gaussians.
    """

    def __init__(self, features: int, numbers: int, std: float, modes: int) -> None:
        super().__init__()
        self.std, self.modes = std, modes
        self.mean = nn.Linear(features, modes * numbers)
        self.logit = nn.Linear(features, modes)

    def _means(self, features: Tensor) -> Tensor:
        return torch.tanh(self.mean(features)).unflatten(-1, (self.modes, -1))

    def likeliest(self, features: Tensor) -> Tensor:
        """Returns the chunks `(B, D)` of the weightiest Gaussians."""
        rows = torch.arange(len(features), device=features.device)
        return self._means(features)[rows, self.logit(features).argmax(1)]

    def draw(self, features: Tensor, count: int, noise: Tensor | None = None) -> Tensor:
        """Draws chunks `(B, count, D)`: of every Gaussian its mean, the weightiest first; then around those again."""
        order = self.logit(features).argsort(1, descending=True)
        means = self._means(features).gather(1, order[..., None].expand(-1, -1, self._means(features).shape[-1]))
        chosen = means[:, torch.arange(count, device=means.device) % self.modes]
        return _around(chosen, self.std, self.modes, noise)

    def loss(self, features: Tensor, chunk: Tensor, known: Tensor) -> Tensor:
        """Returns the negative log-likelihood `(B,)`, up to a constant; arguments as of `GaussianHead.loss`."""
        apart = (((self._means(features) - chunk[:, None]) / self.std).square() * known[:, None]).sum(-1) / 2
        return -torch.logsumexp(torch.log_softmax(self.logit(features), -1) - apart, -1) / known.sum(1)


class FlowHead(nn.Module):
    """A flow from noise to chunks: flow matching (Lipman et al. 2023, section 4; of actions: Black et al. 2024, "pi0").

    Args:
        features: Length of the features.
        numbers: Length of a chunk.
        hidden: Width of its two layers.
    """

    def __init__(self, features: int, numbers: int, hidden: int = 256) -> None:
        super().__init__()
        self.numbers = numbers
        self.velocity = nn.Sequential(
            nn.Linear(features + numbers + _TIMES, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, numbers),
        )

    def _velocity(self, features: Tensor, chunk: Tensor, time: Tensor) -> Tensor:
        waves = time[..., None] * math.pi * torch.arange(1, _TIMES // 2 + 1, device=time.device)
        return self.velocity(torch.cat([features, chunk, waves.sin(), waves.cos()], -1))

    def _carried(self, features: Tensor, chunk: Tensor) -> Tensor:
        for step in range(FLOW_STEPS):
            time = chunk.new_full(chunk.shape[:-1], step / FLOW_STEPS)
            chunk = chunk + self._velocity(features, chunk, time) / FLOW_STEPS
        return chunk.clamp(-1, 1)

    def likeliest(self, features: Tensor) -> Tensor:
        """Returns the chunks `(B, D)` to which the middle of the noise flows."""
        return self._carried(features, features.new_zeros(len(features), self.numbers))

    def draw(self, features: Tensor, count: int, noise: Tensor | None = None) -> Tensor:
        """Draws chunks `(B, count, D)`; the first of each row is that of `likeliest`."""
        if noise is None:
            noise = torch.randn(len(features), count, self.numbers, device=features.device)
        noise = torch.cat([torch.zeros_like(noise[:, :1]), noise[:, 1:]], 1)
        return self._carried(features[:, None].expand(-1, count, -1), noise)

    def loss(self, features: Tensor, chunk: Tensor, known: Tensor) -> Tensor:
        """Returns the loss `(B,)` of flow matching; arguments as of `GaussianHead.loss`."""
        noise, time = torch.randn_like(chunk), torch.rand(len(chunk), device=chunk.device)
        chunk = torch.where(known > 0, chunk, 0.0)
        between = noise + time[:, None] * (chunk - noise)
        apart = (self._velocity(features, between, time) - (chunk - noise)).square()
        return (apart * known).sum(1) / known.sum(1)


def make_head(name: HeadName, features: int, numbers: int, std: float, modes: int) -> GaussianHead | KHead | FlowHead:
    """Makes a head; arguments as of the heads."""
    if name == "flow":
        return FlowHead(features, numbers)
    return KHead(features, numbers, std, modes) if name == "k" else GaussianHead(features, numbers, std)


def _around(chunks: Tensor, std: float, exact: int = 1, noise: Tensor | None = None) -> Tensor:
    """Returns chunks `(B, K, D)` with noise on all but the first `exact` of each row."""
    noise = std * (torch.randn(chunks.shape, device=chunks.device) if noise is None else noise)
    noise[:, :exact] = 0
    return (chunks + noise).clamp(-1, 1)
