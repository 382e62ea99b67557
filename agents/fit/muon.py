"""Muon for matrices, which are updated by their orthogonalized momentum, and AdamW for all other parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration; five rounds bring all singular values near 1 (Jordan et al. 2024)."""
_ROUNDS = 5
_SMALLEST = 8
"""Smallest number of rows and columns for Muon; smaller matrices are scales and readouts, which AdamW updates."""


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

    Torch has an implementation, too, but it does not accept convolution kernels, and it computes in bfloat16, which is
    25 times slower than float32 on a CPU without bfloat16 instructions. The update is scaled to the size of AdamW's
    (Liu et al. 2025, arXiv:2502.16982, section 2.2), so that both can use the same learning rate.

    Args:
        parameters: Matrices, stacks of matrices `(E, R, C)`, and convolution kernels, which are flattened to one row
            per output channel.
        lr: Learning rate.
        weight_decay: Decoupled weight decay; a step shrinks the weights by `lr * weight_decay`.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float = 0.01) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Performs one optimization step; `closure`, if given, re-evaluates the model and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - _MOMENTUM)
                direction = weight.grad.lerp(momentum, _MOMENTUM)
                direction = orthogonalize(direction.flatten(1) if direction.ndim > 3 else direction)
                size = group["lr"] * 0.2 * math.sqrt(max(direction.shape[-2:]))
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction.view_as(weight), alpha=size)
        return loss


def orthogonalize(matrix: Tensor) -> Tensor:
    """Returns matrices `(..., R, C)` with their singular values brought near 1, by the Newton-Schulz iteration."""
    tall = matrix.shape[-2] > matrix.shape[-1]
    wide = matrix.mT if tall else matrix
    a, b, c = _QUINTIC
    wide = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.mT if tall else wide


def optimizers(module: nn.Module, learning_rate: float, muon: bool = True) -> list[torch.optim.Optimizer]:
    """Returns the optimizers of a module: Muon for matrices and kernels if `muon`, and AdamW for all the rest."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for weight in module.parameters():
        shape = weight.shape[1:] if weight.ndim == 3 else weight.flatten(1).shape if weight.ndim > 1 else ()
        large = len(shape) == 2 and min(shape) >= _SMALLEST
        (matrices if muon and large else others).append(weight)
    made: list[torch.optim.Optimizer] = []
    if others:
        made.append(torch.optim.AdamW(others, learning_rate, weight_decay=0.01, fused=True))
    if matrices:
        made.append(Muon(matrices, learning_rate))
    return made
