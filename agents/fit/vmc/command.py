"""Fits World Models (Ha & Schmidhuber 2018): `python -m agents.fit --model vmc --data DIR --out DIR`.

The model learns from pictures, actions, rewards and terminations of recorded episodes. There are two stages: V, a
variational auto-encoder, encodes pictures to latent codes; M, a recurrent network with mixtures of Gaussians, predicts
the next code. Give the same command again to resume a run that was killed. `metrics.json` has the errors on held-out
episodes; `dreamt.png` shows recorded frames, their reconstructions, and predictions under the same actions; curves and
pictures of the run are in tensorboard/.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from dream_env.agents.fit.common import begin, finish, initial_states, minutes, split_from, start_rows
from dream_env.agents.fit.dynamics.figures import figures
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.trainer import CHECKSUM, Run
from dream_env.agents.fit.vmc import figures as measured
from dream_env.agents.fit.vmc import stages
from dream_env.agents.fit.vmc.arguments import Arguments
from dream_env.agents.run.config import command_line
from dream_env.data.episodes import EpisodeDataset
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.vae import SIDE
from dream_env.world_models.vmc import PRESETS, VMCConfig, VMCModel

STRIPS = "dreamt.png"


def fit(args: Arguments, episodes: EpisodeDataset, save_seconds: float = 60.0) -> tuple[VMCModel, dict[str, Any]]:
    """Fits a world model to episodes, and writes it with its initial states, figures and card to `args.out`.

    Args:
        args: See `Arguments`; `args.data` only names the data.
        episodes: Recorded episodes of any lengths.
        save_seconds: Seconds between two saves of the run's state.

    Returns:
        The model, in eval mode, and the contents of `metrics.json`.

    Raises:
        ValueError: If observations are not a single picture, there are fewer than two episodes, or `args.out` holds
            something else, or a run with other settings.
    """
    began, episodes = begin(args, VMCModel.kind, episodes, args.init)
    spec = episodes.spec
    model = initial(args, episodes)
    parts = split_from(args.init, episodes, args.held_out, np.random.default_rng(args.seed))
    held_out, train = (Recorded.of(episodes.take(np.sort(part)), SIDE) for part in parts)
    if train.reward is not None:
        model.measure_rewards(train.reward[train.acted])
    settings = args.settings() | {"episodes": len(episodes), "frames": train.frames, CHECKSUM: episodes.checksum}
    run = Run(model, args.out, settings, seed=args.seed, bfloat16=args.bfloat16, save_seconds=save_seconds, muon=False)
    of_v, of_m = measured.reports(model, held_out)
    run.train(stages.pictures_stage(model, train, args, of_v))
    run.train(stages.memory_stage(model, train, stages.codes(model, train), args, of_m))
    model.eval().requires_grad_(False)
    seen = stages.codes(model, held_out)
    found = {
        "episodes": {"train": len(train.first), "held_out": len(held_out.first)},
        "frames": train.frames,
        "parameters": {"V": _count(model.vae), "M": _count(model.rnn)},
        "V": measured.of_pictures(model, held_out),
        "M": measured.of_memory(model, held_out, seen),
        **figures(model, held_out, seen.mean),
        "held_out_seeds": episodes.seed[np.sort(parts[0])].tolist(),
        **minutes(run, began),
    }
    if model.config.terminates:
        found["steps_to_an_end"] = measured.lengths(model, held_out, seen)
    starts = initial_states(episodes, args.starts, args.seed, start_rows(len(episodes), args))
    finish(model, args, found, card(args, spec, found), starts)
    measured.save_strips(model, held_out, args.out / STRIPS)
    return model, found


def initial(args: Arguments, episodes: EpisodeDataset) -> VMCModel:
    """Returns the model that training starts from.

    Raises:
        FileNotFoundError: If `args.init` does not exist.
        ValueError: If `args.init` is of another kind, environment or size than requested.
    """
    heads: dict[str, Any] = {"rewards": episodes.reward is not None, "terminates": bool(episodes.terminated.any())}
    asked = {name: size for name in ("latent", "memory") if (size := getattr(args, name)) is not None}
    if args.init is None:
        return VMCModel(VMCConfig(**(PRESETS[args.preset] | asked | heads)), episodes.spec)
    known = checkpoint.load(args.init)
    if not isinstance(known, VMCModel):
        raise ValueError(f"init={args.init} is of kind {known.kind!r}; accepted: a world model of kind 'vmc'")
    if (known.spec.observation, known.spec.action) != (episodes.spec.observation, episodes.spec.action):
        raise ValueError(
            f"init={args.init} was fitted to {known.spec.observation} and {known.spec.action}; accepted with these "
            f"data: {episodes.spec.observation} and {episodes.spec.action}"
        )
    for name, size in asked.items():
        if size != getattr(known.config, name):
            raise ValueError(f"{name}={size} with init={args.init}; accepted: its own, {getattr(known.config, name)}")
    heads["terminates"] |= known.config.terminates
    model = VMCModel(replace(known.config, **heads), episodes.spec)
    model.load_state_dict(known.state_dict())
    return model


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def card(args: Arguments, spec: WorldSpec, found: dict[str, Any]) -> str:
    """Returns the text of a checkpoint's card: command, data, seed and measured figures."""
    v, m = found["V"], found["M"]
    lines = [
        f"# World Models (V and M) of {spec.name}",
        "",
        f"- Command: `{command_line('fit --model vmc', args)}`",
        f"- Data: {found['episodes']['train']} episodes, {found['frames']} frames; measured on "
        f"{found['episodes']['held_out']} held-out ones. Seed {args.seed}.",
        "- Parameters: V {V:,}, M {M:,}".format(**found["parameters"]) + f"; {found['wall_minutes']} minutes",
        f"- V: error of a pixel {v['reconstruction']} (median picture {v['median_picture']}), {v['live']} of "
        f"{len(v['divergences'])} numbers alive, {v['divergence']} nats.",
        f"- M: negative log-likelihood of a number of the next code {m['likelihood']['M']} nats (one normal "
        f"distribution: {m['likelihood']['normal']}).",
    ]
    if "ends" in m:
        ends = (
            "- Terminations: AUC {auc}, precision {precision}, recall {recall}; {expected} expected, {count} recorded, "
            "in {steps} steps."
        )
        lines.append(ends.format(**m["ends"]))
    return "\n".join([*lines, f"- Recorded, reconstructed, most likely and sampled prediction: {STRIPS}", ""])


def main(args: Arguments) -> None:
    """Runs the command."""
    _, found = fit(args, EpisodeDataset.load(*args.data))
    print(json.dumps({name: value for name, value in found.items() if name != "held_out_seeds"}, indent=2))
    print(f"World model: {args.out.resolve()}")
