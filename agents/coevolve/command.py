"""Refits a world model to a policy's behavior: `python -m agents.coevolve --policy DIR --data DIR --out DIR`.

A policy that was trained in a dream moves to states that are rare in the recorded episodes, and there the dream errs in
its favor. This command therefore records the policy in the real environment, and continues to fit the world model to
the old and the new episodes. The encoder stays fixed, so existing policies still fit; only the numbers in a recurrent
memory change (kinds `dynamics` with pictures, and `vmc`). It then compares the policy's success (its return, where
success is unknown) in the real environment with that in the dreams before and after. For NICOL, in half of the recorded
episodes physics executes the actions that the policy chooses in a dream with the same initial state. WMPO
(arXiv:2511.09515) also fits its world model to the policy's behavior. An interrupted run continues when the same
command is given again.
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
from dream_env.agents.eval.results import WORLDS, EpisodeResult, World
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

EPISODES, REFITTED = "episodes", "world_model"
"""Folders in the output folder."""
Outcomes = dict[str, float]
"""Mean success or return of a policy by task; under "all" in an environment without tasks."""


def coevolve(args: Arguments) -> dict[str, Any]:
    """Runs all steps that are not done yet and returns the report as JSON values; errors as in `record_and_refit`."""
    refitted = record_and_refit(args)
    file = args.out / "coevolution.json"
    if file.is_file() and (known := json.loads(file.read_text()))["measured"] == args.measured:
        return known
    real, before = (outcomes(args, args.world_model, world) for world in WORLDS)
    after = outcomes(args, str(refitted), "dream")
    figure = "success" if all("success" in part for part in (real, before, after)) else "return"
    report: dict[str, Any] = {"policy": str(args.policy), "episodes": args.episodes, "measured": args.measured}
    report |= {"figure": figure, "real": real[figure], "before": before[figure], "after": after[figure]}
    write_json(file, report)
    write_text(args.out / "coevolution.md", table(report))
    return report


def record_and_refit(args: Arguments) -> Path:
    """Records the policy and refits the world model, unless already done; returns the folder of the new world model.

    Raises:
        FileNotFoundError: If the policy, the data or the world model is missing.
        ValueError: If the policy or the data do not fit the world model, the world model is of a kind that cannot be
            refitted, or `args.out` holds a run with other settings, or something else.
    """
    check(args)
    for recording in recordings(args):
        collect.collect(recording)
    refitted = args.out / REFITTED
    if not (refitted / "metrics.json").is_file():
        REFITS[checkpoint.load(args.world_model).kind](args, args.out / EPISODES, refitted)
    return refitted


def check(args: Arguments) -> None:
    """Raises errors now that would otherwise occur after recording, and saves the settings.

    Errors as in `record_and_refit`.
    """
    check_out(args.out, None, args.policy, args.world_model, *args.data)
    file = args.out / "coevolve_settings.json"  # `agents.studies.transfer` uses settings.json
    if file.is_file():
        check_settings(args.out, json.loads(file.read_text()), args.settings())
    elif found := [name for name in (EPISODES, REFITTED) if (args.out / name).exists()]:
        raise ValueError(f"out={args.out} holds {found[0]}/ of another command; accepted: a new folder")
    model: Any = checkpoint.load(args.world_model)
    if model.kind not in REFITS:
        raise ValueError(f"world_model={args.world_model!r} is of kind {model.kind!r}; accepted: {', '.join(REFITS)}")
    config: Any = getattr(registry.load(str(args.policy)), "config", None)
    if (named := registry.world_model_of(str(args.policy))) and spec_of(named).shapes != model.spec.shapes:
        raise ValueError(
            f"policy={str(args.policy)!r} was trained in a world model of {spec_of(named).name}; accepted: one of "
            f"{model.spec.name}"
        )
    if hasattr(config, "check_encoder"):
        config.check_encoder(args.world_model)
    if args.task != "all":
        check_choice("task", args.task, (*tasks_of(args.world_model), "all"))
    recorded = EpisodeDataset.load(*args.data).spec
    for name in ("name", "shapes", "preparation"):
        given, needed = getattr(recorded, name), getattr(model.spec, name)
        if given != needed:
            raise ValueError(
                f"data={[str(folder) for folder in args.data]}: {name} {given}; accepted: episodes of "
                f"{model.spec.name}, with {name} {needed}"
            )
    for recording in recordings(args):
        recording.jobs()
    write_json(file, args.settings())


def recordings(args: Arguments) -> list[collect.Arguments]:
    """Returns what to record in the real environment: the same number of episodes in each task (or one more)."""
    spec, tasks, out = spec_of(args.world_model), tasks_of(args.world_model), args.out / EPISODES
    how: dict[str, Any] = {"policy": str(args.policy), "seed": args.seed, "workers": args.workers, "scene": args.scene}
    if not tasks:
        how |= {"max_steps": spec.horizon, **collect.prepared(Preparation.of(spec.preparation))}
        return [collect.Arguments(out, args.episodes, spec.name, **how)]
    how |= {"mix": "policy:0.5,dreamt:0.5", "world_model": str(checkpoint.resolve(args.world_model))}
    tasks = tasks if args.task == "all" else (args.task,)
    shares = [(args.episodes + len(tasks) - 1 - i) // len(tasks) for i in range(len(tasks))]
    return [collect.Arguments(out, n, task=task, **how) for task, n in zip(tasks, shares, strict=True)]


def outcomes(args: Arguments, world_model: str, world: World) -> dict[str, Outcomes]:
    """Lets the policy act on validation seeds in physics (the real environment) or in a dream.

    Returns:
        The means of what was measured: "return" and, where it is known, "success".
    """
    tasks, policy = tasks_of(world_model), str(args.policy)
    if not tasks:
        where = "dream" if world == "dream" else "real"
        how = (None, world_model, args.measured, VALIDATION_SEED, args.workers, (where,))
        (played,) = any_world.evaluate({"policy": policy}, *how).values()
        means: dict[str, Any] = {"return": played.returns, "success": played.success}
        return {figure: {"all": float(np.mean(values))} for figure, values in means.items() if values}
    settings = Settings({"policy": policy}, tasks, args.measured, VALIDATION_SEED, world_model)
    settings = replace(settings, scene=args.scene or settings.scene)
    return {"success": successes(evaluate(settings, args.workers, (world,)))}


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
    args = replace(args, world_model=registry.named_world_model(args.world_model, args.policy))
    print("\n" + table(coevolve(args)))
    print(f"World model: {(args.out / REFITTED).resolve()}")
