"""Measures whether M predicts the ends of games, and how long dreams last with sampled or thresholded ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.data.behaviors import held
from dream_env.agents.policies import registry
from dream_env.agents.run.worlds import make_real
from dream_env.dream_config import DreamConfig
from dream_env.engine import TERMINATED, DreamEngine
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import State
from dream_env.world_models.vmc import VMCModel

GAMES, DREAMS, HOLD = 50, 64, 10
"""Numbers of games and dreams, and the largest number of steps for which a random action is held."""


def looked_at(policy: str, model: Path, seed: int) -> dict[str, float]:
    """Compares ends in games and in dreams of temperature 1.

    Args:
        policy: Folder of a controller, or "held" for random actions, each held for several steps, as in the recordings.
        model: World model of kind `vmc`.
        seed: Seed of the first game; the others follow.
    """
    return {"games": GAMES, **of_games(policy, model, seed), **of_dreams(policy, model)}


def foreseen(model: VMCModel, before: State, after: State) -> Tensor:
    """Returns the probability `(B,)` of an end in the step between two states."""
    return (model.rnn.predict(after["hidden"], before["code"])[2] + model.end_shift).sigmoid()


@torch.no_grad()
def of_games(policy: str, model: Path, seed: int) -> dict[str, float]:
    """Plays games, and compares the true ends with the predictions of M in the same step.

    Returns:
        `game`, the mean number of steps of a game; `came`, the number of ends; `expected`, the sum of the predicted
        probabilities of an end over all steps; `threshold`, the number of ends with a probability of at least the
        threshold.
    """
    known: Any = checkpoint.load(str(model))
    env = make_real(None, str(model), obs_type="embedding")
    steps, came, expected, threshold = 0, 0, 0.0, 0
    for number in range(seed, seed + GAMES):
        (obs, _), ended, choose = env.reset(seed=number), False, _chooser(policy, env.action_space, [number])
        while not ended:
            before = _batch(obs)
            obs, _, terminated, truncated, _ = env.step(choose(before)[0])
            probability = float(foreseen(known, known.restore(before), known.restore(_batch(obs))))
            steps, came, expected = steps + 1, came + terminated, expected + probability
            threshold += terminated and probability >= TERMINATED
            ended = terminated or truncated
    env.close()
    return {"game": steps / GAMES, "came": came, "expected": expected, "threshold": threshold}


@torch.no_grad()
def of_dreams(policy: str, model: Path) -> dict[str, float]:
    """Rolls out dreams without termination, and returns the mean number of steps after which they would have ended.

    Returns:
        `dream`, if ends are sampled by their probability; `dream_threshold`, if an end occurs when its probability
        reaches the threshold.
    """
    engine: Any = DreamEngine(DreamConfig(world_model=str(model)))
    known, rng = engine.model, np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    carry = engine.begin(rng.integers(0, len(engine.initial_states), DREAMS))
    drawn, below_threshold = torch.ones(DREAMS), torch.ones(DREAMS)  # probability that a dream continues
    lengths = {"dream": 0.0, "dream_threshold": 0.0}
    choose = _chooser(policy, known.spec.action, list(range(DREAMS)))
    for _ in range(engine.horizon):
        lengths["dream"] += float(drawn.mean())
        lengths["dream_threshold"] += float(below_threshold.mean())
        before = engine.state(carry)
        action = torch.as_tensor(choose({**before, "embedding": known.embedding(before)}))
        carry, _ = engine.advance(carry, action, torch.rand(DREAMS, known.noise_dim, generator=generator))
        probability = foreseen(known, before, engine.state(carry))
        drawn, below_threshold = drawn * (1 - probability), below_threshold * (probability < TERMINATED)
    return lengths


def _chooser(policy: str, space: Any, seeds: list[int]) -> Callable[[Mapping[str, Tensor]], np.ndarray]:
    """Returns a function from observations `(B, ...)` to actions `(B, ...)`, with one row per seed."""
    if policy != "held":
        controller = registry.load(policy)
        return lambda obs: controller.act({name: obs[name].numpy() for name in controller.inputs})
    behaviors = [held(space, np.random.default_rng(seed), {}, HOLD) for seed in seeds]
    return lambda obs: np.array([next(behavior) for behavior in behaviors])


def _batch(obs: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(part[None]) for name, part in obs.items()}
