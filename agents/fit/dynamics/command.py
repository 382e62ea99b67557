"""Fits a world model of any environment: `python -m agents.fit --model dynamics --data DIR --out DIR`.

The model learns from the observations (vectors, pictures or both), actions, rewards and terminations of recorded
episodes only. There are two stages: the picture stage trains auto-encoders, and the dynamics stage trains an ensemble
that predicts how latent codes change. Give the same command again to resume a run that was killed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from dream_env.agents.fit.common import begin, finish, initial_states, minutes, split_from, start_rows
from dream_env.agents.fit.dynamics import stages
from dream_env.agents.fit.dynamics.arguments import Arguments
from dream_env.agents.fit.dynamics.figures import figures as measure
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.trainer import CHECKSUM, Run
from dream_env.agents.run.config import check_kept, command_line
from dream_env.data.episodes import EpisodeDataset
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.dynamics import DynamicsConfig, DynamicsModel

SIZES = ("members", "width", "depth", "latent", "picture_size")
"""Sizes that a model keeps when a fit goes on from it."""


@dataclass
class Fitted:
    """A fitted model, and the held-out data that it was measured on.

    Attributes:
        model: The world model, in eval mode.
        figures: Contents of `metrics.json`.
        held_out: Held-out episodes, with pictures resized for the auto-encoders.
        codes: Codes of their frames, `(F, Z)`.
    """

    model: DynamicsModel
    figures: dict[str, Any] = field(default_factory=dict)
    held_out: Recorded | None = None
    codes: torch.Tensor | None = None


def fit(args: Arguments, episodes: EpisodeDataset, save_seconds: float = 60.0) -> Fitted:
    """Fits a world model to episodes, and writes it with its initial states, figures and card to `args.out`.

    Args:
        args: See `Arguments`; `args.data` only names the data.
        episodes: Recorded episodes of any lengths.
        save_seconds: Seconds between two saves of the run's state.

    Raises:
        ValueError: If there are fewer than two episodes, or `args.out` holds something else, or a run with other
            settings.
        FileNotFoundError: If `args.init` does not exist.
    """
    began, episodes = begin(args, DynamicsModel.kind, episodes, args.init)
    if args.ends_as_goals:
        episodes = with_ends_as_goals(episodes)
    spec = episodes.spec
    parts = split_from(args.init, episodes, args.held_out, np.random.default_rng(args.seed))
    base = loaded(args, spec)
    side = args.picture_size if base is None else base.config.picture_size
    held_out, train = (Recorded.of(episodes.take(np.sort(part)), side) for part in parts)
    model = initial(args, base, spec, train)
    recall = (8 if model.has_memory else 1) if args.recall is None else args.recall
    settings = args.settings() | {"episodes": len(episodes), "frames": train.frames, CHECKSUM: episodes.checksum}
    run = Run(model, args.out, settings, seed=args.seed, save_seconds=save_seconds, muon=False)
    if spec.pictures:
        run.train(
            stages.pictures_stage(
                model, train, args.picture_updates, 64, args.picture_noise, args.picture_weight, args.seed
            )
        )
    code = stages.codes(model, train)
    run.train(
        stages.dynamics_stage(model, train, code, args.updates, args.batch, recall, args.ahead, args.learning_rate)
    )
    model.eval().requires_grad_(False)
    seen = stages.codes(model, held_out)
    found = {
        "episodes": {"train": len(train.first), "held_out": len(held_out.first)},
        "frames": train.frames,
        "parameters": sum(p.numel() for p in model.parameters()),
        **measure(model, held_out, seen),
        "held_out_seeds": episodes.seed[np.sort(parts[0])].tolist(),
        **minutes(run, began),
    }
    starts = initial_states(episodes, args.starts, args.seed, start_rows(len(episodes), args))
    finish(model, args, found, card(args, spec, found), starts)
    return Fitted(model, found, held_out, seen)


def loaded(args: Arguments, spec: WorldSpec) -> DynamicsModel | None:
    """Returns the world model `args.init`, or None if a new one is asked for.

    Raises:
        FileNotFoundError: If `args.init` does not exist.
        ValueError: If it is of another kind or environment, or a new model would keep random auto-encoders.
    """
    if args.init is None:
        if spec.pictures and not args.picture_updates:
            raise ValueError("picture_updates=0 leaves the weights random; accepted: at least 1, or 0 with init")
        return None
    known = checkpoint.load(args.init)
    if not isinstance(known, DynamicsModel) or known.spec.shapes != spec.shapes:
        raise ValueError(
            f"init={args.init} is of kind {known.kind!r}, fitted to {known.spec.name}; accepted: kind 'dynamics', "
            f"with the observations and actions of {spec.name}"
        )
    check_kept(args, known.config, (*SIZES, *(["memory"] if args.memory is not None else [])))
    return known


def initial(args: Arguments, base: DynamicsModel | None, spec: WorldSpec, train: Recorded) -> DynamicsModel:
    """Returns the model that training starts from: a copy of `base`, or a new one with the scales of the data."""
    heads: dict[str, Any] = {"rewards": train.reward is not None, "terminates": bool(train.terminated.any())}
    if base is not None:
        heads["terminates"] |= base.config.terminates
        model = DynamicsModel(replace(base.config, **heads), spec)
        model.load_state_dict(base.state_dict())
        return model
    sizes = {name: getattr(args, name) for name in SIZES}
    memory = (128 if spec.pictures else 0) if args.memory is None else args.memory
    model = DynamicsModel(DynamicsConfig(memory=memory, **sizes, **heads), spec)
    vectors = [train.observation[name].float() for name in spec.vectors]
    reward = None if train.reward is None else train.reward[train.acted]
    model.measure_data(torch.cat(vectors, -1) if vectors else torch.zeros(1, 0), train.action[train.acted], reward)
    return model


def with_ends_as_goals(data: EpisodeDataset) -> EpisodeDataset:
    """Adds goals to episodes without goals: the pictures of the last frame, or its vectors if there are no pictures.

    Raises:
        ValueError: If the episodes already have goals.
    """
    if data.goal:
        raise ValueError("ends_as_goals=True: the data have goals of their own; accepted: False")
    names, last = data.spec.pictures or data.spec.vectors, data.offsets[1:] - 1
    goal = {name: np.asarray(data.observation[name][last]) for name in names}
    return replace(data, spec=replace(data.spec, goals=True), goal=goal)


def card(args: Arguments, spec: WorldSpec, found: dict[str, Any]) -> str:
    """Returns the text of a checkpoint's card: command, data, seed and measured figures."""
    error = found["open_loop_error"]
    ahead = list(error["predicted"])
    lines = [
        f"# World model of {spec.name}",
        "",
        f"- Command: `{command_line('fit --model dynamics', args)}`",
        f"- Data: {found['episodes']['train']} episodes, {found['frames']} frames; measured on "
        f"{found['episodes']['held_out']} held-out ones. Seed {args.seed}.",
        f"- Parameters: {found['parameters']:,}; {found['wall_minutes']} minutes",
        "",
        "Mean squared error of codes divided by their variance; predicted: open loop; copied: the last given code.",
        "",
        "| steps ahead | " + " | ".join(ahead) + " |",
        "|" + "---|" * (len(ahead) + 1),
        *(f"| {name} | " + " | ".join(f"{error[name][k]:.3g}" for k in ahead) + " |" for name in error),
        "",
    ]
    if "reward_error" in found:
        lines.append(
            "- Reward of one step: error {rms} (root mean square), standard deviation {std}.".format(
                **found["reward_error"]
            )
        )
    if "terminated" in found:
        lines.append(
            "- Terminations: fraction {foreseen} predicted; fraction {false} of other steps predicted as "
            "terminations.".format(**found["terminated"])
        )
    return "\n".join([*lines, ""])


def main(args: Arguments) -> None:
    """Runs the command."""
    fitted = fit(args, EpisodeDataset.load(*args.data))
    print(json.dumps({name: value for name, value in fitted.figures.items() if name != "held_out_seeds"}, indent=2))
    print(f"World model: {args.out.resolve()}")
