"""Predicts whether the condition of an instruction holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream_env.language import INSTRUCTION_DIM
from dream_env.nicol.constants import PROPRIO_NAMES
from dream_env.nicol.world_model.state_estimator import CUBE, HAND, TargetSelector
from dream_env.world_models.readout import LanguageReadout


class SuccessHead(nn.Module):
    """Predicts the logit of the task's condition from the tokens and the object state, given the instruction.

    The tokens show whether a cube is held; the object state has its position more precisely, to millimetres.

    Args:
        channels: Channels of one token.
        grid: Side of the token map.
        width: Hidden width.
    """

    def __init__(self, channels: int, grid: int, width: int) -> None:
        super().__init__()
        self.readout = LanguageReadout(channels, INSTRUCTION_DIM, grid, queries=8, values=4, width=32)
        self.target_selector = TargetSelector()
        inputs = self.readout.output_dim + len(PROPRIO_NAMES) + INSTRUCTION_DIM + len(HAND) + len(CUBE)
        self.logit = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, tokens: Tensor, proprio: Tensor, instruction: Tensor, object_state: Tensor) -> Tensor:
        """Returns logits `(B,)`, before the division by the calibration temperature.

        Args:
            tokens: Tokens `(B, T, C)`.
            proprio: Set-points `(B, 4)`.
            instruction: Sentence embeddings `(B, I)`.
            object_state: Object states `(B, R)`.
        """
        target = self.target_selector(object_state, instruction)
        parts = [self.readout(tokens, instruction), proprio, instruction, object_state[:, : len(HAND)], target]
        return self.logit(torch.cat(parts, dim=1)).squeeze(-1)

    def probability(self, *inputs: Tensor) -> Tensor:
        """Returns the calibrated probability `(B,)`; the inputs are those of `forward`."""
        return torch.sigmoid(self(*inputs) / self.temperature)
