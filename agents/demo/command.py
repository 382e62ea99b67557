"""The main example: trains a policy in the dream and evaluates it in physics.

    python -m agents.demo                                # about 3 minutes on two cores
    python -m agents.demo --world-model state_grounded   # in a world model that also learned from a simulator's labels
    python -m agents.demo --world-model place_stack      # harder tasks
    python -m agents.demo --from-scratch                 # first collects, fits and clones: 40 minutes

A policy that was cloned from a few demonstrations is evaluated in physics and in the learned world model. It is
then trained by RL in the world model, where the reward is minus the distance between the embedding and that of the goal
picture, and it is evaluated again on the same held-out seeds. Give the same command again to resume an
interrupted run; the short and the from-scratch form have output folders of their own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from dream_env.agents import collect
from dream_env.agents.clone import vla_clone as clone
from dream_env.agents.demo.arguments import FEWEST, FITTED, SHIPPED, USUAL, Arguments
from dream_env.agents.eval.results import EpisodeResult, load_results, save_results, write_report
from dream_env.agents.evaluate.command import HELD_OUT_SEED, Settings, evaluate, record_clips
from dream_env.agents.fit.state_grounded import command as fit
from dream_env.agents.nicol.rollouts import env_kwargs
from dream_env.agents.policies import registry
from dream_env.agents.run import hashing as sources
from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import check_out, check_settings
from dream_env.agents.run.worlds import tasks_of
from dream_env.agents.train import command as train
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.checks import check_choice, check_number
from dream_env.files import write_json
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.world_models import checkpoint

BEFORE, AFTER = "before RL", "after RL"
DEMONSTRATED = 1 / 30
"""Smallest share of the collected episodes that are demonstrations of any one task."""
MOST = 8
"""Maximum number of processes for fitting; with more, each would get too small a part of a batch."""
CODE = ("dream_env", "dream_env.agents", "dream_env.assets")
"""Packages that evaluation results depend on. The first one contains the others only in an installed wheel."""
FILES = {
    "results.md": "the tables above",
    "results.json": "the figures; episodes.jsonl lists every episode",
    "results.png": "success before and after, with intervals",
    "rollouts.gif": "dream and physics under the same actions",
    "minutes.json": "how long every stage took",
    "policy/": "the practiced policy",
}
"""Files that a run writes, and what they contain."""


def demo(arguments: Arguments) -> str:
    """Runs all stages that are not done yet, and writes the report.

    Returns:
        The report as Markdown.

    Raises:
        ValueError: If an argument is not accepted, or the folder holds a run with other settings.
        FileNotFoundError: If the package's world model or clone is missing.
    """
    args = arguments.complete()
    check(args)
    out, world_model, policy = args.folder, str(args.world_model), str(args.init)
    if args.from_scratch:
        world_model, policy = from_scratch(args)
    tasks = tasks_of(world_model) if args.task == "all" else (args.task,)
    settings = Settings({BEFORE: policy}, tasks, args.episodes, HELD_OUT_SEED, world_model)
    with stage(args, f"evaluating the clone in physics and dream: {args.episodes} starts per task and world"):
        before = evaluated(settings, out / "episodes")
    practiced = out / "policy"
    usual = SHIPPED[args.world_model or USUAL]
    practice = Practice(
        out=practiced,
        task=args.task,
        init=policy,
        world_model=world_model,
        steps=args.steps or 0,
        temperature=usual.temperature,
        reward=usual.reward,
        validation_episodes=0,  # report the last policy; do not select one by physics
        seed=args.seed,
    )
    with stage(args, f"practicing in the dream: {args.steps:,} steps of RL"):
        train.train(practice, train.make_env(practice), physics=None)
    settings = replace(settings, policies={AFTER: str(practiced)})
    with stage(args, "evaluating the practiced policy on the same starts"):
        after = evaluated(settings, out / "episodes")
    with stage(args, "drawing dream and physics side by side"):
        clips = record_clips(settings, 1 if args.short else 2)
    about = {**asdict(settings), "policies": {BEFORE: policy, AFTER: str(practiced)}}
    return write_report([*before, *after], clips, about, out)


def check(args: Arguments) -> None:
    """Checks the arguments of all stages, so that none fails late, and writes them to settings.json.

    Raises:
        ValueError: If an argument is not accepted, or the folder holds a run with other settings.
        FileNotFoundError: If the clone does not exist.
    """
    if args.from_scratch and args.world_model != FITTED:
        raise ValueError(
            f"world_model={args.world_model!r} with from_scratch=True, which fits one of kind {FITTED!r}; accepted: "
            f"{FITTED!r}. `agents.fit --model slots` fits one without labels"
        )
    check_choice("task", args.task, [*tasks_of(str(args.world_model)), "all"])
    for name, least in {"episodes": 1, "steps": 1, "collected": FEWEST, "seed": 0}.items():
        check_number(name, getattr(args, name), low=least)
    if args.from_scratch:
        check_number("demonstrations", args.demonstrations, low=1, high=int(DEMONSTRATED * args.collected))
    else:
        registry.load(str(args.init)).config.check_encoder(str(args.world_model))
    check_out(args.folder)
    file = args.folder / "settings.json"
    if file.is_file():
        check_settings(args.folder, json.loads(file.read_text()), args.settings())
    write_json(file, args.settings())


def from_scratch(args: Arguments) -> tuple[str, str]:
    """Collects episodes, fits a world model and clones a policy, as far as this is not done yet.

    Returns:
        Folder of the world model, and folder of the clone.
    """
    data, world_model, policy = (args.folder / name for name in ("data", "world_model", "clone"))
    with stage(args, f"collecting {args.collected:,} episodes in physics"):
        collect.collect(collect.Arguments(data, args.collected, seed=args.seed))
    fitting = fit.Arguments((data,), world_model, seed=args.seed, processes=min(pool.cores(), MOST))
    if args.short:
        fitting = replace(
            fitting,
            autoencoder_updates=30,
            state_estimator_updates=30,
            arm_renderer_updates=30,
            object_dynamics_updates=30,
            predictor_updates=30,
            painter_updates=30,
            success_updates=30,
            metric_updates=30,
            probe_updates=30,
        )
    with stage(args, "fitting the world model to them"):
        fit.main(fitting)
    cloning = clone.Arguments(
        (data,),
        policy,
        per_task=args.demonstrations,
        world_model=str(world_model),
        updates=50 if args.short else clone.Arguments.updates,
        seed=args.seed,
    )
    with stage(args, "cloning the demonstrations"):
        clone.run(cloning, EpisodeDataset.load(data), checkpoint.load(world_model))
    return str(world_model), str(policy)


def evaluated(settings: Settings, folder: Path) -> list[EpisodeResult]:
    """Evaluates policies, or reads the results if the same evaluation was done before.

    The name of the results file is a digest of the settings, the policy, its world model and the package's code, so a
    change of any of them leads to a new evaluation.
    """
    roots = [sources.package(name) for name in CODE]
    for policy in settings.policies.values():
        roots += [Path(policy), Path(env_kwargs(policy, settings.world_model)["world_model"])]
    path = folder / f"{sources.digest(roots, json.dumps(asdict(settings)))}.jsonl"
    if path.is_file():
        print(f"already done: {path}")
        return load_results(path)
    outcomes = evaluate(settings)
    save_results(outcomes, path)
    return outcomes


@contextmanager
def stage(args: Arguments, what: str) -> Iterator[None]:
    """Prints the name of a stage, and adds the time that it takes to minutes.json."""
    print(f"\n==> {what}", flush=True)
    path, began = args.folder / "minutes.json", time.monotonic()
    try:
        yield
    finally:
        minutes = json.loads(path.read_text()) if path.is_file() else {}
        minutes[what] = minutes.get(what, 0.0) + (time.monotonic() - began) / 60
        write_json(path, minutes)


def main(args: Arguments) -> None:
    """Runs the command."""
    length = "a minute" if args.short else "3 minutes"
    if args.from_scratch:
        print("Collects episodes of NICOL, fits a world model and clones a policy: about 40 minutes. Then:")
    print(
        "Evaluates NICOL's cloned policy in physics, trains it in a learned world model, and evaluates\n"
        f"it again: about {length} on two cores. After Ctrl-C, give the same command again to resume."
    )
    began = time.monotonic()
    text = demo(args)
    if args.short:
        text += "\nThis was the short form, which only shows that everything runs; its figures are meaningless.\n"
    print(f"\n{text}\nDone in {(time.monotonic() - began) / 60:.1f} minutes. Files in {args.folder.resolve()}:")
    for name, what in FILES.items():
        print(f"  {name:15} {what}")
