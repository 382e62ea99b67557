"""Plans with a world model, and evaluates the plans in physics and in the dream.

    python -m agents.plan --solver icem --objective energy --task push --episodes 100 --out runs/plan
    python -m agents.plan --prior unlabelled --objective energy disagreement=20 --out runs/plan_near

In addition to the report it writes planner.json, a policy that `python -m agents.evaluate --policy` accepts. With a
prior, the prior policy alone is evaluated on the same seeds, as a baseline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dream_env import hub
from dream_env.agents.eval import any_world
from dream_env.agents.eval.results import write_report
from dream_env.agents.evaluate.command import Settings, evaluate, record_clips
from dream_env.agents.plan.arguments import Arguments
from dream_env.agents.planners.objectives import usual
from dream_env.agents.planners.planner import SOLVERS, Planner, PlannerConfig
from dream_env.agents.policies.registry import named_world_model
from dream_env.agents.run.config import check_out
from dream_env.agents.run.worlds import spec_of, tasks_of
from dream_env.world_models import checkpoint


def weights(terms: Sequence[str]) -> dict[str, float]:
    """Parses the terms of an objective, each as NAME or NAME=WEIGHT, into weights by name.

    Raises:
        ValueError: If a weight is not a number.
    """
    found = {}
    for term in terms:
        name, _, weight = term.partition("=")
        try:
            found[name] = float(weight or 1)
        except ValueError:
            raise ValueError(f"objective={term!r}; accepted: NAME or NAME=WEIGHT") from None
    return found


def tasks(task: str, world_model: str) -> tuple[str, ...]:
    """Returns the tasks to evaluate: those of the world model for "all", else the one that is named."""
    return tasks_of(world_model) if task == "all" else (task,)


def config(args: Arguments) -> PlannerConfig:
    """Returns the config of the planner that the arguments describe."""
    given: dict[str, Any] = {"samples": args.samples, "iterations": args.iterations}
    solver: Any = SOLVERS.get(args.solver)
    if args.samples and args.samples < getattr(solver, "elites", 0):
        given["elites"] = max(1, args.samples // 4)
        given["kept"] = min(solver.kept, given["elites"])
    return PlannerConfig(
        args.world_model,
        args.solver,
        {name: value for name, value in given.items() if value is not None},
        weights(args.objective) or default_objective(args.world_model),
        args.path,
        args.horizon,
        args.execute,
        None if args.prior == "none" else args.prior,
        anchor=args.anchor,
        draws=args.draws,
    )


def default_objective(world_model: str) -> dict[str, float]:
    """Returns the weights of the default objective: the distance to the goal, or `usual` in a world without goals."""
    model = checkpoint.load(world_model)
    return {"energy": 1.0} if model.spec.goals else usual(model)


def label(policy: str, taken: Iterable[str]) -> str:
    """Returns the label of a policy in a report that has the labels `taken` already."""
    name = hub.label(policy)
    return f"{name}, alone" if name in taken else name


@contextmanager
def as_before_if_refused(*files: Path) -> Iterator[None]:
    """Restores files that existed if the code in the block raises an expected error; removes those that did not.

    Their folder is removed, too, if it is then empty.
    """
    before = {file: file.read_bytes() for file in files if file.is_file()}
    try:
        yield
    except (ImportError, OSError, ValueError):
        for file in files:
            if file in before:
                file.write_bytes(before[file])
            else:
                file.unlink(missing_ok=True)
        with suppress(OSError):  # the folder holds other files
            files[0].parent.rmdir()
        raise


def report_any(policies: dict[str, str], args: Any, about: Mapping[str, Any]) -> None:
    """Evaluates policies in a world that is not NICOL's and in its dream; writes and prints the report.

    Args:
        policies: Files and folders by label.
        args: `Arguments` of this command, or of another command with the same names.
        about: Further entries of results.json.
    """
    noted = {"policies": policies, "world_model": args.world_model, "seed": args.seed, **about}
    text = any_world.report(
        policies, None, args.world_model, args.episodes, args.seed, args.gif_episodes, noted, args.out, args.workers
    )
    print("\n" + text)
    print(f"Report: {args.out.resolve()}")


def check_task(task: str, world_model: str) -> None:
    """Raises ValueError if a task is named in a world other than NICOL's, which has no tasks."""
    if task != "all" and not tasks_of(world_model):
        raise ValueError(f"task={task!r}: {spec_of(world_model).name} has no tasks to choose from; accepted: 'all'")


def report(settings: Settings, gif_episodes: int, workers: int | None, out: Path, about: Mapping[str, Any]) -> None:
    """Evaluates the policies of the settings; writes and prints the report, and prints the time per action."""
    results = evaluate(settings, workers)
    clips = record_clips(settings, gif_episodes) if gif_episodes else []
    print("\n" + write_report(results, clips, {**asdict(settings), **about}, out))
    for label in settings.policies:
        own = [
            r.milliseconds for r in results if r.label == label and r.world == "physics" and r.milliseconds is not None
        ]
        if own:
            print(f"{label}: {sum(own) / len(own):.1f} ms of CPU time per action")
    print(f"Report: {out.resolve()}")


def main(args: Arguments) -> None:
    """Runs the command."""
    check_out(args.out)
    args = replace(args, world_model=named_world_model(args.world_model, None if args.prior == "none" else args.prior))
    check_task(args.task, args.world_model)
    planner, file = Planner(config(args)), args.out / "planner.json"
    policies = {} if args.prior == "none" else {label(args.prior, ("planner",)): args.prior}
    policies["planner"] = str(file)
    about = {"planner": asdict(planner.config)}
    with as_before_if_refused(file):
        planner.save(file)
        if not tasks_of(args.world_model):
            report_any(policies, args, about)
            return
        settings = Settings(policies, tasks(args.task, args.world_model), args.episodes, args.seed, args.world_model)
        report(settings, args.gif_episodes, args.workers, args.out, about)
