"""Collects episodes in physics: `python -m agents.collect --out data/main --episodes 1000`.

A killed or interrupted collection goes on when the same command is given again, and a larger
`--episodes` adds to it.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

from dream_env.agents import pool
from dream_env.contract import ACTION_NAMES, EPISODE_STEPS, SETPOINT_STEP, check_choice, denormalize
from dream_env.episodes import Episode, EpisodeWriter
from dream_env.tasks import TASKS

Observation = Mapping[str, np.ndarray]
Behavior = Generator[np.ndarray, Observation, None]
"""Yields an action `(4,)` per step, not yet clipped, and is sent the observation after it."""

DEMO_NOISE = 0.15
"""Standard deviation of the noise on demonstrated actions."""
EXPERT_NOISE = 0.5
"""Largest standard deviation of the noise on the expert's actions; each episode draws its own."""
MISJUDGMENT = 0.025
"""Largest standard deviation of the error in where `misjudge` sees the cubes (m); each episode draws its own."""
RANDOM_NOISE = 0.7
"""Standard deviation of random actions."""
PERSISTENCE = 0.97
"""Correlation of `misjudge`'s error from one step to the next: nearly one error per episode."""
CORRELATION = 0.8
"""Correlation of `expert` and `random` noise from one step (0.1 s) to the next."""


def noise(
    rng: np.random.Generator, std: float, correlation: float = CORRELATION
) -> Generator[np.ndarray, None, None]:
    """Yields an Ornstein-Uhlenbeck process `(4,)` in its stationary state."""
    value = rng.normal(0, std, len(ACTION_NAMES))
    while True:
        yield value
        value = correlation * value + np.sqrt(1 - correlation**2) * rng.normal(0, std, value.shape)


def demo(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Demonstrates: the scripted expert under slight noise.

    The noise shows how mistakes are corrected; the clean action is the label (DART, Laskey et al.
    2017).
    """
    while True:
        yield env.expert_action() + rng.normal(0, DEMO_NOISE, len(ACTION_NAMES))


def expert(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Follows the scripted expert under correlated noise, from none to so much that it fails."""
    for disturbance in noise(rng, rng.uniform(0, EXPERT_NOISE)):
        yield env.expert_action() + disturbance


def misjudge(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Follows the expert's plan for cubes that it sees in a wrong place, slightly shaking.

    Most of what it does ends in a near miss: a grasp on the cube's edge, a push past its side. A dream that never saw
    those lets every attempt succeed.
    """
    std = rng.uniform(0, MISJUDGMENT)
    for shift, shake in zip(noise(rng, std, PERSISTENCE), noise(rng, DEMO_NOISE), strict=True):
        seen = env.situation()
        objects = seen.objects + [*shift[:2], 0.3 * shift[2]]
        yield TASKS[env.task_name].expert(replace(seen, objects=objects)) + shake


def random(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Moves at random, smoothly."""
    yield from noise(rng, RANDOM_NOISE)


def play(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Plays without a task: approaches some cube, grasps, drags or lifts it, and again."""
    while True:
        cube = env.truth()["objects"][rng.integers(3)]
        beside = cube + [*rng.normal(0, 0.025, 2), 0]
        grip = float(rng.random() < 0.7)
        moved = beside + [*rng.normal(0, 0.1, 2), rng.choice([0, 0.05, 0.15])]
        stops = [
            (beside + [0, 0, rng.uniform(0.06, 0.14)], 0.0),
            (beside + [0, 0, rng.uniform(0.0, 0.025)], 0.0),
            (beside, grip),
            (moved, grip),
        ]
        for position, closed in stops[: rng.integers(2, len(stops) + 1)]:
            target, speed = np.append(position, closed), rng.uniform(0.4, 1.0)
            for _ in range(rng.integers(3, 8)):
                step = (target - denormalize(obs["proprio"])) / SETPOINT_STEP
                obs = yield np.clip(step, -speed, speed)
                if np.abs(step).max() < 0.3:
                    break


def policy(env: Any, rng: np.random.Generator, obs: Observation, path: str) -> Behavior:
    """Acts by a saved policy, stochastically."""
    import torch

    torch.manual_seed(int(rng.integers(2**63)))
    while True:
        obs = yield _load_policy(path).predict(obs, deterministic=False)[0]


BEHAVIORS: dict[str, Callable[..., Behavior]] = {
    "expert": expert,
    "demo": demo,
    "misjudge": misjudge,
    "play": play,
    "random": random,
    "policy": policy,
}


@lru_cache
def _load_policy(path: str) -> Any:
    from dream_env.agents.policy import load

    return load(path)


@lru_cache
def make_env(task: str, policy: str | None) -> Any:
    """Makes this process's physics env; a policy needs its world model's embeddings."""
    from dream_env.real import NicoLRealEnv

    if policy is None:
        return NicoLRealEnv(task, obs_type="pixels", reward="success", world_model=None)
    world_model = _load_policy(policy).config.world_model
    return NicoLRealEnv(task, obs_type="pixels", world_model=world_model)


@dataclass(frozen=True)
class Job:
    """One episode to record.

    Attributes:
        order: Its rank in the collection.
        kind: What acts, a key of `BEHAVIORS`.
        seed: Seed of scene, instruction and behavior.
        task: Name of the task or "all".
        policy: Folder of the policy where `kind` is "policy".
    """

    order: int
    kind: str
    seed: int
    task: str
    policy: str | None = None


def record(env: Any, job: Job) -> Episode:
    """Records one episode: the same job gives the same episode."""
    obs, _ = env.reset(seed=job.seed)
    kwargs = {} if job.policy is None else {"path": job.policy}
    behavior = BEHAVIORS[job.kind](env, np.random.default_rng([job.seed, 1]), obs, **kwargs)
    observations, truths, actions, labels = [obs], [env.truth()], [], []
    for step in range(EPISODE_STEPS):
        action = behavior.send(obs) if step else next(behavior)
        actions.append(np.clip(action, -1, 1).astype(np.float32))
        labels.append(env.expert_action())
        obs, *_ = env.step(actions[-1])
        observations.append(obs)
        truths.append(env.truth())
    facts = ("objects", "hand", "held", "condition")
    return Episode(
        seed=job.seed,
        kind=job.kind,
        task=env.task_name,
        instruction=env.instruction,
        images=np.stack([obs["pixels"] for obs in observations]),
        goal_image=env.goal_image,
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
    mix: str = "demo:0.15,expert:0.25,misjudge:0.3,play:0.24,random:0.06"
    """Behaviors and their shares: expert (scripted, under noise of any strength), demo (scripted,
    slight noise), misjudge (scripted, sees the cubes in a wrong place), play (with the cubes, no
    task), random, policy."""
    seed: int = 0
    """Seed; another one gives other episodes."""
    workers: int | None = None
    """Processes; by default one per core."""
    policy: Path | None = None
    """Folder of the policy that acts where --mix holds "policy"."""

    def jobs(self) -> list[Job]:
        """Lists all episodes; number i depends on the seed, i and its behavior alone.

        Raises:
            ValueError: If an argument is out of range, or policy and mix do not go together.
        """
        mix = parse_mix(self.mix)
        if self.episodes < 0 or self.seed < 0:
            raise ValueError(f"episodes={self.episodes}, seed={self.seed}; accepted: 0 or more")
        if (self.policy is None) == ("policy" in mix):
            raise ValueError(f"policy={self.policy}, mix={self.mix!r}; accepted: a folder and 'policy', or neither")
        counts, jobs = Counter[str](), []
        for i in range(self.episodes):
            # The behavior that lags most behind its share: exact shares in every prefix.
            kind = max(mix, key=lambda kind: mix[kind] * (i + 1) - counts[kind])
            counts[kind] += 1
            folder = str(self.policy) if kind == "policy" else None
            words = zlib.crc32(f"{kind} {self.task} {folder}".encode())
            entropy = np.random.SeedSequence([self.seed, i, words])
            seed = int(entropy.generate_state(1, np.uint64)[0] >> 1)
            jobs.append(Job(i, kind, seed, self.task, folder))
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
            closing(pool.imap(job_runner, missing, args.workers)) as results,
            tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="episode") as bar,
        ):
            for kind, success in results:
                kinds[kind] += 1
                solved[kind] += success
                bar.set_postfix({k: f"{100 * solved[k] / n:.0f}% ok" for k, n in kinds.items()})
                bar.update()
    return writer.close()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    arguments = tyro.cli(Collect)
    try:
        print(f"{arguments.out}: {collect(arguments)} episodes")
    except KeyboardInterrupt:
        raise SystemExit("interrupted; the same command goes on from here") from None
