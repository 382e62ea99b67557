"""Plans with a world model, and tells what plans are worth, in physics and in the dream.

    python -m agents.plan --solver icem --objective energy --task push --episodes 100 --out runs/plan
    python -m agents.plan --prior few --objective metric disagreement=20 --out runs/plan_few

Writes planner.json beside the report: a policy that `python -m agents.evaluate --policy` takes. With a prior, the
prior by itself is played on the same seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.agents.eval.results import write_report
from dream_env.agents.evaluate.arguments import HELD_OUT_SEED
from dream_env.agents.evaluate.command import Settings, evaluate, record_clips
from dream_env.agents.planners.planner import Planner, PlannerConfig
from dream_env.agents.run.cli import command
from dream_env.agents.run.config import check_out
from dream_env.nicol.tasks import TASKS


@dataclass(frozen=True)
class Arguments:
    """Plans with a world model, and evaluates the plans in physics and in the dream."""

    solver: str = "icem"
    """cem, icem, mppi, gradient, or random (shooting at equal budget, the control)."""
    objective: tuple[str, ...] = ("energy",)
    """Terms of the cost, NAME or NAME=WEIGHT: energy (distance to the goal's embedding), metric (learned distance),
    success (minus its logarithm), reward (minus the environment's, as predicted), disagreement (of the ensemble)."""
    path: float = PlannerConfig.path
    """How much the path counts beside its end."""
    prior: str = "none"
    """A policy that proposes plans: default, few, or a path; none for none."""
    anchor: float = PlannerConfig.anchor
    """Cost of leaving what the prior does, times the mean square of the difference."""
    samples: int | None = None
    """Candidates per iteration; the solver's own by default."""
    iterations: int | None = None
    """Iterations of the solver; its own by default."""
    horizon: int = PlannerConfig.horizon
    """Steps that a plan looks ahead."""
    execute: int = PlannerConfig.execute
    """Steps of a plan that are carried out before the next one is made."""
    draws: int = PlannerConfig.draws
    """Draws of noise that a candidate is imagined with; 0 imagines what is likeliest."""
    task: str = "all"
    """reach, push, lift, or all."""
    episodes: int = 100
    """Episodes per task."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    world_model: str = "default"
    """Checkpoint that plans."""
    gif_episodes: int = 2
    """Episodes per task in the GIF of imagined against real futures; 0 leaves it out."""
    workers: int | None = None
    """Processes; all cores by default."""
    out: Path = Path("plan")
    """Folder for planner.json, results.json, episodes.jsonl, results.md, results.png and rollouts.gif."""


def weights(terms: Sequence[str]) -> dict[str, float]:
    """Reads terms of an objective, NAME or NAME=WEIGHT.

    Raises:
        ValueError: If a weight is no number.
    """
    found = {}
    for term in terms:
        name, _, weight = term.partition("=")
        try:
            found[name] = float(weight or 1)
        except ValueError:
            raise ValueError(f"objective={term!r}; accepted: NAME or NAME=WEIGHT") from None
    return found


def tasks(task: str) -> tuple[str, ...]:
    """Returns the tasks that "all" or a name stands for."""
    return tuple(TASKS) if task == "all" else (task,)


def config(args: Arguments) -> PlannerConfig:
    """Returns the planner that the arguments ask for."""
    given = {"samples": args.samples, "iterations": args.iterations}
    return PlannerConfig(
        args.world_model,
        args.solver,
        {name: value for name, value in given.items() if value is not None},
        weights(args.objective),
        args.path,
        args.horizon,
        args.execute,
        None if args.prior == "none" else args.prior,
        anchor=args.anchor,
        draws=args.draws,
    )


def report(settings: Settings, gif_episodes: int, workers: int | None, out: Path, about: Mapping[str, Any]) -> None:
    """Plays what the settings ask for, writes the report and prints it, with the time that actions take."""
    results = evaluate(settings, workers)
    clips = record_clips(settings, gif_episodes) if gif_episodes else []
    print("\n" + write_report(results, clips, {**asdict(settings), **about}, out))
    for label in settings.policies:
        own = [
            r.milliseconds for r in results if r.label == label and r.world == "physics" and r.milliseconds is not None
        ]
        if own:
            print(f"{label}: {sum(own) / len(own):.1f} ms of processor time an action")
    print(f"Report: {out.resolve()}")


def main(args: Arguments) -> None:
    """Runs the command."""
    check_out(args.out)
    planner = Planner(config(args))
    planner.save(args.out / "planner.json")
    policies = {} if args.prior == "none" else {Path(args.prior).name: args.prior}
    policies["planner"] = str(args.out / "planner.json")
    settings = Settings(policies, tasks(args.task), args.episodes, args.seed, args.world_model)
    report(settings, args.gif_episodes, args.workers, args.out, {"planner": asdict(planner.config)})


if __name__ == "__main__":
    command("plan")
