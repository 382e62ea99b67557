"""The figures of a fidelity report: how far dreams and physics lie apart after the same actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.eval.statistics import auc, spearman
from dream_env.agents.fidelity.replay import Rollout
from dream_env.agents.nicol import probes
from dream_env.agents.nicol.encoded_dataset import EncodedDataset
from dream_env.agents.nicol.model_metrics import rollout_errors, success_figures
from dream_env.nicol.constants import EPISODE_STEPS, PROPRIO_NAMES

STARTS = {EPISODE_STEPS // 2: tuple(range(0, EPISODE_STEPS // 2 + 1, 3)), EPISODE_STEPS: (0,)}
"""Horizons of the figures, in control steps, and the frames of an episode from which they are dreamt."""
TOUCHED = 1.0
"""A cube that went further than this (cm) was pushed or carried."""
FEWEST = 5
"""Held cubes, and empty hands, below which a figure about them would be noise."""
BINS = 10
"""Bins of a reliability curve."""

Rollouts = Mapping[int, Rollout]
"""Replays of the same episodes by the frame that they start from."""


class States(NamedTuple):
    """S states some steps ahead: dreamt, as the camera saw them, and as physics knows them.

    Attributes:
        dreamt: Tokens `(S, tokens, C)`.
        setpoint: Dreamt set-points, `(S, 4)`.
        seen: Tokens of the encoded pictures.
        proprio: True set-points.
        probability: Of the condition, told in the dream, `(S,)`.
        condition: The truth, `(S,)`.
        cubes: `(S, colors, 3)` cm.
        touched: Whether the cube moved on the way here, `(S, colors)` bool.
        present: Whether there is such a cube, `(S, colors)` bool.
        hand: `(S, 3)` cm.
        held: Whether the hand holds any cube, `(S,)` of 0 and 1.
    """

    dreamt: Tensor
    setpoint: Tensor
    seen: Tensor
    proprio: Tensor
    probability: Tensor
    condition: Tensor
    cubes: Tensor
    touched: Tensor
    present: Tensor
    hand: Tensor
    held: Tensor


def states_ahead(latents: EncodedDataset, dreams: Rollouts, steps: int) -> States:
    """Gathers the states `steps` ahead of every start in `STARTS`."""
    parts = []
    for start in STARTS[steps]:
        end, dream = start + steps, dreams[start]
        way = (latents.cubes[:, start : end + 1] - latents.cubes[:, start : start + 1]).norm(dim=-1)
        parts.append(
            States(
                dream.tokens[:, steps],
                dream.states["proprio"][:, steps],
                latents.tokens[:, end],
                latents.proprio[:, end],
                dream.probability[:, steps],
                latents.condition[:, end],
                latents.cubes[:, end],
                way.amax(1) > TOUCHED,
                latents.present[:, end],
                latents.hand[:, end],
                latents.held[:, end].any(1).float(),
            )
        )
    return States(*(torch.cat(part) for part in zip(*parts, strict=True)))


def latent_error(latents: EncodedDataset, dream: Rollout) -> dict[str, list[float]]:
    """Error over variance after 1, 2, ... steps, of the dream and of a copy of the first frame."""
    horizons = range(1, latents.tokens.shape[1])
    errors = rollout_errors(latents.tokens, dream.tokens, horizons)
    return {name: [each[h] for h in horizons] for name, each in errors.items()}


def positions(probe: probes.Probe, latents: EncodedDataset, dreams: Rollouts) -> dict[str, dict[str, Any]]:
    """Median errors (cm) of hand and cubes, and how well it can be read whether something is held.

    Args:
        probe: Reads states.
        latents: N held-out episodes.
        dreams: Their replays.

    Returns:
        By name of the states: `encoded_12`, `encoded_24` are pictures, whose errors are the limit of encoder and probe;
        `dream_12`, `dream_24` are the same moments dreamt. Each has `hand`, `untouched` and `moved` (cubes that physics
        left within `TOUCHED` on the way, and the others), their numbers, and `held_auc`: of the most certain grip on
        any cube, against physics; `closed_auc` asks it of closed hands only, some of which missed.
    """
    figures: dict[str, dict[str, Any]] = {}
    for world in ("encoded", "dream"):
        for steps in STARTS:
            some = states_ahead(latents, dreams, steps)
            state = (some.seen, some.proprio) if world == "encoded" else (some.dreamt, some.setpoint)
            read = probes.read(probe, *state)
            untouched, moved = some.present & ~some.touched, some.present & some.touched
            error = (read.cubes - some.cubes).norm(dim=-1)
            grip = read.held.where(some.present, torch.tensor(-torch.inf)).amax(1)
            closed = some.proprio[:, PROPRIO_NAMES.index("closing")] >= 0
            figures[f"{world}_{steps}"] = {
                "hand": _median((read.hand - some.hand).norm(dim=-1)),
                "untouched": _median(error[untouched]),
                "moved": _median(error[moved]),
                "held_auc": _auc(grip, some.held),
                "closed_auc": _auc(grip[closed], some.held[closed]),
                "cubes_untouched": int(untouched.sum()),
                "cubes_moved": int(moved.sum()),
                "held": int(some.held.sum()),
            }
    return figures


def success(
    encoded: Tensor, latents: EncodedDataset, dreams: Rollouts, threshold: float, again: np.ndarray | None = None
) -> dict[str, Any]:
    """How well the model tells success in states that it dreamt itself, 12 and 24 steps ahead.

    Args:
        encoded: What the model tells of the recorded pictures, `(N, T + 1)`.
        latents: N held-out episodes.
        dreams: Their replays.
        threshold: Probability from which on the model calls success.
        again: Whether the condition holds where physics itself ends, when the first M of them are repeated, `(M,)`.

    Returns:
        For `12`, `24` and `all` of these states, for `encoded` pictures, and for `physics_24`, where physics itself
        ends when it is repeated: AUC, false-positive rate and recall at the threshold, the expected calibration error,
        the numbers of states and of true successes, and the reliability curve, a list of (mean probability, true rate,
        number) per bin.
    """
    ahead = {str(steps): states_ahead(latents, dreams, steps) for steps in STARTS}
    told = {name: (some.probability, some.condition) for name, some in ahead.items()}
    told["all"] = tuple(torch.cat(each) for each in zip(*told.values(), strict=True))  # type: ignore[assignment]
    told["encoded"] = encoded.flatten(), latents.condition.flatten()
    if again is not None:
        ends = torch.from_numpy(again).float()
        told["physics_24"] = ends, latents.condition[: len(ends), EPISODE_STEPS]
    return {name: success_figures(*pair, threshold) | calibration(*pair) for name, pair in told.items()}


def calibration(probability: Tensor, truth: Tensor) -> dict[str, Any]:
    """Expected calibration error (Guo et al. 2017, section 2) and reliability curve of probabilities `(N,)`."""
    place = (probability * BINS).long().clamp(0, BINS - 1)
    curve = [
        (float(probability[place == i].mean()), float(truth[place == i].mean()), int((place == i).sum()))
        for i in range(BINS)
        if (place == i).any()
    ]
    error = sum(count * abs(told - true) for told, true, count in curve) / max(1, len(probability))
    return {"calibration_error": error, "positives": int(truth.sum()), "states": len(truth), "reliability": curve}


def confusion(physics: Rollout, dream: Rollout, kinds: np.ndarray) -> dict[str, dict[str, Any]]:
    """Confusion of `is_success` at the end of replayed episodes, for all of them and by what acted.

    Returns:
        For each: the number of episodes solved in `both`, `physics` only, the `dream` only and `neither`; and
        `false_positive_rate`, the share of physics' failures that the dream calls success.
    """
    figures = {}
    true, told = physics.success.numpy(), dream.success.numpy()
    for kind in ("all", *dict.fromkeys(kinds.tolist())):
        own = (kinds == kind) | (kind == "all")
        a, b = true[own], told[own]
        figures[kind] = {
            "both": int((a & b).sum()),
            "physics": int((a & ~b).sum()),
            "dream": int((~a & b).sum()),
            "neither": int((~a & ~b).sum()),
            "false_positive_rate": float((~a & b).sum() / (~a).sum()) if (~a).any() else float("nan"),
        }
    return figures


def reward_correlations(
    physics: Mapping[str, np.ndarray], dream: Mapping[str, np.ndarray], own: np.ndarray
) -> dict[str, float]:
    """Rank correlation of the returns of both worlds for every variant of the reward, over the episodes `own`."""
    return {name: spearman(physics[name][own], dream[name][own]) for name in physics}


def _auc(score: Tensor, truth: Tensor) -> float:
    """Area under the ROC curve; NaN where `FEWEST` are too many to ask for."""
    enough = min(int(truth.sum()), int((1 - truth).sum())) >= FEWEST
    return auc(score, truth) if enough else float("nan")


def _median(values: Tensor) -> float:
    return float(values.median()) if len(values) else float("nan")
