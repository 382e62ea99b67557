"""CarRacing: controllers with and without memory, evolved in the game as in the paper, or in the dream."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from dream_env.agents.evolve.arguments import Arguments as Evolve
from dream_env.agents.evolve.command import evolve
from dream_env.agents.studies.world_models_2018 import cells
from dream_env.agents.studies.world_models_2018.arguments import Arguments
from dream_env.initial_states import FILE
from dream_env.world_models import checkpoint

POPULATION = 16
"""Controllers per generation in the game; each plays one episode, all on the same track."""
SIGMA = 0.2
"""Initial standard deviation of the weights. With larger values, nearly all controllers steer fully to one side."""
VALIDATE = 20
"""Generations in the game between two evaluations of the mean."""
UNTRAINED = "carracing_untrained"
"""Folder of the world model with an untrained M."""
TOLD = {"z": "z", "z_h": "z, h", "z_h_untrained": "z, h of an untrained M"}
"""Inputs of controllers, by the names of `arguments.RACERS`."""


def table(args: Arguments, model: Path) -> None:
    """Computes the missing cells."""
    remembers = "hidden" in checkpoint.load(str(model)).observed
    for racer in args.racers:
        for seed in args.racing_seeds if racer in TOLD else (0,):
            if remembers or "untrained" not in racer:
                name = cells.named(f"carracing_{racer}", seed)
                cells.cell(args.work, name, lambda racer=racer, seed=seed: race(args, racer, model, seed))  # type: ignore[misc]


def race(args: Arguments, racer: str, model: Path, seed: int) -> dict[str, Any]:
    """Evolves a controller, one of `arguments.RACERS`, and evaluates it in whole episodes.

    In the dream, the controller with the best validation is evaluated. In the game, where the few episodes are too
    noisy for this, it is the mean of the last generation.
    """
    if racer == "random":
        return cells.real(racer, model, args)
    sees, dreams = racer.removesuffix("_dream"), racer.endswith("_dream")
    seen = untrained(model, args.work / UNTRAINED) if sees == "z_h_untrained" else model
    given = dreaming(args, racer, seen) if dreams else playing(args, racer, seen, seed)
    summary = evolve(given)
    policy, seeds = (given.out, 1) if dreams else (given.out / "mean", len(args.racing_seeds))
    played = cells.real(str(policy), seen, args, -(-args.episodes // seeds))
    budget = cells.budget(given) if dreams else (
        f"{given.generations} generations of {given.population} x {given.rollouts} episodes of {given.max_steps} steps"
    )  # fmt: skip
    found: dict[str, Any] = {"controller": TOLD[sees], "evolved_in": "dream" if dreams else "game"}
    found |= {"weights": summary["weights"], "seed": given.seed}
    return {**found, **played, "budget": budget, "dream_mean": summary["dream"]["best"]["mean"]}


def inputs_of(racer: str) -> tuple[str, ...]:
    """Returns the inputs of a controller."""
    return cells.MEMORY if racer.startswith("z_h") else cells.CODE


def playing(args: Arguments, racer: str, model: Path, seed: int) -> Evolve:
    """Returns the settings of evolution in the game."""
    return Evolve(
        out=args.work / cells.named(f"carracing_{racer}", seed),
        world_model=str(model),
        world="real",
        inputs=inputs_of(racer),
        components=args.racing_components,
        generations=args.racing_generations,
        seed=seed,
        population=POPULATION,
        rollouts=1,
        max_steps=args.racing_steps,
        sigma=SIGMA,
        validate_every=VALIDATE,
        validation_dreams=args.dreams,
        episodes=0,
        workers=args.workers,
    )


def dreaming(args: Arguments, racer: str, model: Path) -> Evolve:
    """Returns the settings of evolution in the dream."""
    return Evolve(
        out=args.work / f"carracing_{racer}",
        world_model=str(model),
        inputs=inputs_of(racer),
        components=args.racing_components,
        precision=args.precision,
        generations=args.racing_dreams,
        population=args.population,
        rollouts=args.rollouts,
        sigma=SIGMA,
        validation_dreams=args.dreams,
        episodes=0,
    )


def untrained(model: Path, folder: Path) -> Path:
    """Saves a world model with the same V and an untrained M; returns its folder."""
    if not (folder / FILE).exists():
        known = checkpoint.load(str(model))
        torch.manual_seed(0)
        fresh = type(known)(known.config, known.spec)
        fresh.load_state_dict(known.state_dict() | {f"rnn.{k}": v for k, v in fresh.rnn.state_dict().items()})
        checkpoint.save(fresh.eval(), folder, "# V of CarRacing, with an M that has learned nothing\n")
        shutil.copy(model / FILE, folder / FILE)
    return folder
