"""Collects episodes into a dataset: `python -m agents.collect --out data/main --episodes 1000`.

Give the same command again to resume a collection that was interrupted or killed. A larger `--episodes` adds episodes
to the dataset.

NICOL's default mix is meant for fitting world models: only 15 % of its episodes are demonstrations. `agents.clone`
uses 300 demonstrations by default; collect 2000 episodes of the default mix, or 300 with `--mix demo`, to get them.
Any other Gymnasium environment can be recorded as well:
`python -m agents.collect --env Pendulum-v1 --policy random --out data/pendulum`. Pictures can be cropped and resized,
and steps skipped, during recording: `--env CarRacing-v3 --policy held --crop 0 12 0 0 --size 64`.
"""

from __future__ import annotations

import json
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
from dream_env.agents.run.guarded import EnvError
from dream_env.checks import check_choice
from dream_env.data.writer import EpisodeWriter
from dream_env.files import locked
from dream_env.hub import is_hub_name
from dream_env.preparation import Preparation, parse_options
from dream_env.progress import progress_bar

MODULES = {"NicoLReal-v0": "nicol.behaviors"}
"""Environments with their own behaviors and labels: id, and the module in `agents` that records them."""


def module_of(env: str) -> Any:
    """Returns the module that records an environment; it has the same names as `dream_env.agents.data.behaviors`."""
    return import_module(f"dream_env.agents.{MODULES.get(env.removeprefix('dream_env:'), 'data.behaviors')}")


def prepared(preparation: Preparation) -> dict[str, Any]:
    """Returns the `Arguments` that make `collect` prepare an environment in a given way."""
    return {
        "env_options": ",".join(f"{name}={json.dumps(value)}" for name, value in preparation.options),
        "part": preparation.part,
        "crop": preparation.crop,
        "size": preparation.size,
        "skip": preparation.skip,
        "skip_first": preparation.first,
        "action_low": preparation.low,
        "action_high": preparation.high,
        "skip_divided": preparation.divided,
    }


def run_job(job: Job, root: Path, make: Callable[[str, str | None], Any] | None = None) -> tuple[str, bool | None]:
    """Records one episode and saves it. This function runs in the worker processes.

    Args:
        job: The episode to record.
        root: Folder of the dataset.
        make: Makes the environment for a task and a policy. It is called for every episode, so it should cache.

    Returns:
        The kind of the episode (its behavior), and whether it was successful; None if success is not known.
    """
    module = module_of(job.env)
    env = (make or module.make_env)(*_made_of(job))
    episode, spec = module.record(env, job), module.spec_of(env, job.max_steps)
    EpisodeWriter(root, spec).add(episode, job.order)
    return episode.kind, None if episode.success is None else bool(episode.success[-spec.hold_steps :].all())


def _made_of(job: Job) -> tuple[Any, ...]:
    """Returns the arguments of `make_env`: task, policy, and the scene or the preparation if there is one."""
    if job.scene is not None:
        return job.task, job.policy, job.scene
    return (job.task, job.policy, *([job.preparation] if job.preparation != Preparation() else []))


def parse_mix(text: str, behaviors: Iterable[str]) -> dict[str, float]:
    """Parses behaviors and their shares, such as "expert:0.5,play:0.5", into shares that sum to 1.

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
    """Number of episodes of this seed, env, task, scene, hold, and policy or mix; those that the folder already has are
    not collected again. It may hold others, too."""
    env: str = "NicoLReal-v0"
    """Id of a Gymnasium environment; MODULE:ID imports a module first. The observation must be a Box (a vector or a
    picture) or a flat Dict of these, and the action space Discrete or a Box (an unbounded one needs --action-low and
    --action-high)."""
    task: str | None = None
    """Task, if the environment has several. By default one is drawn for each episode."""
    scene: str | None = None
    """Scene, if the environment has several. NICOL has standard, and varied, which draws the light, the table, the
    camera and one to five objects for each episode."""
    policy: str | None = None
    """Behavior or policy that acts. In any environment: random (uniform; the default), held (random actions, each
    repeated for a random number of steps), correlated (smooth random motion), or the folder of a saved policy. For
    NICOL: a behavior of --mix, or the folder of the policy that the behaviors "policy" and "dreamt" of --mix use."""
    mix: str | None = None
    """Behaviors and their shares, such as random:0.5,held:0.5. NICOL's behaviors are expert (scripted, with noise of
    any strength), demo (scripted, with slight noise), misjudge (scripted, with a wrong estimate of where the cubes
    are), attempt (straight at the cube, like a policy early in training), play (handles the cubes without a task),
    random, policy (a saved policy) and dreamt (executes the actions of a saved policy in a rollout of the world model
    from the same start). NICOL's default is
    demo:0.15,expert:0.2,misjudge:0.2,attempt:0.2,play:0.2,random:0.05."""
    max_steps: int | None = None
    """Maximum number of actions per episode. By default the environment's own time limit."""
    seed: int = 0
    """Seed. A different seed gives different episodes."""
    workers: int | None = None
    """Number of worker processes. By default one per core."""
    ray: bool = False
    """Uses all cores of a Ray cluster instead of --workers, or of this machine if there is no cluster. Needs the extra
    `ray`."""
    world_model: str | None = None
    """World model for the behavior "dreamt". By default the one that the policy's config names."""
    env_options: str = ""
    """Arguments for `gymnasium.make`, such as frame_skip=4,continuous=False or, with a value in JSON, size=[3,4]."""
    part: str | None = None
    """Key of a Dict observation to record alone, such as screen. By default all keys are recorded."""
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels to cut off every picture: rows at the top and the bottom, columns at the left and the right."""
    size: int | None = None
    """Side length in pixels to which pictures are resized after cropping, such as 64; at most their own (or 64). By
    default they keep their size."""
    hold: int = HELD
    """Maximum number of steps for which the behavior "held" repeats an action. Raise it at a high control rate, so that
    random actions reach more states. Episodes with another number are other episodes."""
    skip: int = 1
    """Number of environment steps for which each action is repeated (frame skip). Rewards are summed."""
    skip_divided: tuple[int, ...] = ()
    """Entries of the action, counted from 0, of which each of the --skip steps gets an equal part: displacements. The
    others are repeated as they are, such as targets and velocities."""
    skip_first: int = 0
    """Number of environment steps to skip after each reset, without acting, such as an opening animation."""
    action_low: tuple[float, ...] | None = None
    """Lower bounds of the actions, one per action dimension, tighter than the environment's own. They can make random
    actions reach more states. Models and policies fitted to the episodes have these bounds, too."""
    action_high: tuple[float, ...] | None = None
    """Upper bounds of the actions, as --action-low."""

    def acting(self) -> tuple[dict[str, float], str | None]:
        """Returns the behaviors with their shares, and the folder of the policy.

        Raises:
            ValueError: If policy and mix do not go together, or the policy does not exist.
        """
        from dream_env.agents.policies.registry import is_shipped  # imported late because it loads torch

        module, folder, mix = module_of(self.env), self.policy, self.mix
        if folder in module.BEHAVIORS and folder not in module.POLICIES and mix is None:
            folder, mix = None, folder
        mix = mix or (module.MIX if folder is None else "policy")
        shares = parse_mix(mix, module.BEHAVIORS)
        if (folder is None) == any(kind in shares for kind in module.POLICIES):
            raise ValueError(
                f"policy={folder}, mix={mix!r}; accepted: a folder and one of {module.POLICIES}, or neither"
            )
        path = folder and str(Path(folder).expanduser())
        if path and not (is_shipped(folder) or is_hub_name(folder) or Path(path).exists()):
            named = ", ".join(kind for kind in module.BEHAVIORS if kind not in module.POLICIES)
            raise ValueError(f"policy={folder!r} does not exist; accepted: {named}, or a folder of a saved policy")
        return shares, path

    def jobs(self) -> list[Job]:
        """Returns all episodes to record.

        Episode i depends only on the seed, i, its behavior, task, policy, scene, and hold if the behavior is "held".

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
        if self.hold != HELD and "held" not in mix:
            raise ValueError(
                f"hold={self.hold}: none of {', '.join(mix)} holds actions; accepted: a policy or mix with 'held'"
            )
        bounds = (self.action_low, self.action_high)
        preparation = Preparation(options, *shown, self.skip, self.skip_first, *bounds, self.skip_divided)
        if module.TASKS and preparation != Preparation():
            raise ValueError(
                "env_options, part, crop, size, skip, skip_divided, skip_first, action_low, action_high: accepted "
                f"for {self.env}: none, as it is recorded so"
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
            # Take the behavior that is furthest behind its share, so that every prefix of the list has the right mix.
            kind = max(mix, key=lambda kind: mix[kind] * (i + 1) - counts[kind])
            counts[kind] += 1
            folder = path if kind in module.POLICIES else None
            world_model = self.world_model if kind == "dreamt" else None
            named = f"{kind} {task} {folder}" + ("" if self.scene is None else f" {self.scene}")
            named += f" {self.hold}" if kind == "held" and self.hold != HELD else ""
            words = zlib.crc32(named.encode())
            entropy = np.random.SeedSequence([self.seed, i, words])
            seed = int(entropy.generate_state(1, np.uint64)[0] >> 1)
            more: dict[str, Any] = {"preparation": preparation, "scene": self.scene, "hold": self.hold}
            jobs.append(Job(i, kind, seed, task, folder, world_model, self.env, self.max_steps, **more))
        return jobs


def collect(args: Arguments, make: Callable[[str, str | None], Any] | None = None) -> int:
    """Collects the episodes that the dataset does not have yet.

    Args:
        args: See `Arguments`.
        make: Makes the environment for a task and a policy, by default that of `args.env`. It is called for every
            episode, so it should cache.

    Returns:
        The number of episodes in the dataset.

    Raises:
        EnvError: If the environment fails in an episode; those that are finished are kept.
        ValueError: If an argument is not accepted, or the folder holds something else.
    """
    jobs, out = args.jobs(), args.out.expanduser()
    spec = None
    if jobs and make is None:  # fail here rather than in the workers if the environment cannot be recorded
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
            try:
                for kind, success in results:
                    if success is not None:
                        kinds[kind] += 1
                        solved[kind] += success
                        bar.set_postfix({k: f"{100 * solved[k] / n:.0f}% ok" for k, n in kinds.items()})
                    bar.update()
            except EnvError as error:
                raise EnvError(f"{error}; the finished episodes are kept; mend it, or take another --seed") from error
        return writer.close()


def main(args: Arguments) -> None:
    """Runs the command."""
    print(f"{args.out}: {collect(args)} episodes")


if __name__ == "__main__":
    from dream_env.agents.run.cli import command

    command("collect")
