"""Measures what labelled episodes add: distance and success are learned again with different numbers of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dream_env.agents.fit.common import figures_of
from dream_env.agents.fit.slots import command as slots
from dream_env.agents.fit.slots.arguments import Arguments as Fit
from dream_env.agents.studies.reward_audit.command import audit
from dream_env.agents.studies.reward_audit.scenes import Scene
from dream_env.agents.studies.unlabelled.arguments import Arguments
from dream_env.agents.studies.unlabelled.lifts import RISEN
from dream_env.agents.studies.unlabelled.probe import TOUCHED, slots_of_colors
from dream_env.data.episodes import EpisodeDataset
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.world_models import checkpoint
from dream_env.world_models.slots.model import SlotModel

TASKS = ("push", "lift")
"""Tasks whose reward is audited."""
TOLD = ("paired", "moved_cm", "moved_height_cm", "lifted_height_cm", "resting_cm")
"""Figures of a model that predicts positions."""


def rows(base: Path, args: Arguments, scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    """Fits and measures a model for each number of labelled episodes; existing fits are reused.

    Args:
        base: Checkpoint of the world model that all fits start from; its slot dynamics are not changed.
        args: Options of the study: numbers of `labelled` episodes of `data`; 0 is the control, fitted in the same way.
        scenes: Scenes of the audit.

    Returns:
        A row of the base, then one for each number and seed, see `row`. Rows of models that predict positions also have
        `paired`, the fraction of labelled cubes for which a slot was found, and the figures of `centimeters`; these are
        None in other rows.
    """
    assert args.data is not None
    episodes = EpisodeDataset.load(args.data)
    found = [row("as it is", None, checkpoint.load(base), scenes)]
    for count, seed in ((count, seed) for count in args.labelled for seed in range(args.label_seeds)):
        out = args.fits / f"labelled{count}-{seed}"
        if not (out / "metrics.json").exists():
            how: dict[str, Any] = {"init": str(base), "updates": 0, "own_updates": 0, "labelled": count, "seed": seed}
            how |= {"distance_updates": args.label_updates, "learning_rate": args.label_rate}
            slots.fit(Fit((args.data,), out, **how), episodes)
        model, figures = checkpoint.load(out), figures_of(out)
        found.append(row(count, seed, model, scenes))
        if model.position is not None:
            held_out = np.flatnonzero(np.isin(episodes.seed, figures["held_out_seeds"]))
            found[-1] |= {"paired": figures["labelled"]["paired"], **centimeters(model, episodes, held_out)}
    return found


def row(count: int | str, seed: int | None, model: SlotModel, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Returns the row of a model with the rank correlation of its distance reward with the steps to go."""
    tasks = audit(model, scenes)[0]["raw"]["tasks"]
    rewards = {f"reward_spearman_{task}": round(tasks[task]["spearman"], 3) for task in TASKS}
    return {"labelled": count, "seed": seed, **rewards, **dict.fromkeys(TOLD)}


@torch.inference_mode()
def centimeters(model: SlotModel, data: EpisodeDataset, held_out: np.ndarray) -> dict[str, float]:
    """Measures the errors of predicted positions of visible cubes, medians in cm.

    Args:
        model: Model that predicts positions.
        data: Episodes with the labels of NICOL's simulator.
        held_out: Indices of the episodes to measure on; the others determine the color of each slot.

    Returns:
        `moved_cm`, the error for cubes that have moved farther than `TOUCHED`; `moved_height_cm`, their error in
        height; `lifted_height_cm`, the error in height of lifted cubes; `resting_cm`, the error for the other cubes.
    """
    others = np.setdiff1d(np.arange(len(data)), held_out)
    slot_of = slots_of_colors(model, data, others)
    frames = data.offsets[held_out][:, None] + np.arange(EPISODE_STEPS + 1)
    predicted = []
    for at in frames.T:
        state = model.encode({name: torch.from_numpy(np.array(part[at])) for name, part in data.observation.items()})
        slot = torch.from_numpy(slot_of[data.labels["colors"][at].astype(int)])
        predicted.append(model.positions(state).gather(1, slot[..., None].expand(-1, -1, 3)))
    place = torch.from_numpy(data.labels["objects"][frames]).unflatten(-1, (-1, 3))
    off, way = 100 * (torch.stack(predicted, 1) - place), 100 * (place - place[:, :1])
    seen = off.isfinite().all(-1)
    moved = way.norm(dim=-1).cummax(1).values > TOUCHED
    parts = {
        "moved_cm": off.norm(dim=-1)[moved & seen],
        "moved_height_cm": off[..., 2].abs()[moved & seen],
        "lifted_height_cm": off[..., 2].abs()[(way[..., 2] > RISEN) & seen],
        "resting_cm": off.norm(dim=-1)[~moved & seen],
    }
    return {name: round(part.median().item(), 2) for name, part in parts.items()}
