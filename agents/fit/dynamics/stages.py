"""Training stages of `dream_env.world_models.dynamics`: the picture stage and the dynamics stage."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.agents.fit.constants import CHANGED
from dream_env.agents.fit.recorded import Recorded, Window
from dream_env.agents.fit.trainer import Stage, ema_decay
from dream_env.world_models.dynamics import DynamicsModel
from dream_env.world_models.protocol import State

VARIANCE_WEIGHT = 0.5
"""Exponent beta of the beta-NLL loss (Seitzer et al. 2022): 0 is the likelihood, 1 weights errors like the MSE."""


def pictures_stage(
    model: DynamicsModel, data: Recorded, updates: int, batch: int, noise: float, weight: float, seed: int = 0
) -> Stage:
    """Returns the stage that trains the auto-encoders and then fixes the statistics that give codes unit variance.

    Args:
        model: The model.
        data: Training data.
        updates: Number of updates.
        batch: Batch size in pictures.
        noise: Standard deviation of the noise on codes, which makes distances between codes meaningful.
        weight: Loss weight of pixels that differ from the background.
        seed: Seed of the choice of pictures for the statistics.
    """
    parts = list(zip(model.autoencoders, model.spec.pictures, strict=True))

    def drawn(generator: torch.Generator, count: int) -> list[Tensor]:
        frame = torch.randint(data.frames, (count,), generator=generator)
        return [data.observation[name][frame] for _, name in parts]

    def begin() -> None:
        for (autoencoder, _), images in zip(parts, drawn(torch.Generator().manual_seed(seed), 400), strict=True):
            autoencoder.prepare(images)  # type: ignore[operator]

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        total = torch.zeros(())
        for (autoencoder, _), images in zip(parts, drawn(generator, batch), strict=True):
            code = autoencoder.encode(images)  # type: ignore[operator]
            code = code + noise * torch.randn(code.shape, generator=generator)
            target = images.float() / 255
            changed = (target - autoencoder.background).abs().amax(-1, keepdim=True) > CHANGED  # type: ignore[operator]
            weights = 1 + (weight - 1) * changed
            error = weights * (autoencoder.decode(code) - target) ** 2  # type: ignore[operator]
            total = total + error.sum() / (3 * weights.sum())
        return total

    @torch.no_grad()
    def finish() -> None:
        generator = torch.Generator().manual_seed(seed)
        for autoencoder, _ in parts:
            autoencoder.train()
            autoencoder.normalize.reset_running_stats()  # type: ignore[union-attr, operator]
            autoencoder.normalize.momentum = None  # type: ignore[union-attr]
        for _ in range(20):
            for (autoencoder, _), images in zip(parts, drawn(generator, 200), strict=True):
                autoencoder.encode(images)  # type: ignore[operator]

    return Stage("pictures", model.autoencoders, loss, updates, 2e-3, begin=begin, finish=finish)


@torch.no_grad()
def codes(model: DynamicsModel, data: Recorded) -> Tensor:
    """Returns the codes `(F, Z)` of all frames."""
    model.eval()
    parts = torch.arange(data.frames).split(1000)
    return torch.cat([model.encode({k: v[part] for k, v in data.observation.items()})["code"] for part in parts])


def dynamics_stage(
    model: DynamicsModel, data: Recorded, code: Tensor, updates: int, batch: int, recall: int, ahead: int, rate: float
) -> Stage:
    """Returns the stage that trains memory, ensemble and head on recorded codes `(F, Z)`.

    Args:
        model: The model, with its data scales already measured.
        data: Training data.
        code: Codes of the data's frames.
        updates: Number of updates.
        batch: Batch size in windows, for each ensemble member.
        recall: Steps at the beginning of a window in which the model is given the recorded codes.
        ahead: Steps after these that are predicted from the model's own predictions.
        rate: Peak learning rate.
    """
    parts = nn.ModuleList([model.ensemble, model.head])
    if model.recurrent is not None:
        parts.append(model.recurrent)

    def begin() -> None:
        moved = code[data.acted + 1] - code[data.acted]
        model.measure_codes(code, moved)

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        return dynamics_loss(model, code, data.draw(batch * model.config.members, recall + ahead, generator), recall)

    return Stage("dynamics", parts, loss, updates, rate, average=ema_decay(updates), begin=begin)


def dynamics_loss(model: DynamicsModel, code: Tensor, window: Window, recall: int) -> Tensor:
    """Returns the loss of a batch of windows: likelihood of single steps, and error of open-loop predictions.

    Args:
        model: The model.
        code: Codes of all frames, `(F, Z)`.
        window: Windows of W steps; every ensemble member has its own part of them.
        recall: First step that is predicted from the model's own predictions.
    """
    window = Window(*(part.unflatten(0, (model.config.members, -1)) for part in window))  # (E, b, ...)
    seen, action = code[window.frame], model.normalized(window.action)  # (E, b, W + 1, Z), (E, b, W, A)
    known, steps = window.known.float(), action.shape[2]
    reward = (window.reward - model.reward_mean) / model.reward_scale
    state: State = {"code": seen[:, :, 0]}
    if model.has_memory:
        state["memory"] = seen.new_zeros(*seen.shape[:2], model.config.memory)
    contexts, rolled = [], state
    for k in range(steps):
        rolled = state if k == recall else rolled
        context, memory = model.context(state, action[:, :, k])
        contexts.append(context)
        state = {"code": seen[:, :, k + 1]} | ({} if memory is None else {"memory": memory})
    context = torch.stack(contexts, 2)  # (E, b, W, C)
    mean, log_std = (part.unflatten(1, known.shape[1:]) for part in model.ensemble(context.flatten(1, 2)))
    target, variance = (seen[:, :, 1:] - seen[:, :, :-1]) / model.change_scale, (2 * log_std).exp()
    likelihood = 0.5 * ((mean - target) ** 2 / variance + 2 * log_std) * variance.detach() ** VARIANCE_WEIGHT
    total = _average(likelihood.mean(-1), known)
    total = total + head_loss(model, context, seen[:, :, 1:], reward, window.terminated, known)

    for k in range(recall, steps):
        context, memory = model.context(rolled, action[:, :, k])
        after = model.moved(rolled["code"], model.ensemble(context)[0])
        # In units of one step's change, so that all dimensions have the same weight.
        wrong = ((after - seen[:, :, k + 1]) / model.change_scale).square().mean(-1)
        targets = (part[:, :, k] for part in (reward, window.terminated, known))
        ahead = _average(wrong, known[:, :, k]) + head_loss(model, context.detach(), after.detach(), *targets)
        total = total + ahead / (steps - recall)
        rolled = {"code": after} | ({} if memory is None else {"memory": memory})
    return total


def head_loss(
    model: DynamicsModel, context: Tensor, code: Tensor, reward: Tensor, terminated: Tensor, known: Tensor
) -> Tensor:
    """Returns the squared error of rewards plus the cross-entropy of terminations, for steps that lead to `code`."""
    paid, ends = model.head_outputs(context, code)
    wrong = torch.zeros_like(known)
    if model.config.rewards:
        wrong = wrong + (paid - reward) ** 2
    if model.config.terminates:
        wrong = wrong + F.binary_cross_entropy_with_logits(ends, terminated, reduction="none")
    return _average(wrong, known)


def _average(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1)
