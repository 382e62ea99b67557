"""Figures of a fidelity report: how far dream and physics differ after the same actions."""

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
"""Maps each horizon of the figures, in control steps, to the frames of an episode at which the rollouts start."""
TOUCHED = 1.0
"""A cube that moved further than this (cm) counts as pushed or carried."""
FEWEST = 5
"""Smallest number of positives and of negatives for which an AUC is computed; with fewer it would be noise."""
BINS = 10
"""Bins of a reliability curve."""

Rollouts = Mapping[int, Rollout]
"""Maps a start frame to the replays of the same episodes from that frame."""


class States(NamedTuple):
    """S states some steps ahead: predicted by the dream, encoded from the camera pictures, and from physics.

    Attributes:
        dreamt: Tokens of the dream, `(S, tokens, C)`.
        setpoint: Set-points of the dream, `(S, 4)`.
        seen: Tokens of the encoded pictures, `(S, tokens, C)`.
        proprio: True set-points, `(S, 4)`.
        probability: Probability of the success condition, predicted in the dream, `(S,)`.
        condition: Whether the condition holds in physics, `(S,)`.
        cubes: True positions of the cubes, `(S, colors, 3)` cm.
        touched: Whether the cube has moved since the start frame, `(S, colors)` bool.
        present: Whether the scene contains a cube of this color, `(S, colors)` bool.
        hand: True position of the hand, `(S, 3)` cm.
        held: Whether the hand holds any cube, `(S,)`, 0 or 1.
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
    """Returns the error divided by the variance after 1, 2, ... steps, for the dream and for a copy of frame 0."""
    horizons = range(1, latents.tokens.shape[1])
    errors = rollout_errors(latents.tokens, dream.tokens, horizons)
    return {name: [each[h] for h in horizons] for name, each in errors.items()}


def positions(probe: probes.Probe, latents: EncodedDataset, dreams: Rollouts) -> dict[str, dict[str, Any]]:
    """Returns median errors (cm) of hand and cubes, and how well the states show whether a cube is held.

    Args:
        probe: Predicts positions from states.
        latents: N held-out episodes.
        dreams: Replays of these episodes in the dream.

    Returns:
        Maps names of states to figures. `encoded_12` and `encoded_24` are encoded camera pictures, whose errors are the
        limit of encoder and probe; `dream_12` and `dream_24` are the same moments in the dream. The figures are `hand`;
        `untouched` and `moved` (cubes that physics moved by at most `TOUCHED` since the start frame, and the others)
        with their counts; `held_auc`, the AUC of the largest held score of any cube against physics; and `closed_auc`,
        the same for closed hands only, some of which missed the cube.
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
    """Measures how well the model predicts success in states of its own rollouts, 12 and 24 steps ahead.

    Args:
        encoded: Success probabilities predicted from the recorded pictures, `(N, T + 1)`.
        latents: N held-out episodes.
        dreams: Replays of these episodes in the dream.
        threshold: Probability at and above which the model counts a state as success.
        again: Whether the condition holds at the end when physics repeats the first M episodes, `(M,)`.

    Returns:
        Figures for the states `12`, `24` and `all` (both), for `encoded` pictures, and for `physics_24`, the ends of
        the episodes that physics repeats. Each has the AUC, the false-positive rate and recall at the threshold, the
        expected calibration error, the numbers of states and of true successes, and the reliability curve as a list
        of (mean probability, true rate, number) per bin.
    """
    ahead = {str(steps): states_ahead(latents, dreams, steps) for steps in STARTS}
    predicted = {name: (some.probability, some.condition) for name, some in ahead.items()}
    predicted["all"] = tuple(torch.cat(each) for each in zip(*predicted.values(), strict=True))  # type: ignore[assignment]
    predicted["encoded"] = encoded.flatten(), latents.condition.flatten()
    if again is not None:
        ends = torch.from_numpy(again).float()
        predicted["physics_24"] = ends, latents.condition[: len(ends), EPISODE_STEPS]
    return {name: success_figures(*pair, threshold) | calibration(*pair) for name, pair in predicted.items()}


def calibration(probability: Tensor, truth: Tensor) -> dict[str, Any]:
    """Returns the expected calibration error (Guo et al. 2017, section 2) and reliability curve of N probabilities."""
    place = (probability * BINS).long().clamp(0, BINS - 1)
    curve = [
        (float(probability[place == i].mean()), float(truth[place == i].mean()), int((place == i).sum()))
        for i in range(BINS)
        if (place == i).any()
    ]
    error = sum(count * abs(predicted - true) for predicted, true, count in curve) / max(1, len(probability))
    return {"calibration_error": error, "positives": int(truth.sum()), "states": len(truth), "reliability": curve}


def confusion(physics: Rollout, dream: Rollout, kinds: np.ndarray) -> dict[str, dict[str, Any]]:
    """Returns the confusion of `is_success` at the end of replayed episodes, over all episodes and per behavior.

    Returns:
        For each: the number of episodes solved in `both`, in `physics` only, in the `dream` only and in `neither`; and
        `false_positive_rate`, the fraction of failures in physics that the dream counts as success.
    """
    figures = {}
    true, predicted = physics.success.numpy(), dream.success.numpy()
    for kind in ("all", *dict.fromkeys(kinds.tolist())):
        own = (kinds == kind) | (kind == "all")
        a, b = true[own], predicted[own]
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
    """Returns the rank correlation of the returns in both worlds for every reward, over the episodes `own`."""
    return {name: spearman(physics[name][own], dream[name][own]) for name in physics}


def _auc(score: Tensor, truth: Tensor) -> float:
    """Returns the area under the ROC curve; NaN with fewer than `FEWEST` positives or negatives."""
    enough = min(int(truth.sum()), int((1 - truth).sum())) >= FEWEST
    return auc(score, truth) if enough else float("nan")


def _median(values: Tensor) -> float:
    return float(values.median()) if len(values) else float("nan")
