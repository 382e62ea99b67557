"""Action heads, which map features to a chunk of actions: a Gaussian, a mixture of Gaussians, or a flow."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

HeadName = Literal["gaussian", "k", "flow"]
FLOW_STEPS = 8
"""Integration steps of a flow."""
_TIMES = 16
"""Length of the time embedding of a flow."""


class GaussianHead(nn.Module):
    """A Gaussian around one chunk, with a fixed standard deviation.

    Args:
        features: Length F of the features.
        numbers: Length D of a chunk: its steps times the length of an action.
        std: Standard deviation.
    """

    def __init__(self, features: int, numbers: int, std: float) -> None:
        super().__init__()
        self.std = std
        self.mean = nn.Linear(features, numbers)

    def likeliest(self, features: Tensor) -> Tensor:
        """Returns the most likely chunks `(B, D)` in [-1, 1]."""
        return torch.tanh(self.mean(features))

    def draw(self, features: Tensor, count: int, noise: Tensor | None = None) -> Tensor:
        """Samples chunks `(B, count, D)`; the first of each row is the most likely one.

        Args:
            features: `(B, F)`.
            count: Chunks per row.
            noise: Standard normal numbers `(B, count, D)`; None uses torch's global generator.
        """
        return _around(self.likeliest(features)[:, None].expand(-1, count, -1), self.std, noise=noise)

    def loss(self, features: Tensor, chunk: Tensor, known: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns the mean squared error `(B,)`.

        Args:
            features: `(B, F)`.
            chunk: Recorded chunks `(B, D)`.
            known: 1 where a number of the chunk was recorded, else 0, `(B, D)`.
            generator: Source of random numbers of heads that need some; None uses torch's global generator.
        """
        return ((self.likeliest(features) - chunk).square() * known).sum(1) / known.sum(1)


class KHead(nn.Module):
    """A mixture of K Gaussians: a mixture density network (Bishop 1994, section 3).

    Args:
        features: Length F of the features.
        numbers: Length D of a chunk.
        std: Standard deviation of each Gaussian.
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
        """Returns the means `(B, D)` of the Gaussians with the largest weights."""
        rows = torch.arange(len(features), device=features.device)
        return self._means(features)[rows, self.logit(features).argmax(1)]

    def draw(self, features: Tensor, count: int, noise: Tensor | None = None) -> Tensor:
        """Samples chunks `(B, count, D)`: first the means of the Gaussians by falling weight, then samples around them.

        The Gaussians take turns in this order. Arguments as in `GaussianHead.draw`.
        """
        order = self.logit(features).argsort(1, descending=True)
        means = self._means(features).gather(1, order[..., None].expand(-1, -1, self._means(features).shape[-1]))
        chosen = means[:, torch.arange(count, device=means.device) % self.modes]
        return _around(chosen, self.std, self.modes, noise)

    def loss(self, features: Tensor, chunk: Tensor, known: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns the negative log-likelihood `(B,)`, up to a constant, per known number.

        Arguments as in `GaussianHead.loss`.
        """
        apart = (((self._means(features) - chunk[:, None]) / self.std).square() * known[:, None]).sum(-1) / 2
        return -torch.logsumexp(torch.log_softmax(self.logit(features), -1) - apart, -1) / known.sum(1)


class FlowHead(nn.Module):
    """A flow from noise to chunks, by flow matching (Lipman et al. 2023, section 4).

    Black et al. 2024, "pi0", use it for actions.

    Args:
        features: Length F of the features.
        numbers: Length D of a chunk.
        hidden: Width of its two hidden layers.
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
        """Returns the chunks `(B, D)` that the flow generates from zero noise."""
        return self._carried(features, features.new_zeros(len(features), self.numbers))

    def draw(self, features: Tensor, count: int, noise: Tensor | None = None) -> Tensor:
        """Samples chunks `(B, count, D)`; the first of each row equals `likeliest`.

        Arguments as in `GaussianHead.draw`.
        """
        if noise is None:
            noise = torch.randn(len(features), count, self.numbers, device=features.device)
        noise = torch.cat([torch.zeros_like(noise[:, :1]), noise[:, 1:]], 1)
        return self._carried(features[:, None].expand(-1, count, -1), noise)

    def loss(self, features: Tensor, chunk: Tensor, known: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns the flow matching loss `(B,)`; arguments as in `GaussianHead.loss`."""
        noise = torch.randn(chunk.shape, generator=generator).to(chunk)
        time = torch.rand(len(chunk), generator=generator).to(chunk)
        chunk = torch.where(known > 0, chunk, 0.0)
        between = noise + time[:, None] * (chunk - noise)
        apart = (self._velocity(features, between, time) - (chunk - noise)).square()
        return (apart * known).sum(1) / known.sum(1)


def make_head(name: HeadName, features: int, numbers: int, std: float, modes: int) -> GaussianHead | KHead | FlowHead:
    """Creates a head; arguments as in the classes of the heads."""
    if name == "flow":
        return FlowHead(features, numbers)
    return KHead(features, numbers, std, modes) if name == "k" else GaussianHead(features, numbers, std)


def _around(chunks: Tensor, std: float, exact: int = 1, noise: Tensor | None = None) -> Tensor:
    """Adds noise to chunks `(B, K, D)`, except to the first `exact` of each row."""
    noise = std * (torch.randn(chunks.shape, device=chunks.device) if noise is None else noise)
    noise[:, :exact] = 0
    return (chunks + noise).clamp(-1, 1)
