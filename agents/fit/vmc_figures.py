"""How well V and M of `dream_env.world_models.vmc` do on held-out episodes: figures, curves and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dream_env.agents.eval.statistics import auc
from dream_env.agents.fit import vmc_stages as stages
from dream_env.agents.fit.dynamics_figures import picture_strip
from dream_env.agents.fit.recorded import Recorded
from dream_env.files import replacing
from dream_env.world_models.vae import ALIVE, Gaussian
from dream_env.world_models.vmc import VMCModel

STEPS = (0, 1, 2, 4, 8, 12, 16, 24, 32, 48)
"""Steps of an episode that are drawn."""
LIMIT = 2000
"""Most pictures and episodes that are measured on."""


@torch.no_grad()
def of_pictures(model: VMCModel, data: Recorded) -> dict[str, Any]:
    """Measures V on recorded pictures after which something was done.

    Returns:
        `reconstruction`, root mean squared error of pixels, which are 0 to 1; `median_picture`, that of the median
        picture in the place of each; `divergence`, in nats; `live`, how many numbers of the code say something; and
        `divergences`, of each number, largest first.
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
        `likelihood`: negative log-likelihood of the next code, nats for each of its numbers, of M and of one normal
        distribution of all codes; `ends`: how well single steps are told that end an episode: `auc`, `precision` and
        `recall` at the probability 0.5, their `count`, the `expected` one (the sum of all probabilities) and `steps`.
    """
    first = data.first[:LIMIT]
    window = data.windows(first, int((data.last - data.first).max()))
    told = stages.Foreseen(model, code.mean[window.frame], window)
    going = told.flat(window.terminated) < 0.5
    after = told.flat(code.mean[window.frame[:, 1:]])[going]
    found = -told.mixture.log_likelihood(told.flat(code.mean[window.frame[:, 1:]]))[going].mean()
    alone = torch.distributions.Normal(after.mean(0), after.std(0).clamp(min=1e-6))
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
    """Lets dreams go on under the actions of recorded episodes, and returns the mean number of steps until an end.

    Only what the actions reach is dreamt: those of an episode in the same dream, again from the first after the last.
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
        state, told = model.step(state, action, noise, temperature)
        steps += going
        if told.terminated is not None:
            going = going & (told.terminated < 0.5)
        if not going.any():
            break
    recorded = span.float()
    return {"dreamt": _short(steps.mean()), "recorded": _short(recorded.mean())}


def reports(model: VMCModel, data: Recorded) -> tuple[stages.Report, stages.Report]:
    """Returns what measures V and M at every checkpoint: numbers and pictures for TensorBoard."""
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
            if name in ("auc", "precision", "recall")
        }
        return {**numbers, "dreamt": strip(model, few)}

    return of_v, of_m


@torch.no_grad()
def strip(model: VMCModel, data: Recorded, episode: int | None = None) -> Tensor:
    """Draws a long episode in four rows: recorded, coded, the likeliest dream of its actions, and one with noise."""
    chosen = int((data.last - data.first).argmax()) if episode is None else episode
    few = data.take(np.array([chosen]))
    steps = tuple(k for k in STEPS if k <= int(few.last[0]))
    return picture_strip(model, few, stages.codes(model, few).mean, 0, steps, seed=0)


def save_strips(model: VMCModel, data: Recorded, path: Path, count: int = 3) -> None:
    """Writes a PNG of some episodes, the longest ones, as `strip` draws them."""
    longest = (data.last - data.first).argsort(descending=True)[:count].tolist()
    rows = [strip(model, data, episode).numpy() for episode in longest]
    width = min(row.shape[1] for row in rows)
    picture = Image.fromarray(np.concatenate([row[:, :width] for row in rows]))
    with replacing(path) as part:
        picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).save(part, "PNG")


def _short(value: Any) -> float:
    return float(f"{float(value):.4g}")
