"""Is the core general? `python -m agents.studies.general --out results` remakes results/general.json and general.md.

For each small environment: record random episodes, fit a world model of kind `dynamics` to them, train a learner in
that dream only, and evaluate it in the real environment; beside it the same learner trained in the real environment,
and random actions. What is finished is kept in `--work`; a killed study goes on when the same command is given again.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro

from dream_env.agents.collect import Collect, collect
from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.fit.dynamics_fit import Arguments as FitArguments
from dream_env.agents.fit.dynamics_fit import fit
from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import check_out
from dream_env.agents.studies.general.cases import CASES, Case
from dream_env.agents.studies.general.practice import acting, evaluate, learn, real
from dream_env.data.episodes import EpisodeDataset
from dream_env.files import write_json, write_text


@dataclass(frozen=True)
class Arguments:
    """Arguments of the command.

    Attributes:
        out: Folder of general.json and general.md.
        work: Folder of episodes, world models and what is finished.
        seeds: Training seeds of the learners.
        evaluated: Real episodes that each learner is evaluated on.
        workers: Processes for the learners.
        short: Runs everything in a minute, for a look at whether it runs.
        envs: Environments to take; none takes all.
    """

    out: Path = Path("results")
    work: Path = Path("runs/general")
    seeds: int = 3
    evaluated: int = 30
    workers: int = 2
    short: bool = False
    envs: tuple[str, ...] = ()


def fitted(case: Case, work: Path, threads: int) -> Path:
    """Records and fits a case, and returns the folder of its world model."""
    out = work / "model"
    if not (out / "metrics.json").exists():
        collect(Collect(work / "data", case.episodes, case.env, mix=case.mix, workers=threads))
        args = FitArguments(data=(work / "data",), out=out, threads=threads, **case.fit)
        fit(args, EpisodeDataset.load(work / "data"))
    return out


@dataclass(frozen=True)
class Job:
    """One learner: of a case, in the dream or in the real environment, with a seed."""

    case: Case
    world: str
    seed: int
    model: Path
    evaluated: int


def run(job: Job) -> tuple[Job, list[float], float]:
    """Trains and evaluates a learner; returns the returns of its real episodes, and the minutes of its training."""
    case, began = job.case, time.monotonic()
    where = None if job.world == "dream" else case.env
    dream = case.dream if job.world == "dream" else {}
    agent = learn(case.learner, case.steps, job.seed, job.model, where, case.obs_type, **dream)
    minutes = (time.monotonic() - began) / 60
    return job, evaluate(real(case.env, job.model, case.obs_type), acting(agent), job.evaluated), minutes


def study(case: Case, args: Arguments) -> dict[str, Any]:
    """Runs a case, and returns its entry of general.json."""
    work, began = args.work / ("short" if args.short else "full") / case.name, time.monotonic()
    spent = work / "minutes.json"
    model = fitted(case, work, args.workers)
    jobs = [Job(case, w, s, model, args.evaluated) for s in range(args.seeds) for w in ("dream", "real")]
    file = work / "learners.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    missing = [job for job in jobs if f"{job.world} {job.seed}" not in found]
    for job, returns, minutes in pool.imap(run, missing, args.workers):
        found[f"{job.world} {job.seed}"] = {"returns": returns, "minutes": round(minutes, 2)}
        write_json(file, found)
    before = json.loads(spent.read_text()) if spent.exists() else 0.0
    total = before + (time.monotonic() - began) / 60
    write_json(spent, total)
    own = {w: [float(np.mean(found[f"{w} {s}"]["returns"])) for s in range(args.seeds)] for w in ("dream", "real")}
    chance = float(np.mean(evaluate(gym.make(case.env), None, args.evaluated)))
    dream, true = (float(np.mean(own[world])) for world in ("dream", "real"))
    metrics = json.loads((model / "metrics.json").read_text())
    return {
        "env": case.name,
        "trained_in_dream": round(dream, 1),
        "trained_in_real": round(true, 1),
        "random": round(chance, 1),
        "episodes": case.episodes,
        "minutes": round(total, 1),
        "share": round((dream - chance) / (true - chance), 3) if true != chance else None,
        "seeds": {world: [round(value, 1) for value in values] for world, values in own.items()},
        "evaluated_episodes": args.evaluated,
        "learner": case.learner,
        "learner_steps": case.steps,
        "learner_minutes": {
            world: round(float(np.mean([found[f"{world} {s}"]["minutes"] for s in range(args.seeds)])), 2)
            for world in ("dream", "real")
        },
        "recorded_steps": metrics["frames"] - metrics["episodes"]["train"],
        "open_loop_error": metrics["open_loop_error"],
    }


def report(entries: list[dict[str, Any]]) -> str:
    """Writes the table of general.md."""
    rows = [
        [
            each["env"],
            each["episodes"],
            f"{each['random']:.0f}",
            f"{each['trained_in_dream']:.0f} ({', '.join(f'{v:.0f}' for v in each['seeds']['dream'])})",
            f"{each['trained_in_real']:.0f} ({', '.join(f'{v:.0f}' for v in each['seeds']['real'])})",
            "" if each["share"] is None else f"{100 * each['share']:.0f} %",
            f"{each['minutes']:.0f}",
        ]
        for each in entries
    ]
    header = [
        "environment",
        "episodes",
        "random",
        "trained in the dream",
        "trained in the real env",
        "share",
        "minutes",
    ]
    return (
        "# Small environments\n\nReturns in the real environment, means over training seeds (each seed in brackets). "
        "`share`: the gain over random actions of the learner that was trained in the dream only, in per cent of that "
        "of the same learner trained in the real environment. `python -m agents.studies.general` remakes this.\n\n"
        + markdown_table(header, rows)
        + "\n"
    )


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    args = tyro.cli(Arguments, prog="python -m agents.studies.general", description=__doc__, args=arguments)
    known = {case.name: case for case in CASES}
    try:
        check_out(args.out)
        if unknown := sorted(set(args.envs) - known.keys()):
            raise ValueError(f"envs={unknown}; accepted: {', '.join(known)}")
        if min(args.seeds, args.evaluated, args.workers) < 1:
            raise ValueError("seeds, evaluated and workers; accepted: at least 1")
        chosen = [case for name, case in known.items() if not args.envs or name in args.envs]
        entries = [study(case.short() if args.short else case, args) for case in chosen]
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error
    write_json(args.out / "general.json", entries)
    write_text(args.out / "general.md", text := report(entries))
    print(text)
