"""Distillation targets: a trained policy and the world model in which it was trained teach one smaller network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.clone.encoded_frames import EncodedFrames
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.unified.frames import KINDS
from dream_env.agents.fit.unified.stages import Obs
from dream_env.agents.policies.protocol import Practicable
from dream_env.agents.policies.registry import obs_type_of
from dream_env.dream_config import DreamConfig
from dream_env.engine import DreamEngine
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint
from dream_env.world_models.unified.model import TOKENS, UnifiedModel

TOGETHER = 256
"""Number of rollouts in a batch."""
SPREAD = (0.0, 1.0, 2.0)
"""Scales of the action noise, in standard deviations of the policy; one is drawn at random for each rollout."""
LONGEST = 50
"""Largest number of steps of a rollout."""


@torch.inference_mode()
def means(policy: Any, frames: EncodedFrames) -> tuple[Obs, Tensor]:
    """Returns the observations of recorded frames and the policy's mean actions for them.

    Raises:
        ValueError: If the policy has no mean action, or reads observation entries that the frames do not contain.
    """
    if not isinstance(policy, Practicable):
        raise ValueError(
            f"teacher_policy is of kind {policy.kind!r}, which has no mean action; accepted: a policy of `agents.clone "
            "--policy transformer` or `--policy latent`"
        )
    obs = frames.observed(frames.acted)
    if missing := [name for name in policy.inputs if name not in obs]:  # type: ignore[attr-defined]
        raise ValueError(f"teacher_policy reads {missing}; accepted: a policy that only reads {list(obs)}")
    found = [policy.distribution({k: v[i].float() for k, v in obs.items()})[0] for i in _split(len(frames.acted))]
    return obs, torch.cat(found).clone()


@torch.inference_mode()
def dreams(policy: Any, world_model: str, model: UnifiedModel, count: int, seed: int) -> tuple[Recorded, Obs, Tensor]:
    """Rolls out the teacher policy in a world model, without model noise (mean of the ensemble).

    Args:
        policy: The teacher policy.
        world_model: Name or folder of the world model that it acts in.
        model: The unified model, which defines the tokens.
        count: Number of rollouts.
        seed: Seed of the initial states and of the action noise.

    Returns:
        The rollouts as tokens; the observations in which the policy acted; and the policy's mean actions for them.
    """
    config = DreamConfig.of({"world_model": str(checkpoint.resolve(world_model)), "obs_type": obs_type_of(policy)})
    engine, generator = DreamEngine(config), torch.Generator().manual_seed(seed)
    rng, rows = np.random.default_rng(seed), len(engine.initial_states)
    parts: list[Recorded] = []
    seen: list[Obs] = []
    mean_actions: list[Tensor] = []
    steps = min(engine.horizon or LONGEST, LONGEST)
    for begin in progress_bar(range(0, count, TOGETHER), "teacher rollouts", unit="batch"):
        together = min(TOGETHER, count - begin)
        carry = engine.begin(rng.integers(rows, size=together))
        spread = torch.tensor(SPREAD)[torch.randint(len(SPREAD), (together, 1), generator=generator)]
        going, lengths = torch.ones(together, dtype=torch.bool), torch.zeros(together, dtype=torch.int64)
        columns: dict[str, list[Tensor]] = {TOKENS: [], "own": [], "action": []}
        for _ in range(steps):
            obs = engine.observe(carry)
            tokens, own = model.tokens.of(engine.state(carry))
            mean, std = policy.distribution(obs)
            action = mean + spread * std * torch.randn(mean.shape, generator=generator)
            action = torch.minimum(torch.maximum(action, model.center - model.span), model.center + model.span)
            for name, part in ((TOKENS, tokens), ("own", own), ("action", action)):
                columns[name].append(part)
            seen.append({name: part[going] for name, part in (obs | {TOKENS: tokens.flatten(1)}).items()})
            mean_actions.append(mean[going])
            carry, info = engine.advance(carry, action)
            lengths += going
            going = going & ~info["terminated"]
        tokens, own = model.tokens.of(engine.state(carry))
        for name, part in ((TOKENS, tokens), ("own", own), ("action", torch.zeros_like(action))):
            columns[name].append(part)
        parts.append(_recorded(model, {name: torch.stack(part, 1) for name, part in columns.items()}, lengths))
    obs = {name: torch.cat([batch[name] for batch in seen]).clone() for name in seen[0]}
    return _joined(parts), obs, torch.cat(mean_actions).clone()


def _recorded(model: UnifiedModel, columns: dict[str, Tensor], lengths: Tensor) -> Recorded:
    """Concatenates rollouts `(B, steps + 1, ...)`, each cut to its length in steps `(B,)`."""
    there = torch.arange(columns["action"].shape[1]) <= lengths[:, None]
    flat = {name: part[there].clone() for name, part in columns.items()}
    last = (lengths + 1).cumsum(0) - 1
    action = flat.pop("action")
    flat["visible"] = KINDS[model.config.base].visible(flat[TOKENS])
    return Recorded(flat, action, None, torch.zeros(len(action)), last - lengths, last)


def _joined(parts: list[Recorded]) -> Recorded:
    """Concatenates batches of rollouts."""
    shift = np.cumsum([0, *(part.frames for part in parts[:-1])])
    return Recorded(
        {name: torch.cat([part.observation[name] for part in parts]) for name in parts[0].observation},
        torch.cat([part.action for part in parts]),
        None,
        torch.cat([part.terminated for part in parts]),
        *(
            torch.cat([getattr(part, name) + int(begin) for part, begin in zip(parts, shift, strict=True)])
            for name in ("first", "last")
        ),
    )


def _split(count: int) -> tuple[Tensor, ...]:
    return torch.arange(count).split(TOGETHER)
