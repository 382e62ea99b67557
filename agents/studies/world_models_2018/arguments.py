"""Command-line options of `agents.studies.world_models_2018`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED
from dream_env.agents.run.config import split
from dream_env.checks import check_choice, check_number

TABLES = ("takecover", "carracing", "nicol", "rate")
RACERS = ("random", "z", "z_h", "z_h_untrained", "z_dream", "z_h_dream")
"""Controllers of CarRacing, named by what they observe; "dream" marks those that evolve in the dream."""


@dataclass(frozen=True)
class Arguments:
    """Evolves controllers in dreams at several temperatures, and evaluates them in the real environments."""

    takecover: Path | None = None
    """World model of Take Cover, see docs/world_models_2018.md. Without it, the table has no results of Take Cover."""
    carracing: Path | None = None
    """World model of CarRacing. Without it, the table has no results of CarRacing."""
    only: tuple[str, ...] = TABLES
    """Tables to compute: takecover, carracing, nicol, rate. Finished results of the others are reported as well."""
    racers: tuple[str, ...] = RACERS
    """Controllers of CarRacing to run. "random" acts at random; z, z_h and z_h_untrained (with an untrained memory
    model M) evolve in the game itself, as in the paper; z_dream and z_h_dream evolve in the dream."""
    temperatures: tuple[float, ...] = (0.1, 0.5, 1.0, 1.15, 1.3)
    """Temperatures of the dreams."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of evolution for Take Cover, at every temperature."""
    episodes: int = 100
    """Real evaluation episodes per controller. For CarRacing, the controllers of all seeds share this number."""
    generations: int = 12
    """Generations of evolution for Take Cover."""
    racing_generations: int = 20
    """Generations of evolution for CarRacing in the game, with 16 controllers of one episode each."""
    racing_seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of evolution for CarRacing."""
    racing_dreams: int = 60
    """Generations of evolution for CarRacing in the dream."""
    racing_steps: int = 75
    """Steps per episode while controllers of CarRacing evolve in the game. The final evaluation uses whole episodes."""
    racing_components: int = 10
    """Principal components of the features that controllers of CarRacing observe; 0 uses all features."""
    nicol_generations: int = 60
    """Generations of evolution for NICOL."""
    components: int = 32
    """Principal components of the features that controllers of Take Cover observe; 0 uses all features."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Numerical precision of the dreams of the games."""
    population: int = 32
    """Controllers per generation."""
    dreams: int = 128
    """Dream episodes on fresh seeds for evaluating a controller of a game."""
    rollouts: int = 16
    """Dream episodes per controller and generation."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    fresh_seed: int = 300_000
    """First of the seeds of a second evaluation of NICOL's controller of temperature 1."""
    workers: int | None = None
    """Number of processes for evaluation; all cores by default."""
    work: Path = Path("runs/world_models_2018")
    """Folder of controllers and finished results, from which an interrupted study resumes."""
    out: Path = Path("results")
    """Folder of world_models_2018.json and .md, and of world_models_2018.gif and world_models_2018_racing.gif."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        object.__setattr__(self, "only", split(self.only))
        object.__setattr__(self, "racers", split(self.racers))
        for table in self.only:
            check_choice("only", table, TABLES)
        for racer in self.racers:
            check_choice("racers", racer, RACERS)
        for name in ("episodes", "generations", "nicol_generations", "dreams", "rollouts", "racing_generations",
                     "racing_dreams", "racing_steps"):  # fmt: skip
            check_number(name, getattr(self, name), 1)
        for name in ("seeds", "racing_seeds"):
            if not (seeds := getattr(self, name)) or min(seeds) < 0 or len(set(seeds)) < len(seeds):
                raise ValueError(f"{name}={seeds}; accepted: one or more numbers of at least 0, each of them once")
        for name in ("components", "racing_components", "fresh_seed", "seed"):
            check_number(name, getattr(self, name))
        for temperature in self.temperatures:
            check_number("temperatures", temperature)
        check_number("population", self.population, 4)
