"""Refits a world model to a policy's behavior: `python -m agents.coevolve --policy DIR --data DIR --out DIR`.

A policy that was trained in a dream moves to states that are rare in the recorded episodes, and there the dream errs in
its favor. This command therefore records the policy in the real environment, and continues to fit the world model to
the old and the new episodes; the encoder stays fixed, so existing policies still fit. It then compares the policy's
success (its return, where success is unknown) in the real environment with that in the dreams before and after. For
NICOL, in half of the recorded episodes physics executes the actions that the policy chooses in a dream with the same
initial state. WMPO (arXiv:2511.09515) also fits its world model to the policy's behavior. An interrupted run continues
when the same command is given again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents import collect
from dream_env.agents.coevolve.arguments import Arguments
from dream_env.agents.coevolve.refits import REFITS
from dream_env.agents.eval import any_world
from dream_env.agents.eval.results import EpisodeResult, World
from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.evaluate.command import Settings, evaluate
from dream_env.agents.policies import registry
from dream_env.agents.run.config import check_out, check_settings
from dream_env.agents.run.worlds import spec_of, tasks_of
from dream_env.agents.train.arguments import VALIDATION_SEED
from dream_env.checks import check_choice
from dream_env.data.episodes import EpisodeDataset
from dream_env.files import write_json, write_text
from dream_env.preparation import Preparation
from dream_env.world_models import checkpoint

Outcomes = dict[str, float]
"""Mean success of a policy by task, or its mean return under the name of the environment."""


def coevolve(args: Arguments) -> dict[str, Any]:
    """Runs all steps that are not done yet and returns the report as JSON values; errors as in `record_and_refit`."""
    refitted = record_and_refit(args)
    file = args.out / "coevolution.json"
    if file.is_file():
        return json.loads(file.read_text())
    report: dict[str, Any] = {"policy": str(args.policy), "episodes": args.episodes, "measured": args.measured}
    report["figure"], report["real"] = outcomes(args, args.world_model, "physics")
    report["before"] = outcomes(args, args.world_model, "dream")[1]
    report["after"] = outcomes(args, str(refitted), "dream")[1]
    write_json(file, report)
    write_text(args.out / "coevolution.md", table(report))
    return report


def record_and_refit(args: Arguments) -> Path:
    """Records the policy and refits the world model, unless already done; returns the folder of the new world model.

    Raises:
        FileNotFoundError: If the policy, the data or the world model is missing.
        ValueError: If the policy was trained with another encoder, the world model is of a kind that cannot be
            refitted, or `args.out` holds a run with other settings.
    """
    check(args)
    recorded, refitted = args.out / "episodes", args.out / "world_model"
    record(args, recorded)
    if not (refitted / "metrics.json").is_file():
        REFITS[checkpoint.load(args.world_model).kind](args, recorded, refitted)
    return refitted


def check(args: Arguments) -> None:
    """Raises errors now that would otherwise occur after recording, and saves the settings.

    Errors as in `record_and_refit`.
    """
    check_out(args.out)
    file = args.out / "coevolve_settings.json"  # `agents.studies.transfer` uses settings.json
    if file.is_file():
        check_settings(args.out, json.loads(file.read_text()), args.settings())
    model: Any = checkpoint.load(args.world_model)
    if model.kind not in REFITS:
        raise ValueError(f"world_model={args.world_model!r} is of kind {model.kind!r}; accepted: {', '.join(REFITS)}")
    config = registry.load(str(args.policy)).config
    if hasattr(config, "check_encoder"):
        config.check_encoder(args.world_model)
    if args.task != "all":
        check_choice("task", args.task, (*tasks_of(args.world_model), "all"))
    data = EpisodeDataset.load(*args.data)
    if data.spec.forms != model.spec.forms:
        raise ValueError(
            f"data={[str(folder) for folder in args.data]} are of {data.spec.name}, with {data.spec.forms}; accepted: "
            f"episodes of {model.spec.name}, with {model.spec.forms}"
        )
    write_json(file, args.settings())


def record(args: Arguments, out: Path) -> None:
    """Records the policy in the real environment, the same number of episodes in each task (or one more)."""
    spec, tasks = spec_of(args.world_model), tasks_of(args.world_model)
    how: dict[str, Any] = {"policy": str(args.policy), "seed": args.seed, "workers": args.workers, "scene": args.scene}
    if not tasks:
        how |= {"max_steps": spec.horizon, **collect.prepared(Preparation.of(spec.preparation))}
        collect.collect(collect.Arguments(out, args.episodes, spec.name, **how))
        return
    how |= {"mix": "policy:0.5,dreamt:0.5", "world_model": str(checkpoint.resolve(args.world_model))}
    for i, task in enumerate(tasks := tasks if args.task == "all" else (args.task,)):
        share = (args.episodes + len(tasks) - 1 - i) // len(tasks)
        collect.collect(collect.Arguments(out, share, task=task, **how))


def outcomes(args: Arguments, world_model: str, world: World) -> tuple[str, Outcomes]:
    """Lets the policy act on validation seeds in physics (the real environment) or in a dream.

    Returns:
        What was measured, "success" or "return", and its means.
    """
    tasks, policy = tasks_of(world_model), str(args.policy)
    if not tasks:
        if world == "dream":
            played = any_world.play_dream(policy, world_model, args.measured, VALIDATION_SEED)
        else:
            played = any_world.play_real(policy, None, world_model, args.measured, VALIDATION_SEED)
        figure, values = ("success", played.success) if played.success else ("return", played.returns)
        return figure, {spec_of(world_model).name: float(np.mean(values))}
    settings = Settings({"policy": policy}, tasks, args.measured, VALIDATION_SEED, world_model)
    settings = replace(settings, scene=args.scene or settings.scene)
    return "success", successes(evaluate(settings, args.workers, (world,)))


def successes(results: list[EpisodeResult]) -> Outcomes:
    """Returns the success rates by task, without episodes that are solved at the start."""
    found: Outcomes = {}
    for task in dict.fromkeys(one.task for one in results):
        own = [one.success for one in results if one.task == task and not one.solved_at_start]
        found[task] = float(np.mean(own)) if own else float("nan")
    return found


def table(report: dict[str, Any]) -> str:
    """Formats the report as a Markdown table."""
    form = "{:.0%}".format if report["figure"] == "success" else "{:.4g}".format
    rows = [
        [name, form(real), form(report["before"][name]), form(report["after"][name])]
        for name, real in report["real"].items()
    ]
    header = ["", f"{report['figure']}, real", "in the dream before", "in the dream after"]
    return markdown_table(header, rows) + "\n"


def main(args: Arguments) -> None:
    """Runs the command."""
    print("\n" + table(coevolve(args)))
    print(f"World model: {(args.out / 'world_model').resolve()}")
