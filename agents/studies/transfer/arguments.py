"""Command-line options of `agents.studies.transfer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro

from dream_env.agents.clone import vla_arguments as clone_arguments
from dream_env.agents.demo import arguments as demo_arguments
from dream_env.agents.studies.transfer.plan import DEMOS, METHODS, SEEDS, Trial, plan
from dream_env.checks import check_choice, check_number

RECIPE: dict[str, Any] = {"steps": demo_arguments.SHIPPED["state_grounded"].steps, "validate_every": 150_000}
"""Options of `agents.train` for RL in a dream, as in `agents.demo`; the other options keep their defaults."""
PHYSICS_RECIPE: dict[str, Any] = {"algo": "ppo", "critic_warmup": 2}
"""Options of `agents.train` for PPO in physics. The warm-up of the critic is shorter because there are few steps."""
QUICK: dict[str, Any] = {
    "recipe": {"steps": 384, "n_envs": 16, "critic_warmup": 0},
    "physics_recipe": {"algo": "ppo", "critic_warmup": 0},
    "clone_updates": 20,
    "coevolution_episodes": 4,
    "refit_updates": 2,
    "physics_steps": (96,),
    "equal_time": False,
    "physics_envs": 2,
}
"""Sizes of `--quick`."""


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


@dataclass(frozen=True)
class Setup:
    """Settings that determine how policies are trained."""

    data: tuple[Path, ...] = (Path("data"),)
    """Folders of the episodes that the world model was fitted to. The first one contains the demonstrations."""
    runs: Path = Path("runs/transfer")
    """Folder of all policies and their evaluation episodes."""
    world_model: str = "state_grounded"
    """Checkpoint of the frozen world model."""
    physics_steps: tuple[int, ...] = (4_800, 19_200)
    """Steps after which the model-free learners are evaluated; 4,800 steps equal the 200 episodes of co-evolution."""
    equal_time: bool = True
    """Also evaluate the model-free learners after the CPU time that RL in the dream took."""
    refit_updates: int = 800
    """Gradient updates of the predictor, the success head and the metric (each) in the refit of co-evolution."""
    recipe: tyro.conf.Suppress[Mapping[str, Any]] = field(default_factory=lambda: dict(RECIPE))
    """Options of `agents.train` for RL in a dream."""
    physics_recipe: tyro.conf.Suppress[Mapping[str, Any]] = field(default_factory=lambda: dict(PHYSICS_RECIPE))
    """Options of `agents.train` for PPO in physics."""
    clone_updates: tyro.conf.Suppress[int] = clone_arguments.Arguments.updates
    """Gradient updates of a clone."""
    coevolution_episodes: tyro.conf.Suppress[int] = 200
    """Physics episodes of the policy for refitting the world model."""
    physics_envs: tyro.conf.Suppress[int] = 10
    """Parallel physics environments of a model-free learner, in one process."""
    archived: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Folders of archived policies that are reported whichever world model and recipe they were trained with."""


@dataclass(frozen=True)
class Arguments(Setup):
    """Compares practice in the dream with alternatives such as longer cloning and model-free RL, in physics."""

    out: Path = Path("results")
    """Folder of transfer.json, transfer.md and transfer.png. With --quick, the default is the folder --runs."""
    archive: Path | None = None
    """Archive (tar.xz) of the evaluation episodes. It is read at the start if it exists, and written after every
    trial."""
    only: str = ",".join(METHODS)
    """Methods to run, separated by commas. The report shows all finished trials."""
    demos: str = ",".join(map(str, DEMOS))
    """Numbers of demonstrations per task to run, separated by commas."""
    seeds: str = ",".join(map(str, SEEDS))
    """Training seeds to run, separated by commas."""
    episodes: int = 100
    """Held-out episodes per task of the main comparison."""
    side_episodes: int | None = None
    """Episodes per task of all other trials; by default the same as --episodes. 34 give 102 episodes over three tasks
    or three seeds."""
    workers: int = 2
    """Number of parallel trials, one thread each; 0 only writes the report."""
    quick: bool = False
    """Run everything at toy size, as a test. The figures are not meaningful."""

    def __post_init__(self) -> None:
        """Checks every number, and redirects the output of --quick away from the default results folder."""
        for name, least in (("episodes", 1), ("side_episodes", 1), ("workers", 0), ("refit_updates", 1)):
            if (value := getattr(self, name)) is not None:
                check_number(name, value, low=least)
        for name in ("demos", "seeds"):
            if not all(part.isdecimal() for part in _list(getattr(self, name))):
                raise ValueError(f"{name}={getattr(self, name)!r}; accepted: whole numbers, separated by commas")
        if self.quick and self.out == Path("results"):
            object.__setattr__(self, "out", self.runs)

    def setup(self) -> Setup:
        """Returns the settings for training policies."""
        return replace(self, **QUICK) if self.quick else self

    def trials(self, setup: Setup) -> tuple[list[Trial], list[Trial]]:
        """Returns all trials of the plan, and the requested ones."""
        methods, demos, seeds = _list(self.only), [*map(int, _list(self.demos))], [*map(int, _list(self.seeds))]
        for method in methods:
            check_choice("only", method, METHODS)
        everything = plan(
            sorted({*(() if self.quick else DEMOS), *demos}),
            sorted({*(() if self.quick else SEEDS), *seeds}),
            self.episodes,
            self.side_episodes,
            setup.physics_steps,
            setup.equal_time,
        )
        asked = [t for t in everything if t.spec.method in methods and t.spec.demos in demos and t.spec.seed in seeds]
        return everything, asked
