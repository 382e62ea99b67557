"""Evaluates saved policies in physics and in the dream: success rates, returns and pictures.

    python -m agents.evaluate --policy unlabelled --policy runs/ppo --out runs/evaluation

The results in physics are the ones that count; those in the dream are reported next to them. All policies run on the
same held-out seeds in both worlds: a dream starts from the picture that physics shows for its seed. Episodes whose
initial state is already solved are dropped, and success is judged at the end of the episode.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from dream_env import hub
from dream_env.agents.eval.results import WORLDS, Clip, EpisodeResult, Goal, World, write_report
from dream_env.agents.evaluate.arguments import HELD_OUT_SEED, Arguments, check_tasks
from dream_env.agents.nicol.rollouts import SCRIPTED, Batch, Instruction, env_kwargs, play, record
from dream_env.agents.policies.registry import world_model_of
from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.run.trust import TRUST
from dream_env.agents.run.worlds import spec_of, tasks_of
from dream_env.checks import check_choice
from dream_env.nicol import spec as nicol
from dream_env.nicol.shift import SCENES, SHIFTS
from dream_env.nicol.tasks import STANDARD
from dream_env.paths import shown
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint

PHYSICS_CHUNK = 5
"""Physics episodes in one unit of work."""
DREAM_CHUNK = 128
"""Dream episodes in one unit of work, which run as one batch."""
NICOLS = ("tasks", "instruction", "goal", "shift", "scene", "confirm")
"""Arguments that are accepted only in NICOL's world with one arm."""


@dataclass(frozen=True)
class Settings:
    """Settings of an evaluation; they are saved with its results.

    Attributes:
        policies: Path (or name) of each policy by its label; the others are compared with the first.
        tasks: Names of the tasks.
        episodes: Number of held-out seeds per task, counted from `seed`.
        seed: First seed.
        world_model: Checkpoint of the world model; None evaluates in physics only, without embeddings.
        instruction: Instruction given to the policies; any but "normal" evaluates in physics only.
        shift: Name of a shift of physics; any but "none" evaluates in physics only.
        scene: Name of a scene.
        confirm: Whether to repeat in physics the actions chosen in the dream, see `Batch`.
        goal: Goal picture given to the policies; success is judged by the episode's own goal.
    """

    policies: Mapping[str, str]
    tasks: tuple[str, ...] = STANDARD
    episodes: int = 100
    seed: int = HELD_OUT_SEED
    world_model: str | None = "default"
    instruction: Instruction = "normal"
    shift: str = "none"
    confirm: bool = False
    scene: str = "standard"
    goal: Goal = "own"

    def __post_init__(self) -> None:
        """Checks every value."""
        check_tasks(self.tasks)
        if self.episodes < 1:
            raise ValueError(f"episodes={self.episodes}; accepted: 1 or more")
        check_choice("instruction", self.instruction, Instruction)
        check_choice("goal", self.goal, Goal)
        check_choice("shift", self.shift, SHIFTS)
        check_choice("scene", self.scene, SCENES)

    @property
    def worlds(self) -> tuple[World, ...]:
        """Worlds in which these settings can be evaluated."""
        usual = (self.instruction, self.shift) == ("normal", "none")
        return WORLDS if self.world_model and usual else ("physics",)

    def batches(self) -> list[Batch]:
        """Splits the evaluation into units of work; dreams first, because they take longest."""
        seeds = range(self.seed, self.seed + self.episodes)
        return [
            Batch(
                policy,
                label,
                world,
                task,
                tuple(seeds[i : i + chunk]),
                self.world_model,
                self.instruction,
                self.shift,
                confirm=self.confirm,
                scene=self.scene,
                goal=self.goal,
            )
            for world, chunk in (("dream", DREAM_CHUNK), ("physics", PHYSICS_CHUNK))
            if world in self.worlds
            for label, policy in self.policies.items()
            if world == "physics" or policy != "expert"
            for task in self.tasks
            for i in range(0, self.episodes, chunk)
        ]


def evaluate(settings: Settings, workers: pool.Workers = None, worlds: Sequence[World] = WORLDS) -> list[EpisodeResult]:
    """Runs all episodes of the settings in parallel, with a progress bar.

    Args:
        settings: What to evaluate.
        workers: See `pool.Workers`.
        worlds: Worlds to evaluate in, of those that the settings can be evaluated in.

    Returns:
        Results sorted by policy, world, task and seed.

    Raises:
        FileNotFoundError: If a policy or its world model is missing.
        ValueError: If a file is damaged, or a policy and the world model do not fit together.
    """
    for policy in settings.policies.values():
        if world_model := env_kwargs(policy, settings.world_model)["world_model"]:
            checkpoint.load(world_model)
    batches = [batch for batch in settings.batches() if batch.world in worlds]
    outcomes: list[EpisodeResult] = []
    with progress_bar(total=sum(len(b.seeds) for b in batches), desc="evaluate", unit="episode") as bar:
        for played in pool.imap(play, batches, workers):
            outcomes += played
            bar.update(len(played))
    labels, tasks = list(settings.policies), settings.tasks

    def rank(o: EpisodeResult) -> tuple[int, ...]:
        return labels.index(o.label), WORLDS.index(o.world), tasks.index(o.task), o.seed

    return sorted(outcomes, key=rank)


def parse_policies(given: Iterable[str]) -> dict[str, str]:
    """Parses policies given as `PATH`, whose label is the last part of the path, or as `LABEL=PATH`.

    An existing path may contain a "=".

    Returns:
        Paths by label.

    Raises:
        ValueError: If two policies would have the same label.
    """
    policies: dict[str, str] = {}
    for text in given:
        whole = "=" not in text or Path(text).exists()
        label, path = ("", text) if whole else text.split("=", 1)
        label = label or hub.label(path).removesuffix(".zip")
        if label in policies:
            raise ValueError(f"policy={text!r}: the label {label!r} is taken; accepted: LABEL={path}")
        policies[label] = path
    return policies


def main(args: Arguments) -> None:
    """Runs the command."""
    check_out(args.out)
    if args.trust:
        os.environ[TRUST] = "1"
    world_model = args.world_model
    if world_model == "default" and (own := learned_in(parse_policies(args.policy).values())):
        args = replace(args, world_model=own)
        world_model = own
        print(f"world model: {own}, in which the policies were trained")
    if world_model == "default":
        world_model = shared_world_model(parse_policies(args.policy).values())
    if world_model == "default" and args.tasks and not args.env and world_of(args.tasks) != spec_of(world_model).name:
        world_model = None
    if world_model and (args.env or not tasks_of(world_model)):
        evaluate_any(args)
        return
    tasks = args.tasks or (tasks_of(world_model) if world_model else STANDARD)
    if world_model and world_of(tasks) != spec_of(world_model).name:
        raise ValueError(
            f"tasks={','.join(tasks)} are of {world_of(tasks)}, and world_model={world_model!r} of "
            f"{spec_of(world_model).name}; accepted: a world model of the tasks' world, or None for physics only"
        )
    settings = Settings(
        parse_policies(args.policy),
        tasks,
        args.episodes,
        args.seed,
        world_model,
        args.instruction,
        args.shift,
        args.confirm,
        args.scene,
        args.goal,
    )
    outcomes = evaluate(settings, "ray" if args.ray else args.workers)
    clips = record_clips(settings, args.gif_episodes) if world_model else []
    print("\n" + write_report(outcomes, clips, asdict(settings), args.out))
    print(f"Report: {args.out.resolve()}")


def learned_in(policies: Iterable[str]) -> str | None:
    """Returns the world model that all policies were trained in if it is not of NICOL's world, else None.

    Raises:
        FileNotFoundError: If that world model no longer exists.
    """
    saved = [policy for policy in policies if Path(policy).is_dir() or Path(policy).suffix == ".json"]
    named = {world_model_of(policy) or "default" for policy in saved}
    if len(named) != 1 or "default" in named or tasks_of(own := named.pop()):
        return None
    return shown(own)


def shared_world_model(policies: Iterable[str]) -> str:
    """Returns the world model that all policies name, so that scripted ones dream in it, too; "default" if they differ.

    With "default", each policy dreams in the world model that it names.
    """
    named = [world_model_of(policy) for policy in policies if policy not in SCRIPTED]
    worlds = [shown(name) for name in dict.fromkeys(named) if name is not None]
    if len(worlds) > 1:
        print(f"note: each policy dreams in the world model that it names: {', '.join(worlds)}")
    return worlds[0] if len(worlds) == 1 else "default"


def world_of(tasks: Iterable[str]) -> str:
    """Returns the name of the world that NICOL's tasks belong to; raises ValueError if they belong to two."""
    worlds = {nicol.spec_of(task).name for task in tasks}
    if len(worlds) > 1:
        raise ValueError(f"tasks={','.join(tasks)} move one arm and both; accepted: all with one arm, or with both")
    return worlds.pop()


def check_general(args: Arguments, world: str) -> None:
    """Raises ValueError for arguments that only NICOL's tasks with one arm accept, in another world."""
    if "expert" in parse_policies(args.policy).values():
        raise ValueError(
            f"policy='expert' in the world {world} of the world model; accepted: random, zero or a saved policy, or "
            "--world-model None, which evaluates experts of NICOL's tasks in physics only"
        )
    usual = {one.name: one.default for one in fields(args)}
    given = [name for name in NICOLS if getattr(args, name) != usual[name]]
    if "tasks" in given and world_of(args.tasks) == world:  # tasks of that world are accepted
        given.remove("tasks")
    if given:
        named = ", ".join(f"{name}={getattr(args, name)!r}" for name in given)
        raise ValueError(
            f"{named}: accepted in the world {world}: none of {', '.join(NICOLS)}, which only NICOL's tasks accept"
        )


def evaluate_any(args: Arguments) -> None:
    """Evaluates in a real environment that is not NICOL's, and in its dream."""
    from dream_env.agents.eval import any_world

    world_model = args.world_model or "default"
    check_general(args, spec_of(world_model).name)
    policies = parse_policies(args.policy)
    about: dict[str, Any] = {"command": command_line("evaluate", args), "policies": policies, "env": args.env}
    about |= {"world_model": world_model, "seed": args.seed}
    workers: pool.Workers = "ray" if args.ray else args.workers
    text = any_world.report(
        policies, args.env, world_model, args.episodes, args.seed, args.gif_episodes, about, args.out, workers
    )
    print("\n" + text)
    print(f"Report: {args.out.resolve()}")


def record_clips(settings: Settings, episodes: int) -> list[Clip]:
    """Records the first episodes of each task with the last policy."""
    label, policy = list(settings.policies.items())[-1]
    seeds = tuple(range(settings.seed, settings.seed + min(episodes, settings.episodes)))
    return [
        clip
        for task in settings.tasks
        for clip in record(
            Batch(
                *(policy, label, "physics", task, seeds, settings.world_model, settings.instruction, settings.shift),
                scene=settings.scene,
                goal=settings.goal,
            )
        )
    ]
