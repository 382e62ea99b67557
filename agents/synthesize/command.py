"""Generates a data set of imagined episodes: what a policy does in the dream, as far as the dream can be trusted.

    python -m agents.synthesize --policy unlabelled --episodes 2000 --out dreamt

Every episode starts from a recorded initial state, and the policy acts with some noise. With --foresight K the policy
looks ahead; --policy also accepts files of `agents.plan` and `agents.foresee`. Episodes can then show behavior that is
better than that of the policy alone. An episode is kept if success holds at its end, if the same actions also succeed
under most other samples of the world model's noise, if the ensemble agrees at every step, and if the distance to the
goal has decreased; with --no-filtered, a control, every episode is kept. The data set has the layout of recorded data
sets, with pictures from the decoder, kind "dream", and privileged columns `disagreement` and `parent_episode` (row of
the initial state). An interrupted run continues when the command is given again, and a larger --episodes adds episodes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.planners.foresight import looking
from dream_env.agents.planners.prior import Prior
from dream_env.agents.planners.problem import ActionBox, Noise
from dream_env.agents.planners.rollout import imagine, repeat
from dream_env.agents.policies.registry import named_world_model
from dream_env.agents.run.config import EPISODES, check_out, check_settings, resolve_paths
from dream_env.agents.synthesize.arguments import Arguments
from dream_env.data.episode import Episode
from dream_env.data.lerobot import LeRobotStore
from dream_env.data.writer import EpisodeWriter
from dream_env.files import write_json
from dream_env.initial_states import FILE, InitialStates
from dream_env.language import word_rows
from dream_env.progress import progress_bar
from dream_env.rewards import distance, metric_distance
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import HasMetric, HasSuccess, State, WorldModel, with_goal

KIND = "dream"
"""Kind under which the episodes are stored."""
STARTS = 8
"""Initial states from which one batch of episodes is imagined."""


class Dreamt(NamedTuple):
    """N imagined episodes of T steps, on the model's device.

    Attributes:
        states: T + 1 states of N rows.
        actions: Actions of the environment, `(N, T, A)`, or `(N, T)` for discrete actions.
        success: Whether the success condition holds, `(N, T + 1)` bool.
        disagreement: Disagreement of the ensemble at every step, `(N, T)`.
        confirmed: Number of noise samples under which the actions succeed, including the episode's own, `(N,)`.
        nearer: Whether the distance to the goal (the learned one if the model has it) has decreased, `(N,)` bool; True
            in a world without goals.
    """

    states: list[State]
    actions: Tensor
    success: Tensor
    disagreement: Tensor
    confirmed: Tensor
    nearer: Tensor

    def kept(self, hold_steps: int, agree: int, limit: float | None) -> Tensor:
        """Returns which episodes pass the filter, `(N,)` bool.

        Args:
            hold_steps: Last steps in which the success condition has to hold.
            agree: Noise samples under which the actions have to succeed.
            limit: Highest accepted disagreement of a step; None for no limit.
        """
        passed = self.success[:, -hold_steps:].all(1) & (self.confirmed >= agree) & self.nearer
        return passed if limit is None else passed & (self.disagreement <= limit).all(1)


@torch.no_grad()
def dream(
    model: WorldModel, prior: Prior, state: State, goal: State | None, variants: int, draws: int, noise: Noise
) -> Dreamt:
    """Imagines episodes of a policy.

    Args:
        model: The world model; it has to predict success and disagreement.
        prior: The policy and the noise on its actions.
        state: B initial states.
        goal: Their goals; None in a world without goals.
        variants: Episodes from each initial state; N = B * variants.
        draws: See `Arguments`.
        noise: Random numbers.

    Raises:
        ValueError: If the model does not predict success or disagreement, or its world has no horizon.
    """
    box, horizon = ActionBox(model.spec.action, model.device), model.spec.horizon
    if horizon is None:
        raise ValueError(f"{model.spec.name} has no horizon; accepted: a world whose episodes have a length")
    variations = prior.variations(noise, box, variants, horizon)
    chance = noise.uniform(variants, horizon, model.noise_dim)  # every episode has its own noise sample
    rows, goals = repeat(state, variants), None if goal is None else repeat(goal, variants)
    one = prior.imagine(model, box, rows, goals, variations.flatten(0, 1)[:, None], chance.flatten(0, 1)[:, None])
    if one.predictions[0].success is None or one.predictions[0].disagreement is None:
        raise ValueError(
            f"the world model of {model.spec.name} predicts no success or no disagreement, which every imagined "
            "episode stores; accepted: an ensemble fitted to episodes with success marks, such as of kind slots"
        )
    threshold = getattr(getattr(model, "config", None), "success_threshold", 0.5)
    held = torch.stack([each.success >= threshold for each in one.predictions if each.success is not None], 1)
    actions = box.actions(torch.stack(one.actions, 1))
    confirmed = held[:, -model.spec.hold_steps :].all(1).long()
    for _ in range(draws - 1):
        again = noise.uniform(variants, horizon, model.noise_dim).flatten(0, 1).transpose(0, 1)
        other = imagine(model, rows, lambda t, _: actions[:, t], horizon, goals, again)
        final = other.predictions[-model.spec.hold_steps :]
        last = [each.success >= threshold for each in final if each.success is not None]
        confirmed += torch.stack(last, 1).all(1)
    nearer = torch.ones(len(actions), dtype=torch.bool, device=model.device)
    if goals is not None:
        far = [_apart(model, each, goals) for each in (rows, one.states[-1])]
        nearer = far[1] < far[0]
    disagreement = torch.stack([each.disagreement for each in one.predictions if each.disagreement is not None], 1)
    begins = model.success(rows) >= threshold if isinstance(model, HasSuccess) else torch.zeros_like(held[:, 0])
    success = torch.cat([begins[:, None], held], 1)
    return Dreamt([rows, *one.states], actions, success, disagreement, confirmed, nearer)


def begun(model: WorldModel, starts: InitialStates, rows: np.ndarray) -> tuple[State, State | None]:
    """Returns the states of recorded initial states and of their goals.

    Args:
        model: The world model.
        starts: Recorded initial states.
        rows: Their rows to use, `(B,)`.

    Returns:
        States of B rows, with "words" in a world with instructions; and the goals' states, None without goals.
    """
    state = starts.states(model, rows)
    if model.spec.instructions:
        words = np.stack([word_rows(str(starts.instruction[row])) for row in rows])
        state = {**state, "words": torch.from_numpy(words).to(model.device)}
    goal = starts.goals(model, rows) if model.spec.goals else None
    return state if goal is None else with_goal(model, state, model.embedding(goal)), goal


def _apart(model: WorldModel, state: State, goal: State) -> Tensor:
    """Returns the learned distance to the goals, `(N,)`, or the embedding distance if the model has no metric."""
    if isinstance(model, HasMetric):
        return metric_distance(model.metric(state), model.metric(goal))
    return distance(model.embedding(state), model.embedding(goal))


def episodes(
    model: WorldModel, starts: InitialStates, args: Arguments, first: int = 0
) -> Iterator[tuple[int, Episode | None, bool]]:
    """Yields imagined episodes without end, in rounds of `STARTS` initial states with their own random numbers.

    Args:
        model: The world model.
        starts: Recorded initial states.
        args: See `Arguments`.
        first: Round to start with.

    Yields:
        Number of the episode, the episode (None if it is not kept), and whether it passes the filter.
    """
    chances, limit = starts.chances(args.task), getattr(getattr(model, "config", None), "disagreement_threshold", None)
    prior = Prior(looking(args.policy, args.world_model, args.foresight), args.std)
    for turn in itertools.count(first):
        rng = np.random.default_rng([args.seed, turn])
        rows = rng.choice(len(starts), STARTS, p=chances)
        noise = Noise(rng.integers(2**31, size=STARTS).tolist(), model.device)
        dreamt = dream(model, prior, *begun(model, starts, rows), args.variants, args.draws, noise)
        kept = dreamt.kept(model.spec.hold_steps, args.agree, limit).tolist()
        for i, row in enumerate(rows.repeat(args.variants)):
            number = turn * STARTS * args.variants + i
            if args.filtered and not kept[i]:
                yield number, None, False
                continue
            yield number, episode_of(model, starts, dreamt, i, int(row), seed_of(args, number)), kept[i]


def seed_of(args: Arguments, number: int) -> int:
    """Returns the seed under which an imagined episode is stored."""
    return args.seed * 10_000_000 + number


def episode_of(model: WorldModel, starts: InitialStates, dreamt: Dreamt, i: int, row: int, seed: int) -> Episode:
    """Decodes the imagined episode `i`, which started from a `row` of the initial states.

    Its first frame is the recorded one.
    """
    path = {name: torch.cat([state[name][i : i + 1] for state in dreamt.states]) for name in dreamt.states[0]}
    shown: dict[str, Any] = {name: part.cpu().numpy().copy() for name, part in model.decode(path).items()}
    for name, first in starts.observation.items():
        shown[name][0] = first[row]
    goal = {name: parts[starts.goal[row]] for name, parts in starts.goal_observation.items()}
    labels = {
        "disagreement": dreamt.disagreement[i].cpu().numpy(),
        "parent_episode": np.full(len(dreamt.actions[i]) + 1, row, np.float32),
    }
    return Episode(
        shown,
        dreamt.actions[i].cpu().numpy(),
        success=dreamt.success[i].cpu().numpy(),
        instruction=str(starts.instruction[row]),
        goal=goal or None,
        labels=labels,
        seed=seed,
        kind=KIND,
        task=str(starts.task[row]),
    )


def _settings(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that determine the episodes of a data set, from the arguments or from its `dream.json`."""
    free = ("out", "episodes", "tries", "source", "imagined")
    return resolve_paths({k: str(v) if isinstance(v, Path) else v for k, v in asked.items() if k not in free})


def main(args: Arguments) -> None:
    """Runs the command."""
    check_out(args.out, EPISODES)
    if others := {str(row.get("kind")) for row in LeRobotStore(args.out).rows()} - {KIND}:
        raise ValueError(
            f"out={args.out} holds episodes of kinds {sorted(others)}; accepted: a new folder, or of dreams"
        )
    args = replace(args, world_model=named_world_model(args.world_model, args.policy))
    model = checkpoint.load(args.world_model)
    starts = InitialStates.load(args.initial_states or checkpoint.resolve(args.world_model) / FILE)
    with (
        EpisodeWriter(args.out, model.spec) as writer,
        progress_bar(total=args.episodes, desc="dream", unit="episode") as bar,
    ):
        there, file = writer.seeds(), args.out / "meta" / "dream.json"
        if file.is_file():
            check_settings(args.out, _settings(json.loads(file.read_text(encoding="utf-8"))), _settings(asdict(args)))
        imagined, written = max(there, default=seed_of(args, -1)) - seed_of(args, -1), len(there)
        bar.update(min(written, args.episodes))
        first = max(imagined - 1, 0) // (STARTS * args.variants)  # the last round may be unfinished
        for number, episode, _ in episodes(model, starts, args, first) if written < args.episodes else ():
            imagined = number + 1
            if episode is not None and episode.seed not in there:
                writer.add(episode)
                if not written:
                    write_json(file, {"source": KIND, **_settings(asdict(args)), "imagined": imagined})
                written += 1
                bar.update()
            if written >= args.episodes:
                break
            if imagined >= args.tries * args.episodes:
                raise ValueError(
                    f"{written} of {imagined} imagined episodes passed the filter; accepted: a better policy, "
                    "a higher --tries, or fewer --episodes"
                )
    write_json(file, {"source": KIND, **_settings(asdict(args)), "imagined": imagined})
    kept = f"passed the filter, of {imagined} imagined" if args.filtered else "imagined and written without a filter"
    print(f"{args.out}: {written} episodes, {kept}")
