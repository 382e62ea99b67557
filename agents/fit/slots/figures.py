"""How well a model of slots foresees held-out episodes, in pixels and in steps; no label is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env import rewards
from dream_env.agents.eval.statistics import spearman
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.slots.stages import Targets
from dream_env.world_models.protocol import State, with_goal
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import FEATURES

AHEAD = (1, 6, 12, 24)
"""Steps ahead of which errors are told."""
FAR_MOVED = 4.0
"""Pixels from its start from which on a slot counts as one that was moved."""
QUANTILE = 0.999
"""Share of predicted steps that agree better than the threshold of disagreement."""
LIMIT = 2000
"""Most windows that are measured on."""


@torch.no_grad()
def open_loop(
    model: SlotModel, data: Recorded, steps: int, chance: torch.Generator | None = None
) -> tuple[list[State], Tensor, Tensor]:
    """Predicts episodes from their first frames on: what is likeliest, or what `chance` draws.

    Returns:
        The states of N episodes, that of the start and `steps` more; their disagreement `(N, steps)`; and the frames
        that they are of, `(N, steps + 1)`, the last one again where an episode is shorter.
    """
    window = data.windows(data.first[:LIMIT], steps)
    state: State = {name: part[window.frame[:, 0]] for name, part in data.observation.items() if name != "visible"}
    state["memory"] = torch.zeros(*state["slots"].shape[:2], model.remembered)
    found, spread = [state], []
    for k in range(steps):
        noise = None if chance is None else torch.rand(len(window.frame), model.noise_dim, generator=chance)
        state, told = model.step(state, window.action[:, k], noise)
        assert told.disagreement is not None
        found.append(state)
        spread.append(told.disagreement)
    return found, torch.stack(spread, 1), window.frame


@torch.no_grad()
def figures(model: SlotModel, data: Recorded, targets: Targets) -> dict[str, Any]:
    """Measures a model on episodes that it was not trained on.

    Returns:
        `pixels_off`: median error of slots by steps ahead, those `moved` and `resting`, and if they had stayed;
        `moves`: shares of resting ones that drawn dreams have moved in the end (`false`), and of moved ones that they
        have not (`missed`);
        `steps_off`, `steps_rank`: error and rank correlation of the distance to the goal with the time until the end,
        where the goal was reached; `success`: shares of ends told rightly; `disagreement_quantile`.
    """
    longest = int((data.last - data.first).max())
    ahead = sorted({min(k, longest) for k in AHEAD})
    found, spread, frame = open_loop(model, data, max(ahead))
    pixels = model.config.picture_size / 2
    error: dict[str, dict[str, Any]] = {"moved": {}, "moved_if_still": {}, "resting": {}}
    place = data.observation["slots"].unflatten(-1, (model.cameras, FEATURES))[..., :2]
    for k in ahead:
        there = data.observation["visible"][frame[:, k]] & data.observation["visible"][frame[:, 0]]
        there &= (data.first[:LIMIT] + k == frame[:, k])[:, None, None]
        guess = found[k]["slots"].unflatten(-1, (model.cameras, FEATURES))[..., :2]
        truth, start = place[frame[:, k]], place[frame[:, 0]]
        off, way = ((one - truth).norm(dim=-1) * pixels for one in (guess, start))
        for name, value, some in (
            ("moved", off, way > FAR_MOVED),
            ("moved_if_still", way, way > FAR_MOVED),
            ("resting", off, way <= FAR_MOVED),
        ):
            error[name][str(k)] = _median(value[there & some])
    result: dict[str, Any] = {"pixels_off": error, "moved_slots": int((there & (way > FAR_MOVED)).sum())}
    drawn = open_loop(model, data, max(ahead), torch.Generator().manual_seed(0))[0][-1]["slots"]
    went = (drawn.unflatten(-1, (model.cameras, FEATURES))[..., :2] - start).norm(dim=-1) * pixels > FAR_MOVED
    result["moves"] = {
        "false": _share(went[there & (way <= FAR_MOVED)]),
        "missed": _share(~went[there & (way > FAR_MOVED)]),
    }
    reached = torch.ones(len(data.first), dtype=torch.bool) if targets.reached is None else targets.reached
    result |= _distance_figures(model, data, targets, reached)
    if model.success_net is not None and targets.marked:
        result["success"] = success_figures(model, data, targets, reached)
    result["disagreement_quantile"] = float(f"{spread.flatten()[:1_000_000].quantile(QUANTILE).item():.4g}")
    return result


def success_figures(model: SlotModel, data: Recorded, targets: Targets, reached: Tensor) -> dict[str, float]:
    """Measures what success is told of at the ends of episodes.

    Returns:
        Shares that are called one: of those `found` that were, of the others (`false`), and of those that were if they
        are shown another one's goal (`other_goal`).
    """
    words = {} if targets.instruction is None else {"instruction": targets.instruction}
    state, shares = state_at(data, data.last, targets.instruction), []
    for shift in (0, 1):
        goal = model.embedding({name: part.roll(shift, 0) for name, part in targets.goal.items()} | words)
        shares.append((model.success(with_goal(model, state, goal)) > 0.5).float())
    told = {"found": shares[0][reached], "false": shares[0][~reached], "other_goal": shares[1][reached]}
    return {name: round(share.mean().item(), 4) for name, share in told.items()}


def state_at(data: Recorded, frame: Tensor, instruction: Tensor | None) -> State:
    """Returns the states at frames `(B,)`, with the sentences of their episodes."""
    state = {name: part[frame] for name, part in data.observation.items() if name != "visible"}
    return state if instruction is None else state | {"instruction": instruction}


def _distance_figures(model: SlotModel, data: Recorded, targets: Targets, reached: Tensor) -> dict[str, float]:
    words = targets.instruction
    goal = model.embedding(dict(targets.goal) | ({} if words is None else {"instruction": words}))
    told, true = [], []
    for i in reached.nonzero()[:LIMIT, 0].tolist():
        frame = torch.arange(int(data.first[i]), int(data.last[i]) + 1)
        some = None if words is None else words[i].expand(len(frame), -1)
        now = model.embedding(state_at(data, frame, some))
        told.append(rewards.distance(now, goal[i]) * now.shape[-1])
        true.append((data.last[i] - frame).float())
    if not told:
        return {}
    distance, steps = torch.cat(told).numpy(), torch.cat(true).numpy()
    return {
        "steps_rank": round(float(spearman(distance, steps)), 4),
        "steps_off": round(float(np.abs(distance - steps).mean()), 3),
    }


def _median(values: Tensor) -> float | None:
    return float(f"{values.median().item():.3g}") if len(values) else None


def _share(some: Tensor) -> float | None:
    return round(some.float().mean().item(), 4) if len(some) else None
