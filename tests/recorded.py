"""Recorded episodes that need no physics."""

import numpy as np
import toy

from dream_env.agents.fidelity import replay
from dream_env.nicol.constants import EPISODE_STEPS, integrate
from dream_env.nicol.episodes import Episode, EpisodeDataset
from dream_env.nicol.language import COLORS

TASKS = ("reach", "push", "lift")


def recorded(count, first_seed=0, policies=("x",)):
    """Episodes that need no physics: a cube that drifts in the picture, and a hand that closes and opens."""
    rng, episodes = np.random.default_rng(first_seed), []
    for job in replay.jobs(TASKS, policies, count, first_seed):
        action = rng.uniform(-1, 1, (EPISODE_STEPS, 4)).astype(np.float32)
        proprio = [rng.uniform(-1, 1, 4).astype(np.float32)]
        for one in action:
            proprio.append(integrate(proprio[-1], one))
        objects = np.full((EPISODE_STEPS + 1, 3, 3), 0.825, np.float32)
        objects[..., :2] = rng.uniform(0, 0.5, (1, 3, 2))
        objects[:, 0, 0] += np.linspace(0, 0.1, EPISODE_STEPS + 1)
        held = (np.arange(EPISODE_STEPS + 1) + job.order) % 9 < 4
        objects[:, 1, 2] += 0.1 * held
        images = rng.integers(180, 200, (EPISODE_STEPS + 1, 64, 64, 3)).astype(np.uint8)
        for t, image in enumerate(images):
            image[4 + t : 14 + t, 20:30] = toy.COLORS["red"]
        hand = objects[:, 1] + (0, 0, 0.01)
        proprio = np.stack(proprio)
        proprio[:, 3] = np.where(held, 0.9, -0.9)
        episodes.append(
            Episode(
                seed=job.seed,
                kind=job.kind,
                task=job.task,
                instruction=f"{job.task} the red cube",
                images=images,
                goal_image=images[-1],
                proprio=proprio,
                action=action,
                label=action,
                objects=objects,
                colors=rng.permutation(len(COLORS))[:3],
                target=0,
                hand=hand.astype(np.float32),
                held=held,
                condition=rng.random(EPISODE_STEPS + 1) < (0.9 if job.order % 2 else 0.1),
            )
        )
    return EpisodeDataset.stack(episodes)
