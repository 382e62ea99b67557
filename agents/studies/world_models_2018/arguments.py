"""What `agents.studies.world_models_2018` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED
from dream_env.agents.run.config import split
from dream_env.checks import check_choice, check_number

TABLES = ("takecover", "carracing", "nicol", "rate")
RACERS = ("random", "z", "z_h", "z_h_untrained", "z_dream", "z_h_dream")
"""Controllers of CarRacing: what they see, and where they evolve if it is not the game."""


@dataclass(frozen=True)
class Arguments:
    """Evolves controllers in dreams of several temperatures, and plays them in the real environments."""

    takecover: Path | None = None
    """World model of Take Cover, see docs/world_models_2018.md; without it, its cells are missing."""
    carracing: Path | None = None
    """World model of CarRacing; without it, its cells are missing."""
    only: tuple[str, ...] = TABLES
    """Tables to work on: takecover, carracing, nicol, rate; those that are finished are reported all the same."""
    racers: tuple[str, ...] = RACERS
    """Controllers of CarRacing to work on: random; z, z_h and z_h_untrained (M has learned nothing) evolve in the game
    itself as in the paper, z_dream and z_h_dream in the dream."""
    temperatures: tuple[float, ...] = (0.1, 0.5, 1.0, 1.15, 1.3)
    """Temperatures of the dreams."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the evolutions of Take Cover, at every temperature."""
    episodes: int = 100
    """Real episodes of each controller; those of CarRacing, of all seeds together, drive as many."""
    generations: int = 12
    """Generations of Take Cover."""
    racing_generations: int = 20
    """Generations of CarRacing in the game, of 16 controllers and an episode each."""
    racing_seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of these evolutions."""
    racing_dreams: int = 60
    """Generations of CarRacing in the dream."""
    racing_steps: int = 75
    """Steps of an episode of CarRacing while controllers evolve in the game; at the end they play whole ones."""
    racing_components: int = 10
    """Principal components of what controllers of CarRacing see."""
    nicol_generations: int = 60
    """Generations of NICOL."""
    components: int = 32
    """Principal components of what controllers of the games see; 0 for all of it."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the dreams of the games."""
    population: int = 32
    """Controllers of a generation."""
    dreams: int = 128
    """Dreams of a game's controllers on fresh seeds."""
    rollouts: int = 16
    """Dreams of each controller of a generation."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    fresh_seed: int = 300_000
    """First of the seeds on which NICOL's controller of temperature 1 plays once more."""
    workers: int | None = None
    """Processes that play; all cores by default."""
    work: Path = Path("runs/world_models_2018")
    """Folder of controllers and of finished cells; a killed study goes on from there."""
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
