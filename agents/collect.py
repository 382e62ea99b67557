"""Collects episodes in physics: `python -m agents.collect --out data/main --episodes 1000`.

A killed or interrupted collection goes on when the same command is given again, and a larger
`--episodes` adds to it.

The default mix is for world models: only 15 % of it are demonstrations. `agents.clone` takes 300 of them by default,
which are in 2000 episodes, or in 300 with `--mix demo`.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

from dream_env.agents.data.behaviors import BEHAVIORS, POLICIES, load_policy
from dream_env.agents.run import workers as pool
from dream_env.checks import check_choice
from dream_env.data.episodes import Episode, EpisodeWriter
from dream_env.nicol.constants import EPISODE_STEPS


@lru_cache
def make_env(task: str, policy: str | None) -> Any:
    """Makes this process's physics env; a policy needs its world model's embeddings."""
    from dream_env.nicol import real

    if policy is None:
        return real.make(task, world_model=None)
    config = load_policy(policy).config
    config.check_eyes(config.world_model)
    return real.make(task, obs_type="pixels", world_model=config.world_model)


@dataclass(frozen=True)
class Job:
    """One episode to record.

    Attributes:
        order: Its rank in the collection.
        kind: What acts, a key of `BEHAVIORS`.
        seed: Seed of scene, instruction and behavior.
        task: Name of the task or "all".
        policy: Folder of the policy where `kind` is one of `POLICIES`.
        world_model: Checkpoint that "dreamt" dreams in.
    """

    order: int
    kind: str
    seed: int
    task: str
    policy: str | None = None
    world_model: str | None = None


def record(env: Any, job: Job) -> Episode:
    """Records one episode: the same job gives the same episode."""
    obs, _ = env.reset(seed=job.seed)
    physics = env.unwrapped
    given = {"path": job.policy, "world_model": job.world_model}
    kwargs = {name: value for name, value in given.items() if value is not None}
    behavior = BEHAVIORS[job.kind](physics, np.random.default_rng([job.seed, 1]), obs, **kwargs)
    observations, truths, actions, labels = [obs], [physics.truth()], [], []
    for step in range(EPISODE_STEPS):
        action = behavior.send(obs) if step else next(behavior)
        actions.append(np.clip(action, -1, 1).astype(np.float32))
        labels.append(physics.expert_action())
        obs, *_ = env.step(actions[-1])
        observations.append(obs)
        truths.append(physics.truth())
    facts = ("objects", "hand", "held", "condition")
    return Episode(
        seed=job.seed,
        kind=job.kind,
        task=physics.task_name,
        instruction=physics.instruction,
        images=np.stack([obs["pixels"] for obs in observations]),
        goal_image=physics.goal_image,
        proprio=np.stack([obs["proprio"] for obs in observations]),
        action=np.stack(actions),
        label=np.stack(labels),
        colors=truths[0]["colors"],
        target=truths[0]["target"],
        **{name: np.stack([truth[name] for truth in truths]) for name in facts},
    )


def run_job(job: Job, root: Path, make: Callable[[str, str | None], Any]) -> tuple[str, bool]:
    """Records one episode and saves it: the function that worker processes run.

    Returns:
        Its kind and whether it was successful.
    """
    episode = record(make(job.task, job.policy), job)
    EpisodeWriter(root).add(episode, job.order)
    return episode.kind, episode.success


def parse_mix(text: str) -> dict[str, float]:
    """Parses "expert:0.5,play:0.5" to shares that sum to 1.

    Raises:
        ValueError: If a behavior is unknown or a share is not a positive number.
    """
    mix = {}
    for part in text.split(","):
        kind, _, share = part.partition(":")
        check_choice("mix behavior", kind, BEHAVIORS)
        try:
            mix[kind] = float(share or 1)
        except ValueError:
            mix[kind] = -1.0
        if not 0 < mix[kind] < float("inf"):
            raise ValueError(f"mix={text!r}: share {share!r} of {kind}; accepted: a positive number")
    return {kind: share / sum(mix.values()) for kind, share in mix.items()}


@dataclass(frozen=True)
class Collect:
    """Collects episodes in physics into a LeRobot v3 dataset; the same command again resumes it."""

    out: Path
    """Folder of the dataset."""
    episodes: int = 1000
    """Episodes of this command; those that the folder has already are not collected again."""
    task: str = "all"
    """Task, or "all" to draw one of them per episode."""
    mix: str = "demo:0.15,expert:0.2,misjudge:0.2,attempt:0.2,play:0.2,random:0.05"
    """Behaviors and their shares: expert (scripted, under noise of any strength), demo (scripted,
    slight noise), misjudge (scripted, sees the cubes in a wrong place), attempt (straight at the
    cube, as a policy in training), play (with the cubes, no task), random, policy, dreamt (what the policy does in a
    dream that begins alike)."""
    seed: int = 0
    """Seed; another one gives other episodes."""
    workers: int | None = None
    """Processes; by default one per core."""
    ray: bool = False
    """Uses all cores of a Ray cluster instead, or of this machine where Ray finds none; needs the extra `ray`."""
    policy: Path | None = None
    """Folder of the policy that acts where --mix holds "policy" or "dreamt"."""
    world_model: str | None = None
    """World model that "dreamt" dreams in; by default the one that the policy names."""

    def jobs(self) -> list[Job]:
        """Lists all episodes; number i depends on the seed, i and its behavior alone.

        Raises:
            ValueError: If an argument is out of range, or policy and mix do not go together.
        """
        mix = parse_mix(self.mix)
        if self.episodes < 0 or self.seed < 0:
            raise ValueError(f"episodes={self.episodes}, seed={self.seed}; accepted: 0 or more")
        if (self.policy is None) == any(kind in mix for kind in POLICIES):
            raise ValueError(
                f"policy={self.policy}, mix={self.mix!r}; accepted: a folder and one of {POLICIES}, or neither"
            )
        counts, jobs = Counter[str](), []
        for i in range(self.episodes):
            # The behavior that lags most behind its share: exact shares in every prefix.
            kind = max(mix, key=lambda kind: mix[kind] * (i + 1) - counts[kind])
            counts[kind] += 1
            folder = str(self.policy) if kind in POLICIES else None
            world_model = self.world_model if kind == "dreamt" else None
            words = zlib.crc32(f"{kind} {self.task} {folder}".encode())
            entropy = np.random.SeedSequence([self.seed, i, words])
            seed = int(entropy.generate_state(1, np.uint64)[0] >> 1)
            jobs.append(Job(i, kind, seed, self.task, folder, world_model))
        return jobs


def collect(args: Collect, make: Callable[[str, str | None], Any] = make_env) -> int:
    """Collects the episodes that are still missing.

    Args:
        args: What to collect.
        make: Makes the env of a task and a policy; called for every episode, so it should cache.

    Returns:
        The number of episodes in the dataset.
    """
    jobs = args.jobs()
    with EpisodeWriter(args.out) as writer:
        done = writer.seeds()
        missing = [job for job in jobs if job.seed not in done]
        job_runner = partial(run_job, root=args.out, make=make)
        kinds, solved = Counter[str](), Counter[str]()
        with (
            closing(pool.imap(job_runner, missing, "ray" if args.ray else args.workers)) as results,
            tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="episode") as bar,
        ):
            for kind, success in results:
                kinds[kind] += 1
                solved[kind] += success
                bar.set_postfix({k: f"{100 * solved[k] / n:.0f}% ok" for k, n in kinds.items()})
                bar.update()
    return writer.close()


def main() -> None:
    """Runs the command."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    arguments = tyro.cli(Collect, prog="python -m agents.collect", description=__doc__)
    try:
        print(f"{arguments.out}: {collect(arguments)} episodes")
    except KeyboardInterrupt:
        raise SystemExit("interrupted; the same command goes on from here") from None


if __name__ == "__main__":
    from dream_env.agents import collect as module  # Ray's workers know no __main__

    module.main()
