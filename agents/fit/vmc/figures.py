"""Measures V and M of `dream_env.world_models.vmc` on held-out episodes: figures, curves and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dream_env.agents.eval.statistics import auc
from dream_env.agents.fit.dynamics.figures import picture_strip
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.vmc import stages
from dream_env.files import replacing
from dream_env.world_models.vae import ALIVE, Gaussian
from dream_env.world_models.vmc import VMCModel

STEPS = (0, 1, 2, 4, 8, 12, 16, 24, 32, 48)
"""Steps of an episode that are drawn."""
LIMIT = 2000
"""Maximum number of pictures (about) and of episodes to measure on."""


@torch.no_grad()
def of_pictures(model: VMCModel, data: Recorded) -> dict[str, Any]:
    """Measures V on recorded pictures, without the last one of each episode.

    Returns:
        A dict with `reconstruction`: root mean squared error of pixels in [0, 1]; `median_picture`: the same error if
        the median picture replaces every reconstruction; `divergence`: KL divergence in nats; `live`: number of active
        latent dimensions; and `divergences`: KL divergence of each dimension in nats, largest first.
    """
    chosen = data.observation[model.picture][data.acted[:: max(1, len(data.acted) // LIMIT)]]
    errors, parts, median = [], [], chosen.median(0).values.float() / 255
    for chunk in chosen.split(200):
        code, target = model.vae.encode(chunk), chunk.float() / 255
        parts.append(code)
        drawn = model.vae.decode(code.mean)
        errors.append(
            torch.stack([(drawn - target).square().mean((1, 2, 3)), (median - target).square().mean((1, 2, 3))])
        )
    code = Gaussian(*(torch.cat(part) for part in zip(*parts, strict=True)))
    apart, wrong = code.divergence().mean(0), torch.cat(errors, 1).mean(1).sqrt()
    return {
        "reconstruction": _short(wrong[0]),
        "median_picture": _short(wrong[1]),
        "divergence": _short(apart.sum()),
        "live": int((code.mean.var(0) > ALIVE).sum()),
        "divergences": [_short(each) for each in apart.sort(descending=True).values],
    }


@torch.no_grad()
def of_memory(model: VMCModel, data: Recorded, code: Gaussian) -> dict[str, Any]:
    """Measures M on whole episodes, one step ahead.

    Returns:
        A dict with `likelihood`: negative log-likelihood of the next code in nats per dimension, of `M` and of one
        `normal` distribution fitted to all codes; and `ends`: how well single steps that terminate an episode are
        predicted, with `auc`, `precision` and `recall` at probability 0.5, their `count`, the `expected` count (the sum
        of all probabilities) and the number of `steps`.
    """
    first = data.first[:LIMIT]
    window = data.windows(first, int((data.last - data.first).max()))
    prediction = stages.Foreseen(model, code.mean[window.frame], window)
    going = prediction.flat(window.terminated) < 0.5
    going = going | ~going.any()
    after = prediction.flat(code.mean[window.frame[:, 1:]])[going]
    found = -prediction.mixture.log_likelihood(prediction.flat(code.mean[window.frame[:, 1:]]))[going].mean()
    alone = torch.distributions.Normal(after.mean(0), after.std(0).nan_to_num().clamp(min=1e-6))
    result: dict[str, Any] = {"likelihood": {"M": _short(found), "normal": _short(-alone.log_prob(after).mean())}}
    if model.config.terminates:
        logit, truth = stages.ends(model, data, code)
        said, real = logit >= 0, truth > 0.5
        both = int((said & real).sum())
        result["ends"] = {
            "auc": _short(auc(logit.numpy(), real.numpy())) if 0 < int(real.sum()) < len(real) else None,
            "precision": round(both / max(1, int(said.sum())), 4),
            "recall": round(both / max(1, int(real.sum())), 4),
            "count": int(real.sum()),
            "expected": _short(logit.sigmoid().sum()),
            "steps": len(real),
        }
    return result


@torch.no_grad()
def lengths(model: VMCModel, data: Recorded, code: Gaussian, temperature: float = 1.0, count: int = 200) -> Any:
    """Compares the mean number of steps until termination in rollouts of the model and in recorded episodes.

    Each rollout starts at the first frame of an episode and repeats that episode's actions in a loop, for at most as
    many steps as the longest episode has.
    """
    chosen = data.first[:count]
    longest = int((data.last - data.first).max())
    span = (data.last - data.first)[:count]
    generator = torch.Generator().manual_seed(0)
    state = model.start(code.mean[chosen])
    going, steps = torch.ones(len(chosen), dtype=torch.bool), torch.zeros(len(chosen))
    for k in range(longest):
        action = data.action[chosen + k % span]
        noise = torch.rand(len(chosen), model.noise_dim, generator=generator)
        state, prediction = model.step(state, action, noise, temperature)
        steps += going
        if prediction.terminated is not None:
            going = going & (prediction.terminated < 0.5)
        if not going.any():
            break
    recorded = span.float()
    return {"dreamt": _short(steps.mean()), "recorded": _short(recorded.mean())}


def reports(model: VMCModel, data: Recorded) -> tuple[stages.Report, stages.Report]:
    """Returns the reports of V and of M, which give numbers and pictures for TensorBoard at every checkpoint."""
    few = data.take(np.arange(min(len(data.first), 20)))

    def of_v() -> dict[str, Any]:
        found = of_pictures(model, few)
        found |= {"live": float(found["live"]), "each": torch.tensor(found.pop("divergences")).median().item()}
        return {**found, "coded": strip(model, few)}

    def of_m() -> dict[str, Any]:
        code = stages.codes(model, few)
        found = of_memory(model, few, code)
        numbers = {"likelihood": found["likelihood"]["M"]} | {
            name: float(value)
            for name, value in found.get("ends", {}).items()
            if name in ("auc", "precision", "recall") and value is not None
        }
        return {**numbers, "dreamt": strip(model, few)}

    return of_v, of_m


@torch.no_grad()
def strip(model: VMCModel, data: Recorded, episode: int | None = None) -> Tensor:
    """Draws an episode, by default the longest one, in four rows.

    The rows are the recorded pictures, their reconstructions, the most likely prediction under the same actions, and a
    prediction with noise.
    """
    chosen = int((data.last - data.first).argmax()) if episode is None else episode
    few = data.take(np.array([chosen]))
    steps = tuple(k for k in STEPS if k <= int(few.last[0]))
    return picture_strip(model, few, stages.codes(model, few).mean, 0, steps, seed=0)


def save_strips(model: VMCModel, data: Recorded, path: Path, count: int = 3) -> None:
    """Writes a PNG of the `count` longest episodes, as drawn by `strip`."""
    longest = (data.last - data.first).argsort(descending=True)[:count].tolist()
    rows = [strip(model, data, episode).numpy() for episode in longest]
    width = min(row.shape[1] for row in rows)
    picture = Image.fromarray(np.concatenate([row[:, :width] for row in rows]))
    with replacing(path) as part:
        picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).save(part, "PNG")


def _short(value: Any) -> float:
    return float(f"{float(value):.4g}")
