"""Training stages of `dream_env.world_models.vmc`: V learns to encode pictures, then M to predict the next code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from dream_env.agents.fit.recorded import Recorded, Window
from dream_env.agents.fit.trainer import Stage, ema_decay
from dream_env.agents.fit.vmc.arguments import Arguments
from dream_env.world_models.mdn_rnn import Mixture
from dream_env.world_models.vae import Gaussian
from dream_env.world_models.vmc import VMCModel

Report = Callable[[], dict[str, Any]]


RARE = 3.0
"""Deviation from a pixel's mean over all pictures, in standard deviations, above which it shows something rare."""


def pictures_stage(model: VMCModel, data: Recorded, args: Arguments, report: Report) -> Stage:
    """Returns the stage that trains V on single pictures.

    Rare pixels get a larger weight, because they belong to small objects, which often matter most. The last picture of
    an episode is left out, because after a termination environments often show nothing.
    """
    pictures = data.observation[model.picture]
    sample = pictures[data.acted[:: max(1, len(data.acted) // 1000)]].float() / 255
    usual, spread = sample.mean(0), sample.std(0).clamp(min=0.03)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        frame = data.acted[torch.randint(len(data.acted), (args.batch,), generator=generator)]
        images = pictures[frame]
        rare = ((images.float() / 255 - usual).abs() > RARE * spread).any(-1, keepdim=True)
        weight = args.picture_weight * (1 + (args.rare_weight - 1) * rare)
        return model.vae.loss(images, args.free_nats, weight, generator)

    average = ema_decay(args.picture_updates)
    return Stage("V", model.vae, loss, args.picture_updates, args.picture_rate, average=average, report=report)


@torch.no_grad()
def codes(model: VMCModel, data: Recorded) -> Gaussian:
    """Returns the codes `(F, Z)` of all frames, as Gaussians."""
    parts = [model.vae.encode(chunk) for chunk in data.observation[model.picture].split(500)]
    return Gaussian(torch.cat([part.mean for part in parts]), torch.cat([part.log_std for part in parts]))


def memory_stage(model: VMCModel, data: Recorded, code: Gaussian, args: Arguments, report: Report) -> Stage:
    """Returns the stage that trains M on windows of codes, which are sampled again for every batch as in the paper.

    Args:
        model: The model, with V already trained.
        data: Training data.
        code: Codes of the data's frames, `(F, Z)`.
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
            if truth.any():  # else the shift of the model that the fit goes on from stays
                model.end_shift += calibration(logit, truth)

    average = ema_decay(args.updates)
    return Stage("M", model.rnn, loss, args.updates, args.learning_rate, average=average, finish=finish, report=report)


def calibration(logit: Tensor, truth: Tensor) -> float:
    """Returns the shift of logits `(N,)` for which probabilities sum to the number of ends in `truth` `(N,)`."""
    share = truth.double().mean().clamp(1e-9, 1 - 1e-9)
    return float(brentq(lambda shift: float((logit.double() + shift).sigmoid().mean() - share), -100, 100))


class Foreseen:
    """Predictions of M for the steps of windows; steps that do not exist are left out (packed sequences).

    Args:
        model: The model.
        seen: Codes of the windows' frames, `(B, W + 1, Z)`.
        window: The windows.

    Attributes:
        mixture: Distribution of the next codes.
        reward: Standardized rewards, `(N,)`.
        end: Logits of terminations, `(N,)`.
    """

    def __init__(self, model: VMCModel, seen: Tensor, window: Window) -> None:
        self.lengths = window.known.sum(1)
        inputs = torch.cat([seen[:, :-1], model.normalized(window.action)], -1)
        packed = pack_padded_sequence(inputs, self.lengths, batch_first=True, enforce_sorted=False)
        predictions = model.rnn.predict(model.rnn.sequences(packed), self.flat(seen[:, :-1]))
        self.mixture: Mixture = predictions[0]
        self.reward, self.end = predictions[1:]

    def flat(self, values: Tensor) -> Tensor:
        """Packs values of steps `(B, W, ...)` in the same order as the predictions, `(N, ...)`."""
        return pack_padded_sequence(values, self.lengths, batch_first=True, enforce_sorted=False).data


def memory_loss(model: VMCModel, seen: Tensor, window: Window, end_weight: float) -> Tensor:
    """Returns the loss of M: negative log-likelihood of the next codes, plus the errors of rewards and terminations.

    The likelihood is averaged over dimensions. It leaves out codes after a termination, because environments often show
    nothing there.

    Args:
        model: The model.
        seen: Codes of the frames, `(B, W + 1, Z)`.
        window: The windows.
        end_weight: Weight of steps that terminate an episode.
    """
    prediction = Foreseen(model, seen, window)
    end = prediction.flat(window.terminated)
    likelihood = prediction.mixture.log_likelihood(prediction.flat(seen[:, 1:])).mean(-1)
    total = -(likelihood * (1 - end)).sum() / (1 - end).sum().clamp(min=1)
    if model.config.rewards:
        reward = (prediction.flat(window.reward) - model.reward_mean) / model.reward_scale
        total = total + (prediction.reward - reward).square().mean()
    if model.config.terminates:
        weight = torch.tensor(end_weight)
        total = total + F.binary_cross_entropy_with_logits(prediction.end, end, pos_weight=weight)
    return total


@torch.no_grad()
def ends(model: VMCModel, data: Recorded, code: Gaussian) -> tuple[Tensor, Tensor]:
    """Returns the termination logit of every recorded step `(N,)` and the truth `(N,)`; M runs from episode starts."""
    found, longest = [], int((data.last - data.first).max())
    for first in data.first.split(200):
        window = data.windows(first, longest)
        prediction = Foreseen(model, code.mean[window.frame], window)
        found.append((prediction.end + model.end_shift, prediction.flat(window.terminated)))
    logits, truths = zip(*found, strict=True)
    return torch.cat(logits), torch.cat(truths)
