"""Whether M foresees the ends of games, and how long its dreams are if ends are drawn, or told by a threshold."""

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
"""Games and dreams that are looked at; steps for which a random action is held at most."""


def looked_at(policy: str, model: Path, seed: int) -> dict[str, float]:
    """Compares ends in games and in dreams of temperature 1.

    Args:
        policy: Folder of a controller, or "held" for random actions, each held for some steps, as they were recorded.
        model: A world model of kind `vmc`.
        seed: Seed of the first game; the others follow.
    """
    return {"games": GAMES, **of_games(policy, model, seed), **of_dreams(policy, model)}


def foreseen(model: VMCModel, before: State, after: State) -> Tensor:
    """Returns the probability `(B,)` of an end in the step between two states."""
    return (model.rnn.told(after["hidden"], before["code"])[2] + model.end_shift).sigmoid()


@torch.no_grad()
def of_games(policy: str, model: Path, seed: int) -> dict[str, float]:
    """Plays games, and compares the ends that came with those that M foresaw in the step before.

    Returns:
        `game`, steps until an end; `came`, ends; `expected`, the sum of the probabilities of an end over all steps;
        `threshold`, of the ends those with a probability above the threshold.
    """
    known: Any = checkpoint.load(str(model))
    env = make_real(None, str(model), obs_type="embedding")
    steps, came, expected, threshold = 0, 0, 0.0, 0
    for number in range(seed, seed + GAMES):
        (obs, _), ended, choose = env.reset(seed=number), False, _chooser(policy, env.action_space, [number])
        while not ended:
            before = _batch(obs)
            obs, _, terminated, truncated, _ = env.step(choose(before)[0])
            told = float(foreseen(known, known.restore(before), known.restore(_batch(obs))))
            steps, came, expected = steps + 1, came + terminated, expected + told
            threshold += terminated and told >= TERMINATED
            ended = terminated or truncated
    env.close()
    return {"game": steps / GAMES, "came": came, "expected": expected, "threshold": threshold}


@torch.no_grad()
def of_dreams(policy: str, model: Path) -> dict[str, float]:
    """Dreams without ends, and returns after how many steps they would have ended.

    Returns:
        `dream`, where an end comes as often as M says; `dream_threshold`, where it comes when it is likely.
    """
    engine: Any = DreamEngine(DreamConfig(world_model=str(model)))
    known, rng = engine.model, np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    carry = engine.begin(rng.integers(0, len(engine.initial_states), DREAMS))
    drawn, told = torch.ones(DREAMS), torch.ones(DREAMS)  # how probable it is that a dream goes on
    lengths = {"dream": 0.0, "dream_threshold": 0.0}
    choose = _chooser(policy, known.spec.action, list(range(DREAMS)))
    for _ in range(engine.horizon):
        lengths["dream"] += float(drawn.mean())
        lengths["dream_threshold"] += float(told.mean())
        before = engine.state(carry)
        action = torch.as_tensor(choose({**before, "embedding": known.embedding(before)}))
        carry, _ = engine.advance(carry, action, torch.rand(DREAMS, known.noise_dim, generator=generator))
        probability = foreseen(known, before, engine.state(carry))
        drawn, told = drawn * (1 - probability), told * (probability < TERMINATED)
    return lengths


def _chooser(policy: str, space: Any, seeds: list[int]) -> Callable[[Mapping[str, Tensor]], np.ndarray]:
    """Returns what gives actions `(B, ...)` for observations `(B, ...)`, one for each of the seeds."""
    if policy != "held":
        controller = registry.load(policy)
        return lambda obs: controller.act({name: obs[name].numpy() for name in controller.inputs})
    behaviors = [held(space, np.random.default_rng(seed), {}, HOLD) for seed in seeds]
    return lambda obs: np.array([next(behavior) for behavior in behaviors])


def _batch(obs: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(part[None]) for name, part in obs.items()}
