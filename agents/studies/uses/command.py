"""What a world model is good for without RL: planning, and foresight, measured in physics on held-out seeds.

    python -m agents.studies.uses --episodes 40

Plays every arm on the same starts, writes episode by episode into `--work` and goes on from there when it is called
again, and writes `uses.json` and `uses.md` from what has been played.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dream_env.agents.eval.results import EpisodeResult, load_results, save_results, summarize
from dream_env.agents.eval.statistics import Interval, markdown_table, paired_difference
from dream_env.agents.foresee.command import oracle
from dream_env.agents.nicol.rollouts import Batch, play
from dream_env.agents.planners.foresight import Foresight, ForesightConfig
from dream_env.agents.planners.planner import Planner, PlannerConfig
from dream_env.agents.run import workers as pool
from dream_env.agents.studies.uses import amplify, bound
from dream_env.agents.studies.uses.arguments import Arguments
from dream_env.agents.studies.uses.arms import ARMS, METRIC
from dream_env.files import write_json, write_text
from dream_env.nicol.dream import NicoLDreamVectorEnv
from dream_env.nicol.tasks import TASKS
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint

ENOUGH = 30
"""Episodes from which on the best of several arms says something."""


def play_arm(label: str, args: Arguments) -> None:
    """Plays what of an arm has not been played, one file of episodes for it."""
    arm, file = ARMS[label], args.work / f"{_name(label)}.jsonl"
    done = load_results(file) if file.is_file() else []
    seen = {(result.task, result.seed) for result in done}
    policy = arm.policy
    if arm.use == "amplify":
        policy = str(amplify.make(arm.policy, amplification(args, arm.seed), args.workers))
    if arm.config is not None:
        policy = str(args.work / f"{_name(label)}.json")
        maker: Any = Planner if isinstance(arm.config, PlannerConfig) else Foresight
        write_json(Path(policy), {"kind": maker.kind, **asdict(arm.config)})
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


def amplification(args: Arguments, seed: int = 0) -> amplify.Amplification:
    """Returns what is imagined and cloned for the arms `amplify`.

    Raises:
        ValueError: If there are no demonstrations.
    """
    if args.data is None:
        raise ValueError("data=None; accepted for the arms of amplification: a folder of agents.collect")
    sizes = {name: getattr(args, f"amplify_{name}") for name in ("starts", "variants", "updates")}
    return amplify.Amplification(args.data, args.work / "amplify", args.tasks, **sizes, seed=seed)


def measure_speed(draws: int = 5) -> dict[str, float]:
    """Measures what an iCEM plan of 96 x 4 candidates x 8 steps takes of one core, by embedding and by metric.

    Returns:
        `plan_seconds` (energy), `plan_metric_seconds`, and the imagined steps per second beside the vector env's.
    """
    torch.set_num_threads(1)
    model = checkpoint.load("default")
    envs = NicoLDreamVectorEnv(384, "all")
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
        planner = Planner(PlannerConfig(objective=objective), model)
        observation = {name: part[:1] for name, part in envs.dreams.observation().items()}

        def once() -> None:
            planner.reset()
            planner.act(observation)

        return once

    own = 384 / seconds(lambda: envs.step(actions))
    took = {"plan_seconds": seconds(plan({"energy": 1.0})), "plan_metric_seconds": seconds(plan(METRIC))}
    rate = {name.replace("seconds", "steps_per_second"): 96 * 4 * 8 / value for name, value in took.items()}
    return {**took, **rate, "vector_env_steps_per_second": own}


def reduce(results: Iterable[EpisodeResult]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Makes the cells and the summary of the report of what has been played."""
    played = list(results)
    rows = {(row["policy"], row["task"]): row for row in summarize(played)["rows"] if row["world"] == "physics"}
    cells = []
    for (label, task), row in rows.items():
        arm = ARMS[label]
        config = arm.config
        cells.append(
            {
                "label": label,
                "use": arm.use,
                "solver": config.solver if isinstance(config, PlannerConfig) else None,
                "objective": None if config is None else dict(config.objective),
                "prior": config.prior
                if isinstance(config, PlannerConfig)
                else arm.policy or getattr(config, "policy", None),
                "demos": arm.demos,
                "task": task,
                "seed": arm.seed,
                "episodes": row["episodes"],
                "physics_success": row["value"],
                "low": row["low"],
                "high": row["high"],
                "ms_per_action": row["milliseconds"],
                "physics_steps": bound.steps_per_episode(config, TASKS[task].horizon)
                if arm.use == "bound" and isinstance(config, PlannerConfig) and task in TASKS
                else 0,
            }
        )
    gain = difference(played, "few", "metric, few")
    amplified = {control: gained(played, control) for control in amplify.CONTROLS[1:]}
    reach = max(
        (
            row["value"]
            for (label, task), row in rows.items()
            if task == "reach" and ARMS[label].use == "plan" and not ARMS[label].demos and row["episodes"] >= ENOUGH
        ),
        default=None,
    )
    return cells, {
        "plan_reach_no_prior": reach,
        "plan_gain_points": _points(gain.value),
        "plan_gain_low_points": _points(gain.low),
        **_told("foresight_gain", difference(played, "few", "foresight")),
        **_told("foresight_at_100", difference(played, "default", "foresight, default")),
        **_told("foresight_sure_gain", difference(played, "few", "foresight, sure")),
        **_told("foresight_sure_at_100", difference(played, "default", "foresight, sure, default")),
        **_told("amplify_gain", amplified["filtered"]),
        **_told("amplify_unfiltered", amplified["unfiltered"]),
        **_told("amplify_oracle", amplified["oracle"]),
        **_told("amplify_foresight", amplified["foresight"]),
    }


def gained(played: Iterable[EpisodeResult], control: str) -> Interval:
    """Returns what cloning imagined episodes gains over real ones alone, all seeds of policies together."""
    played, pairs = list(played), []
    for label, arm in ARMS.items():
        if arm.use == "amplify" and arm.policy == "real":
            pairs += paired(played, label, label.replace("real", control))
    return paired_difference([before for before, _ in pairs], [after for _, after in pairs])


def difference(played: Iterable[EpisodeResult], before: str, after: str) -> Interval:
    """Returns the difference of success of two arms on the starts that both have played, all tasks together."""
    pairs = paired(played, before, after)
    return paired_difference([first for first, _ in pairs], [second for _, second in pairs])


def paired(played: Iterable[EpisodeResult], before: str, after: str) -> list[tuple[float, float]]:
    """Returns the successes of two arms on the starts that both have played."""
    played = list(played)
    first, second = (
        {(r.task, r.seed): float(r.success) for r in played if r.label == label and not r.solved_at_start}
        for label in (before, after)
    )
    return [(first[key], second[key]) for key in sorted(set(first) & set(second))]


def headroom(found: Mapping[str, Any], results: Iterable[EpisodeResult]) -> dict[str, float | None]:
    """Returns pass@1 and pass@K of the oracle over its tasks, and what share of the way between foresight goes."""
    count = sum(row["episodes"] for row in found.values())
    one, several = (sum(row["episodes"] * row[name] for row in found.values()) / count for name in ("pass_1", "pass_k"))
    played = [result for result in results if result.task in found]
    gain = difference(played, "few", "foresight").value
    share = None if np.isnan(gain) or several <= one else gain / (several - one)
    return {"oracle_pass_1": one, "oracle_pass_k": several, "foresight_share_of_headroom": share}


def table(cells: Iterable[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """Renders the report."""
    cells = list(cells)
    tasks = [task for task in (*TASKS, "all") if any(cell["task"] == task for cell in cells)]
    lines = []
    for label in dict.fromkeys(cell["label"] for cell in cells):
        own = {cell["task"]: cell for cell in cells if cell["label"] == label}
        first = next(iter(own.values()))
        rates = [
            Interval(own[t]["physics_success"], own[t]["low"], own[t]["high"]).percent() if t in own else "–"
            for t in tasks
        ]
        times = [cell["ms_per_action"] for cell in own.values() if cell["ms_per_action"] is not None]
        lines.append(
            [
                label,
                first["use"],
                first["demos"],
                *rates,
                max(c["episodes"] for c in own.values()),
                f"{np.mean(times):.0f}",
            ]
        )
    header = ["arm", "use", "demonstrations", *tasks, "episodes", "ms / action"]
    text = "Success in physics at the end of the episode on the same held-out starts, 95 % Wilson intervals.\n\n"
    figures = [[name, "–" if value is None else f"{value:.3g}"] for name, value in summary.items()]
    return text + markdown_table(header, lines) + "\n\n" + markdown_table(["figure", "value"], figures) + "\n"


def write(args: Arguments, extra: Mapping[str, Any]) -> str:
    """Writes the report of everything that has been played; returns its text.

    What a report in `args.out` tells of other arms is kept: arms are played in parts, and seldom all in one folder.
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
    write_json(file, {"seed": args.seed, "cells": cells, "oracle": found, "summary": summary})
    text = table(cells, summary)
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
        extra["oracle"] = oracle(ForesightConfig(), args.tasks, seeds, ForesightConfig.candidates, args.workers)
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


def _points(value: float) -> float | None:
    return None if np.isnan(value) else round(100 * value, 1)


def _told(name: str, gain: Interval) -> dict[str, float | None]:
    return {
        f"{name}_points": _points(gain.value),
        f"{name}_low_points": _points(gain.low),
        f"{name}_high_points": _points(gain.high),
    }
