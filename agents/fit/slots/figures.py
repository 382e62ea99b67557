"""Evaluates a slot model on held-out episodes: prediction errors in pixels and in steps, without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env import rewards
from dream_env.agents.eval.statistics import spearman
from dream_env.agents.fit.constants import QUANTILE
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.slots.stages import Targets
from dream_env.world_models.protocol import State, with_goal
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import FEATURES

AHEAD = (1, 6, 12, 24)
"""Prediction horizons, in steps, for which errors are reported."""
FAR_MOVED = 4.0
"""Displacement in pixels from the first frame above which a slot counts as moved."""
LIMIT = 2000
"""Largest number of episodes that are evaluated."""


@torch.no_grad()
def open_loop(
    model: SlotModel, data: Recorded, steps: int, chance: torch.Generator | None = None
) -> tuple[list[State], Tensor, Tensor]:
    """Predicts episodes open-loop from their first frames.

    Args:
        model: The model.
        data: Encoded episodes.
        steps: Number of steps to predict.
        chance: Generator of the noise; None predicts the most likely states.

    Returns:
        The `steps + 1` states of N episodes, starting with the initial ones; the disagreement `(N, steps)`; and the
        corresponding frames `(N, steps + 1)`, where shorter episodes repeat their last frame.
    """
    window = data.windows(data.first[:LIMIT], steps)
    state: State = {name: part[window.frame[:, 0]] for name, part in data.observation.items() if name != "visible"}
    state["memory"] = torch.zeros(*state["slots"].shape[:2], model.remembered)
    found, spread = [state], []
    for k in range(steps):
        noise = None if chance is None else torch.rand(len(window.frame), model.noise_dim, generator=chance)
        state, prediction = model.step(state, window.action[:, k], noise)
        assert prediction.disagreement is not None
        found.append(state)
        spread.append(prediction.disagreement)
    return found, torch.stack(spread, 1), window.frame


@torch.no_grad()
def figures(model: SlotModel, data: Recorded, targets: Targets) -> dict[str, Any]:
    """Evaluates a model on episodes that it was not trained on.

    Returns:
        `pixels_off`: median slot error by prediction horizon, for slots that `moved`, for the same slots with a
        prediction of no motion (`moved_if_still`), and for `resting` slots; `moved_slots`: number of moved slots at the
        longest horizon;
        `moves`: share of resting slots that moved in sampled rollouts at the longest horizon (`false`), and of moved
        slots that did not move there (`missed`);
        `steps_off`, `steps_rank`: mean absolute error and rank correlation of the distance to the goal with the steps
        to go, for episodes that reached their goal; `success`: see `success_figures`; `disagreement_quantile`: the
        calibrated disagreement threshold.
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
        off, way = ((center - truth).norm(dim=-1) * pixels for center in (guess, start))
        for name, value, chosen in (
            ("moved", off, way > FAR_MOVED),
            ("moved_if_still", way, way > FAR_MOVED),
            ("resting", off, way <= FAR_MOVED),
        ):
            error[name][str(k)] = median(value[there & chosen])
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
    within = spread[frame[:, 1:] > frame[:, :-1]]  # not after the end of an episode
    result["disagreement_quantile"] = float(f"{within[:1_000_000].quantile(QUANTILE).item():.4g}")
    return result


def success_figures(model: SlotModel, data: Recorded, targets: Targets, reached: Tensor) -> dict[str, float | None]:
    """Evaluates the success prediction for the final states of episodes.

    Returns:
        Share of predicted successes among successful episodes (`found`), among the other episodes (`false`), and among
        successful episodes that are paired with the goal of another episode (`other_goal`); None without such episodes.
    """
    words = {} if targets.instruction is None else {"instruction": targets.instruction}
    state, shares = state_at(data, data.last, targets.instruction), []
    for shift in (0, 1):
        goal = model.embedding({name: part.roll(shift, 0) for name, part in targets.goal.items()} | words)
        shares.append((model.success(with_goal(model, state, goal)) > 0.5).float())
    other = shares[1][reached] if len(reached) > 1 else shares[1][:0]
    groups = {"found": shares[0][reached], "false": shares[0][~reached], "other_goal": other}
    return {name: _share(share) for name, share in groups.items()}


def state_at(data: Recorded, frame: Tensor, instruction: Tensor | None) -> State:
    """Returns the states at frames `(B,)`, with the instruction embeddings `(B, I)` of their episodes, if any."""
    state = {name: part[frame] for name, part in data.observation.items() if name != "visible"}
    return state if instruction is None else state | {"instruction": instruction}


def _distance_figures(model: SlotModel, data: Recorded, targets: Targets, reached: Tensor) -> dict[str, float]:
    words = targets.instruction
    goal = model.embedding(dict(targets.goal) | ({} if words is None else {"instruction": words}))
    distances, steps_to_go = [], []
    for i in reached.nonzero()[:LIMIT, 0].tolist():
        frame = torch.arange(int(data.first[i]), int(data.last[i]) + 1)
        sentence = None if words is None else words[i].expand(len(frame), -1)
        now = model.embedding(state_at(data, frame, sentence))
        distances.append(rewards.distance(now, goal[i]) * now.shape[-1])
        steps_to_go.append((data.last[i] - frame).float())
    if not distances:
        return {}
    distance, steps = torch.cat(distances).numpy(), torch.cat(steps_to_go).numpy()
    return {
        "steps_rank": round(float(spearman(distance, steps)), 4),
        "steps_off": round(float(np.abs(distance - steps).mean()), 3),
    }


def median(values: Tensor, digits: int = 3) -> float | None:
    """Returns the median of values, rounded to significant digits; None without values."""
    return float(f"{values.median().item():.{digits}g}") if len(values) else None


def _share(mask: Tensor) -> float | None:
    return round(mask.float().mean().item(), 4) if len(mask) else None
