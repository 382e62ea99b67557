"""The environments of the study, with their settings for recording, fitting and training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dream_env.agents.studies.general.picture_cartpole import ENV_ID


@dataclass(frozen=True, eq=False)
class Case:
    """An environment of the study.

    Attributes:
        name: Short name.
        env: Gymnasium id, with the module that registers it.
        episodes: Number of recorded episodes.
        mix: Behaviors of the recorded episodes, see `dream_env.agents.collect`.
        fit: Arguments of the fit, see `dream_env.agents.fit.dynamics.command`.
        learner: Name of the learner.
        steps: Environment steps of the learner.
        obs_type: Observation of the learner: "native" or "embedding".
        dream: Arguments of the dream.
    """

    name: str
    env: str
    episodes: int
    mix: str
    learner: str
    steps: int
    obs_type: str
    fit: dict[str, Any] = field(default_factory=dict)
    dream: dict[str, Any] = field(default_factory=dict)

    def short(self) -> Case:
        """Returns the case at toy size, which runs in seconds."""
        steps = 600 if self.learner == "sac" else 1024
        fit = self.fit | {"updates": 20, "picture_updates": 10, "width": 16, "batch": 8, "members": 2}
        return replace(self, episodes=4, steps=steps, fit=fit)


CASES = (
    # Rollouts also start in the middle of recorded episodes (as in MBPO), some at full speed. With starts at rest only,
    # a learner takes longer to reach such states and to learn to recover from them.
    Case(
        "Pendulum-v1",
        "Pendulum-v1",
        100,
        "random:0.5,held:0.5",
        "sac",
        8000,
        "native",
        {"updates": 2000},
        {"starts": "any"},
    ),
    Case(
        "PictureCartPole-v0",
        ENV_ID,
        400,
        "random:0.5,held:0.5",
        "ppo",
        40_000,
        "embedding",
        {"updates": 1500, "picture_updates": 1500, "latent": 16, "recall": 4, "ahead": 10},
    ),
)
