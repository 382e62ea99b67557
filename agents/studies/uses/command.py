"""Measures planning and foresight with a world model, in physics on held-out seeds.

    python -m agents.studies.uses --episodes 40

The study runs every arm from the same starts and writes uses.json and uses.md. Episodes are saved in `--work` one by
one; running the same command again resumes an interrupted study. The report covers all finished episodes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dream_env.agents.eval.results import load_results, save_results
from dream_env.agents.foresee.command import oracle
from dream_env.agents.nicol.rollouts import Batch, play
from dream_env.agents.planners.foresight import Foresight
from dream_env.agents.planners.planner import Planner, PlannerConfig
from dream_env.agents.run import workers as pool
from dream_env.agents.studies.uses import amplify, bound
from dream_env.agents.studies.uses.arguments import Arguments
from dream_env.agents.studies.uses.arms import AHEAD, ARMS, MADE, METRIC
from dream_env.agents.studies.uses.report import gains, headroom, reduce, shown, table, together
from dream_env.files import write_json, write_text
from dream_env.nicol.dream import NicoLDreamVectorEnv
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint


def play_arm(label: str, args: Arguments) -> None:
    """Runs the missing episodes of an arm, which are kept in one file."""
    arm, file = ARMS[label], args.work / f"{_name(label)}.jsonl"
    done = load_results(file) if file.is_file() else []
    seen = {(result.task, result.seed) for result in done}
    policy = arm.policy
    config = arm.config
    if arm.use == "amplify":
        policy = str(amplify.make(arm.policy, amplification(args, arm.seed), args.workers))
    elif label in MADE:
        source = amplification(args, arm.seed, arm.demos)
        policy = str(amplify.practise(source) if "practice" in arm.use else amplify.make("real", source))
        if config is not None:
            name = "prior" if isinstance(config, PlannerConfig) else "policy"
            config = replace(config, **{name: policy})  # type: ignore[arg-type]
    if config is not None:
        policy = str(args.work / f"{_name(label)}.json")
        maker: Any = Planner if isinstance(config, PlannerConfig) else Foresight
        write_json(Path(policy), {"kind": maker.kind, **asdict(config)})
    seeds = range(args.seed, args.seed + args.episodes)
    batches = [
        Batch(policy, label, "physics", task, (seed,))
        for seed in seeds
        for task in args.tasks
        if (task, seed) not in seen
    ]
    player = bound.play if arm.use == "bound" else play
    for played in progress_bar(
        pool.imap(player, batches, args.workers), total=len(batches), desc=label, unit="episode"
    ):
        done += played
        save_results(done, file)


def amplification(args: Arguments, seed: int = 0, demos: int = amplify.DEMOS) -> amplify.Amplification:
    """Returns the settings of amplification for the arms whose policies the study trains.

    Raises:
        ValueError: If --data is missing.
    """
    if args.data is None:
        raise ValueError("data=None; accepted for arms whose policies are trained here: a folder of agents.collect")
    sizes = {name: getattr(args, f"amplify_{name}") for name in ("starts", "variants", "updates")}
    return amplify.Amplification(args.data, args.work / "amplify", args.tasks, **sizes, seed=seed, demos=demos)


def measure_speed(draws: int = 5) -> dict[str, float]:
    """Measures the CPU time of an iCEM plan of 96 x 4 candidates x 8 steps on one core, by energy and by metric.

    Returns:
        `plan_seconds` (energy), `plan_metric_seconds`, the imagined steps per second of both, and those of the vector
        env.
    """
    torch.set_num_threads(1)
    model = checkpoint.load("state_grounded")
    envs = NicoLDreamVectorEnv(384, "all", world_model="state_grounded")
    envs.reset(seed=0)
    actions = np.zeros((384, 4), np.float32)

    def seconds(function: Any) -> float:
        function()
        taken = []
        for _ in range(draws):
            before = time.process_time()
            function()
            taken.append(time.process_time() - before)
        return float(np.median(taken))

    def plan(objective: dict[str, float]) -> Any:
        planner = Planner(PlannerConfig("state_grounded", objective=objective), model)
        observation = {name: part[:1] for name, part in envs.dreams.observation().items()}

        def once() -> None:
            planner.reset()
            planner.act(observation)

        return once

    own = 384 / seconds(lambda: envs.step(actions))
    took = {"plan_seconds": seconds(plan({"energy": 1.0})), "plan_metric_seconds": seconds(plan(METRIC))}
    rate = {name.replace("seconds", "steps_per_second"): 96 * 4 * 8 / value for name, value in took.items()}
    return {**took, **rate, "vector_env_steps_per_second": own}


def write(args: Arguments, extra: Mapping[str, Any]) -> str:
    """Writes the report of all finished episodes; returns its text.

    Results of other arms in an existing report in `args.out` are kept, because arms are often run in several parts and
    folders.
    """
    files = [(label, args.work / f"{_name(label)}.jsonl") for label in ARMS]
    results = [r for label, file in files if file.is_file() for r in load_results(file)]
    cells, summary = reduce(results)
    played = {name: value for name, value in extra.items() if name not in ("oracle", "bound")}
    summary |= played | (headroom(extra["oracle"], results) if "oracle" in extra else {})
    cells += extra.get("bound", [])
    earlier = json.loads(file.read_text()) if (file := args.out / "uses.json").is_file() else {}
    there = {cell["label"] for cell in cells}
    cells += [cell for cell in earlier.get("cells", []) if cell["label"] not in there]
    before = earlier.get("summary", {})
    best = [one["plan_reach_no_prior"] for one in (before, summary) if one.get("plan_reach_no_prior") is not None]
    summary["plan_reach_no_prior"] = max(best, default=None)
    summary = before | {name: value for name, value in summary.items() if value is not None}
    found = extra.get("oracle") or earlier.get("oracle")
    methods = together(results) or earlier.get("methods", [])
    summary |= gains(methods)
    about = {"seed": args.seed, "methods": methods, "table": shown(methods), "cells": cells, "oracle": found}
    write_json(file, about | {"summary": summary})
    text = table(methods, cells, summary)
    write_text(args.out / "uses.md", text)
    return text


def main(args: Arguments) -> None:
    """Runs the command."""
    arms = () if args.arms == ("none",) else args.arms or tuple(ARMS)
    if unknown := set(arms) - set(ARMS):
        raise ValueError(f"arms={sorted(unknown)[0]!r}; accepted: none, {', '.join(ARMS)}")
    for label in arms:
        play_arm(label, args)
    extra = json.loads(kept.read_text()) if (kept := args.work / "extra.json").is_file() else {}
    if args.oracle_episodes:
        seeds = range(args.seed, args.seed + args.oracle_episodes)
        extra["oracle"] = oracle(AHEAD, args.tasks, seeds, AHEAD.candidates, args.workers)
    amplified = {ARMS[label].policy for label in arms if ARMS[label].use == "amplify"}
    for control, name in (("filtered", "filter"), ("foresight", "foresight_filter")):
        if control in amplified:
            extra |= amplify.precision(amplify.imagine(amplification(args), args.workers, control), name)
    if args.speed:
        extra |= measure_speed()
    write_json(kept, extra)
    print(write(args, extra))


def _name(label: str) -> str:
    return label.replace(", ", "_").replace(" ", "_")
