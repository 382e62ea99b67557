# mypy: disable-error-code="arg-type,assignment,attr-defined,call-arg,operator,unreachable"
"""How good a world model is on held-out episodes: its rollouts, what can be read off them, its success head."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from dream_env.agents.data.encoded_dataset import EncodedDataset, true_readings
from dream_env.agents.eval.probes import fit_probe, read
from dream_env.agents.eval.statistics import auc
from dream_env.nicol.constants import ACTION_NAMES, IMAGE_SIZE
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.world_models.legacy import LatentState, WorldModel

HORIZONS = (1, 3, 6, 12, 24)


@torch.inference_mode()
def open_loop(
    model: WorldModel, state: LatentState, action: Tensor, happened: tuple[Tensor, Tensor] | None = None
) -> LatentState:
    """Dreams from states of N rows under recorded actions `(N, K, 4)`.

    Args:
        model: The world model.
        state: Where the dreams begin.
        action: What is done in them.
        happened: What came of it, and which of it is known, as readings `(N, K + 1, R)` from the first frame on: of
            what may be, dreams then take what was. Only for a `StateGroundedModel`.

    Returns:
        The states and K predicted ones, `(N, K + 1, ...)` in every part that all of them have; tokens in float16.
    """
    states = [state]
    for k in range(action.shape[1]):
        if happened is None:
            states.append(model.step(states[-1], action[:, k]))
        else:
            assert isinstance(model, StateGroundedModel)
            states.append(model.retrace(states[-1], action[:, k], *(part[:, k + 1] for part in happened)))
    tokens = torch.stack([each.tokens.half() for each in states], dim=1)
    proprio = torch.stack([each.proprio for each in states], dim=1)
    kept = [each.situation for each in states if each.situation is not None]
    return LatentState(tokens, proprio, torch.stack(kept, dim=1) if len(kept) == len(states) else None).each(
        torch.clone  # out of inference mode
    )


def rollout_errors(tokens: Tensor, predicted: Tensor, horizons: Sequence[int] = HORIZONS) -> dict:
    """Compares dreams with what was recorded.

    Args:
        tokens: Encoded frames `(N, K + 1, T, C)`.
        predicted: Tokens of `open_loop` from frame 0, of the same shape.
        horizons: Steps ahead; those beyond K are left out.

    Returns:
        `{"predicted": {h: ...}, "copied": {h: ...}}`: squared error over variance (that of each token and channel over
        episodes and time), of the dream and of copying the first frame.
    """
    tokens, predicted = tokens.float(), predicted.float()
    variance = tokens.flatten(0, 1).var(0).mean()

    def error(guess: Tensor, step: int) -> float:
        return float((guess - tokens[:, step]).square().mean() / variance)

    steps = [h for h in horizons if h < tokens.shape[1]]
    return {
        "predicted": {h: error(predicted[:, h], h) for h in steps},
        "copied": {h: error(tokens[:, 0], h) for h in steps},
    }


@torch.inference_mode()
def success_probability(model: WorldModel, states: LatentState, goal: Tensor, instruction: Tensor) -> Tensor:
    """Predicts the condition's probability `(N, F)` on F states of each of N episodes, parts `(N, F, ...)`."""
    goal = goal.float().flatten(1)
    frames = []
    for f in range(states.tokens.shape[1]):
        state = states.take((slice(None), f))
        frames.append(model.success(state._replace(tokens=state.tokens.float()), goal, instruction))
    return torch.stack(frames, dim=1).clone()


def success_figures(probability: Tensor, condition: Tensor, threshold: float) -> dict[str, float]:
    """AUC, false-positive rate and recall of probabilities against the truth, both of one shape."""
    score, truth = probability.flatten(), condition.flatten()
    called = (score >= threshold).float()
    return {
        "auc": auc(score, truth),
        "false_positive_rate": float(called[truth < 0.5].mean()),
        "recall": float(called[truth > 0.5].mean()),
    }


@torch.inference_mode()
def steps_per_second(model: WorldModel, batch: int, seconds: float = 0.5) -> float:
    """Imagined steps per second of CPU time of one thread of torch: a second one would mostly wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    images = torch.zeros(batch, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8)
    action = torch.zeros(batch, len(ACTION_NAMES))
    state = model.step(model.encode(images, torch.zeros_like(action)), action)
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        state = model.step(state, action)
        count += 1
    taken = time.process_time() - start
    torch.set_num_threads(threads)
    return count * batch / taken


def measure(
    model: StateGroundedModel, train: EncodedDataset, held_out: EncodedDataset, threshold: float, updates: int = 3000
) -> dict:
    """Measures everything that stands on a world model's card.

    Args:
        model: The world model, in eval mode.
        train: Episodes that the probes are trained on.
        held_out: Episodes that no training saw.
        threshold: Probability from which on the success head says yes.
        updates: Updates of the probe.

    Returns:
        JSON-able figures.
    """
    steps = held_out.action.shape[1]
    predicted = open_loop(model, first(model, held_out), held_out.action).tokens
    return {
        "open_loop_error": rollout_errors(held_out.tokens, predicted),
        **_positions(train, held_out, predicted, updates),
        "success": {
            "threshold": threshold,
            "encoded": success_figures(success_on(model, held_out), held_out.condition, threshold),
            f"predicted_{steps // 2}": success_figures(*success_ahead(model, held_out, steps // 2), threshold),
        },
        "steps_per_cpu_second": {batch: steps_per_second(model, batch) for batch in (1, 16, 256)},
    }


def first(model: StateGroundedModel, episodes: EncodedDataset, frame: int = 0) -> LatentState:
    """Returns the states that episodes are in at a frame."""
    return model.state(episodes.tokens[:, frame].float(), episodes.proprio[:, frame])


def success_on(model: WorldModel, episodes: EncodedDataset) -> Tensor:
    """Predicts the condition's probability on every encoded frame, `(N, T + 1)`."""
    return success_probability(
        model, LatentState(episodes.tokens, episodes.proprio), episodes.goal, episodes.instruction
    )


def success_ahead(
    model: StateGroundedModel, episodes: EncodedDataset, steps: int, retraced: bool = False
) -> tuple[Tensor, Tensor]:
    """Predicts the condition's probability on states dreamt `steps` ahead from several frames of each episode.

    Args:
        model: The world model.
        episodes: N episodes.
        steps: Steps ahead.
        retraced: Of what may come of a contact, dreams take what was recorded, so that the condition is the recorded
            one; else what is likeliest.

    Returns:
        Probabilities and true conditions, `(N, starts)` each.
    """
    last = episodes.action.shape[1] - steps
    starts = sorted({0, last // 2, last})
    told = []
    happened = true_readings(episodes) if retraced else None
    for start in starts:
        window = slice(start, start + steps + 1)
        ahead = None if happened is None else (happened[0][:, window], happened[1][:, window])
        dream = open_loop(model, first(model, episodes, start), episodes.action[:, start : start + steps], ahead)
        ends = dream.take((slice(None), slice(steps, None)))
        told.append(success_probability(model, ends, episodes.goal, episodes.instruction))
    return torch.cat(told, dim=1), episodes.condition[:, [start + steps for start in starts]]


def _positions(
    train: EncodedDataset, held_out: EncodedDataset, predicted: Tensor, updates: int
) -> dict[str, dict[str, float]]:
    """Median errors (cm) of a probe of the named cube and of the hand, on encoded and on predicted frames.

    `moved_h` is how far the thing went in h steps: the error of a dream in which it stands still.
    """
    probe = fit_probe(train, updates)
    rows = torch.arange(len(predicted))
    encoded, dreamt = (read(probe, tokens, held_out.proprio) for tokens in (held_out.tokens, predicted))
    named = [where.cubes[rows, :, held_out.named] for where in (encoded, dreamt, held_out)]
    figures = {}
    for name, (seen, imagined, truth) in (
        ("target_probe_cm", named),
        ("hand_probe_cm", [encoded.hand, dreamt.hand, held_out.hand]),
    ):
        figures[name] = {"encoded": float((seen - truth).norm(dim=-1).median())}
        for h in (12, 24):
            if h < truth.shape[1]:
                figures[name][f"predicted_{h}"] = float((imagined - truth)[:, h].norm(dim=-1).median())
                figures[name][f"moved_{h}"] = float((truth[:, h] - truth[:, 0]).norm(dim=-1).median())
    return figures
