"""Tests the package on small environments: `python -m agents.studies.general` writes general.json and general.md.

For each small environment, the study records random episodes, fits a world model of kind `dynamics` to them, trains a
learner in the dream only, and evaluates it in the real environment. For comparison, it trains the same learner in the
real environment and evaluates random actions. Finished parts are kept in `--work`; running the same command again
resumes an interrupted study.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from dream_env.agents.collect import Arguments as Collect
from dream_env.agents.collect import collect
from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.fit.dynamics.command import Arguments as FitArguments
from dream_env.agents.fit.dynamics.command import fit
from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import check_out
from dream_env.agents.studies.general.arguments import Arguments
from dream_env.agents.studies.general.cases import CASES, Case
from dream_env.agents.studies.general.practice import acting, evaluate, learn, real
from dream_env.data.episodes import EpisodeDataset
from dream_env.files import write_json, write_text
from dream_env.progress import progress_bar

PREPARED = "prepared.json"
"""File with the CPU minutes of recording and fitting; it exists once both are done."""


def prepare(given: tuple[Case, Path]) -> None:
    """Records the episodes of a case and fits its world model, in the subfolders `data` and `model` of its folder."""
    (case, work), began = given, time.process_time()
    collect(Collect(work / "data", case.episodes, case.env, mix=case.mix, workers=1))
    fit(FitArguments(data=(work / "data",), out=work / "model", **case.fit), EpisodeDataset.load(work / "data"))
    write_json(work / PREPARED, (time.process_time() - began) / 60)


class Job(NamedTuple):
    """One training run: a case, the "dream" or the "real" environment, and a seed."""

    case: Case
    work: Path
    world: str
    seed: int
    evaluated: int

    @property
    def file(self) -> Path:
        """File of the result."""
        return self.work / f"{self.world}{self.seed}.json"


def run(job: Job) -> None:
    """Trains a learner, evaluates it in the real environment, and saves the returns and the CPU minutes of training."""
    case, model, began = job.case, job.work / "model", time.process_time()
    where, dream = (None, case.dream) if job.world == "dream" else (case.env, {})
    agent = learn(case.learner, case.steps, job.seed, model, where, case.obs_type, **dream)
    minutes = (time.process_time() - began) / 60
    returns = evaluate(real(case.env, model, case.obs_type), acting(agent), job.evaluated)
    write_json(job.file, {"returns": returns, "minutes": minutes})


def entry(case: Case, work: Path, jobs: list[Job], evaluated: int) -> dict[str, Any]:
    """Returns the entry of a case in general.json, from the results of its jobs."""
    found = {job: json.loads(job.file.read_text()) for job in jobs}
    worlds = ("dream", "real")
    own = {w: [float(np.mean(found[job]["returns"])) for job in jobs if job.world == w] for w in worlds}
    practice = float(np.mean([found[job]["minutes"] for job in jobs if job.world == "dream"]))
    chance = float(np.mean(evaluate(gym.make(case.env), None, evaluated)))
    dream, true = (float(np.mean(own[world])) for world in worlds)
    metrics, prepared = (json.loads((work / name).read_text()) for name in ("model/metrics.json", PREPARED))
    return {
        "env": case.name,
        "trained_in_dream": round(dream, 1),
        "trained_in_real": round(true, 1),
        "random": round(chance, 1),
        "episodes": case.episodes,
        "minutes": round(prepared + practice, 2),
        "share": round((dream - chance) / (true - chance), 3) if true != chance else None,
        "seeds": {world: [round(value, 1) for value in values] for world, values in own.items()},
        "evaluated_episodes": evaluated,
        "learner": case.learner,
        "learner_steps": case.steps,
        "recorded_steps": int(np.sum(EpisodeDataset.load(work / "data").lengths)),
        "open_loop_error": metrics["open_loop_error"],
    }


def report(entries: list[dict[str, Any]]) -> str:
    """Renders general.md."""
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
        "of the same learner trained in the real environment. `minutes`: of recording, fitting and practice in the "
        "dream, in CPU time. `python -m agents.studies.general` remakes this.\n\n" + markdown_table(header, rows) + "\n"
    )


def main(args: Arguments) -> None:
    """Runs the command."""
    known = {case.name: case for case in CASES}
    check_out(args.out)
    if unknown := sorted(set(args.envs) - known.keys()):
        raise ValueError(f"envs={unknown}; accepted: {', '.join(known)}")
    if min(args.seeds, args.evaluated, args.workers) < 1:
        raise ValueError("seeds, evaluated and workers; accepted: at least 1")
    chosen = [case for name, case in known.items() if not args.envs or name in args.envs]
    cases = [case.short() if args.short else case for case in chosen]
    places = {case: args.work / ("short" if args.short else "full") / case.name for case in cases}
    missing = [pair for pair in places.items() if not (pair[1] / PREPARED).exists()]
    list(pool.imap(prepare, missing, args.workers))
    jobs = [
        Job(case, work, world, seed, args.evaluated)
        for world in ("dream", "real")
        for case, work in places.items()
        for seed in range(args.seeds)
    ]
    left = [job for job in jobs if not job.file.exists()]
    list(progress_bar(pool.imap(run, left, args.workers), "learners", len(left)))
    entries = [
        entry(case, work, [job for job in jobs if job.case is case], args.evaluated) for case, work in places.items()
    ]
    write_json(args.out / "general.json", entries)
    write_text(args.out / "general.md", text := report(entries))
    print(text)
