"""Collects episodes: `python -m agents.collect --out data/main --episodes 1000`.

A killed or interrupted collection goes on when the same command is given again, and a larger
`--episodes` adds to it.

NICOL's default mix is for world models: only 15 % of it are demonstrations. `agents.clone` takes 300 of them by
default, which are in 2000 episodes, or in 300 with `--mix demo`. Any other Gymnasium environment is recorded by
`python -m agents.collect --env Pendulum-v1 --policy random --out data/pendulum`. Pictures are cropped and resized on
the way, and frames skipped: `--env CarRacing-v3 --policy held --crop 0 12 0 0 --size 64`.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.data.behaviors import HELD, Job
from dream_env.agents.run import workers as pool
from dream_env.checks import check_choice
from dream_env.data.writer import EpisodeWriter
from dream_env.files import locked
from dream_env.preparation import Preparation, parse_options
from dream_env.progress import progress_bar

MODULES = {"NicoLReal-v0": "nicol.behaviors"}
"""Environments that have behaviors and labels of their own: id to the module in `agents` that records them."""


def module_of(env: str) -> Any:
    """Returns the module that records an environment: it has what `dream_env.agents.data.behaviors` has."""
    return import_module(f"dream_env.agents.{MODULES.get(env.removeprefix('dream_env:'), 'data.behaviors')}")


def run_job(job: Job, root: Path, make: Callable[[str, str | None], Any] | None = None) -> tuple[str, bool | None]:
    """Records one episode and saves it: the function that worker processes run.

    Args:
        job: The episode.
        root: Folder of the data set.
        make: Makes the env of a task and a policy; called for every episode, so it should cache.

    Returns:
        Its kind and whether it was successful, if that is known.
    """
    module = module_of(job.env)
    env = (make or module.make_env)(*_made_of(job))
    episode, spec = module.record(env, job), module.spec_of(env, job.max_steps)
    EpisodeWriter(root, spec).add(episode, job.order)
    return episode.kind, None if episode.success is None else bool(episode.success[-spec.hold_steps :].all())


def _made_of(job: Job) -> tuple[Any, ...]:
    """Returns what an environment is made of: task, policy, and its scene or what is done to it, if anything is."""
    if job.scene is not None:
        return job.task, job.policy, job.scene
    return (job.task, job.policy, *([job.preparation] if job.preparation != Preparation() else []))


def parse_mix(text: str, behaviors: Iterable[str]) -> dict[str, float]:
    """Parses "expert:0.5,play:0.5", names of behaviors and shares, to shares that sum to 1.

    Raises:
        ValueError: If a behavior is unknown or a share is not a positive number.
    """
    mix = {}
    for part in text.split(","):
        kind, _, share = part.partition(":")
        check_choice("mix behavior", kind, behaviors)
        try:
            mix[kind] = float(share or 1)
        except ValueError:
            mix[kind] = -1.0
        if not 0 < mix[kind] < float("inf"):
            raise ValueError(f"mix={text!r}: share {share!r} of {kind}; accepted: a positive number")
    return {kind: share / sum(mix.values()) for kind, share in mix.items()}


@dataclass(frozen=True)
class Arguments:
    """Collects episodes into a LeRobot v3 dataset; the same command again resumes it."""

    out: Path
    """Folder of the dataset."""
    episodes: int = 1000
    """Episodes of this command; those that the folder has already are not collected again."""
    env: str = "NicoLReal-v0"
    """Id of a Gymnasium environment (MODULE:ID imports a module first). Its observation is a Box that is a vector or a
    picture, or a flat Dict of these; its actions are a bounded Box or Discrete."""
    task: str | None = None
    """Task, where the environment has several; by default one is drawn per episode."""
    scene: str | None = None
    """Scene, where the environment has several; NICOL's are standard, and varied: another light, table and camera in
    every episode, and one to five objects."""
    policy: str | None = None
    """What acts. In any environment: random (uniform; the default), held (random actions, each held for some steps),
    correlated (smooth random motion), or the folder of a saved policy. For NICOL a behavior of --mix, or the folder of
    the policy that acts where --mix holds "policy" or "dreamt"."""
    mix: str | None = None
    """Behaviors and their shares, such as random:0.5,held:0.5. Those of NICOL are expert (scripted, under noise of any
    strength), demo (scripted, slight noise), misjudge (scripted, sees the cubes in a wrong place), attempt (straight at
    the cube, as a policy in training), play (with the cubes, no task), random, policy, dreamt (what the policy does in
    a dream that begins alike); its default is demo:0.15,expert:0.2,misjudge:0.2,attempt:0.2,play:0.2,random:0.05."""
    max_steps: int | None = None
    """Largest number of actions in an episode; by default the environment's own time limit."""
    seed: int = 0
    """Seed; another one gives other episodes."""
    workers: int | None = None
    """Processes; by default one per core."""
    ray: bool = False
    """Uses all cores of a Ray cluster instead, or of this machine where Ray finds none; needs the extra `ray`."""
    world_model: str | None = None
    """World model that "dreamt" dreams in; by default the one that the policy names."""
    env_options: str = ""
    """Arguments of the environment, such as frame_skip=4,continuous=False."""
    part: str | None = None
    """The one part of a Dict observation that is recorded, such as screen; by default all."""
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Rows and columns cut off every picture: top, bottom, left, right."""
    size: int | None = None
    """Side to which pictures are resized then, such as 64; by default they stay as they are."""
    hold: int = HELD
    """Largest number of steps for which held repeats an action: where control is fast, more leads further."""
    skip: int = 1
    """Steps of the environment for which each action is repeated; rewards are added up."""
    skip_first: int = 0
    """Steps of the environment after a reset that are left out, without action: an opening that tells nothing."""
    action_low: tuple[float, ...] | None = None
    """Lower bounds of the actions, one for each number of an action, tighter than the environment's own: so random
    actions lead further, and whatever learns from the episodes has these bounds, too."""
    action_high: tuple[float, ...] | None = None
    """Upper bounds of the actions, likewise."""

    def acting(self) -> tuple[dict[str, float], str | None]:
        """Returns the behaviors with their shares, and the folder of the policy.

        Raises:
            ValueError: If policy and mix do not go together.
        """
        module, folder, mix = module_of(self.env), self.policy, self.mix
        if folder in module.BEHAVIORS and folder not in module.POLICIES and mix is None:
            folder, mix = None, folder
        mix = mix or (module.MIX if folder is None else "policy")
        shares = parse_mix(mix, module.BEHAVIORS)
        if (folder is None) == any(kind in shares for kind in module.POLICIES):
            raise ValueError(
                f"policy={folder}, mix={mix!r}; accepted: a folder and one of {module.POLICIES}, or neither"
            )
        return shares, folder and str(Path(folder).expanduser())

    def jobs(self) -> list[Job]:
        """Lists all episodes; number i depends on the seed, i and its behavior alone.

        Raises:
            ValueError: If an argument is out of range, or policy and mix do not go together.
        """
        if self.episodes < 0 or self.seed < 0:
            raise ValueError(f"episodes={self.episodes}, seed={self.seed}; accepted: 0 or more")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps}; accepted: 1 or more")
        if self.hold < 1:
            raise ValueError(f"hold={self.hold}; accepted: 1 or more")
        module, (mix, path) = module_of(self.env), self.acting()
        options, shown = parse_options(self.env_options), (self.part, self.crop, self.size)
        preparation = Preparation(options, *shown, self.skip, self.skip_first, self.action_low, self.action_high)
        if module.TASKS and preparation != Preparation():
            raise ValueError(
                "env_options, part, crop, size, skip, skip_first, action_low, action_high: accepted for "
                f"{self.env}: none, as it is recorded so"
            )
        if self.task is not None and not module.TASKS:
            raise ValueError(f"task={self.task!r}; accepted: none, as {self.env} has no tasks to choose from")
        task = self.task or (module.TASKS[-1] if module.TASKS else self.env)
        if module.TASKS:
            check_choice("task", task, module.TASKS)
        if self.scene is not None:
            if not hasattr(module, "SCENES"):
                raise ValueError(f"scene={self.scene!r}; accepted: none, as {self.env} has no scenes to choose from")
            check_choice("scene", self.scene, module.SCENES)
        counts, jobs = Counter[str](), []
        for i in range(self.episodes):
            # The behavior that lags most behind its share: exact shares in every prefix.
            kind = max(mix, key=lambda kind: mix[kind] * (i + 1) - counts[kind])
            counts[kind] += 1
            folder = path if kind in module.POLICIES else None
            world_model = self.world_model if kind == "dreamt" else None
            named = f"{kind} {task} {folder}" + ("" if self.scene is None else f" {self.scene}")
            words = zlib.crc32(named.encode())
            entropy = np.random.SeedSequence([self.seed, i, words])
            seed = int(entropy.generate_state(1, np.uint64)[0] >> 1)
            more: dict[str, Any] = {"preparation": preparation, "scene": self.scene, "hold": self.hold}
            jobs.append(Job(i, kind, seed, task, folder, world_model, self.env, self.max_steps, **more))
        return jobs


def collect(args: Arguments, make: Callable[[str, str | None], Any] | None = None) -> int:
    """Collects the episodes that are still missing.

    Args:
        args: What to collect.
        make: Makes the env of a task and a policy, by default as `args.env` says; called for every episode, so it
            should cache.

    Returns:
        The number of episodes in the dataset.

    Raises:
        ValueError: If an argument is not accepted, or the folder holds something else.
    """
    jobs, out = args.jobs(), args.out.expanduser()
    spec = None
    if jobs and make is None:  # what cannot be recorded is refused here, and not by workers
        module = module_of(args.env)
        spec = module.spec_of(module.make_env(*_made_of(jobs[0])), args.max_steps)
    with locked(out), EpisodeWriter(out, spec) as writer:
        done = writer.seeds()
        missing = [job for job in jobs if job.seed not in done]
        job_runner = partial(run_job, root=out, make=make)
        kinds, solved = Counter[str](), Counter[str]()
        with (
            closing(pool.imap(job_runner, missing, "ray" if args.ray else args.workers)) as results,
            progress_bar(total=len(jobs), initial=len(jobs) - len(missing), unit="episode") as bar,
        ):
            for kind, success in results:
                if success is not None:
                    kinds[kind] += 1
                    solved[kind] += success
                    bar.set_postfix({k: f"{100 * solved[k] / n:.0f}% ok" for k, n in kinds.items()})
                bar.update()
        return writer.close()


def main(args: Arguments) -> None:
    """Runs the command."""
    print(f"{args.out}: {collect(args)} episodes")


if __name__ == "__main__":
    from dream_env.agents.run.cli import command

    command("collect")
