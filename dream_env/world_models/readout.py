"""Attention of an instruction over a map of tokens, used by policies and success heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHARPNESS = 4.0
"""Factor on the usual attention scores: each query has to select one token of 64, and learns that faster this way."""


class LanguageReadout(nn.Module):
    """Reads a token map with queries computed from the instruction.

    A few queries, computed from the instruction, attend over all tokens. Each query returns the attended position in
    the grid (a soft-argmax, as in spatial softmax: Levine et al. 2016, section 4.3) and the attended values. The output
    is small, so a head on top can learn from a hundred demonstrations without memorizing them.

    Args:
        channels: Channels C of one token.
        instruction_dim: Length of the sentence embedding.
        grid: Side of the square token map; T = grid * grid.
        queries: Number of language queries; with 2, one seed in two never learns to distinguish the colors.
        values: Number of value channels that each query returns.
        width: Width of keys and queries.
    """

    def __init__(
        self,
        channels: int,
        instruction_dim: int = 64,
        grid: int = 8,
        queries: int = 8,
        values: int = 4,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.queries = queries
        self.key = nn.Sequential(nn.Linear(channels, width), nn.GELU())
        self.query = nn.Linear(instruction_dim, queries * width)
        self.value = nn.Linear(channels, values)
        axis = torch.linspace(-1, 1, grid)
        self.register_buffer("position", torch.cartesian_prod(axis, axis), persistent=False)
        self.position: Tensor
        self.output_dim = queries * (2 + values)

    def attention(self, tokens: Tensor, instruction: Tensor) -> Tensor:
        """Returns the attention weights `(B, queries, T)` of the instruction over the tokens `(B, T, C)`."""
        key = self.key(tokens)
        query = self.query(instruction).unflatten(-1, (self.queries, -1))
        return torch.softmax(torch.bmm(query, key.transpose(1, 2)) * SHARPNESS / key.shape[-1] ** 0.5, dim=-1)

    def forward(self, tokens: Tensor, instruction: Tensor) -> Tensor:
        """Maps tokens `(B, T, C)` and instructions `(B, I)` to features `(B, output_dim)`."""
        weights = self.attention(tokens, instruction)
        return torch.cat([weights @ self.position, self.value(torch.bmm(weights, tokens))], dim=-1).flatten(1)
