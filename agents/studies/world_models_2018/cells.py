"""The cells of the study: each is one controller or one measurement, and is saved as a file when finished."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dream_env.agents.eval.any_world import mean_interval, play_real
from dream_env.agents.eval.statistics import wilson
from dream_env.agents.evolve.arguments import Arguments as Evolve
from dream_env.agents.evolve.command import Evolution, dream_config, evolve
from dream_env.agents.evolve.dreams import DreamPopulation
from dream_env.agents.nicol.rollouts import Batch, play
from dream_env.agents.policies import registry
from dream_env.agents.run import workers as pool
from dream_env.agents.studies.world_models_2018.arguments import Arguments
from dream_env.dream import DreamVectorEnv
from dream_env.engine import DreamEngine
from dream_env.files import write_json

CHUNK = 5
"""Real episodes per job of a process."""
MEMORY = ("embedding", "hidden")
"""Inputs of a controller with memory: z and h."""
CODE = ("embedding",)
"""Input of a controller without memory: z."""
NICOL: dict[str, Any] = {
    "world_model": "state_grounded",
    "task": "reach",
    "inputs": ("way", "lag", "grip"),
    "reward": "metric_bounded",
    "sigma": 0.3,
    "weight_decay": 0.3,
}
"""Settings of evolution for NICOL. With less weight decay, controllers learned to swing around the cube, as observed in
the dream."""
SIGMA = 0.3
"""Initial standard deviation of the weights of the games' controllers."""
DREAMS, SEED = 256, 7
"""Number of dreams for evaluating a controller of NICOL, and the number that distinguishes their seed."""


def cell(work: Path, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns a finished cell, or computes it and saves it with the CPU minutes of this process."""
    file = work / "cells" / f"{name}.json"
    if not file.exists():
        began = time.process_time()
        made = make()
        write_json(file, {**made, "minutes": (time.process_time() - began) / 60})
    return json.loads(file.read_text())


def finished(work: Path) -> dict[str, dict[str, Any]]:
    """Returns all finished cells, by name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted((work / "cells").glob("*.json"))}


def fit_minutes(model: Path | None) -> float | None:
    """Returns the minutes of the fit of a world model from its metrics.json; None without the model or that file."""
    file = model and Path(model) / "metrics.json"
    if not file or not file.exists():
        return None
    return float(sum(json.loads(file.read_text()).get("minutes", {}).values()))


# --- games


def game(args: Arguments, name: str, model: Path, temperature: float, seed: int) -> dict[str, Any]:
    """Evolves a controller in the dream of a game, and evaluates it in the real game."""
    given = evolving(args, name, model, temperature, seed)
    summary = evolve(given)
    dream = summary["dream"]["best"]
    found = {"temperature": temperature, "seed": seed, "weights": summary["weights"], "budget": budget(given)}
    found |= {"dream_mean": dream["mean"], "dream_std": dream["std"], "dreams": dream["dreams"]}
    return found | real(str(given.out), model, args)


def evolving(args: Arguments, name: str, model: Path, temperature: float = 1.0, seed: int = 0) -> Evolve:
    """Returns the settings of evolution for Take Cover."""
    return Evolve(
        out=args.work / name,
        world_model=str(model),
        inputs=MEMORY,
        components=args.components,
        precision=args.precision,
        generations=args.generations,
        population=args.population,
        rollouts=args.rollouts,
        sigma=SIGMA,
        temperature=temperature,
        validation_dreams=args.dreams,
        episodes=0,
        seed=seed,
    )


def budget(given: Evolve) -> str:
    """Returns a description of the budget of an evolution."""
    return f"{given.generations} generations of {given.population} x {given.rollouts} dreams"


def named(name: str, seed: int) -> str:
    """Returns the name of a cell, with the seed of evolution if it is not 0."""
    return f"{name}@{seed}" if seed else name


def real(policy: str, model: Path, args: Arguments, episodes: int | None = None) -> dict[str, Any]:
    """Evaluates a policy, or "random", in the real game; returns statistics of the returns, see `of_returns`."""
    last = args.seed + (episodes or args.episodes)
    seeds = range(args.seed, last, CHUNK)
    jobs = [(policy, str(model), min(CHUNK, last - seed), seed) for seed in seeds]
    paid = [value for part in pool.imap(_play, jobs, args.workers, ordered=True) for value in part]
    return of_returns(paid)


def of_returns(paid: list[float]) -> dict[str, Any]:
    """Returns mean, standard deviation and interval of real returns, their number, and the returns themselves."""
    low, high = mean_interval(paid)
    found = {"real_mean": float(np.mean(paid)), "real_std": float(np.std(paid)), "real_low": low, "real_high": high}
    return {**found, "episodes": len(paid), "returns": paid}


def unevolved(args: Arguments, model: Path) -> dict[str, Any]:
    """Evaluates controllers of the first generation in the real game, a few episodes each: the start of evolution."""
    given = evolving(args, "takecover_unevolved", model)
    run = Evolution(given)
    paid = []
    for number, weights in enumerate(run.strategy.ask()[: -(-args.episodes // CHUNK)]):
        run.controller.weights.copy_(torch.from_numpy(weights))
        folder = given.out / str(number)
        registry.save(run.controller, folder, "A controller before evolution.\n")
        paid += play_real(str(folder), None, str(model), CHUNK, args.seed + CHUNK * number).returns
    return of_returns(paid)


def _play(job: tuple[str, str, int, int]) -> list[float]:
    policy, model, episodes, seed = job
    return play_real(policy, None, model, episodes, seed).returns


# --- NICOL


def nicol(args: Arguments, init: str, temperature: float) -> dict[str, Any]:
    """Evolves a controller for NICOL's reach in the dream, and evaluates it in the dream and in physics."""
    name = f"nicol_{init}_{temperature:g}"
    given = Evolve(
        out=args.work / name,
        init=init,
        generations=args.nicol_generations,
        population=args.population,
        rollouts=args.rollouts,
        temperature=temperature,
        validation_dreams=DREAMS,
        episodes=0,
        **NICOL,
    )
    summary = evolve(given)
    start = Evolution(given).start
    dreamt = [dream_success(given, weights) for weights in (None, start)]
    won = physics(str(given.out), args)
    return {
        "init": init,
        "temperature": temperature,
        "weights": summary["weights"],
        "budget": budget(given),
        "dream_success": dreamt[0],
        "dream_success_before": dreamt[1],
        **won,
    }


def dream_success(given: Evolve, weights: np.ndarray | None) -> float:
    """Returns the success rate in dreams, at the end of the episode, of the saved controller or of other weights."""
    controller = registry.load(given.out)
    engine = DreamEngine(dream_config(Evolve(**{**vars(given), "reward": "success"})))
    own = controller.weights.numpy() if weights is None else weights
    dreams = DreamPopulation(engine, given.task)
    return float(dreams.returns(controller, own[None], DREAMS, (given.seed, SEED)).mean())


def physics(policy: str, args: Arguments, first: int | None = None) -> dict[str, Any]:
    """Evaluates a policy in NICOL's physics: success at the end, without episodes that are solved at the start."""
    first = args.seed if first is None else first
    seeds = range(first, first + args.episodes)
    batches = [Batch(policy, "controller", "physics", NICOL["task"], (seed,)) for seed in seeds]
    played = [result for part in pool.imap(play, batches, args.workers) for result in part]
    kept = [result.success for result in played if not result.solved_at_start]
    interval = wilson(sum(kept), len(kept))
    return {
        "physics_success": interval.value,
        "low": interval.low,
        "high": interval.high,
        "episodes": len(kept),
    }


# --- speed


def rate(work: Path, repeats: int = 3) -> dict[str, Any]:
    """Measures dreamt steps per second of a generation of 64 x 16 dreams, and of a vector env with as many dreams.

    Both run in turns in one process and are timed in its CPU time, with NICOL's world model and the embedding reward.
    """
    torch.set_num_threads(1)
    count = 64 * 16
    run = Evolution(Evolve(work / "rate", task="reach", episodes=0))
    envs = DreamVectorEnv(count, task="reach")
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (count, 4)).astype(np.float32)
    candidates = rng.normal(0, 0.1, (64, run.controller.weights.numel()))
    found: dict[str, list[float]] = {"generation": [], "vector_env": []}

    def generation(number: int) -> int:
        before = run.dreams.steps
        run.dreams.returns(run.controller, candidates, 16, (0, number))
        return run.dreams.steps - before

    def vector_env(_: int) -> int:
        for _ in range(12):
            envs.step(actions)
        return 12 * count

    for number in range(repeats + 1):
        for name, function in (("generation", generation), ("vector_env", vector_env)):
            began = time.process_time()
            steps = function(number)
            if number:  # the first of each only warms up
                found[name].append(steps / (time.process_time() - began))
    envs.close()
    rates = {f"{name}_steps_per_second": float(np.median(values)) for name, values in found.items()}
    return {**rates, "ratio": rates["generation_steps_per_second"] / rates["vector_env_steps_per_second"]}
