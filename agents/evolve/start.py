"""Initializes evolution: measures the scale of the inputs, and sets the first weights to zero or to a fitted policy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.evolve.dreams import DreamPopulation
from dream_env.agents.evolve.real import RealPopulation
from dream_env.agents.policies.controller import Controller
from dream_env.agents.policies.registry import load_once

DREAMS = 128
"""Dreams in which inputs are measured, and in which the actions of a policy are collected."""
EPISODES = 16
"""Real episodes in which inputs are measured when evolving in the real environment."""
RIDGE = 1e-3
"""Weight of the squared weights in ridge regression, relative to the mean squared error; inputs have unit variance."""
MEASURING, FITTING = 3, 4
"""Parts of the seeds that keep the random numbers of the two uses apart."""


def begin(
    controller: Controller, dreams: DreamPopulation, init: str, seed: int, real: RealPopulation | None = None
) -> np.ndarray:
    """Measures the controller's inputs, and returns the initial weights, `(n,)`.

    Args:
        controller: Controller whose `center`, `spread` and `axes` are set.
        dreams: Dreams in which inputs are measured.
        init: A saved policy to fit, or "none" for zero weights.
        seed: Seed of the dreams.
        real: Real environment in which inputs are measured instead, if given.
    """
    if real is None:
        inputs, _ = dreams.visited(controller, None, DREAMS, (seed, MEASURING))
    else:
        inputs = real.visited(EPISODES, (seed, MEASURING))
    spread = inputs.std(0)
    controller.center.copy_(inputs.mean(0))
    controller.spread.copy_(torch.where(spread > 1e-3, spread, torch.ones_like(spread)))
    if count := controller.config.components:
        signal = ((inputs - controller.center) / controller.spread).double()
        variance, axes = torch.linalg.eigh(signal.T @ signal / len(signal))
        scale = variance[-count:].clamp_min(1e-6).sqrt()
        controller.axes.copy_((axes[:, -count:] / scale).flip(1))
    if init == "none":
        return np.zeros(controller.weights.numel())
    policy: Any = load_once(init)
    policy.reset()
    inputs, actions = dreams.visited(controller, policy, DREAMS, (seed, FITTING))
    return fit(controller, inputs, actions, seed)


def fit(controller: Controller, inputs: Tensor, actions: Tensor, seed: int = 0) -> np.ndarray:
    """Fits a controller to actions by ridge regression, and returns its weights `(n,)`.

    The weights of a hidden layer are random; only the output layer is fitted.

    Args:
        controller: Controller with measured inputs.
        inputs: Controller inputs, `(N, I)`.
        actions: Actions to imitate, `(N, ...)`.
        seed: Seed of the hidden layer.
    """
    signal, parts = controller.signal(inputs), []
    hidden = controller.config.hidden
    if hidden:
        generator = torch.Generator(signal.device).manual_seed(seed)
        size = signal.shape[1]
        matrix = torch.randn(hidden, size, generator=generator, device=signal.device) / size**0.5
        bias = torch.randn(hidden, generator=generator, device=signal.device)
        signal = torch.tanh(signal @ matrix.T + bias)
        parts = [matrix.flatten(), bias]
    known = torch.cat([signal, torch.ones_like(signal[:, :1])], 1).double()
    gram = known.T @ known + RIDGE * len(known) * torch.eye(known.shape[1], dtype=torch.float64, device=known.device)
    found = torch.linalg.solve(gram, known.T @ controller.targets(actions).double()).T
    parts += [found[:, :-1].flatten(), found[:, -1]]
    return torch.cat([part.double() for part in parts]).cpu().numpy()
