"""Fits a slot world model without labels, or with a few: `python -m agents.fit --model slots --data DIR --out DIR`.

The model learns from images, robot states, actions and time, and from instructions and success marks if the data have
them. Privileged labels are only used with `--labelled`. An interrupted run resumes when the command is run again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dream_env.agents.fit.common import begin, finish, initial_states, minutes, split_from, start_rows
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.slots import labels, stages
from dream_env.agents.fit.slots.arguments import Arguments
from dream_env.agents.fit.slots.card import card
from dream_env.agents.fit.slots.colors import Colors, find_colors
from dream_env.agents.fit.slots.encoded import encoded, goals, pictures
from dream_env.agents.fit.slots.figures import figures as measure
from dream_env.agents.fit.trainer import CHECKSUM, Run
from dream_env.agents.run.config import check_kept
from dream_env.data.episodes import EpisodeDataset
from dream_env.initial_states import InitialStates
from dream_env.language import embedder
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.normalization import safe_std
from dream_env.world_models.slots.config import SlotConfig
from dream_env.world_models.slots.model import SlotModel

LOOKED_AT = 12_000
"""Number of frames from which the appearance of the robot is learned."""
COUNTED = 400
"""Number of episodes in which colors are searched, with five frames of each."""


@dataclass
class Fitted:
    """A fitted model with its evaluation.

    Attributes:
        model: The world model, in eval mode.
        figures: Contents of `metrics.json`.
        held_out: The held-out episodes, encoded as slots.
    """

    model: SlotModel
    figures: dict[str, Any] = field(default_factory=dict)
    held_out: Recorded | None = None


def fit(args: Arguments, episodes: EpisodeDataset, save_seconds: float = 60.0) -> Fitted:
    """Fits a world model to episodes, and saves it with its initial states, figures and card in `args.out`.

    Args:
        args: See `Arguments`; `args.data` is only used as the name of the data.
        episodes: Recorded episodes of any lengths, with images.
        save_seconds: Time in seconds between saves of the run's state.

    Raises:
        ValueError: If there are fewer than two episodes, no images, or fewer labelled episodes than requested, or if
            `args.out` contains something else.
    """
    began, episodes = begin(args, SlotModel.kind, episodes)
    rng = np.random.default_rng(args.seed)
    marked = args.use_success and episodes.success is not None
    spec = replace(episodes.spec, goals=True)
    base = None if args.init is None else _base(args, spec)
    counted = np.sort(rng.permutation(len(episodes))[:COUNTED])
    looked = np.sort(rng.permutation(int(episodes.offsets[-1]))[:LOOKED_AT])
    parts = split_from(args.init, episodes, args.held_out, rng)
    known = labels.choose(args, episodes, parts[1]) if args.labelled else None
    colors = _colors(episodes, spec, args, counted) if base is None else colors_of(base)
    config = _config(args, episodes, colors, base, known)
    model = SlotModel(config, spec)
    if base is not None:
        _take_over(model, base)
    settings = args.settings() | {
        "episodes": len(episodes),
        "frames": int(episodes.offsets[-1]),
        CHECKSUM: episodes.checksum,
    }
    run = Run(model, args.out, settings, seed=args.seed, save_seconds=save_seconds, muon=False)
    if base is None:
        _prepare(model, colors, episodes)
    own_updates = 0 if args.keep_embedding else args.own_updates
    some = looked if own_updates else looked[:: max(1, len(looked) // 400)]
    shown = pictures(episodes, some, config.picture_size)
    if base is None:
        stages.find_background(model, shown)
    if model.own and own_updates:
        own = model.own_of({n: torch.from_numpy(np.array(episodes.observation[n][looked])) for n in spec.vectors})
        run.train(stages.own_stage(model, shown, own, own_updates, relight=args.relight))
    del shown
    everything = encoded(model, episodes)
    if base is None:
        stages.find_place(model, everything)
    if known is not None:
        pairs = labels.pair(model, everything, known, args.seed)
        run.train(labels.position_stage(model, pairs, args.position_updates))
    targets = _targets(model, episodes, everything, marked)
    (held_out, its), (train, own_targets) = (
        (everything.take(np.sort(rows)), targets_at(targets, np.sort(rows))) for rows in parts
    )
    far = args.far or 1.25 * float(np.median(episodes.lengths))
    rate = 1.5 * args.learning_rate
    if not args.keep_embedding or model.success_net is not None:
        run.train(
            stages.distance_stage(
                *(model, train, own_targets, args.distance_updates, far, rate),
                keep_embedding=args.keep_embedding,
                instruction_noise=args.instruction_noise,
            )
        )
    run.train(stages.dynamics_stage(model, train, args.updates, args.batch, args.ahead, args.learning_rate))
    model.eval().requires_grad_(False)
    found = {
        "episodes": {"train": len(train.first), "held_out": len(held_out.first)},
        "frames": train.frames,
        "slots": {"colors": (255 * colors.shown).round().int().tolist(), "explained": colors.explained},
        "parameters": sum(p.numel() for p in model.parameters()),
        **measure(model, held_out, its),
        **({} if known is None else {"labelled": {"episodes": args.labelled, **labels.figures(model, pairs)}}),
        "held_out_seeds": episodes.seed[np.sort(parts[0])].tolist(),
        **minutes(run, began),
    }
    finish(model, args, found, card(args, model, found), starts(episodes, args))
    return Fitted(model, found, held_out)


def _colors(episodes: EpisodeDataset, spec: WorldSpec, args: Arguments, chosen: np.ndarray) -> Colors:
    """Finds the colors of objects in a few frames of the chosen episodes."""
    if not spec.pictures:
        raise ValueError(f"data of {spec.name} has no pictures; accepted: data with pictures, or --model dynamics")
    frames = np.concatenate(
        [episodes.offsets[i] + np.unique(np.linspace(0, episodes.lengths[i], 5).astype(int)) for i in chosen]
    )
    episode = np.searchsorted(episodes.offsets, frames, side="right") - 1
    shown = pictures(episodes, frames, args.picture_size)
    vectors = [torch.from_numpy(np.array(episodes.observation[name][frames])).float() for name in spec.vectors]
    own = torch.cat(vectors, 1) if vectors else torch.zeros(len(frames), 0)
    cameras = shown.shape[1]
    wide = shown.permute(0, 2, 1, 3, 4).flatten(2, 3)  # cameras side by side
    assert wide.shape[2] == cameras * args.picture_size
    return find_colors(
        wide, own, torch.from_numpy(np.unique(episode, return_inverse=True)[1]), args.most_slots, args.seed
    )


def _base(args: Arguments, spec: WorldSpec) -> SlotModel:
    """Loads the model to fine-tune; raises ValueError if it has another kind, world or size."""
    base: Any = checkpoint.load(str(args.init))
    if base.kind != SlotModel.kind or base.spec.shapes != spec.shapes:
        raise ValueError(
            f"init={args.init} is of kind {base.kind}, fitted to {base.spec.name}; accepted: kind slots, with the "
            f"observations and actions of {spec.name}"
        )
    check_kept(args, base.config, ("members", "width", "outcomes", "queries", "picture_size"))
    return base


def colors_of(model: SlotModel) -> Colors:
    """Returns the colors of a fitted model."""
    return Colors(model.reader.colors, model.reader.owner, model.painter.shown, [])


def _take_over(model: SlotModel, base: SlotModel) -> None:
    """Copies all weights of equal shape; the success network is not copied if its inputs differ.

    If only the new model has positions, their input weights start at zero, so that distances are unchanged at first.
    """
    own, given = model.state_dict(), base.state_dict()
    if more := model.config.position - base.config.position:
        for name in ("phi.net.weights.0", "success_net.weights.0"):
            if name in given:
                given[name] = _widened(given[name], base.embedded_slots, base.related_dim, more)
    model.load_state_dict(own | {name: part for name, part in given.items() if part.shape == own[name].shape})


def _widened(weight: Tensor, slots: int, numbers: int, more: int) -> Tensor:
    """Adds `more` zero-weight inputs after each slot's features to first-layer weights `(E, inputs, outputs)`."""
    first, rest = weight.split([slots * numbers, weight.shape[1] - slots * numbers], 1)
    return torch.cat([F.pad(first.unflatten(1, (slots, numbers)), (0, 0, 0, more)).flatten(1, 2), rest], 1)


def _config(
    args: Arguments, episodes: EpisodeDataset, colors: Colors, base: SlotModel | None, known: labels.Labels | None
) -> SlotConfig:
    """Returns the config of the model to fit; if it goes on from `base`, that of `base` with what this fit changes."""
    marked = args.use_success and episodes.success is not None
    config = SlotConfig(
        slots=colors.slots,
        colors=len(colors.color),
        picture_size=args.picture_size,
        members=args.members,
        width=args.width,
        outcomes=args.outcomes,
        queries=args.queries,
        word_order=args.word_order,
        pointing=args.pointing,
        position=0 if known is None else known.place.shape[-1],
        success=marked,
        success_by_goal=marked and bool(episodes.goal),
        rewards=episodes.reward is not None,
        terminates=bool(episodes.terminated.any()),
    )
    if base is None:
        return config
    changed = ["success", "success_by_goal", "rewards", "terminates"]
    changed += [] if args.keep_embedding else ["word_order", "pointing"]
    changed += ["position"] if args.labelled else []
    ends = config.terminates or base.config.terminates
    return replace(base.config, **{name: getattr(config, name) for name in changed} | {"terminates": ends})


@torch.no_grad()
def _prepare(model: SlotModel, colors: Colors, episodes: EpisodeDataset) -> None:
    """Sets the buffers that are measured rather than trained: colors and normalization."""
    model.reader.colors.copy_(colors.color)
    model.reader.owner.copy_(colors.owner)
    model.reader.look_up()
    model.painter.shown.copy_(colors.shown)
    acted = np.setdiff1d(np.arange(int(episodes.offsets[-1])), episodes.offsets[1:] - 1)
    vectors = [torch.from_numpy(np.array(episodes.observation[name])).float() for name in model.spec.vectors]
    action = torch.from_numpy(episodes.action[acted]).float()
    reward = None if episodes.reward is None else torch.from_numpy(episodes.reward[acted])
    for name, values in (
        ("own", torch.cat(vectors, 1) if vectors else None),
        ("action", action if episodes.action.ndim > 1 else None),
        ("reward", None if reward is None else reward[:, None]),
    ):
        if values is not None:
            getattr(model, f"{name}_mean").copy_(values.mean(0))
            getattr(model, f"{name}_scale").copy_(safe_std(values))


def _targets(model: SlotModel, data: EpisodeDataset, episodes: Recorded, marked: bool) -> stages.Targets:
    """Collects goals, instruction embeddings and outcomes of all episodes."""
    words = None
    if model.spec.instructions:
        sentences, inverse = np.unique(data.instruction, return_inverse=True)
        embed = embedder(model)
        words = torch.from_numpy(np.stack([embed(str(sentence)) for sentence in sentences])[inverse])
    reached = None if data.goal else torch.ones(len(data), dtype=torch.bool)
    if marked and data.goal:
        reached = torch.from_numpy(data.solved)
    return stages.Targets(goals(model, data, episodes), words, reached, marked and bool(data.goal))


def targets_at(targets: stages.Targets, rows: np.ndarray) -> stages.Targets:
    """Returns the targets of some episodes."""
    return stages.Targets(
        {name: part[rows] for name, part in targets.goal.items()},
        None if targets.instruction is None else targets.instruction[rows],
        None if targets.reached is None else targets.reached[rows],
        targets.marked,
    )


def starts(data: EpisodeDataset, args: Arguments) -> InitialStates:
    """Collects initial states, from successful episodes only if success is known, so that their goals are reachable."""
    kept = np.arange(len(data))
    if args.use_success and data.success is not None and data.solved.any():
        kept = np.flatnonzero(data.solved)
    kept = start_rows(kept, args)
    found = initial_states(data, args.starts, args.seed, kept)
    if data.goal:
        return found
    last = data.offsets[kept + 1] - 1
    goal = {name: np.asarray(data.observation[name][last]) for name in data.spec.pictures}
    episode = np.cumsum(found.step == 0) - 1  # the initial states of each episode begin with its first frame
    return replace(found, goal_observation=goal, goal=episode)


def main(args: Arguments) -> None:
    """Runs the command."""
    data = labels.load(args.data, args.label if args.labelled else None)
    fitted = fit(args, data)
    shown = {name: value for name, value in fitted.figures.items() if name not in ("held_out_seeds", "slots")}
    print(json.dumps(shown, indent=2))
    print(f"World model: {args.out.resolve()}")
    if not data.goal:
        print(
            "The episodes have no goals, so a dream's goal is the end of its episode. To run policies for this world "
            "model in the real environment, give it the attribute goal_observation."
        )
