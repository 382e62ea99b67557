"""Evolves a small controller inside a learned world model: `python -m agents.evolve --task reach --out runs/evolve`.

As in World Models (Ha & Schmidhuber 2018), CMA-ES optimizes the weights of a linear controller, or of one with a hidden
layer, by their returns in dreams. A generation is one batch of dreams, with the same initial states and noise for all
controllers. At the end, the controller with the highest return on validation seeds and the last mean of the
distribution are evaluated in both worlds. The result is a policy that `agents.evaluate`, `agents.plan --prior` and
other commands accept. An interrupted run continues when the same command is given again, with the same result as
without interruption; a finished run prints its report again, and a larger `--generations` continues it.

    python -m agents.evolve --task reach --generations 60 --sigma 0.3 --out runs/evolve
    python -m agents.evolve --world-model runs/cartpole --out runs/evolve --temperature 1.2
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import configure

from dream_env.agents.evolve.arguments import Arguments
from dream_env.agents.evolve.dreams import DreamPopulation
from dream_env.agents.evolve.real import RealPopulation, World
from dream_env.agents.evolve.start import begin
from dream_env.agents.evolve.strategy import Strategy
from dream_env.agents.policies import registry
from dream_env.agents.policies.controller import Controller, ControllerConfig
from dream_env.agents.run.config import check_out, check_settings, command_line, whereabouts
from dream_env.agents.run.worlds import tasks_of
from dream_env.checks import check_choice
from dream_env.dream_config import DreamConfig
from dream_env.engine import DreamEngine
from dream_env.files import replacing, write_json
from dream_env.progress import progress_bar
from dream_env.world_models.precision import check_device

STATE, SETTINGS, SUMMARY = "evolution.npz", "settings.json", "evolution.json"
EVOLVING, VALIDATING, EVALUATING = 0, 1, 2
"""Parts of the seeds that keep random numbers of evolution, validation and the final evaluation apart."""


class Evolution:
    """A run of evolution, new or resumed from its folder.

    Args:
        args: See `Arguments`.

    Raises:
        FileNotFoundError: If a world model or a policy is missing.
        ImportError: If `cma` is not installed.
        ValueError: If an argument is not accepted, or the folder holds a run with other settings.
    """

    def __init__(self, args: Arguments) -> None:
        check_out(args.out, Controller.kind, args.init if args.init != "none" else None, args.world_model)
        self.args, device = args, check_device(args.device)
        if args.init != "none":
            registry.check_encoder(registry.load_once(args.init), args.world_model)
        if (args.out / SETTINGS).exists():
            check_settings(args.out, json.loads((args.out / SETTINGS).read_text()), args.settings())
        engine = DreamEngine(dream_config(args))
        check_choice("task", args.task, (*engine.initial_states.tasks, "all"))
        self.dreams = DreamPopulation(engine, args.task, args.max_steps, args.antithetic)
        sizes = args.hidden, args.components, args.obs_type
        config = ControllerConfig.of(engine.model, args.world_model, args.inputs, *sizes)
        self.controller = Controller(config).to(device)
        self.best, self.best_value = np.zeros(0), -np.inf
        self.curves: list[tuple[float, ...]] = []
        self.evaluator: Any = self.dreams if args.world == "dream" else self._real("unmeasured")
        self._load()
        write_json(args.out / SETTINGS, args.settings())
        if args.world == "real":
            self.evaluator = self._real("template")

    def _real(self, name: str) -> RealPopulation:
        """Returns the real environment for controllers with the current config and input statistics."""
        args, template = self.args, self.args.out / name
        registry.save(self.controller, template, "What evolves here, before it does.\n")
        return RealPopulation(World(str(template), args.env, args.task, args.reward, args.max_steps), args.workers)

    def _load(self) -> None:
        """Resumes the run from its folder, or starts it."""
        args, file = self.args, self.args.out / STATE
        given: dict[str, np.ndarray] = {}
        if file.exists():
            with np.load(file, allow_pickle=False) as arrays:
                given = {name: arrays[name] for name in arrays.files}
            for name in self._measured:
                getattr(self.controller, name).copy_(torch.from_numpy(given[name]))
            self.best, self.best_value = given["best"], float(given["best_value"])
            self.curves = [tuple(row) for row in given["curves"].tolist()]
        real = self.evaluator if args.world == "real" else None
        self.start = given["start"] if given else begin(self.controller, self.dreams, args.init, args.seed, real)
        options = (args.sigma, args.population, args.seed, args.diagonal)
        self.strategy = Strategy(self.start, *options, given.get("returns"))
        if given and not np.allclose(self.strategy.mean, given["mean"], rtol=1e-6, atol=1e-9):
            raise ValueError(
                f"out={args.out} was evolved by another version of cma; accepted: that one, or a new folder"
            )

    @property
    def _measured(self) -> tuple[str, ...]:
        """Buffers of the controller that were measured at the start of the run."""
        return ("center", "spread", *(["axes"] if self.controller.config.components else []))

    def generation(self) -> None:
        """Runs one generation and saves the state of the run."""
        args, number = self.args, self.strategy.generation
        candidates = self.strategy.ask()
        returns = self.evaluator.returns(self.controller, candidates, args.rollouts, (args.seed, EVOLVING, number))
        self.strategy.tell(returns.mean(1) - args.weight_decay * np.square(candidates).mean(1))
        value = np.nan
        if (number + 1) % args.validate_every == 0:
            value = self.validate()
        self.curves.append((float(returns.mean(1).max()), float(returns.mean()), self.strategy.sigma, value))
        self._save()

    def validate(self) -> float:
        """Evaluates the mean on validation seeds, always the same ones, and keeps it if it is the best so far."""
        count = self.args.validation_dreams if self.args.world == "dream" else 4 * self.args.rollouts
        seed = (self.args.seed, VALIDATING)
        value = float(self.evaluator.returns(self.controller, self.strategy.mean[None], count, seed).mean())
        if value > self.best_value:
            self.best, self.best_value = self.strategy.mean, value
        return value

    def _save(self) -> None:
        arrays = {
            "returns": self.strategy.returns,
            "mean": self.strategy.mean,
            "start": self.start,
            "best": self.best,
            "best_value": np.array(self.best_value),
            "curves": np.array(self.curves),
        }
        arrays |= {name: getattr(self.controller, name).cpu().numpy() for name in self._measured}
        with replacing(self.args.out / STATE) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def policies(self) -> dict[str, Path]:
        """Saves the best controller in validation and the last mean; returns their folders by name."""
        made = {"best": self.args.out, "mean": self.args.out / "mean"}
        for (name, folder), weights in zip(made.items(), (self.best, self.strategy.mean), strict=True):
            self.controller.weights.copy_(torch.from_numpy(np.asarray(weights, np.float32)))
            registry.save(self.controller, folder, card(self, name))
        return made

    def dreamt(self) -> dict[str, dict[str, float]]:
        """Returns the returns of the controllers in dreams on new seeds, with the dream settings of the run."""
        both = np.stack([self.best, self.strategy.mean])
        returns = self.dreams.returns(self.controller, both, self.args.validation_dreams, (self.args.seed, EVALUATING))
        rows = zip(("best", "mean"), returns, strict=True)
        return {name: {"mean": float(row.mean()), "std": float(row.std()), "dreams": len(row)} for name, row in rows}


def dream_config(args: Arguments) -> DreamConfig:
    """Returns the config of the dreams that the arguments describe."""
    return DreamConfig(
        task=args.task,
        reward=args.reward,
        world_model=args.world_model,
        initial_states=args.initial_states,
        starts=args.starts,
        disagreement_penalty=args.disagreement_penalty,
        temperature=args.temperature,
        precision=args.precision,
        device=args.device,
    )


def card(run: Evolution, name: str) -> str:
    """Returns the model card of a controller."""
    config, count = run.controller.config, run.controller.weights.numel()
    which = "the best in validation" if name == "best" else "the last mean"
    layer = f", {config.hidden} hidden units" if config.hidden else ""
    return (
        f"# Controller\n\n{count} weights on {', '.join(config.inputs)}{layer}; {which} of {run.strategy.generation} "
        f"generations, made by\n\n    {command_line('evolve', run.args)}\n"
    )


def evolve(args: Arguments, progress: bool = True) -> dict[str, Any]:
    """Starts or continues a run, saves the controllers, and returns the contents of `evolution.json`.

    Raises:
        FileNotFoundError: If a world model or a policy is missing.
        ImportError: If `cma` is not installed.
        ValueError: If an argument is not accepted, or the folder holds another run.
    """
    run = Evolution(args)
    logger = configure(str(args.out / "tensorboard"), ["tensorboard"])
    began, first, stepped = time.perf_counter(), run.strategy.generation, run.evaluator.steps
    with progress_bar(
        total=args.generations, initial=first, desc="evolve", unit="generation", disable=not progress
    ) as bar:
        while run.strategy.generation < args.generations:
            run.generation()
            best, mean, sigma, value = run.curves[-1]
            for name, number in (("best", best), ("mean", mean), ("sigma", sigma), ("validation", value)):
                if np.isfinite(number):
                    logger.record(f"evolve/{name}", number)
            logger.dump(run.strategy.generation)
            bar.set_postfix(best=f"{best:.4g}", mean=f"{mean:.4g}", validation=f"{run.best_value:.4g}")
            bar.update()
    logger.close()
    seconds, stepped = time.perf_counter() - began, run.evaluator.steps - stepped
    if not np.isfinite(run.curves[-1][-1]):  # the last mean is a candidate for the best, too
        run.validate()
    run.policies()
    done = run.strategy.generation - first
    summary = {
        **args.settings(),
        "generations": run.strategy.generation,
        "weights": run.controller.weights.numel(),
        "dream": run.dreamt(),
        "steps_per_second": stepped / seconds if done else None,
        "seconds_per_generation": seconds / done if done else None,
    }
    write_json(args.out / SUMMARY, summary)
    return summary


def main(args: Arguments) -> None:
    """Runs the command."""
    torch.set_num_threads(1)
    init = None if args.init == "none" else args.init
    args = replace(args, world_model=registry.named_world_model(args.world_model, init))
    summary = finished(args) or evolve(args)
    for name, row in summary["dream"].items():
        print(f"{name}: {row['mean']:.4g} +- {row['std']:.4g} in {row['dreams']} dreams at {args.temperature:g}")
    if args.episodes and summary.get("evaluated") == [args.episodes, args.env]:
        report = args.out / "evaluation" / "results.md"
        print(f"\n{report.read_text(encoding='utf-8')}\nReport: {report.parent.resolve()}")
    elif args.episodes:
        from dream_env.agents.evaluate import command as evaluate

        evaluate.main(evaluation(args))
        write_json(args.out / SUMMARY, {**summary, "evaluated": [args.episodes, args.env]})
    print(whereabouts(args.out))


def finished(args: Arguments) -> dict[str, Any] | None:
    """Returns the contents of `evolution.json` if the run has these settings and all its generations, else None."""
    if not (args.out / SUMMARY).exists():
        return None
    summary = json.loads((args.out / SUMMARY).read_text(encoding="utf-8"))
    same = all(summary.get(name) == value for name, value in args.settings().items())
    return summary if same and summary["generations"] >= args.generations else None


def evaluation(args: Arguments) -> Any:
    """Returns the arguments of `agents.evaluate` for the final evaluation in both worlds."""
    from dream_env.agents.evaluate.arguments import Arguments as Evaluate

    asked: dict[str, Any] = {}
    if tasks_of(args.world_model) and args.task != "all":
        asked["tasks"] = (args.task,)
    return Evaluate(
        policy=(f"best={args.out}", f"mean={args.out / 'mean'}"),
        episodes=args.episodes,
        world_model=args.world_model,
        env=args.env,
        workers=args.workers,
        out=args.out / "evaluation",
        **asked,
    )
