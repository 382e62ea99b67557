"""Ensembles of fully connected networks, evaluated in one batched pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOG_STD = (-6.0, 1.0)
"""Range of the logarithm of the standard deviations; the predictions are softly bounded to it."""


class EnsembleMLP(nn.Module):
    """Fully connected networks of equal shape, one per ensemble member.

    Args:
        members: Number E of networks.
        sizes: Lengths of input, hidden layers and output.
    """

    def __init__(self, members: int, sizes: list[int]) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
            weight = torch.empty(members, inputs, outputs).uniform_(-1, 1) * inputs**-0.5
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, outputs)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps inputs `(E, N, inputs)`, one batch per member, to outputs `(E, N, outputs)`."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            inputs = torch.baddbmm(bias, F.silu(inputs) if layer else inputs, weight)
        return inputs


class GaussianEnsemble(EnsembleMLP):
    """The probabilistic ensemble of PETS (Chua et al. 2018): each member outputs a diagonal Gaussian.

    Args:
        inputs: Length of the input.
        outputs: Length Z of the mean, and of the standard deviation.
        members: Number E of networks.
        width: Width of the hidden layers.
        depth: Number of hidden layers.
    """

    def __init__(self, inputs: int, outputs: int, members: int, width: int, depth: int) -> None:
        super().__init__(members, [inputs, *[width] * depth, 2 * outputs])

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Returns the means and the logarithms of the standard deviations, `(E, B, Z)` each.

        Args:
            inputs: Inputs shared by all members, `(B, inputs)`, or one batch per member, `(E, B, inputs)`.
        """
        mean, log_std = super().forward(inputs.expand(len(self.weights[0]), *inputs.shape[-2:])).chunk(2, dim=-1)
        low, high = LOG_STD
        log_std = high - F.softplus(high - log_std)
        return mean, low + F.softplus(log_std - low)


def picked(outputs: Tensor, chance: Tensor) -> Tensor:
    """Returns the outputs `(B, ...)` of one ensemble member per row, of outputs `(E, B, ...)` of all members.

    Args:
        outputs: Outputs of the E members.
        chance: Uniform random numbers `(B,)` in [0, 1), which select the members.
    """
    member = (chance * len(outputs)).long().clamp(max=len(outputs) - 1)
    return outputs[member, torch.arange(len(chance), device=chance.device)]
