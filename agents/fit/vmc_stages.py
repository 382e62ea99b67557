"""The stages of a fit of `dream_env.world_models.vmc`: V codes pictures, then M learns how codes go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from dream_env.agents.fit.recorded import Recorded, Window
from dream_env.agents.fit.trainer import Stage
from dream_env.agents.fit.vmc_arguments import Arguments
from dream_env.world_models.mdn_rnn import Mixture
from dream_env.world_models.vae import Gaussian
from dream_env.world_models.vmc import VMCModel

Report = Callable[[], dict[str, Any]]


RARE = 3.0
"""Standard deviations from a pixel's mean over all pictures from which on it shows something rare."""


def pictures_stage(model: VMCModel, data: Recorded, args: Arguments, report: Report) -> Stage:
    """Trains V on single pictures, with a larger weight of what is rare in them: it is small, and often what matters.

    What an environment shows after an end, often nothing, is not learned.
    """
    pictures = data.observation[model.picture]
    some = pictures[data.acted[:: max(1, len(data.acted) // 1000)]].float() / 255
    usual, spread = some.mean(0), some.std(0).clamp(min=0.03)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        frame = data.acted[torch.randint(len(data.acted), (args.batch,), generator=generator)]
        images = pictures[frame]
        rare = ((images.float() / 255 - usual).abs() > RARE * spread).any(-1, keepdim=True)
        weight = args.picture_weight * (1 + (args.rare_weight - 1) * rare)
        return model.vae.loss(images, args.free_nats, weight, generator)

    average = max(0.0, min(0.995, 1 - 20 / max(1, args.picture_updates)))
    return Stage("V", model.vae, loss, args.picture_updates, args.picture_rate, average=average, report=report)


@torch.no_grad()
def codes(model: VMCModel, data: Recorded) -> Gaussian:
    """Encodes every frame, `(F, Z)`."""
    parts = [model.vae.encode(chunk) for chunk in data.observation[model.picture].split(500)]
    return Gaussian(torch.cat([part.mean for part in parts]), torch.cat([part.log_std for part in parts]))


def memory_stage(model: VMCModel, data: Recorded, code: Gaussian, args: Arguments, report: Report) -> Stage:
    """Trains M on windows of the codes of recorded frames, drawn anew for every batch as in the paper.

    Args:
        model: The model, V trained.
        data: What is trained on.
        code: Its codes, `(F, Z)`.
        args: See `Arguments`.
        report: Measures the model at every checkpoint.
    """

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        window = data.draw(args.windows, args.window, generator, args.begun)
        seen = Gaussian(*(part[window.frame] for part in code)).draw(generator)
        return memory_loss(model, seen, window, args.end_weight)

    @torch.no_grad()
    def finish() -> None:
        if model.config.terminates:
            logit, truth = ends(model, data, code)
            model.end_shift += calibration(logit, truth)

    average = max(0.0, min(0.995, 1 - 20 / max(1, args.updates)))
    return Stage("M", model.rnn, loss, args.updates, args.learning_rate, average=average, finish=finish, report=report)


def calibration(logit: Tensor, truth: Tensor) -> float:
    """Returns what has to be added to logits `(N,)` for probabilities that add up to as many ends as came `(N,)`."""
    share = truth.double().mean().clamp(1e-9, 1 - 1e-9)
    return float(brentq(lambda shift: float((logit.double() + shift).sigmoid().mean() - share), -100, 100))


class Foreseen:
    """What M says of the steps of windows that were recorded, one after the other without those that never were.

    Args:
        model: The model.
        seen: Codes of the frames of windows, `(B, W + 1, Z)`.
        window: The windows.
    """

    def __init__(self, model: VMCModel, seen: Tensor, window: Window) -> None:
        self.lengths = window.known.sum(1)
        inputs = torch.cat([seen[:, :-1], model.normalized(window.action)], -1)
        packed = pack_padded_sequence(inputs, self.lengths, batch_first=True, enforce_sorted=False)
        told = model.rnn.told(model.rnn.sequences(packed), self.flat(seen[:, :-1]))
        self.mixture: Mixture = told[0]
        self.reward, self.end = told[1:]

    def flat(self, values: Tensor) -> Tensor:
        """Puts values of steps `(B, W, ...)` into the same order, `(N, ...)`."""
        return pack_padded_sequence(values, self.lengths, batch_first=True, enforce_sorted=False).data


def memory_loss(model: VMCModel, seen: Tensor, window: Window, end_weight: float) -> Tensor:
    """Negative log-likelihood of the next codes, a mean over their numbers; errors of rewards and ends.

    What an environment shows after an end, often nothing, is not learned.

    Args:
        model: The model.
        seen: Codes of the frames, `(B, W + 1, Z)`.
        window: The windows.
        end_weight: Weight of steps that end an episode.
    """
    told = Foreseen(model, seen, window)
    end = told.flat(window.terminated)
    likelihood = told.mixture.log_likelihood(told.flat(seen[:, 1:])).mean(-1)
    total = -(likelihood * (1 - end)).sum() / (1 - end).sum().clamp(min=1)
    if model.config.rewards:
        reward = (told.flat(window.reward) - model.reward_mean) / model.reward_scale
        total = total + (told.reward - reward).square().mean()
    if model.config.terminates:
        weight = torch.tensor(end_weight)
        total = total + F.binary_cross_entropy_with_logits(told.end, end, pos_weight=weight)
    return total


@torch.no_grad()
def ends(model: VMCModel, data: Recorded, code: Gaussian) -> tuple[Tensor, Tensor]:
    """Returns the logit of an end of every recorded step `(N,)`, seen from the episode's start, and whether it came."""
    found, longest = [], int((data.last - data.first).max())
    for first in data.first.split(200):
        window = data.windows(first, longest)
        told = Foreseen(model, code.mean[window.frame], window)
        found.append((told.end + model.end_shift, told.flat(window.terminated)))
    logits, truths = zip(*found, strict=True)
    return torch.cat(logits), torch.cat(truths)
