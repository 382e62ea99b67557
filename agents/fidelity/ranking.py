"""Checks whether a dream ranks policies as physics does: many policies in both worlds, on the same held-out starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.eval.results import WORLDS, EpisodeResult, World, confirmed, load_results, save_results
from dream_env.agents.eval.statistics import pearson, spearman
from dream_env.agents.fidelity.replay import encoder_digest
from dream_env.agents.nicol.rollouts import Batch, play
from dream_env.agents.policies.registry import check_encoder, env_kwargs_of, load, resolve
from dream_env.agents.run import workers as pool
from dream_env.nicol.spec import SPEC
from dream_env.progress import progress_bar
from dream_env.world_models import checkpoint

PHYSICS_CHUNK, DREAM_CHUNK = 10, 256
"""Episodes per batch of a process."""


def weights(policy: str) -> str:
    """Returns a digest of a policy's weights and config; of a file, such as a .zip, that of its content."""
    if (file := resolve(policy)).is_file():
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    saved = load(policy)
    digest = hashlib.sha256(json.dumps(asdict(saved.config), sort_keys=True, default=str).encode())
    for tensor in saved.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def recordable(policies: Sequence[str]) -> tuple[str, ...]:
    """Returns the policies that can be recorded: those that read nothing but what `obs_type="pixels"` shows."""
    needed = {policy: env_kwargs_of(load(policy), SPEC) for policy in policies}
    shown = ("embedding", "pixels", "native")
    return tuple(policy for policy, env in needed.items() if env["obs_type"] in shown and not env["goal_env"])


def check_policies(policies: Sequence[str], world_model: str) -> None:
    """Checks that every policy was trained with the encoder of a world model.

    Args:
        policies: Folders of the policies.
        world_model: Checkpoint of the world model.

    Raises:
        FileNotFoundError: If a policy is missing.
        ValueError: If a policy was trained with another encoder, or is named twice.
    """
    for policy in policies:
        if policies.count(policy) > 1:
            raise ValueError(f"policies: {policy!r} is named twice; accepted: each once")
        saved = load(policy)
        try:
            check_encoder(saved, world_model)
        except ValueError as error:
            raise ValueError(f"policies: {policy!r} does not fit the world model: {error}") from error


def compare(
    policies: Sequence[str],
    tasks: Sequence[str],
    seeds: Sequence[int],
    world_model: str,
    cache: Path,
    temperature: float = 1.0,
    workers: pool.Workers = None,
) -> list[EpisodeResult]:
    """Evaluates every policy in both worlds from the same initial states.

    Results in physics depend only on the policy and the encoder. They are kept in `cache` and reused for other world
    models. The actions of every episode are also repeated in physics, see `Batch.confirm`.

    Args:
        policies: Folders of the policies.
        tasks: Names of the tasks.
        seeds: Held-out seeds, used for every task.
        world_model: Checkpoint of the world model.
        cache: Folder of the results of physics.
        temperature: Temperature of the dream.
        workers: Number of processes, or "ray"; all cores by default.
    """

    def batch(world: World, policy: str, task: str, some: tuple[int, ...]) -> Batch:
        return Batch(
            policy, policy, world, task, some, world_model, temperature=temperature, reward="success", confirm=True
        )

    encoder = encoder_digest(checkpoint.load(world_model))
    files = {policy: cache / f"{weights(policy)}-{encoder}.jsonl" for policy in policies}
    known = {policy: _confirmed(file) for policy, file in files.items()}
    wanted = set(product(tasks, seeds))
    batches = []
    for policy, task in product(policies, tasks):
        done = {result.seed for result in known[policy] if result.task == task}
        missing = tuple(seed for seed in seeds if seed not in done)
        for i in range(0, len(missing), PHYSICS_CHUNK):
            batches.append(batch("physics", policy, task, missing[i : i + PHYSICS_CHUNK]))
    for played in _play(batches, "policies in physics", workers):
        own = known[played[0].label]
        own += played
        save_results(own, files[played[0].label])
    results = [replace(o, label=p) for p in policies for o in known[p] if (o.task, o.seed) in wanted]
    # Policies are the innermost loop so that a process resets physics to each initial state once and keeps its goal.
    dreams = [
        batch("dream", policy, task, tuple(seeds[i : i + DREAM_CHUNK]))
        for task in tasks
        for i in range(0, len(seeds), DREAM_CHUNK)
        for policy in policies
    ]
    for played in _play(dreams, "policies in the dream", workers):
        results += played
    return results


def _confirmed(file: Path) -> list[EpisodeResult]:
    """Reads kept results; skips old ones whose actions were not repeated in physics."""
    return [result for result in load_results(file) if result.confirmed is not None] if file.is_file() else []


def _play(batches: Sequence[Batch], what: str, workers: pool.Workers) -> Iterator[list[EpisodeResult]]:
    with progress_bar(total=sum(len(batch.seeds) for batch in batches), desc=what, unit="episode") as bar:
        for played in pool.imap(play, batches, workers) if batches else ():
            bar.update(len(played))
            yield played


def agreement(results: Sequence[EpisodeResult], task: str | None = None) -> dict[str, Any]:
    """Compares the success rates of policies in the dream and in physics.

    Args:
        results: Episodes of both worlds; episodes that are solved at the start are dropped.
        task: Name of a task; None pools all tasks.

    Returns:
        `spearman` and `pearson`, correlations over the policies' success rates; `mae_points`, their mean absolute
        difference, and `bias_points`, dream minus physics, both in percentage points; `same`, the fraction of episodes
        with the same result in both worlds; `confirmed`, the fraction of successes in the dream whose actions also
        succeed in physics; `confirmed_physics`, the same for successes in physics, repeated with displaced cubes; and
        `rows`, one entry per policy.
    """
    kept = [o for o in results if not o.solved_at_start and o.task == (task or o.task)]
    rows, same = [], []
    for label in dict.fromkeys(o.label for o in kept):
        own = [o for o in kept if o.label == label]
        physics, dream = ({(o.task, o.seed): o.success for o in own if o.world == world} for world in WORLDS)
        pairs = [(physics[key], dream[key]) for key in physics if key in dream]
        same += [a == b for a, b in pairs]
        rates = np.mean(pairs, axis=0) if pairs else np.full(2, np.nan)
        rows.append(
            {"policy": label, "episodes": len(pairs), "physics": float(rates[0]), "dream": float(rates[1])}
            | {"confirmed": confirmed(o for o in own if o.world == "dream")}
        )
    one, other = np.array([row["physics"] for row in rows]), np.array([row["dream"] for row in rows])
    return {
        "spearman": spearman(one, other),
        "pearson": pearson(one, other),
        "mae_points": float(100 * np.abs(other - one).mean()) if rows else float("nan"),
        "bias_points": float(100 * (other - one).mean()) if rows else float("nan"),
        "same": float(np.mean(same)) if same else float("nan"),
        "confirmed": confirmed(o for o in kept if o.world == "dream"),
        "confirmed_physics": confirmed(o for o in kept if o.world == "physics"),
        "rows": rows,
    }
