"""Evaluates a world model on held-out episodes: open-loop error, probe errors, and the success head."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dream_env.agents.eval.open_loop import each_step, encoded_state, open_loop, recorded_states
from dream_env.agents.eval.statistics import auc
from dream_env.agents.nicol.encoded_dataset import EncodedDataset, true_object_state
from dream_env.agents.nicol.probes import fit_probe, read
from dream_env.nicol.constants import ACTION_NAMES, IMAGE_SIZE
from dream_env.nicol.world_model.model import StateGroundedModel
from dream_env.world_models.protocol import Prediction, State, take

HORIZONS = (1, 3, 6, 12, 24)


def rollout_errors(tokens: Tensor, predicted: Tensor, horizons: Sequence[int] = HORIZONS) -> dict:
    """Compares open-loop rollouts with the recorded episodes.

    Args:
        tokens: Encoded frames `(N, K + 1, T, C)`.
        predicted: Tokens predicted by `open_loop` from frame 0, of the same shape.
        horizons: Numbers of steps ahead; those beyond K are left out.

    Returns:
        `{"predicted": {h: ...}, "copied": {h: ...}}`: mean squared error of the rollout, and of the baseline that
        copies the first frame. Both are divided by the mean variance of each token and channel over episodes and time.
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


def success_figures(probability: Tensor, condition: Tensor, threshold: float) -> dict[str, float]:
    """Returns AUC, false-positive rate and recall of probabilities, given the true condition in the same shape."""
    score, truth = probability.flatten(), condition.flatten()
    called = (score >= threshold).float()
    return {
        "auc": auc(score, truth),
        "false_positive_rate": float(called[truth < 0.5].mean()),
        "recall": float(called[truth > 0.5].mean()),
    }


@torch.inference_mode()
def steps_per_second(model: Any, batch: int, seconds: float = 0.5) -> float:
    """Measures the predicted steps per second of CPU time, with one torch thread, as a second one would mostly wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    images = torch.zeros(batch, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8)
    action = torch.zeros(batch, len(ACTION_NAMES))
    state, _ = model.step(model.encode({"pixels": images}), action)
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        state, _ = model.step(state, action)
        count += 1
    taken = time.process_time() - start
    torch.set_num_threads(threads)
    return count * batch / taken


def measure(
    model: StateGroundedModel, train: EncodedDataset, held_out: EncodedDataset, threshold: float, updates: int = 3000
) -> dict:
    """Computes all metrics of a world model's model card.

    Args:
        model: The world model, in eval mode.
        train: Episodes on which the probe is trained.
        held_out: Episodes that were not used in any training.
        threshold: Probability at and above which the success head predicts success.
        updates: Number of updates of the probe.

    Returns:
        The metrics, as JSON-serializable numbers.
    """
    steps = held_out.action.shape[1]
    predicted = open_loop(model, first(model, held_out), held_out.action)[0]["tokens"]
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


def first(model: StateGroundedModel, episodes: EncodedDataset, frame: int = 0) -> State:
    """Returns the states of episodes at a frame."""
    return encoded_state(model, episodes.tokens[:, frame], episodes.proprio[:, frame], episodes.instruction)


def success_on(model: StateGroundedModel, episodes: EncodedDataset) -> Tensor:
    """Predicts the condition's probability on every encoded frame, `(N, T + 1)`."""
    return each_step(model.success, recorded_states(model, episodes))


def posterior_rollout(
    model: StateGroundedModel, episodes: EncodedDataset, start: int = 0, steps: int | None = None
) -> State:
    """Rolls out recorded actions from a frame, with the mixture components that fit the recording (teacher forcing).

    Args:
        model: The world model.
        episodes: N episodes.
        start: Frame at which the rollout starts.
        steps: Number of steps; None for the rest of the episode.

    Returns:
        The states, `(N, steps + 1, ...)` in every entry, see `open_loop`.
    """
    truth, known = (part[:, start:] for part in true_object_state(episodes))

    def step(state: State, action: Tensor, k: int) -> tuple[State, Prediction]:
        return model.posterior_step(state, action, truth[:, k + 1], known[:, k + 1]), Prediction()

    end = None if steps is None else start + steps
    return open_loop(model, first(model, episodes, start), episodes.action[:, start:end], step=step)[0]


def success_ahead(
    model: StateGroundedModel, episodes: EncodedDataset, steps: int, teacher_forced: bool = False
) -> tuple[Tensor, Tensor]:
    """Predicts the condition's probability in states predicted `steps` ahead, from several frames of each episode.

    Args:
        model: The world model.
        episodes: N episodes.
        steps: Number of steps ahead.
        teacher_forced: Whether rollouts use the mixture components that fit the recording, so that the true condition
            is the recorded one; otherwise they use the most likely components.

    Returns:
        Probabilities and true conditions, `(N, starts)` each.
    """
    last = episodes.action.shape[1] - steps
    starts = sorted({0, last // 2, last})
    probabilities = []
    for start in starts:
        if teacher_forced:
            states = posterior_rollout(model, episodes, start, steps)
        else:
            states, _ = open_loop(model, first(model, episodes, start), episodes.action[:, start : start + steps])
        probabilities.append(each_step(model.success, take(states, (slice(None), slice(steps, None)))))
    return torch.cat(probabilities, dim=1), episodes.condition[:, [start + steps for start in starts]]


def _positions(
    train: EncodedDataset, held_out: EncodedDataset, predicted: Tensor, updates: int
) -> dict[str, dict[str, float]]:
    """Returns median errors (cm) of a probe for the target cube and the hand, on encoded and on predicted frames.

    `moved_h` is the median displacement in h steps, which is the error of a model that predicts no motion.
    """
    probe = fit_probe(train, updates)
    rows = torch.arange(len(predicted))
    encoded, imagined = (read(probe, tokens, held_out.proprio) for tokens in (held_out.tokens, predicted))
    named = [where.cubes[rows, :, held_out.named] for where in (encoded, imagined, held_out)]
    figures = {}
    for name, (on_encoded, on_imagined, truth) in (
        ("target_probe_cm", named),
        ("hand_probe_cm", [encoded.hand, imagined.hand, held_out.hand]),
    ):
        figures[name] = {"encoded": float((on_encoded - truth).norm(dim=-1).median())}
        for h in (12, 24):
            if h < truth.shape[1]:
                figures[name][f"predicted_{h}"] = float((on_imagined - truth)[:, h].norm(dim=-1).median())
                figures[name][f"moved_{h}"] = float((truth[:, h] - truth[:, 0]).norm(dim=-1).median())
    return figures
