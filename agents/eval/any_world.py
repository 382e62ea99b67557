"""Evaluates a policy in any real environment and in its dream: returns, and success rates if success is defined."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from scipy.stats import bootstrap

from dream_env.agents.eval.statistics import Interval, markdown_table, wilson
from dream_env.agents.policies.registry import check_encoder, env_kwargs_of, load_once
from dream_env.agents.run import workers as pool
from dream_env.agents.run.worlds import make_real, spec_of
from dream_env.dream import DreamVectorEnv
from dream_env.files import write_json, write_text
from dream_env.spec import observe, success_of
from dream_env.world_models import checkpoint

SCRIPTED = ("random", "zero")
MOST_STEPS = 10_000
"""Maximum number of steps in an episode of a world without a horizon."""
REAL_CHUNK = 5
"""Episodes of the real environment in one unit of work."""


@dataclass(frozen=True)
class Played:
    """Outcomes of the episodes of a policy.

    Attributes:
        returns: Sum of rewards of each episode.
        success: Whether each episode succeeded; empty if the world reports no success.
        steps: Number of steps of each episode.
    """

    returns: list[float]
    success: list[bool]
    steps: list[int]


def play_real(policy: str, env: str | None, world_model: str, episodes: int, seed: int) -> Played:
    """Runs episodes in the real environment.

    Every policy gets the same rewards as in the dream, whatever it observes.

    Args:
        policy: Folder of a policy, or one of `SCRIPTED`.
        env: Id of the environment; None for the one that the world model was fitted to.
        world_model: Name or folder of the world model.
        episodes: Number of episodes.
        seed: Seed of the first episode; the others use consecutive seeds.
    """
    world = make_real(env, world_model, **env_kwargs(policy, world_model))
    played = Played([], [], [])
    for i in range(seed, seed + episodes):
        actor, (obs, info) = Actor(policy, world.action_space, [i]), world.reset(seed=i)
        total, steps, ended = 0.0, 0, False
        while not ended:
            action = actor({name: part[None] for name, part in observe(obs).items()})[0]
            obs, reward, terminated, truncated, info = world.step(action)
            total, steps = total + float(reward), steps + 1
            ended = terminated or truncated or steps >= MOST_STEPS
        played.returns.append(total)
        played.steps.append(steps)
        if (done := success_of(info)) is not None:
            played.success.append(bool(done))
    world.close()
    return played


def play_dream(policy: str, world_model: str, episodes: int, seed: int) -> Played:
    """Runs episodes as one batch in the dream, from recorded initial states; arguments as in `play_real`."""
    seeds, model = list(range(seed, seed + episodes)), checkpoint.load(world_model)
    dreams = DreamVectorEnv(
        episodes, world_model=world_model, autoreset_mode=AutoresetMode.NEXT_STEP, **env_kwargs(policy, world_model)
    )
    obs, _ = dreams.reset(seed=seeds)
    actor, total = Actor(policy, dreams.single_action_space, seeds), np.zeros(episodes)
    going, success = np.ones(episodes, bool), np.zeros(episodes, bool)
    steps = np.zeros(episodes, int)
    name = next(iter(model.spec.observation.spaces))
    for _ in range(model.spec.horizon or MOST_STEPS):
        batch = obs if isinstance(obs, dict) else {name: obs}
        obs, reward, terminated, truncated, info = dreams.step(actor(batch))
        total, steps = total + np.where(going, reward, 0.0), steps + going
        success = np.where(going, info.get("is_success", False), success)
        going = going & ~(terminated | truncated)
        if not going.any():
            break
    dreams.close()
    return Played(total.tolist(), success.tolist() if "is_success" in info else [], steps.tolist())


def env_kwargs(policy: str, world_model: str) -> dict[str, Any]:
    """Returns `env_kwargs_of` a policy; "native" observations for scripted ones, which read none."""
    return {"obs_type": "native"} if policy in SCRIPTED else env_kwargs_of(load_once(policy), spec_of(world_model))


class Actor:
    """Chooses a policy's actions for a batch of episodes."""

    def __init__(self, policy: str, space: gym.Space, seeds: list[int]) -> None:
        self.policy, self.space = policy, space
        self.generators = [np.random.default_rng(seed) for seed in seeds]
        if policy not in SCRIPTED:
            self.saved = load_once(policy)
            self.saved.reset()

    def __call__(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """Returns the actions of a batch of observations."""
        if self.policy not in SCRIPTED:
            return self.saved.act(obs)
        space: Any = self.space
        if isinstance(space, gym.spaces.Discrete):
            draw = [space.start + g.integers(space.n) for g in self.generators]
            return np.array(draw) if self.policy == "random" else np.full(len(draw), space.start)
        if self.policy == "random":
            if not space.is_bounded():
                raise ValueError(f"policy='random' with actions of {space}; accepted: actions with bounds")
            return np.stack([g.uniform(space.low, space.high) for g in self.generators]).astype(space.dtype)
        still = np.clip(np.zeros(space.shape), space.low, space.high)
        return np.tile(still, (len(self.generators), 1)).astype(space.dtype)


def evaluate(
    policies: dict[str, str],
    env: str | None,
    world_model: str,
    episodes: int,
    seed: int,
    workers: pool.Workers = 1,
    worlds: Sequence[str] = ("real", "dream"),
) -> dict[tuple[str, str], Played]:
    """Evaluates policies in the real environment and in the dream.

    Args:
        policies: Folders, or names of `SCRIPTED`, by label.
        env: As in `play_real`.
        world_model: As in `play_real`.
        episodes: As in `play_real`.
        seed: As in `play_real`.
        workers: See `pool.Workers`; the outcomes do not depend on it. If it is not 1, the environment has to be one
            that another process can create from its id.
        worlds: Where to evaluate: "real", "dream", or both.

    Returns:
        Outcomes by label of the policy and world, "real" or "dream".

    Raises:
        ValueError: If a policy was trained with another encoder than the world model's.
    """
    for policy in policies.values():
        if policy not in SCRIPTED:
            check_encoder(load_once(policy), world_model)
    units = [
        _Unit(label, world, policy, env, world_model, min(chunk, episodes - i), seed + i)
        for label, policy in policies.items()
        for world in worlds
        for chunk in (REAL_CHUNK if world == "real" else episodes,)
        for i in range(0, episodes, chunk)
    ]
    played: dict[tuple[str, str], Played] = {}
    for unit, part in zip(units, pool.imap(_play, units, workers, ordered=True), strict=True):
        whole = played.setdefault((unit.label, unit.world), Played([], [], []))
        for name in ("returns", "success", "steps"):
            getattr(whole, name).extend(getattr(part, name))
    return played


class _Unit(NamedTuple):
    """Consecutive episodes of one policy in one world, "real" or "dream"; a unit of work for one process."""

    label: str
    world: str
    policy: str
    env: str | None
    world_model: str
    episodes: int
    seed: int


def _play(unit: _Unit) -> Played:
    """Runs the episodes of a unit; this is the function that worker processes run."""
    if unit.world == "dream":
        return play_dream(unit.policy, unit.world_model, unit.episodes, unit.seed)
    return play_real(unit.policy, unit.env, unit.world_model, unit.episodes, unit.seed)


def summarize(played: Mapping[tuple[str, str], Played]) -> list[dict[str, Any]]:
    """Returns one row per policy and world: mean return and success rate, with 95 % intervals, and mean length."""
    rows = []
    for (label, world), one in played.items():
        low, high = mean_interval(one.returns)
        row: dict[str, Any] = {"policy": label, "world": world, "episodes": len(one.returns)}
        row |= {"return": float(np.mean(one.returns)), "low": low, "high": high}
        row["steps"] = float(np.mean(one.steps))
        if one.success:
            row["success"] = wilson(sum(one.success), len(one.success))._asdict()
        rows.append(row)
    return rows


def mean_interval(values: list[float]) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of the mean; nan for fewer than two values."""
    if len(values) < 2:
        return math.nan, math.nan
    if min(values) == max(values):
        return values[0], values[0]
    found = bootstrap((values,), np.mean, rng=np.random.default_rng(0), n_resamples=2000, method="percentile")
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def report(
    policies: dict[str, str],
    env: str | None,
    world_model: str,
    episodes: int,
    seed: int,
    gif_episodes: int,
    about: Mapping[str, Any],
    out: Path,
    workers: pool.Workers = 1,
) -> str:
    """Evaluates policies, writes the report, and returns the text of results.md.

    Args:
        policies: As in `evaluate`.
        env: As in `play_real`.
        world_model: As in `play_real`.
        episodes: As in `play_real`.
        seed: As in `play_real`.
        gif_episodes: Episodes of the last policy in the GIF; no GIF is written if this is 0 or the world has no
            pictures.
        about: Further entries of results.json.
        out: Folder to write to.
        workers: As in `evaluate`.
    """
    played = evaluate(policies, env, world_model, episodes, seed, workers)
    text = write(played, seed, about, out, spec_of(world_model).horizon)
    if gif_episodes and spec_of(world_model).pictures:
        from dream_env.agents.eval import any_clips, pictures

        seeds = range(seed, seed + min(gif_episodes, episodes))
        clips = any_clips.record(list(policies.values())[-1], env, world_model, seeds)
        pictures.gif(clips, out / "rollouts.gif")
    return text


def write(
    played: Mapping[tuple[str, str], Played], seed: int, about: Mapping[str, Any], out: Path, horizon: int | None = None
) -> str:
    """Writes results.json, results.md, results.png and episodes.jsonl, and returns the text of results.md.

    Args:
        played: Outcomes by policy and world.
        seed: Seed of the first episode.
        about: Further entries of results.json.
        out: Folder to write to.
        horizon: Steps after which dreams end; the text says so if real episodes last longer.
    """
    rows, table = summarize(played), []
    for row in rows:
        success = row.get("success")
        won = f"{success['value']:.0%} ({success['low']:.0%} to {success['high']:.0%})" if success else "–"
        mean = f"{row['return']:.4g} ({row['low']:.4g} to {row['high']:.4g})"
        table.append([row["policy"], row["world"], mean, won, f"{row['steps']:.4g}", row["episodes"]])
    header = ["policy", "world", "return", "success", "steps", "episodes"]
    text = "Means, with 95 % intervals.\n\n" + markdown_table(header, table) + "\n"
    longest = max((max(one.steps) for (_, world), one in played.items() if world == "real"), default=0)
    if horizon is not None and longest > horizon:
        text += (
            f"\nReturns of the two worlds cannot be compared: dreams end after {horizon} steps, as the recorded "
            f"episodes did (`agents.collect --max-steps`), real episodes last up to {longest}.\n"
        )
    shown = [dict(zip(header, line, strict=True)) for line in table]
    plain = [{name: None if value != value else value for name, value in row.items()} for row in rows]  # no NaN in JSON
    write_json(out / "results.json", {**about, "rows": plain, "table": shown})
    write_text(out / "results.md", text)
    lines = []
    for (label, world), one in played.items():
        for i, (total, steps) in enumerate(zip(one.returns, one.steps, strict=True)):
            success = one.success[i] if one.success else None
            line = {"policy": label, "world": world, "seed": seed + i, "return": total, "steps": steps}
            lines.append(json.dumps({**line, "success": success}) + "\n")
    write_text(out / "episodes.jsonl", "".join(lines))
    _plot(rows, out / "results.png")
    return text


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws success rates if every row has one, else mean returns."""
    from dream_env.agents.eval import pictures

    success = all("success" in row for row in rows)
    panels: dict[str, dict[str, list[Interval]]] = {"real environment": {}, "dream": {}}
    for row in rows:
        known = row["success"] if success else {"value": row["return"], "low": row["low"], "high": row["high"]}
        panels["dream" if row["world"] == "dream" else "real environment"][row["policy"]] = [Interval(**known)]
    if success:
        pictures.plot(panels, [""], path)
    else:
        pictures.plot(panels, [""], path, "mean return", "Return of each policy, with 95 % intervals", percent=False)
