"""What a world model is good for without RL: planning, and foresight, measured in physics on held-out seeds.

    python -m agents.studies.uses --episodes 40

Plays every arm on the same starts, writes episode by episode into `--work` and goes on from there when it is called
again, and writes `uses.json` and `uses.md` from what has been played.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dream_env.agents.eval.results import EpisodeResult, load_results, save_results, summarize
from dream_env.agents.eval.statistics import Interval, markdown_table, paired_difference
from dream_env.agents.foresee.command import oracle
from dream_env.agents.nicol.physics_starts import carry_out, physics_starts
from dream_env.agents.nicol.rollouts import Batch, play
from dream_env.agents.planners.foresight import Foresight, ForesightConfig
from dream_env.agents.planners.planner import Planner, PlannerConfig
from dream_env.agents.planners.prior import Prior, load_policy
from dream_env.agents.planners.problem import Noise
from dream_env.agents.run import workers as pool
from dream_env.agents.studies.uses.arguments import Arguments
from dream_env.agents.synthesize import command as synthesize
from dream_env.agents.synthesize.arguments import Arguments as Synthesize
from dream_env.files import write_json, write_text
from dream_env.nicol.dream import NicoLDreamVectorEnv
from dream_env.nicol.tasks import TASKS
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint

METRIC = {"metric": 1.0}
CLOSED = PlannerConfig(objective=METRIC, path=1.0, execute=1, horizon=8)
"""Planning anew at every step, found on seeds from 200,000 on."""
NEAR = PlannerConfig(
    objective=ForesightConfig().objective,
    options={"samples": 48, "iterations": 2, "std": 0.25},
    execute=2,
    prior="few",
    anchor=2.0,
    draws=4,
)
"""Plans near a prior: of three ways the best on seeds from 200,000 on. A free search was worse than the prior."""
LIGHT = {"samples": 64, "iterations": 3}
"""Half the usual budget, where pictures have to be imagined."""


@dataclass(frozen=True)
class Arm:
    """One way to act.

    Attributes:
        use: "clone", "plan" or "foresight".
        demos: Demonstrations per task that its policy was cloned from; 0 without a policy.
        config: What plans or foresees; None for the policy by itself.
        policy: The policy by itself.
    """

    use: str
    demos: int
    config: PlannerConfig | ForesightConfig | None = None
    policy: str = ""


ARMS = {
    "few": Arm("clone", 5, policy="few"),
    "metric": Arm("plan", 0, CLOSED),
    "metric, few": Arm("plan", 5, NEAR),
    "energy": Arm("plan", 0, replace(CLOSED, objective={"energy": 1.0}, execute=3, options=LIGHT)),
    "metric, random shooting": Arm("plan", 0, replace(CLOSED, solver="random")),
    "metric, cem": Arm("plan", 0, replace(CLOSED, solver="cem")),
    "metric, mppi": Arm("plan", 0, replace(CLOSED, solver="mppi")),
    "metric, gradient": Arm("plan", 0, replace(CLOSED, solver="gradient")),
    "foresight": Arm("foresight", 5, ForesightConfig()),
    "foresight, margin": Arm("foresight", 5, ForesightConfig(margin=1.5)),
    "foresight, metric": Arm("foresight", 5, ForesightConfig(objective=METRIC)),
    "foresight, metric, worst": Arm("foresight", 5, ForesightConfig(objective=METRIC, pick="worst")),
    "foresight, random": Arm("foresight", 5, ForesightConfig(pick="random")),
    "default": Arm("clone", 100, policy="default"),
    "foresight, default": Arm("foresight", 100, ForesightConfig(policy="default")),
    "foresight, margin, default": Arm("foresight", 100, ForesightConfig(policy="default", margin=1.5)),
}
"""What is compared, by label, the most wanted first."""


def play_arm(label: str, args: Arguments) -> None:
    """Plays what of an arm has not been played, one file of episodes for it."""
    arm, file = ARMS[label], args.work / f"{_name(label)}.jsonl"
    done = load_results(file) if file.is_file() else []
    seen = {(result.task, result.seed) for result in done}
    policy = arm.policy
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
    for played in progress_bar(pool.imap(play, batches, args.workers), total=len(batches), desc=label, unit="episode"):
        done += played
        save_results(done, file)


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


def measure_filter(seeds: Iterable[int], tasks: Iterable[str], variants: int = 2) -> dict[str, float]:
    """Measures how often physics confirms imagined episodes: the same actions, from the same start, open loop.

    Returns:
        `filter_precision` of those that `agents.synthesize` keeps, `filter_precision_unfiltered` of all that succeed in
        the dream, `filter_base` of all that were imagined, and `filter_kept`, the share that is kept.
    """
    model, prior = checkpoint.load("default"), Prior(load_policy("few"), Synthesize.std)
    kept, wins, true = [], [], []
    for task in tasks:
        for seed in progress_bar(list(seeds), desc=f"filter {task}", unit="start"):
            starts, solved = physics_starts(task, (seed,))
            if solved[0]:
                continue
            row = np.zeros(1, np.int64)
            state, goal = starts.states(model, row), starts.goals(model, row)
            dreamt = synthesize.dream(model, prior, state, goal, variants, 4, Noise([seed]))
            kept += dreamt.kept(model.spec.hold_steps, 3, model.config.disagreement_threshold).tolist()
            wins += dreamt.success[:, -model.spec.hold_steps :].all(1).tolist()
            true += [carry_out(task, seed, actions).is_success for actions in dreamt.actions.numpy()]
    confirmed = np.array(true, float)
    return {
        "filter_precision": float(confirmed[np.array(kept)].mean()),
        "filter_precision_unfiltered": float(confirmed[np.array(wins)].mean()),
        "filter_base": float(confirmed.mean()),
        "filter_kept": float(np.mean(kept)),
    }


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
                "seed": 0,
                "episodes": row["episodes"],
                "physics_success": row["value"],
                "low": row["low"],
                "high": row["high"],
                "ms_per_action": row["milliseconds"],
            }
        )
    gain, gain100 = (difference(played, *pair) for pair in (("few", "metric, few"), ("default", "foresight, default")))
    foresight = difference(played, "few", "foresight")
    reach = max(
        (row["value"] for (label, task), row in rows.items() if task == "reach" and not ARMS[label].demos), default=None
    )
    return cells, {
        "plan_reach_no_prior": reach,
        "plan_gain_points": _points(gain.value),
        "plan_gain_low_points": _points(gain.low),
        "foresight_gain_points": _points(foresight.value),
        "foresight_gain_low_points": _points(foresight.low),
        "foresight_at_100_points": _points(gain100.value),
    }


def difference(played: Iterable[EpisodeResult], before: str, after: str) -> Interval:
    """Returns the difference of success of two arms on the starts that both have played, all tasks together."""
    by_arm = [
        {(r.task, r.seed): float(r.success) for r in played if r.label == label and not r.solved_at_start}
        for label in (before, after)
    ]
    common = sorted(set(by_arm[0]) & set(by_arm[1]))
    first, second = ([arm[key] for key in common] for arm in by_arm)
    return paired_difference(first, second)


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
    """Writes the report of everything that has been played; returns its text."""
    files = [(label, args.work / f"{_name(label)}.jsonl") for label in ARMS]
    results = [r for label, file in files if file.is_file() for r in load_results(file)]
    cells, summary = reduce(results)
    played = {name: value for name, value in extra.items() if name != "oracle"}
    summary |= played | (headroom(extra["oracle"], results) if "oracle" in extra else {})
    write_json(
        args.out / "uses.json", {"seed": args.seed, "cells": cells, "oracle": extra.get("oracle"), "summary": summary}
    )
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
    if args.filter_episodes:
        extra |= measure_filter(range(args.seed, args.seed + args.filter_episodes), args.tasks)
    if args.speed:
        extra |= measure_speed()
    write_json(kept, extra)
    print(write(args, extra))


def _name(label: str) -> str:
    return label.replace(", ", "_").replace(" ", "_")


def _points(value: float) -> float | None:
    return None if np.isnan(value) else round(100 * value, 1)
