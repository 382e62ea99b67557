"""What `agents.studies.transfer` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro

from dream_env.agents.clone import arguments as clone_arguments
from dream_env.agents.demo import arguments as demo_arguments
from dream_env.agents.studies.transfer.plan import DEMOS, METHODS, SEEDS, Trial, plan
from dream_env.checks import check_choice, check_number

RECIPE: dict[str, Any] = {"steps": demo_arguments.Arguments.steps, "validate_every": 150_000}
"""Arguments of `agents.train` for RL in a dream, as in the main job; the others have its defaults."""
PHYSICS_RECIPE: dict[str, Any] = {"algo": "ppo", "critic_warmup": 2}
"""Arguments of `agents.train` for PPO in physics: few steps leave less time for the critic to warm up."""
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
    """Everything that fixes how policies are made."""

    data: tuple[Path, ...] = (Path("data"),)
    """Folders of the episodes that the world model was fitted to; the first one holds the demonstrations."""
    runs: Path = Path("runs/transfer")
    """Folder of all policies and of the episodes that they played."""
    world_model: str = "default"
    """Checkpoint of the frozen world model."""
    physics_steps: tuple[int, ...] = (4_800, 19_200)
    """When the model-free learners are evaluated; 4,800 steps are the 200 episodes of co-evolution."""
    equal_time: bool = True
    """Evaluates them once more after the CPU time that the RL in the dream took."""
    refit_updates: int = 800
    """Updates of predictor, success head and metric each, in the refit of co-evolution."""
    recipe: tyro.conf.Suppress[Mapping[str, Any]] = field(default_factory=lambda: dict(RECIPE))
    """Arguments of `agents.train` for RL in a dream."""
    physics_recipe: tyro.conf.Suppress[Mapping[str, Any]] = field(default_factory=lambda: dict(PHYSICS_RECIPE))
    """Arguments of `agents.train` for PPO in physics."""
    clone_updates: tyro.conf.Suppress[int] = clone_arguments.Arguments.updates
    """Updates of a clone."""
    coevolution_episodes: tyro.conf.Suppress[int] = 200
    """Physics episodes of the policy that the world model is refitted to."""
    physics_envs: tyro.conf.Suppress[int] = 10
    """Physics envs side by side in a model-free learner, in one process."""


@dataclass(frozen=True)
class Arguments(Setup):
    """Compares practice in the dream with its alternatives, in physics."""

    out: Path = Path("results")
    """Folder of transfer.json, transfer.md and transfer.png; with --quick by default the one of the runs."""
    archive: Path | None = None
    """File (tar.xz) that keeps what was played: read first, if it is there, and written after every trial."""
    only: str = ",".join(METHODS)
    """Methods to run, separated by commas; the report shows all that is done."""
    demos: str = ",".join(map(str, DEMOS))
    """Demonstrations per task to run, separated by commas."""
    seeds: str = ",".join(map(str, SEEDS))
    """Training seeds to run, separated by commas."""
    episodes: int = 100
    """Held-out episodes per task of the main comparison."""
    side_episodes: int | None = None
    """Episodes per task of all other trials, by default as many; 34 make 102 over three tasks or three seeds."""
    workers: int = 2
    """Trials side by side, one thread each; 0 only writes the report."""
    quick: bool = False
    """Everything in miniature, for a test; the figures say nothing."""

    def __post_init__(self) -> None:
        """Checks every number, and keeps figures that say nothing away from those that do."""
        for name, least in (("episodes", 1), ("side_episodes", 1), ("workers", 0), ("refit_updates", 1)):
            if (value := getattr(self, name)) is not None:
                check_number(name, value, low=least)
        for name in ("demos", "seeds"):
            if not all(part.isdecimal() for part in _list(getattr(self, name))):
                raise ValueError(f"{name}={getattr(self, name)!r}; accepted: whole numbers, separated by commas")
        if self.quick and self.out == Path("results"):
            object.__setattr__(self, "out", self.runs)

    def setup(self) -> Setup:
        """Returns how policies are made."""
        return replace(self, **QUICK) if self.quick else self

    def trials(self, setup: Setup) -> tuple[list[Trial], list[Trial]]:
        """Returns all trials of the plan, and those of them that are asked for."""
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
