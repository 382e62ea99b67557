"""Adds foresight to a policy: it proposes several behaviors, each is imagined, and the best one is executed.

    python -m agents.foresee --policy unlabelled --candidates 16 --out runs/foresee

It evaluates on the same seeds the policy alone (pass@1), the policy with foresight, and two controls: choosing a random
candidate and choosing the one with the worst score. With --oracle K, it tries K variations of each episode in physics
and reports how often at least one succeeds (pass@K), which is the headroom. Writes foresight.json, a policy that
`python -m agents.evaluate --policy` accepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from dream_env.agents.evaluate.command import Settings
from dream_env.agents.foresee.arguments import Arguments
from dream_env.agents.nicol.rollouts import Batch, physics_episode
from dream_env.agents.plan import command as plan
from dream_env.agents.planners.foresight import Foresight, ForesightConfig, Pick
from dream_env.agents.planners.objectives import usual
from dream_env.agents.planners.prior import load_policy, varied
from dream_env.agents.planners.problem import ActionBox, Noise
from dream_env.agents.policies.registry import named_world_model
from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import check_out
from dream_env.agents.run.worlds import tasks_of
from dream_env.checks import check_number
from dream_env.nicol.spec import spec_of
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint


@dataclass(frozen=True)
class Variations:
    """One physics episode to try with several variations of a policy: the unit of work of a process.

    Attributes:
        config: Foresight whose variations are tried, over the whole episode.
        task: Name of the task.
        seed: Seed of the initial state.
        count: Number of variations K; the first is the policy without changes.
    """

    config: ForesightConfig
    task: str
    seed: int
    count: int


def try_all(item: Variations) -> list[bool]:
    """Returns which variations of an episode succeed in physics; empty if the initial state is already solved."""
    spec, config = spec_of(item.task), item.config
    box = ActionBox(spec.action)
    noise = Noise([config.seed + item.seed])
    assert spec.horizon is not None
    kept = -(-spec.horizon // config.execute)
    added = noise.normal(item.count, kept, len(box.low)).repeat_interleave(config.execute, 2) * config.std * box.half
    added[:, 0] = 0
    policy, won = load_policy(config.policy), []
    batch = Batch(config.policy, "variation", "physics", item.task, (item.seed,), config.world_model)
    for k in range(item.count):
        policy.reset()
        steps = iter(added[0, k])

        def act(obs: dict[str, np.ndarray], steps: Any = steps) -> np.ndarray:
            return varied(policy.act(obs), next(steps), box).numpy()

        solved, success = physics_episode(batch, item.seed, act)
        if solved:
            return []
        won.append(success)
    return won


def oracle(
    config: ForesightConfig, tasks: Sequence[str], seeds: Sequence[int], count: int, workers: Any = None
) -> dict[str, Any]:
    """Measures pass@1 and pass@K in physics: the gain of a perfect choice among whole episodes.

    Args:
        config: Config of the foresight.
        tasks: Names of the tasks.
        seeds: Seeds of the initial states of each task.
        count: Number of variations K.
        workers: See `dream_env.agents.run.workers.Workers`.

    Returns:
        Per task: `episodes`, `pass_1`, `mean` (success rate of a random variation) and `pass_k`.
    """
    items = [Variations(config, task, seed, count) for task in tasks for seed in seeds]
    found: dict[str, list[list[bool]]] = {task: [] for task in tasks}
    results = pool.imap(try_all, items, workers, ordered=True)
    for item, won in zip(items, progress_bar(results, total=len(items), desc="oracle", unit="episode"), strict=True):
        found[item.task] += [won] if won else []
    return {
        task: {
            "episodes": len(won),
            "pass_1": float(np.mean([one[0] for one in won])),
            "mean": float(np.mean(won)),
            "pass_k": float(np.mean([any(one) for one in won])),
        }
        for task, won in found.items()
        if won
    }


def config(args: Arguments) -> ForesightConfig:
    """Returns the config of the foresight that the arguments describe."""
    return ForesightConfig(
        args.policy,
        args.world_model,
        args.candidates,
        plan.weights(args.objective) or usual(checkpoint.load(args.world_model)),
        args.path,
        args.horizon,
        args.execute,
        args.std,
        draws=args.draws,
        margin=args.margin,
        sure=args.sure,
    )


def main(args: Arguments) -> None:
    """Runs the command."""
    check_out(args.out)
    check_number("oracle", args.oracle)
    check_number("candidates", args.candidates, 2)  # the first is the policy without changes
    args = replace(args, world_model=named_world_model(args.world_model, args.policy))
    plan.check_task(args.task, args.world_model)
    if args.oracle and not tasks_of(args.world_model):
        raise ValueError(f"oracle={args.oracle}: only NICOL's physics can be tried; accepted in another world: 0")
    best, tasks = Foresight(config(args)), plan.tasks(args.task, args.world_model)
    names: dict[str, Pick] = {"foresight": "best"}
    if args.controls:
        names |= {"random": "random", "worst": "worst"}
    files = {name: args.out / f"{name}.json" for name in names}
    with plan.as_before_if_refused(*files.values()):
        for name, pick in names.items():
            Foresight(replace(best.config, pick=pick), best.model, best.policy).save(files[name])
        policies = {plan.label(args.policy, names): args.policy} | {name: str(file) for name, file in files.items()}
        about: dict[str, Any] = {"foresight": asdict(best.config)}
        if not tasks_of(args.world_model):
            plan.report_any(policies, args, about)
            return
        settings = Settings(policies, tasks, args.episodes, args.seed, args.world_model)
        if args.oracle:
            seeds = range(args.seed, args.seed + args.episodes)
            about["oracle"] = oracle(best.config, tasks, seeds, args.oracle, args.workers)
            for task, row in about["oracle"].items():
                print(f"{task}: pass@1 {row['pass_1']:.0%}, pass@{args.oracle} {row['pass_k']:.0%} in physics")
        plan.report(settings, args.gif_episodes, args.workers, args.out, about)
