"""Measures the positions of slots in centimeters, by a probe fitted with labels that the world model never saw."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dream_env.data.episodes import EpisodeDataset
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.progress import progress_bar
from dream_env.world_models.protocol import State
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import FEATURES, SEEN

TOUCHED = 1.0
"""A cube that moved further than this (cm) counts as touched."""
FITTED = 500
"""Number of episodes that the probe is fitted to."""
AHEAD = (EPISODE_STEPS // 2, EPISODE_STEPS)
"""Horizons at which errors are measured, in steps."""


class Seen(NamedTuple):
    """Slots of the cubes in N episodes, with T + 1 frames of 3 cubes each.

    Attributes:
        slots: Slots of the encoded pictures, with the set-point, `(N, T + 1, 3, FEATURES + 4)`.
        dreamt: The most likely prediction of both from the first frame on, same shape.
        cubes: True positions of the cubes, cm, `(N, T + 1, 3, 3)`.
        drawn: D predictions of both with noise, `(D, N, T + 1, 3, FEATURES + 4)`.
    """

    slots: Tensor
    dreamt: Tensor
    cubes: Tensor
    drawn: Tensor


class Probe(nn.Module):
    """Maps slots and set-points to positions in cm; normalizes by the statistics of inputs `(N, n)`, truth `(N, 3)`."""

    def __init__(self, inputs: Tensor, truth: Tensor) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs.shape[1], 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 3)
        )
        self.mean, self.scale = inputs.mean(0), inputs.std(0).clamp(min=1e-6)
        self.middle, self.spread = truth.mean(0), truth.std(0)

    def forward(self, slots: Tensor) -> Tensor:
        """Maps `(..., n)` to `(..., 3)`."""
        return self.net((slots - self.mean) / self.scale) * self.spread + self.middle


@torch.inference_mode()
def watch(model: SlotModel, data: EpisodeDataset, rows: np.ndarray, slot_of: np.ndarray, draws: int = 0) -> Seen:
    """Encodes and predicts episodes, `draws` times with noise; `slot_of` maps a cube's color to its slot."""
    frames = data.offsets[rows][:, None] + np.arange(EPISODE_STEPS + 1)

    def observed(at: np.ndarray) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.array(part[at])) for name, part in data.observation.items()}

    states = [model.encode(observed(at)) for at in progress_bar(frames.T, "probe", unit="step")]
    action, generator = torch.from_numpy(data.action[frames]), torch.Generator().manual_seed(0)
    own = torch.from_numpy(slot_of[data.labels["colors"][frames[:, 0]].astype(int)])[:, None, :, None]
    own = own.expand(-1, EPISODE_STEPS + 1, -1, FEATURES)

    def dream(noisy: bool) -> list[State]:
        found = states[:1]
        for step in range(EPISODE_STEPS):
            noise = torch.rand(len(rows), model.noise_dim, generator=generator) if noisy else None
            found.append(model.step(found[-1], action[:, step], noise)[0])
        return found

    def inputs_of(states: list[State]) -> Tensor:
        slots = torch.stack([one["slots"] for one in states], 1).gather(2, own)
        robot = torch.stack([model.own_of(one) for one in states], 1)[:, :, None].expand(-1, -1, 3, -1)
        return torch.cat([slots, robot], -1)

    seen, dreamt = inputs_of(states), inputs_of(dream(noisy=False))
    drawn = torch.stack([inputs_of(dream(noisy=True)) for _ in range(draws)]) if draws else dreamt[None, :0]
    cubes = torch.from_numpy(100 * data.labels["objects"][frames]).unflatten(-1, (3, 3))
    return Seen(seen, dreamt, cubes, drawn)


def slots_of_colors(model: SlotModel, data: EpisodeDataset, rows: np.ndarray) -> np.ndarray:
    """Returns the slot of each color: the one whose visibility depends most on whether there is a cube of the color."""
    first = data.offsets[rows]
    pictures = {name: torch.from_numpy(np.array(part[first])) for name, part in data.observation.items()}
    with torch.inference_mode():
        seen = (model.encode(pictures)["slots"][..., SEEN] > 0).numpy()
    colors = data.labels["colors"][first].astype(int)
    found = []
    for color in range(colors.max() + 1):
        has = (colors == color).any(1)
        found.append((seen[has].mean(0) - seen[~has].mean(0)).argmax())
    return np.array(found)


def fit_probe(seen: Seen, updates: int = 2000) -> Probe:
    """Fits a probe that reads the position of a cube (cm) from its slot, on encoded pictures."""
    visible = seen.slots[..., SEEN] > 0
    inputs, truth = seen.slots[visible].clone(), seen.cubes[visible].clone()
    torch.manual_seed(0)
    net = Probe(inputs, truth)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        rows = torch.randint(len(inputs), (512,))
        wrong = (net(inputs[rows]) - truth[rows]) / net.spread
        loss = nn.functional.smooth_l1_loss(wrong, torch.zeros_like(wrong), beta=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.requires_grad_(False)


class Fitted(NamedTuple):
    """A probe, and the slot of each color's cube."""

    probe: Probe
    slot_of: np.ndarray


def fitted(model: SlotModel, data: EpisodeDataset, held_out: np.ndarray) -> Fitted:
    """Fits a probe to at most `FITTED` episodes that are not held out."""
    others = np.setdiff1d(np.arange(len(data)), held_out)[:FITTED]
    slot_of = slots_of_colors(model, data, others)
    return Fitted(fit_probe(watch(model, data, others, slot_of)), slot_of)


def centimeters(probe: Probe, seen: Seen) -> dict[str, Any]:
    """Measures the differences between dreams and physics after the same actions, medians in cm.

    Returns:
        By steps ahead: `moved` and `untouched`, the errors for cubes that were visible at the start; `moved_seen` and
        `untouched_seen`, the errors of the probe on the true pictures; `moved_if_still`, the error of predicting that
        moved cubes stay at rest; and `moved_cubes`, their number.
    """
    off, off_seen = ((probe(part) - seen.cubes).norm(dim=-1) for part in (seen.dreamt, seen.slots))
    begun, visible = seen.slots[:, 0, :, SEEN] > 0, seen.slots[..., SEEN] > 0
    way = (seen.cubes - seen.cubes[:, :1]).norm(dim=-1)
    result = {}
    for k in AHEAD:
        touched = way[:, : k + 1].amax(1) > TOUCHED
        row = {"moved": off[:, k][touched & begun], "untouched": off[:, k][~touched & begun]}
        row |= {
            "moved_seen": off_seen[:, k][touched & visible[:, k]],
            "untouched_seen": off_seen[:, k][~touched & visible[:, k]],
            "moved_if_still": way[:, k][touched & begun],
        }
        result[str(k)] = {name: round(part.median().item(), 2) for name, part in row.items()}
        result[str(k)]["moved_cubes"] = int((touched & begun).sum())
    return result


def figures(model: SlotModel, data: EpisodeDataset, held_out: np.ndarray) -> dict[str, Any]:
    """Returns `centimeters` of the held-out episodes; the probe is fitted to the others."""
    fit = fitted(model, data, held_out)
    return centimeters(fit.probe, watch(model, data, held_out, fit.slot_of))
