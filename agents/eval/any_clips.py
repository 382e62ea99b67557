"""Records clips of any real environment and its dream, from the same observation and under the same actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dream_env.agents.data.behaviors import goal_of, sentence_of, within
from dream_env.agents.eval.any_world import Actor, env_kwargs
from dream_env.agents.eval.results import Clip
from dream_env.agents.run.worlds import make_dream, make_real, spec_of
from dream_env.spec import observe, success_of

STEPS = 120
"""Maximum number of steps in a clip."""


def record(policy: str, env: str | None, world_model: str, seeds: Sequence[int]) -> list[Clip]:
    """Records the first steps of one episode per seed.

    The policy acts in the real environment. The dream starts from the first observation there and gets the same
    actions. If it ends earlier, its last picture stays.

    Args:
        policy: As in `dream_env.agents.eval.any_world.play_real`.
        env: As in `dream_env.agents.eval.any_world.play_real`.
        world_model: Name or folder of a world model with pictures, of which the first is shown.
        seeds: Seeds of the episodes.
    """
    spec, clips = spec_of(world_model), []
    real = make_real(env, world_model, **env_kwargs(policy, world_model))
    dream = make_dream(world_model, obs_type="pixels")
    name = spec.pictures[0]
    for seed in seeds:
        actor, (obs, info) = Actor(policy, real.action_space, [seed]), real.reset(seed=seed)
        options: dict[str, Any] = {"observation": _true(real, obs, spec)}
        sentence = sentence_of(real) if spec.instructions else None
        if sentence is not None:
            options["instruction"] = sentence
        if spec.goals and (goal := goal_of(real, spec)) is not None:
            options["goal"] = goal
        imagined, _ = dream.reset(seed=seed, options=options)
        pictures = [(options["observation"][name], imagined[name])]
        ended = dreamt_to_end = False
        while not ended and len(pictures) <= STEPS:
            action = actor({key: part[None] for key, part in observe(obs).items()})[0]
            obs, _, terminated, truncated, info = real.step(action)
            ended = terminated or truncated
            if not dreamt_to_end:
                imagined, _, dreamt_to_end, *_ = dream.step(action)
            pictures.append((_true(real, obs, spec)[name], imagined[name]))
        success = success_of(info) if ended else None
        shown, dreamt = (np.stack(side) for side in zip(*pictures, strict=True))
        clips.append(Clip("", sentence or "", None if success is None else bool(success), shown, dreamt, spec.name))
    real.close()
    dream.close()
    return clips


def _true(env: Any, obs: Any, spec: Any) -> dict[str, np.ndarray]:
    """Returns the environment's own observation, also if the environment is wrapped."""
    own = env.get_wrapper_attr("true_observation") if env.has_wrapper_attr("true_observation") else obs
    return {name: part for name, part in within(spec, own).items() if name in spec.observation.spaces}
